"""The lists of leads by score, page by page, beside a plain sort in Python; also while scores change."""

from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from random import Random
from typing import NamedTuple

import httpx
import psycopg
import pytest

from gateway.app import create_app
from gateway.ports import Ports
from projections.worker import project_records
from schemas.decode import encode_statement
from schemas.record import Record
from schemas.statements import LeadScored, ModelScore
from schemas.topics import LEAD_SCORES, lead_key

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

BOARD, SCORES = "/api/leads", "/api/lead-qualification/lead-scores/"
TENANT_LEADS = "/api/tenants/default/leads"
T0 = datetime(2030, 1, 31, 10, 0, tzinfo=UTC)
STAGES = ("new", "contacted", "customer")
THRESHOLDS = (("burning", 80), ("hot", 60), ("warm", 30), ("cold", -100))


class ListedLead(NamedTuple):
    lead_id: str
    created_at: datetime
    totals: dict[str, Decimal]
    """By model; one that has not scored the lead is missing."""
    stage: str = "new"
    identified: bool = True
    identities: int = 1
    name: str = ""
    owner: str = ""
    silent_days: int | None = None
    """Since its last interaction; None: it had none, and is as old as it is."""

    def rounded(self, model):
        total = self.totals.get(model)
        return None if total is None else int((total + 1000).quantize(Decimal(1), ROUND_HALF_UP)) - 1000

    @property
    def warmth(self):
        score = self.rounded("temperature")
        return None if score is None else next(band for band, least in THRESHOLDS if score >= least)


class Shop:
    """Read models that statements are projected into, and the API over them."""

    def __init__(self, url):
        self.url = url
        self.position = 0

    def write(self, leads):
        records = []
        for lead in leads:
            key = lead_key("default", lead.lead_id)
            records.append(
                Record(
                    LEAD_SCORES, 0, self.position, key, self.card(lead) if lead.totals is not None else None
                )
            )
            self.position += 1
        with psycopg.connect(self.url) as connection:
            project_records(connection, records)

    def card(self, lead):
        scores = {
            model: ModelScore(
                version=1,
                total=float(total),
                bands={"temperature": lead.warmth} if model == "temperature" else {"stage": None},
                as_of=T0,
            )
            for model, total in lead.totals.items()
        }
        return encode_statement(
            LeadScored(
                statement_id=f"card:{lead.lead_id}:{self.position}",
                tenant="default",
                lead_id=lead.lead_id,
                at=T0,
                caused_by="",
                identified=lead.identified,
                created_at=lead.created_at,
                stage=lead.stage,
                identities=lead.identities,
                fields={
                    name: value for name, value in (("name", lead.name), ("assigned_to", lead.owner)) if value
                },
                last_interaction_at=None
                if lead.silent_days is None
                else T0 - timedelta(days=lead.silent_days),
                scores=scores,
            )
        )

    @asynccontextmanager
    async def visited(self):
        async def append(_):
            raise AssertionError("lists write nothing")

        app = create_app(Ports(append=append, database_url=self.url, now=lambda: T0))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
        ):
            yield http


@pytest.fixture
def shop(database_url):
    return Shop(database_url)


async def page(http, path, asked):
    """(ids of the leads, cursor of the next page)"""
    answer = await http.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    if path == BOARD:
        return [row["lead_id"] for row in rows["leads"]], rows["next"]
    ids = [row["lead" if path == SCORES else "id"] for row in rows]
    following = answer.links.get("next")
    return ids, following and httpx.URL(following["url"]).params["after"]


async def walked(http, path, asked, limits, between=lambda: None):
    seen, after = [], None
    while True:
        ids, after = await page(
            http, path, asked | {"limit": next(limits)} | ({"after": after} if after else {})
        )
        seen += ids
        if after is None:
            return seen
        between()


def random_lead(chance, number, **fixed):
    models = {"rules": 1.0, "temperature": 0.9}
    fields = {
        "lead_id": f"l{number}",
        "created_at": T0 - timedelta(hours=chance.randrange(6)),
        "totals": {
            model: Decimal(chance.randrange(-40, 400)) / 4
            for model, share in models.items()
            if chance.random() < share
        },
        "stage": chance.choice(STAGES),
        "identified": chance.random() < 0.7,
        "identities": int(chance.random() < 0.9),
        "name": chance.choice(["Ann", "Bob", "Bobby"]),
        "owner": chance.choice(["", "sara@acme.example", "Tom"]),
        "silent_days": chance.choice([None, 2, 29, 31]),
    }
    return ListedLead(**fields | fixed)


def sort_key(lead, model):
    """The highest score first, then the newest; a lead without a score comes last."""
    score = lead.rounded(model)
    return score is None, -(score or 0), -lead.created_at.timestamp()


def limits_of(chance):
    while True:
        yield chance.randrange(1, 9)


FILTERS = [
    (BOARD, {}, lambda _: True),
    (BOARD, {"include_anonymous": "true"}, None),
    (BOARD, {"sort": "rules", "stage": "customer"}, lambda lead: lead.stage == "customer"),
    (BOARD, {"stage": "new", "band": "warm"}, lambda lead: lead.stage == "new" and lead.warmth == "warm"),
    (BOARD, {"q": "bob"}, lambda lead: "bob" in lead.name.lower()),
    (BOARD, {"q": "ann", "include_anonymous": "true"}, None),
    (BOARD, {"assigned_to": ["sara@acme.example", "Sara"]}, lambda lead: lead.owner == "sara@acme.example"),
    (BOARD, {"assigned_to": ["", "Tom"], "stage": "new"}, lambda lead: lead.owner in {"", "Tom"} and lead.stage == "new"),
    (BOARD, {"silent_days": "30"}, lambda lead: (lead.silent_days or 0) >= 30),
    (SCORES, {}, lambda _: True),
    (SCORES, {"include_anonymous": "true"}, None),
    (SCORES, {"min_score": "30"}, lambda lead: lead.rounded("rules") >= 30),
    (TENANT_LEADS, {}, lambda _: True),
    (TENANT_LEADS, {"min_score": "0"}, lambda lead: (lead.rounded("temperature") or 0) >= 0),
    (TENANT_LEADS, {"min_score": "40", "stage": "customer"}, lambda lead: lead.stage == "customer" and (lead.rounded("temperature") or 0) >= 40),
    (TENANT_LEADS, {"temperature": "cold"}, lambda lead: lead.warmth in {"cold", None}),
    (TENANT_LEADS, {"temperature": "hot", "include_anonymous": "true"}, None),
]  # fmt: skip


def matching(leads, path, asked, matches):
    matches = matches or (
        lambda lead: (
            asked.get("q", "") in lead.name.lower() and asked.get("temperature", lead.warmth) == lead.warmth
        )
    )
    model = asked.get("sort", "rules" if path == SCORES else "temperature")
    found = [
        lead
        for lead in leads
        if lead.identities
        and (lead.identified or "include_anonymous" in asked)
        and (path != SCORES or model in lead.totals)
        and matches(lead)
    ]
    return sorted(found, key=lambda lead: sort_key(lead, model)), model


async def test_cursors_and_offsets_list_what_a_plain_sort_lists(shop):
    chance = Random(18)
    leads = [random_lead(chance, number) for number in range(120)]
    by_id = {lead.lead_id: lead for lead in leads}
    shop.write(leads)
    async with shop.visited() as http:
        for path, asked, matches in FILTERS:
            expected, model = matching(leads, path, asked, matches)
            seen = await walked(http, path, asked, limits_of(chance))
            assert Counter(seen) == Counter(lead.lead_id for lead in expected), (path, asked)
            keys = [sort_key(by_id[lead_id], model) for lead_id in seen]
            assert all(before <= after for before, after in pairwise(keys)), (path, asked)
            for offset in (0, 1, len(seen) // 2, len(seen) - 1, len(seen), len(seen) + 9):
                ids, _ = await page(http, path, asked | {"limit": 7, "offset": max(offset, 0)})
                assert ids == seen[max(offset, 0) :][:7], (path, asked, offset)


@pytest.mark.parametrize("path", [BOARD, SCORES, TENANT_LEADS])
async def test_while_scores_change_a_lead_that_stays_comes_exactly_once(shop, path):
    chance = Random(7)
    both = {"identified": True, "identities": 1}
    staying = [
        random_lead(chance, f"stay{n}", **both, totals=dict.fromkeys(("rules", "temperature"), Decimal(chance.randrange(90))))
        for n in range(40)
    ]  # fmt: skip
    shop.write(staying)

    def change():
        """Leads come, rise, fall, lose their scores, and go."""
        moving = [random_lead(chance, f"move{chance.randrange(30)}", **both) for _ in range(12)]
        gone = [ListedLead(f"move{chance.randrange(30)}", T0, None)]
        shop.write([*moving, *gone])

    change()
    async with shop.visited() as http:
        seen = Counter(await walked(http, path, {}, limits_of(chance), change))
    assert {lead.lead_id: seen[lead.lead_id] for lead in staying} == {lead.lead_id: 1 for lead in staying}


async def test_the_page_after_a_cursor_needs_no_lead_that_is_still_there(shop):
    leads = [ListedLead(f"l{n}", T0, {"temperature": Decimal(n)}) for n in range(5)]
    shop.write(leads)
    async with shop.visited() as http:
        first, after = await page(http, BOARD, {"limit": 2})
        shop.write([ListedLead("l3", T0, None)])
        second, last = await page(http, BOARD, {"limit": 5, "after": after})
    assert (first, second, last) == (["l4", "l3"], ["l2", "l1", "l0"], None)


@pytest.mark.parametrize("path", [BOARD, SCORES, TENANT_LEADS])
@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"after": "later"}, "after"),
        ({"after": "9999999999_0_0"}, "after"),
        ({"after": f"1_0_{10**19 - 1}"}, "after"),
        ({"after": "1_0_0\n"}, "after"),
        ({"after": "1_0_0", "offset": 1}, "offset"),
        ({"offset": 100_001}, "offset"),
    ],
    ids=str,
)
async def test_a_wrong_beginning_of_a_page_is_named(shop, path, asked, field):
    async with shop.visited() as http:
        answer = await http.get(path, params=asked)
        ends = [
            await page(http, path, {"after": each})
            for each in ("1_-999999999999999_0", f"none_{10**15 - 1}_0")
        ]
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
    if field == "after":
        assert answer.json()["error"]["reason"] == "must be the cursor that the page before gave"
    assert ends == [([], None)] * 2

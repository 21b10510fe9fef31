"""/api/lead-tracking/lifecycle over both real stages and a real PostgreSQL: what is told is what was folded."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest

from gateway.access import read_access
from gateway.app import create_app
from gateway.ports import Ports
from leadstream.wiring import genesis
from projections.migrate import migrate
from projections.worker import project_records
from schemas.control import ModelPublished, ModelRetired
from schemas.decode import encode_source, key_of
from schemas.publications import publication_records
from schemas.record import Outgoing, Record
from schemas.topics import EVENTS
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.lifecycle.lifecycle import built_in_lifecycle, compile_lifecycle
from scoring.models.model import built_in_models
from streams.replay import Replay

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

T0 = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class House:
    """A gateway over both stages in memory, which project what they say."""

    def __init__(self, url, **ports):
        migrate(url)
        self.url, self.clock = url, T0
        self.positions, self.heard = {}, []
        self.replay = Replay(genesis(T0), on_output=self.heard.append)
        self.ports = Ports(append=self.append, database_url=url, now=lambda: self.clock, **ports)

    async def append(self, records):
        self.fold(records)

    def fold(self, records):
        self.replay.append(records)
        self.replay.fold_all()
        records = []
        for topic, key, value, _ in self.heard:
            at = self.positions[topic] = self.positions.get(topic, -1) + 1
            records.append(Record(topic, 0, at, key, value))
        self.heard.clear()
        with psycopg.connect(self.url) as connection:
            project_records(connection, [record for record in records if record.topic != EVENTS])

    def tell(self, kind, day, **fields):
        """An event of the lead 1001, unless told otherwise, recorded as it happened."""
        self.clock = T0 + day * DAY
        who = {} if "visitor_id" in fields or "lead_id" in fields else {"lead_id": "1001"}
        event = EVENT_TYPE_BY_TAG[kind](
            event_id=f"{kind}-{day}-{fields.get('lead_id', '')}",
            occurred_at=self.clock,
            recorded_at=self.clock,
            source="crm",
            **who,
            **fields,
        )
        self.fold([Outgoing(EVENTS, key_of(event), encode_source(event))])

    @asynccontextmanager
    async def visited(self, **headers):
        app = create_app(self.ports)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http,
        ):
            yield http


@pytest.fixture
def house(database_url):
    return House(database_url)


PREFIX = "/api/lead-tracking/lifecycle"


async def told(http, path, **asked):
    answer = await (http.post(f"{PREFIX}/{path}", json=asked) if asked else http.get(f"{PREFIX}/{path}"))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_history_counts_what_happened_in_each_stage(house):
    """The component engagement, 100 at most: contact within 7 days 40, consent to SMS 15, and new 10, then
    contacted 20, qualified 40, engaged 60. So 50, 75, 95 and 100 (not 115): 50, 25, 20 and 5 gained.
    """
    house.tell("page_viewed", 0)  # new
    house.tell("email_opened", 1)
    house.tell("email_sent", 2)  # contacted, by the e-mail itself
    house.tell("consent_changed", 3, sms=True)  # is no touch
    house.tell("call_made", 4)
    async with house.visited() as http:
        house.clock = T0 + 5 * DAY
        now = await told(http, "1001/transition", stage="qualified", reason="budget is there", by="maria")
        house.tell("email_replied", 6)  # engaged
        house.clock = T0 + 8.5 * DAY
        history = await told(http, "1001/history")
        current = await told(http, "1001/current")

    assert (now["lead_id"], now["applied"], now["stage"], now["previous_stage"]) == (
        1001,
        True,
        "qualified",
        "contacted",
    )
    assert (now["transition_reason"], now["by"], now["is_current_stage"]) == (
        "budget is there",
        "maria",
        True,
    )
    assert (now["entered_at"], now["exited_at"], now["duration_days"]) == ("2030-01-06T12:00:00Z", None, 0)

    seen = [
        (
            each["stage"],
            each["duration_days"],
            each["touchpoints_count"],
            each["engagement_score"],
            each["transition_reason"],
            each["by"],
        )
        for each in history["history"]
    ]
    assert seen == [
        ("new", 2, 2, 50, None, None),
        ("contacted", 3, 2, 25, "e-mail, SMS or call to the lead", None),
        ("qualified", 1, 0, 20, "budget is there", "maria"),
        ("engaged", 2.5, 1, 5, "reply or form after qualifying", None),
    ]
    assert [each["is_current_stage"] for each in history["history"]] == [False, False, False, True]
    assert [each["exited_at"] for each in history["history"]][:-1] == [
        each["entered_at"] for each in history["history"]
    ][1:]
    assert history["current_stage"] == "engaged"
    assert current == {"lead_id": 1001, "merged_into": None, **history["history"][-1]}


async def test_what_a_publication_gives_or_takes_is_engagement_of_no_stage(house):
    """40 and 10 for the contact in the first stage, 10 more for the second one."""
    house.tell("page_viewed", 0)
    house.tell("email_sent", 2)
    said = {"tenant": "*", "recorded_at": T0 + 3 * DAY, "model": "composite"}
    async with house.visited() as http:
        for publication in (
            None,
            ModelRetired(**said, version=2),
            ModelPublished(**said, version=3, text=built_in_models()["composite"]),
        ):
            house.fold(() if publication is None else publication_records(publication))
            history = (await told(http, "1001/history"))["history"]
            assert [each["engagement_score"] for each in history] == [50, 10]


async def test_a_lead_that_never_moved_has_one_stage_in_its_history(house):
    house.tell("page_viewed", 0)
    house.clock = T0 + 1 * DAY
    async with house.visited() as http:
        history = await told(http, "1001/history")
    assert history["history"] == [
        {
            "stage": "new",
            "previous_stage": None,
            "entered_at": "2030-01-01T12:00:00Z",
            "exited_at": None,
            "duration_days": 1,
            "touchpoints_count": 1,
            "engagement_score": 50,
            "transition_reason": None,
            "by": None,
            "is_current_stage": True,
        }
    ]


async def test_any_stage_may_be_moved_to_also_those_off_the_way_and_of_somebody_unknown(house):
    house.tell("page_viewed", 0, visitor_id="v-1")
    async with house.visited() as http:
        for stage in ("disqualified", "lost", "new"):
            house.clock += DAY
            now = await told(http, "anon:v-1/transition", stage=stage)
            assert (now["lead_id"], now["stage"], now["transition_reason"]) == (
                "anon:v-1",
                stage,
                "moved by a person",
            )


async def test_what_cannot_be_moved_is_refused_with_the_reason(house):
    house.tell("page_viewed", 0)
    house.tell("page_viewed", 0, lead_id="7")
    house.tell("leads_merged", 1, lead_id="7", into="1001")
    cases = [
        ("nobody", {"stage": "lost"}, 404, "lead_id", "no lead has this id"),
        ("7", {"stage": "lost"}, 409, "lead_id", "merged into 1001"),
        ("1001", {"stage": "warm"}, 422, "stage", "must be one of new, contacted"),
        ("1001", {"reason": "x"}, 422, "stage", "missing"),
        ("1001", {"stage": "lost", "by": "x" * 600}, 422, "by", "at most 512"),
        ("1001", ["lost"], 422, None, "must be an object"),
    ]
    async with house.visited() as http:
        for lead_id, body, status, field, reason in cases:
            answer = await http.post(f"{PREFIX}/{lead_id}/transition", json=body)
            problem = answer.json()["error"]
            assert (answer.status_code, problem["field"]) == (status, field)
            assert reason in problem["reason"]
        assert (await http.post(f"{PREFIX}/1001/transition", content=b"{")).status_code == 400
        assert (await http.get(f"{PREFIX}/nobody/history")).status_code == 404
        merged = await told(http, "7/history")
    assert merged["merged_into"] == 1001


async def test_who_is_not_told_in_time_learns_what_is_stored(house, monkeypatch):
    """The log has the move; nobody has folded it yet."""
    monkeypatch.setattr("gateway.api.lifecycle.APPLY_SECONDS", 0.05)
    house.tell("page_viewed", 0)
    appended = []

    async def only_log(records):
        appended.extend(records)

    house.ports = Ports(append=only_log, database_url=house.url, now=lambda: house.clock)
    async with house.visited() as http:
        answer = await http.post(f"{PREFIX}/1001/transition", json={"stage": "lost"})
        assert (answer.status_code, answer.json()["applied"], answer.json()["stage"]) == (202, False, "new")
        house.fold(appended)
        assert (await told(http, "1001/current"))["stage"] == "lost"


async def test_a_tenant_neither_sees_nor_moves_anothers_leads(database_url):
    house = House(
        database_url, access=read_access((), ("acme:read+write:acme-writes", "default:read:default-reads"))
    )
    house.tell("page_viewed", 0)
    async with house.visited(Authorization="Bearer acme-writes") as http:
        assert (await http.get(f"{PREFIX}/1001/history")).status_code == 404
        assert (await http.post(f"{PREFIX}/1001/transition", json={"stage": "lost"})).status_code == 404
    async with house.visited(Authorization="Bearer default-reads") as http:
        assert (await http.get(f"{PREFIX}/1001/current")).status_code == 200
        assert (await http.post(f"{PREFIX}/1001/transition", json={"stage": "lost"})).status_code == 403


async def test_the_rules_in_force_are_told_as_text_and_as_a_table(house):
    async with house.visited() as http:
        rules = await told(http, "rules")
    assert rules["text"] == built_in_lifecycle()
    assert rules["lifecycle"] == "default"
    assert [each["to"] for each in rules["transitions"]] == [
        each.to for each in compile_lifecycle(built_in_lifecycle()).transitions
    ]
    assert rules["transitions"][1] == {
        "to": "qualified",
        "from": ["new", "contacted"],
        "when": [],
        "since": None,
        "qualified_by": {"model": "rules", "set": "stage", "bands": ["hot", "mql", "sql"]},
        "inactive_days": None,
        "reason": "rules reached mql",
    }
    assert rules["transitions"][-1]["inactive_days"] == 180

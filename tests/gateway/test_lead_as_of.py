"""A lead as of a moment that is over says what the store said when it was asked at that moment: the oracle is the answer of
then.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from gateway.app import create_app
from leadstream.operations.explain import ExplainRequest, explanation_of_lead
from leadstream.operations.explanations import breakdown_lines, explained_score
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from scoring.models.model import built_in_models, compile_model

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

STARTED = datetime.now(UTC)


@asynccontextmanager
async def gateway(database_url):
    settings = Settings(database_url=database_url, partitions=2)
    with open_system(settings) as system:
        app = create_app(ports_of(system, settings))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
        ):
            yield http


def ago(**span):
    return (STARTED - timedelta(**span)).isoformat()


def visit(number, **fields):
    """Of yesterday: its session has ended."""
    return {
        "type": "page_viewed",
        "event_id": f"page-{number}",
        "visitor_id": "browser-7",
        "occurred_at": ago(days=1, minutes=-number),
        "url": "https://shop.example/pricing",
        **fields,
    }


STORY = [
    [visit(1), visit(2), visit(3)],
    [
        visit(4, lead_id="ada"),
        {"type": "profile_updated", "lead_id": "ada", "fields": {"company": "Analytical"}},
    ],
    [{"type": "purchase_made", "lead_id": "ada", "order_id": "o1", "value": 120, "currency": "EUR"}],
    [{"type": "form_submitted", "lead_id": "byron", "occurred_at": ago(days=3)}],
    [
        {
            "type": "profile_updated",
            "lead_id": "ada",
            "fields": {
                "company": "Engines Ltd",
                "qualification_override": "hot",
                "qualification_override_by": "kim",
            },
        }
    ],
    [{"type": "stage_changed", "lead_id": "ada", "stage": "lost", "source": "crm", "by": "kim"}],
    [{"type": "stage_changed", "lead_id": "ada", "stage": "qualified", "source": "crm", "by": "kim"}],
    [{"type": "call_made", "lead_id": "ada", "source": "crm"}],
    [{"type": "leads_merged", "lead_id": "byron", "into": "ada", "source": "crm"}],
    [{"type": "purchase_refunded", "lead_id": "ada", "order_id": "o1", "value": 20, "currency": "EUR"}],
    [{"type": "email_opened", "lead_id": "byron", "occurred_at": ago(hours=20)}],
    [{"type": "merge_undone", "lead_id": "byron", "source": "crm"}],
    [{"type": "profile_updated", "lead_id": "ada", "fields": {"profiling_consent": False}}],
]
LEADS = ("anon:browser-7", "ada", "byron")


WITHOUT_SCORES = ("profile", "counts", "revenue", "identities", "engagements", "stages")


async def test_every_answer_of_then_is_given_again(database_url):
    """Visits, an identification, orders and refunds, a merge and its undoing, a move, a band set by hand, an objection."""
    answers_then, boards_then = [], []
    async with gateway(database_url) as http:
        for events in STORY:
            sent = await http.post("/v1/events?wait=10", json=events)
            assert sent.status_code == 200, sent.text
            for lead in LEADS:
                answer = await http.get(f"/api/leads/{lead}")
                if answer.status_code == 200:
                    answers_then.append((lead, answer.json()))
            boards_then.append((await http.get("/api/leads", params=EVERYBODY)).json())
        now = {lead: await http.get(f"/api/leads/{lead}") for lead in LEADS}
        objecting = {
            lead
            for lead, answer in now.items()
            if answer.status_code == 200 and answer.json()["lead"]["do_not_score"]
        }
        compared = 0
        for lead, then in answers_then:
            again = await http.get(f"/api/leads/{lead}", params={"as_of": then["as_of"]})
            if again.status_code in {307, 404}:
                assert lead.startswith("anon:"), "only an empty anonymous lead leaves no trace"
                continue
            if lead in objecting:
                # No model says anything anew of who objects; what was known of them then is there.
                past = again.json()
                assert {name: past[name] for name in WITHOUT_SCORES} == {
                    name: then[name] for name in WITHOUT_SCORES
                }
                assert past["lead"]["speed_to_lead"] == then["lead"]["speed_to_lead"]
            else:
                assert without_due(again.json()) == without_due(then)
            compared += 1
        assert compared >= 15
        for board in boards_then:
            await assert_board_is_there_again(http, board, set(LEADS) & set(now), objecting)
        before = await http.get("/api/leads", params=EVERYBODY | {"as_of": ago(days=9)})
        assert before.json()["leads"] == []
        early = (await http.get("/api/leads/ada", params={"as_of": ago(days=2)})).json()
        assert (early["history"], early["lead"]["company"], early["scores"]) == ("not_yet_recorded", None, {})
        known = (await http.get("/api/leads/ada", params={"as_of": ago(hours=22), "known": "now"})).json()
        assert known["counts"]["page_viewed"] == 4, "recorded today, and of yesterday"
        assert (known["revenue"], known["profile"]) == ({}, {})
        assert [each["type"] for each in known["engagements"]] == ["page_viewed"] * 4
        moments = [(lead, then["as_of"], "then") for lead, then in answers_then[::3] if lead in LEADS[1:]]
        moments += [("ada", ago(hours=22), "now"), ("byron", in_time_to_come(3), "then")]
        moments += [("byron", in_time_to_come(400), "then"), ("ada", in_time_to_come(1), "then")]
        for lead, moment, knowledge in moments:
            await assert_explained_alike(http, database_url, lead, moment, knowledge)


EVERYBODY = {"include_anonymous": "true"}
OF_THE_ENTRY = ("total", "as_of", "next_due")
"""Of a score in a list: as it was entered last; time alone changes it between two entries, but not its rounded total."""


async def assert_board_is_there_again(http, board, leads, objecting):
    params = EVERYBODY | {"as_of": board["as_of"]}
    again = (await http.get("/api/leads", params=params)).json()
    there = [each["lead_id"] for each in again["leads"]]
    then = [each for each in board["leads"] if each["lead_id"] in there]
    assert there == [each["lead_id"] for each in then]
    assert {each["lead_id"] for each in board["leads"]} - set(there) <= {LEADS[0]}, "an empty anonymous lead"
    for old, new in zip(then, again["leads"], strict=True):
        without = {"next_stage"} if old["lead_id"] in objecting else set()
        assert listed(new, without) == listed(old, without)
    pages, after = [], None
    while True:
        page = await http.get(
            "/api/leads", params=params | {"limit": 1} | ({} if after is None else {"after": after})
        )
        pages += [each["lead_id"] for each in page.json()["leads"]]
        if (after := page.json()["next"]) is None:
            break
    assert pages == there
    for old in then:
        in_stage = (await http.get("/api/leads", params=params | {"stage": old["stage"]})).json()["leads"]
        assert [each["lead_id"] for each in in_stage] == [
            each["lead_id"] for each in then if each["stage"] == old["stage"]
        ]
        in_band = await http.get("/api/leads", params=params | {"band": old["temperature"] or "cold"})
        assert [each["lead_id"] for each in in_band.json()["leads"]] == [
            each["lead_id"]
            for each in then
            if each["temperature"] == (old["temperature"] or "cold") and each["lead_id"] not in objecting
        ]


def listed(lead, without):
    scores = {
        model: {name: value for name, value in score.items() if name not in OF_THE_ENTRY}
        for model, score in lead["scores"].items()
    }
    return {name: value for name, value in lead.items() if name not in without} | {"scores": scores}


async def test_a_list_refuses_what_histories_do_not_say(database_url):
    async with gateway(database_url) as http:
        for params, field in (
            ({"as_of": in_time_to_come(1)}, "as_of"),
            ({"as_of": ago(days=1), "silent_days": 3}, "silent_days"),
            ({"as_of": ago(days=1), "assigned_to": "kim"}, "assigned_to"),
            ({"as_of": "yesterday"}, "as_of"),
        ):
            refused = await http.get("/api/leads", params=params)
            assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)


def in_time_to_come(days):
    return (STARTED + timedelta(days=days)).isoformat()


BUILT_IN = {name: compile_model(text) for name, text in built_in_models().items()}


async def assert_explained_alike(http, database_url, lead, moment, knowledge):
    """The command line has the same state as the API: each line of each score, the stage and what the next one lacks."""
    answer = (await http.get(f"/api/leads/{lead}", params={"as_of": moment, "known": knowledge})).json()
    request = ExplainRequest("default", lead, None, moment, 0, knowledge)
    told = await asyncio.to_thread(explanation_of_lead, database_url, request, datetime.now(UTC))
    for name, score in answer["scores"].items():
        lines = list(breakdown_lines(explained_score(name, score, BUILT_IN[name])))
        start = told.index(lines[0])
        assert told[start : start + len(lines)] == lines
    assert sum(not line.startswith(" ") for line in told if line) == 1 + len(answer["scores"])
    assert any(line.startswith(f"  Stage: {answer['lead']['stage']}") for line in told)
    following = answer["lead"]["next_stage"]
    assert (following is None) == (not any(line.startswith("  Next stage:") for line in told))
    if following is not None:
        missing = "; ".join(each["text"] for each in following["missing"])
        assert f"  Next stage: {following['stage']}, which needs {missing}" in told


def without_due(answer):
    """`position` of what a caller does not see moves on; everything else has to be the same."""
    return answer | {"ledger": [each["model"] for each in answer["ledger"]]}


async def test_an_earlier_clock_to_the_first_contact_is_there_again(database_url):
    """The lead's row has the second clock only."""
    moves = [
        {"type": "stage_changed", "stage": stage, "source": "crm", "by": "kim"}
        for stage in ("qualified", "lost", "qualified")
    ]
    steps = [moves[0], {"type": "call_made", "source": "crm"}, *moves[1:]]
    async with gateway(database_url) as http:
        answers = []
        for step in steps:
            sent = await http.post("/v1/events?wait=10", json=step | {"lead_id": "zoe"})
            assert sent.status_code == 200, sent.text
            answers.append((await http.get("/api/leads/zoe")).json())
        clocks = [answer["lead"]["speed_to_lead"] for answer in answers]
        assert len({clock["qualified_at"] for clock in clocks}) == 2
        assert clocks[1]["first_contacted_at"] is not None
        for then in answers:
            again = (await http.get("/api/leads/zoe", params={"as_of": then["as_of"]})).json()
            assert again["lead"]["speed_to_lead"] == then["lead"]["speed_to_lead"]


async def test_the_future_runs_the_lifecycle(database_url):
    """A customer who is idle for 180 days has churned, and `composite` no longer gives the points of a customer."""
    async with gateway(database_url) as http:
        bought = {"type": "purchase_made", "lead_id": "ada", "value": 120, "currency": "EUR"}
        assert (await http.post("/v1/events?wait=10", json=bought)).status_code == 200
        for days, stage in ((0, "customer"), (179, "customer"), (181, "churned")):
            at = datetime.now(UTC) + timedelta(days=days, minutes=1)
            answer = (await http.get("/api/leads/ada", params={"as_of": at.isoformat()})).json()
            assert answer["lead"]["stage"] == stage
            rules = {line["rule"] for line in answer["scores"]["composite"]["lines"]}
            assert ("Stage" in rules) == (stage == "customer")
            assert all(score["as_of"] == answer["as_of"] for score in answer["scores"].values())

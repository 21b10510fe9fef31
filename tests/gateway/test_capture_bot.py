"""The capture bot's API over both real stages and a real PostgreSQL: the examples of its document, end to end.

Keys, nesting and types are as the document prints them; scores are added up by hand.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from test_lifecycle_api import House

from authoring.active_models import built_in_rules
from gateway.access import read_access
from gateway.door.resolving import AddressMatches
from schemas.control import ModelPublished
from schemas.decode import decode_source
from schemas.publications import publication_records
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.models.model import built_in_models, compile_model
from tests.leadstream.systems_doors import SHORT, asked, sent, shown, whole_session

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CRM = {
    "name": "John Merchant",
    "location": "Mumbai",
    "business_type": "Retail Shop",
    "staff_size": "2–5",
    "monthly_sales": "₹50K–₹2L",
    "features_interested": ["Billing", "QR Payments"],
    "contact_info": "9123456789",
    "email": "john@example.com",
    "phone": "9123456789",
    "lead_score": 75,
    "lead_type": "SQL",
    "utm_source": "google_ads",
    "session_start_time": "2025-08-13T01:30:00Z",
    "assigned_to": "CTL-Team",
}


class Recorded(House):
    """Remembers the events that were appended."""

    def __init__(self, url, **ports):
        super().__init__(url, **ports)
        self.events = []

    async def append(self, records):
        self.events += [decode_source(record.value) for record in records]
        await super().append(records)

    def ids(self, kind):
        return [event.event_id for event in self.events if event.__struct_config__.tag == kind]


@pytest.fixture
def house(database_url):
    return Recorded(database_url)


def types_of(value):
    match value:
        case dict():
            return {key: types_of(each) for key, each in value.items()}
        case list():
            return [types_of(value[0])] if value else []
        case _:
            return type(value)


async def test_the_documents_journey_scores_80(house):
    async with house.visited() as http:
        await whole_session(http)


async def test_a_session_starts_with_the_documents_fields(house):
    async with house.visited() as http:
        start = await sent(http, "session/start", utm_source="google")
    assert start.keys() == {"session_id", "message", "timestamp"}
    assert start["message"] == "Session started successfully"
    assert re.fullmatch(r"sess_[0-9a-f]{32}", start["session_id"])
    assert ISO.fullmatch(start["timestamp"])


async def test_a_summary_has_the_documents_shape(house):
    """Opened 5, one answer 5, contact 10, demo 15: 35. "Restaurant" has ten characters, which is not detailed."""
    printed = {
        "session_id": "sess_abc123",
        "lead_data": {
            "name": "John Doe",
            "email": "john@restaurant.com",
            "business_type": "Restaurant",
            "lead_score": 85,
            "classification": "SQL",
        },
        "behaviors": [{"action": "session_opened", "score": 5}],
    }
    async with house.visited() as http:
        await sent(http, "session/start", session_id="sess_abc123", utm_source="google")
        await sent(http, "answer", session_id="sess_abc123", question_id=1, answer_text="Restaurant")
        contact = {"name": "John Doe", "email": "john@restaurant.com"}
        await sent(http, "lead/profile", session_id="sess_abc123", profile_data=contact)
        await sent(http, "behavior", session_id="sess_abc123", action="demo_requested")
        summary = await shown(http, "lead/summary/sess_abc123")

    lead = summary["lead_data"]
    assert summary.keys() == printed.keys()
    assert types_of({name: lead[name] for name in printed["lead_data"]}) == types_of(printed["lead_data"])
    assert types_of(summary["behaviors"]) == types_of(printed["behaviors"])
    assert {
        name: lead[name] for name in ("name", "email", "business_type", "lead_score", "classification")
    } == {
        "name": "John Doe",
        "email": "john@restaurant.com",
        "business_type": "Restaurant",
        "lead_score": 35,
        "classification": "MQL",
    }


async def test_an_export_has_the_documents_14_fields(house):
    """Opened 5, five answers 25, all 10, contact 10; detailed: "Retail Shop" and "Billing, QR Payments" 10: 60. Two more
    by a product 5 and a reply within two minutes 5... and none by the second product: 70; with the greeting 75.
    """
    house.clock = datetime(2025, 8, 13, 1, 30, 0, 250_000, tzinfo=UTC)
    answers = ("Retail Shop", "Mumbai", "2–5", "₹50K–₹2L", ["Billing", "QR Payments"])
    async with house.visited() as http:
        session = (await sent(http, "session/start", utm_source="google_ads"))["session_id"]
        await sent(
            http, "answer", session_id=session, question_id=0, answer_text="Yes, go ahead", time_taken=5
        )
        await asked(http, session, answers, (60, 300, 300, 300, 300))
        contact = {"name": "John Merchant", "email": "john@example.com", "phone": "9123456789"}
        await sent(http, "lead/profile", session_id=session, profile_data=contact)
        for product in ("Billing", "QR Payments"):
            await sent(
                http, "behavior", session_id=session, action="clicked_product", metadata={"product": product}
            )
        export = await shown(http, f"lead/export/{session}")
        assert await shown(http, f"lead/export/{session}/") == export

    assert export.keys() == CRM.keys()
    assert types_of(export) == types_of(CRM)
    assert export == CRM


async def test_every_address_has_a_form_with_a_slash(house):
    async with house.visited() as http:
        session = (await sent(http, "session/start/"))["session_id"]
        await sent(http, "answer/", session_id=session, question_id=1, answer_text="Retail")
        await sent(http, "behavior/", session_id=session, action="scrolled")
        await sent(http, "lead/profile/", session_id=session, profile_data={"name": "Ada"})
        for path in ("questions", "product-menu", "cta-options", "analytics/leads"):
            assert (await shown(http, f"{path}/")).keys() == (await shown(http, path)).keys()
        for path in (f"lead/summary/{session}", f"lead/export/{session}", f"score/{session}"):
            assert await shown(http, f"{path}/") == await shown(http, path)


async def test_questions_have_the_documents_fields(house):
    async with house.visited() as http:
        first = (await shown(http, "questions"))["questions"][0]
    printed = {
        "id": 1,
        "text": "What type of business do you run?",
        "options": ["Restaurant", "Retail Store", "Service Business", "E-commerce", "Other"],
        "step": "profile",
    }
    assert {name: first[name] for name in printed} == printed
    assert (first["order"], first["profile_field"], first["several"]) == (1, "business_type", False)


async def test_a_session_is_left_and_goes_on(house):
    async with house.visited() as http:
        session = (await sent(http, "session/start"))["session_id"]
        await sent(http, "answer", session_id=session, question_id=2, answer_text="Mumbai")
        await sent(http, "answer", session_id=session, question_id=1, answer_text="Retail Store")
        resumed = await sent(http, "session/start", session_id=session, utm_source="elsewhere")
        open_questions = await shown(http, f"questions?session_id={session}")
        fresh = await shown(http, "questions?session_id=nobody")
    assert (resumed["session_id"], resumed["message"]) == (session, "Session resumed")
    for each in (resumed, open_questions):
        assert (each["answered"], each["next_question"]["id"], each["completed"]) == ([1, 2], 3, False)
    assert (fresh["answered"], fresh["next_question"]["id"]) == ([], 1)
    assert len(house.ids("session_started")) == 1


async def test_an_answer_changed_and_changed_back_restates_and_counts_once(house):
    """Opened 5, one question 5, quick 5, detailed 5: 20, whatever is answered how often."""
    async with house.visited() as http:
        session = (await sent(http, "session/start"))["session_id"]
        for text in ("Retail Store", "Restaurant", "Retail Store", "Retail Store"):
            last = await sent(
                http, "answer", session_id=session, question_id=1, answer_text=text, time_taken=9
            )
            lead = (await shown(http, f"lead/summary/{session}"))["lead_data"]
            assert lead["business_type"] == text
    assert last["lead_score"] == 20
    ids = house.ids("question_answered")
    assert len(ids) == 4
    assert len(set(ids)) == 3  # the last one was sent again


async def test_any_text_answers_and_one_beside_the_options_is_marked(house):
    async with house.visited() as http:
        session = (await sent(http, "session/start"))["session_id"]
        by_id = {}
        for number, text in ((1, "Yes, go ahead"), (2, "Mumbai"), (3, "ONLY ME"), (5, "billing; Payroll")):
            by_id[number] = await sent(
                http, "answer", session_id=session, question_id=number, answer_text=text
            )
        lead = (await shown(http, f"lead/summary/{session}"))["lead_data"]
        refused = await sent(http, "answer", 422, session_id=session, question_id=9, answer_text="x")
        blank = await sent(http, "answer", 422, session_id=session, question_id=1, answer_text=" ")
    assert [(each["answer_text"], each["other"]) for each in by_id.values()] == [
        ("Yes, go ahead", True),
        ("Mumbai", False),
        ("Only me", False),
        ("Billing, Payroll", True),
    ]
    assert lead["business_type"] == "Yes, go ahead"
    assert refused["error"]["field"] == "question_id"
    assert "0, 1, 2, 3, 4, 5, 6" in refused["error"]["reason"]
    assert blank["error"]["field"] == "answer_text"
    assert [event.extra for event in house.events if event.extra] == [{"other": True}] * 2


async def test_the_contact_is_read_from_an_answer(house):
    """Opened 5, contact 10."""
    async with house.visited() as http:
        session = (await sent(http, "session/start"))["session_id"]
        text = "Ada Obi, ada@example.com, +971 50 123 4567"
        last = await sent(http, "answer", session_id=session, question_id=6, answer_text=text)
        export = await shown(http, f"lead/export/{session}")
    assert last["lead_score"] == 15
    assert (export["name"], export["email"], export["phone"]) == (
        "Ada Obi",
        "ada@example.com",
        "+971501234567",
    )


async def test_actions_become_events(house):
    """Opened 5, greeting 5, all answered 10, contact 10, product 5, demo 15, call to action 15: 65."""
    actions = {
        "session_opened": {},
        "replied_to_greeting": {"text": "Hi"},
        "answered_all_questions": {},
        "shared_contact": {"email": "ada@example.com"},
        "clicked_product": {"product_id": "billing"},
        "clicked_demo": {"from": "menu"},
        "cta_clicked": {"cta_id": "book-demo"},
        "watched_video": {"seconds": 12},
    }
    async with house.visited() as http:
        for action, metadata in actions.items():
            last = await sent(http, "behavior", session_id="s-1", action=action, metadata=metadata)
            again = await sent(http, "behavior", session_id="s-1", action=action, metadata=metadata)
            assert again["lead_score"] == last["lead_score"]
        behaviors = (await shown(http, "lead/summary/s-1"))["behaviors"]
        refused = await sent(http, "behavior", 422, session_id="s-1", action="answered_question")
        unnamed = await sent(http, "behavior", 422, session_id="s-1", action="Watched a video!")
    assert last["lead_score"] == 65
    assert {each["action"]: each["score"] for each in behaviors} == {
        "session_opened": 5,
        "replied_to_greeting": 5,
        "answered_all_questions": 10,
        "shared_contact": 10,
        "clicked_product": 5,
        "demo_requested": 15,
        "cta_clicked": 15,
        "watched_video": 0,
    }
    assert refused["error"]["field"] == unnamed["error"]["field"] == "action"


async def test_analytics_of_the_chat(house):
    """Two sessions: 80 points (SQL) and 10 (Unqualified). Answers took 10, 20, 30, 40, 50 and 60 seconds."""
    async with house.visited() as http:
        await sent(http, "session/start", session_id="s-1")
        await asked(http, "s-1", SHORT, (10, 20, 30, 40, 50))  # 5 + 25 + 10 + 25
        await sent(http, "behavior", session_id="s-1", action="clicked_demo")  # 15
        await sent(http, "session/start", session_id="s-2")
        await sent(http, "answer", session_id="s-2", question_id=1, answer_text="Retail", time_taken=60)
        house.tell("page_viewed", 0, visitor_id="v-9")  # no session of the chat
        totals = await shown(http, "analytics/leads")
    assert (totals["total_sessions"], totals["completed_sessions"]) == (2, 1)
    assert totals["leads"] == {"SQL": 1, "MQL": 0, "Unqualified": 1}
    assert (totals["conversion_rate"], totals["completion_rate"]) == (0.5, 0.5)
    assert (totals["average_score"], totals["average_response_time"]) == (47.5, 35)


async def test_without_sessions_analytics_are_empty(house):
    async with house.visited() as http:
        totals = await shown(http, "analytics/leads?days=1")
    assert (totals["total_sessions"], totals["conversion_rate"]) == (0, 0)
    assert totals["average_score"] is totals["average_response_time"] is None


async def test_a_public_key_sends_and_sees_no_lead(database_url):
    access = read_access(["acme:public-key"], ["acme:read:a-secret-token", "other:read:another-secret"])
    house = Recorded(database_url, access=access)
    async with house.visited(**{"x-write-key": "public-key", "origin": "https://shop.example"}) as http:
        session = (await sent(http, "session/start"))["session_id"]
        response = await http.post(
            "/api/answer", json={"session_id": session, "question_id": 1, "answer_text": "Retail"}
        )
        assert response.headers["access-control-allow-origin"] == "https://shop.example"
        assert "lead_score" not in response.json()
        assert (await shown(http, f"questions?session_id={session}"))["answered"] == [1]
        for path in (
            f"lead/summary/{session}",
            f"lead/export/{session}",
            f"score/{session}",
            "analytics/leads",
        ):
            await shown(http, path, 401)
    async with house.visited(authorization="Bearer a-secret-token") as http:
        assert (await shown(http, f"score/{session}"))["lead_score"] == 10
        assert (await shown(http, "questions"))["language"] == "en"
        await sent(http, "answer", 403, session_id=session, question_id=1, answer_text="Retail")
    async with house.visited(authorization="Bearer another-secret") as http:
        for path in (f"lead/summary/{session}", f"lead/export/{session}", f"score/{session}"):
            await shown(http, path, 404)
        assert (await shown(http, "analytics/leads"))["total_sessions"] == 0


async def test_a_session_whose_contact_is_known_belongs_to_that_lead(database_url):
    async def resolve(queries):
        return [AddressMatches(by_email=("ada",)) for _ in queries]

    house = Recorded(database_url, resolve=resolve)
    async with house.visited() as http:
        session = (await sent(http, "session/start"))["session_id"]
        shared = {"email": "ada@acme.io"}
        last = await sent(http, "lead/profile", session_id=session, profile_data=shared)
        assert last["lead_score"] == (await shown(http, f"score/{session}"))["lead_score"] == 15
        lead = await shown(http, "leads/ada")
    assert lead["scores"]["chatbot"]["total"] == 15


async def test_wrong_bodies_name_the_field(house):
    async with house.visited() as http:
        for path, body, field in (
            ("answer", {"session_id": "s", "question_id": 1}, "answer_text"),
            ("answer", {"session_id": "s", "question_id": 1, "answer_text": 5}, "answer_text"),
            (
                "answer",
                {"session_id": "s", "question_id": 1, "answer_text": "x", "time_taken": -1},
                "time_taken",
            ),
            ("answer", {"session_id": "undefined", "question_id": 1, "answer_text": "x"}, "session_id"),
            ("behavior", {"session_id": "s"}, "action"),
            ("lead/profile", {"session_id": "s", "profile_data": {}}, "profile_data"),
            ("lead/profile", {"session_id": "s", "profile_data": {"Bad Name": 1}}, "profile_data.Bad Name"),
        ):
            assert (await sent(http, path, 422, **body))["error"]["field"] == field
        response = await http.post("/api/answer", content=b"{")
        assert response.status_code == 400
        assert (await shown(http, "score/%00", 404))["error"]["field"] == "session_id"
    assert house.events == []


HOSTILE = (
    ("session/start", '{"session_id": "\\ud800x"}'),
    ("answer", '{"session_id": "\\ud800x", "question_id": 1, "answer_text": "x"}'),
    ("answer", '{"session_id": "a\\u0000b", "question_id": 1, "answer_text": "x"}'),
    ("answer", '{"session_id": "s", "question_id": 1e400, "answer_text": "x"}'),
    ("answer", '{"session_id": "s", "question_id": "\\ud800", "answer_text": "x"}'),
    ("behavior", '{"session_id": "s", "action": "\\ud800"}'),
    ("behavior", '{"session_id": "s", "action": "deep", "metadata": {"a": ' + "[" * 900 + "]" * 900 + "}}"),
    (
        "behavior",
        '{"session_id": "s", "action": "deep", "metadata": {"a": ' + "[" * 20_000 + "]" * 20_000 + "}}",
    ),
    ("behavior", '{"session_id": "s", "action": "large", "metadata": {"a": 1' + "0" * 400 + "}}"),
    ("lead/profile", '{"session_id": "s", "profile_data": {"\\ud800": 1}}'),
    ("lead/profile", '{"session_id": "\\ufffd", "profile_data": {"name": "Ada"}}'),
    ("lead/profile", '{"session_id": "s", "profile_data": {"a": {"b": 1}}}'),
    ("lead/profile", '"x"'),
    ("lead/profile", "\xff"),
)


@pytest.mark.parametrize(("path", "body"), HOSTILE)
async def test_a_hostile_body_is_refused(house, path, body):
    async with house.visited() as http:
        response = await http.post(f"/api/{path}", content=body.encode("latin-1"))
    assert response.status_code in {400, 422}, response.text
    assert response.json()["error"]["reason"]


@pytest.mark.parametrize(
    "path", ["score/%ed%a0%80", "score/%00", "lead/export/" + "x" * 5_000, "questions?session_id=%00"]
)
async def test_a_hostile_address_finds_nothing(house, path):
    async with house.visited() as http:
        response = await http.get(f"/api/{path}")
    assert response.status_code in {200, 404, 422}, response.text


async def test_half_a_character_in_an_answer_is_replaced(house):
    body = b'{"session_id": "s", "question_id": 2, "answer_text": "Mumbai \\ud83d"}'
    async with house.visited() as http:
        response = await http.post("/api/answer", content=body)
    assert response.status_code == 200, response.text
    assert response.json()["answer_text"] == "Mumbai \ufffd"


@pytest.mark.parametrize("path", ["session/start", "answer", "behavior", "lead/profile"])
async def test_a_page_of_another_site_may_send(house, path):
    async with house.visited() as http:
        for address in (f"/api/{path}", f"/api/{path}/"):
            assert (await http.options(address)).status_code == 204


async def test_a_tenants_own_flow_is_served_in_its_languages(house):
    """Opened 5, the only question 5, all of them 10: 20; "Tomorrow" is not detailed."""
    model = built_in_models()["chatbot"]
    text = (
        model[: model.index("[flow]")]
        + """
[flow]
languages = ["en", "hi"]
thanks = { en = "Thanks!", hi = "धन्यवाद!" }
[flow.greeting]
id = 10
text = "Hello"
[[flow.questions]]
id = 11
text = { en = "Which day?", hi = "कौन सा दिन?" }
options = { en = ["Today", "Tomorrow"], hi = ["आज", "कल"] }
profile_field = "day"
[flow.contact]
id = 12
text = "Your phone?"
"""
    )

    async def published(tenant):
        rules = await built_in_rules(tenant)
        if tenant != "acme":
            return rules
        return rules._replace(models={**rules.models, "chatbot": compile_model(text)})

    house.ports = replace(house.ports, published=published)
    publication = ModelPublished(
        tenant="acme",
        recorded_at=house.clock,
        model="chatbot",
        version=2,
        text=text,
        folding=NEWEST_COMPARISON.folding,
    )
    house.fold(publication_records(publication))
    async with house.visited(**{"x-tenant": "acme"}) as http:
        flow = await shown(http, "questions?language=hi")
        assert flow["questions"][0]["options"] == ["आज", "कल"]
        assert flow["thanks"] == "धन्यवाद!"
        await sent(http, "session/start", session_id="s-1")
        resumed = await sent(http, "session/start", session_id="s-1", language="hi")
        assert (resumed["reply"], resumed["asks"]) == ("कौन सा दिन?", "question")
        assert resumed["next_question"]["options"] == ["आज", "कल"]
        wrong = await sent(
            http, "answer", 422, session_id="s-1", question_id=11, answer_text="कल", language="fr"
        )
        assert wrong["error"] == {"field": "language", "reason": "the flow is in en, hi"}
        last = await sent(http, "answer", session_id="s-1", question_id=11, answer_text="कल", language="hi")
        assert (last["answer_text"], last["other"], last["completed"]) == ("Tomorrow", False, True)
        assert (last["reply"], last["asks"]) == ("Your phone?", "contact")
        assert last["lead_score"] == 20
        reached = await sent(
            http, "answer", session_id="s-1", question_id=12, answer_text="+971 50 123 4567", language="hi"
        )
        assert (reached["reply"], reached["asks"]) == ("धन्यवाद!", None)
        assert (await shown(http, "questions?language=fr", 422))["error"]["field"] == "language"
        assert (await shown(http, "lead/export/s-1"))["assigned_to"] is None
    async with house.visited() as http:
        assert len((await shown(http, "questions"))["questions"]) == 5


async def test_a_model_without_a_flow_asks_what_the_built_in_one_asks(house):
    model = built_in_models()["chatbot"]

    async def published(tenant):
        rules = await built_in_rules(tenant)
        bare = compile_model(model[: model.index("[flow]")])
        return rules._replace(models={**rules.models, "chatbot": bare})

    house.ports = replace(house.ports, published=published)
    async with house.visited() as http:
        assert len((await shown(http, "questions"))["questions"]) == 5


async def test_events_are_taken_while_nothing_can_be_looked_up(house):
    async def late(_records):
        house.events += [decode_source(record.value) for record in _records]

    house.ports = replace(house.ports, append=late)
    async with house.visited() as http:
        response = await http.post(
            "/api/answer", json={"session_id": "s-1", "question_id": 1, "answer_text": "Retail"}
        )
    assert response.status_code == 202
    assert response.json()["location"].startswith("/api/events/chat-")
    assert json.loads(response.text)["answered"] == [1]

"""The schema `reports`: the views show what the API shows, survive a rebuild, and can be read by a role that reads only."""

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from leadstream.active_models import analytics_settings
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from projections.analytics_worker import compute_every_stale_lead
from projections.migrate import migrate
from projections.rebuild import rebuild
from projections.reports import QUERIES, create_reports
from projections.table_definition import LIVE_SCHEMA
from tests.leadstream.systems_doors import visited
from tests.projections.reports_reader import assert_reads_reports_only, reports_reader

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

EVENTS = [
    {"type": "session_started", "visitor_id": "chat-1", "source": "chatbot"},
    {
        "type": "question_answered",
        "visitor_id": "chat-1",
        "source": "chatbot",
        "question_id": "1",
        "question": "What is your business?",
        "text": "Retail",
        "time_taken_s": 30,
        "profile_field": "business_type",
    },
    {"type": "lead_identified", "visitor_id": "chat-1", "lead_id": "7", "source": "crm"},
    {
        "type": "page_viewed",
        "visitor_id": "v",
        "session_id": "visit-1",
        "url": "https://shop.example/?utm_source=google&utm_medium=cpc",
    },
    {"type": "lead_identified", "visitor_id": "v", "lead_id": "7"},
    {
        "type": "profile_updated",
        "lead_id": "7",
        "source": "crm",
        "fields": {"name": "Ada", "title": "Director"},
    },
    {"type": "qr_scanned", "lead_id": "7", "source": "telegram"},
    {"type": "message_received", "lead_id": "7", "source": "telegram", "text": "Hello"},
    {"type": "qr_scanned", "visitor_id": "other", "source": "telegram"},
    {"type": "purchase_made", "lead_id": "7", "value": 12.5, "currency": "EUR", "order_id": "o"},
    {"type": "purchase_made", "lead_id": "7", "value": 700, "currency": "JPY", "order_id": "p"},
    {
        "type": "purchase_refunded",
        "lead_id": "7",
        "value": 2.25,
        "currency": "EUR",
        "order_id": "o",
    },
]


@pytest.fixture
def anyio_backend():
    return "asyncio"


DOCUMENTED = {
    "leads": {"id", "session_id", "name", "email", "phone", "business_type", "location", "staff_size"}
    | {"monthly_sales", "features_interested", "lead_score", "lead_classification", "lead_type", "utm_source"}
    | {"created_at", "updated_at", "temperature", "qr_scan_count", "catalog_views", "messages_count"}
    | {"total_interactions"},
    "users": {"id", "lead_score"},
    "sessions": {"id", "session_id", "lead_score"},
    "answers": {"id", "session_id", "question_id", "question_text", "answer_text", "time_taken"}
    | {"score_earned", "created_at"},
    "user_behaviors": {"id", "session_id", "behavior_type", "action", "behavior_metadata", "score_impact"}
    | {"score_change", "timestamp"},
    "lead_scores": {"id", "lead", "lead_name", "score", "previous_score", "score_change", "score_breakdown"}
    | {"qualification_stage", "calculated_at"}
    | {"demographic_score", "behavioral_score", "firmographic_score", "engagement_score", "intent_score"}
    | {"total_score", "grade", "temperature"},
    "lead_lifecycle": {"id", "lead_id", "stage", "previous_stage", "entered_at", "exited_at"}
    | {"duration_days", "touchpoints_count", "engagement_score", "transition_reason", "is_current_stage"},
    "engagement_history": {"id", "lead_id", "engagement_type", "engagement_channel", "source_type"}
    | {"source_id", "source_name", "title", "engagement_value", "engagement_metadata", "device_type"}
    | {"location", "ip_address", "revenue", "currency", "created_at"},
    "lead_attribution": {"id", "lead_id", "conversion_type", "conversion_value", "conversion_date"}
    | {"attribution_model", "touchpoints", "total_touchpoints", "first_touch", "last_touch"}
    | {"primary_touchpoint", "secondary_touchpoint", "journey_duration_days"}
    | {"avg_time_between_touches_hours"},
    "lead_journeys": {"journey_start_date", "last_activity_date", "duration_days", "total_engagements"}
    | {"email_engagements", "form_submissions", "page_views", "purchases", "engagement_trend"}
    | {"risk_of_churn", "lifetime_value", "total_revenue", "milestones"},
    "lead_activity_summary": {"period_type", "emails_sent", "emails_opened", "emails_clicked"}
    | {"forms_submitted", "pages_viewed", "score_change", "stage_changed", "activity_status"},
}


def rows(connection, statement):
    cursor = connection.execute(statement)
    return [dict(zip([each.name for each in cursor.description], row, strict=True)) for row in cursor]


def columns(connection):
    shown = {}
    for view, column, kind in connection.execute(
        """select table_name, column_name, data_type from information_schema.columns
           where table_schema = 'reports'"""
    ):
        shown.setdefault(view, {})[column] = kind
    return shown


def test_the_views_have_the_columns_of_the_documents(database_url):
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        shown = columns(connection)
    assert set(shown) == set(QUERIES)
    for view, names in DOCUMENTED.items():
        assert names <= shown[view].keys()
    leads = shown["leads"]
    assert [leads[name] for name in ("lead_score", "temperature", "qr_scan_count")] == [
        "integer",
        "character varying",
        "integer",
    ], "as the check by psql prints them"


def test_the_views_can_be_replaced_in_place_and_are_left_alone_otherwise(database_url):
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        before = columns(connection)
        created = connection.execute("select xmin from pg_class where relname = 'user_behaviors'").fetchone()
        create_reports(connection)
        assert (
            connection.execute("select xmin from pg_class where relname = 'user_behaviors'").fetchone()
            == created
        )
        create_reports(connection, replace=True)
        assert columns(connection) == before


def test_the_documented_role_reads_the_reports_and_nothing_else(database_url):
    migrate(database_url)
    role = f"reader_{database_url.partition('/test_')[2].partition('?')[0]}"
    with reports_reader(database_url, role) as connection:
        assert_reads_reports_only(connection)


@asynccontextmanager
async def gateway(database_url):
    settings = Settings(database_url=database_url, partitions=2)
    with open_system(settings) as system:
        async with visited(ports_of(system, settings)) as http:
            yield http


async def test_two_chats_of_one_lead_each_have_their_own_points_though_their_events_have_the_same_ids(
    database_url,
):
    """Opened 5 and the answer 5 in the first chat; in the second nothing new but the quick answer's 5."""
    async with gateway(database_url) as http:
        for chat, seconds in (("chat-1", 300), ("chat-2", 30)):
            who = {"visitor_id": chat, "lead_id": "7", "source": "chatbot"}
            opened = {"type": "session_started", "event_id": "opened", **who}
            answer = {"type": "question_answered", "event_id": "answer", "question_id": "1", **who}
            answer |= {"text": f"Retail {chat[-1]}", "time_taken_s": seconds}
            for event in (opened, answer):
                assert (await http.post("/v1/events?wait=10", json=event)).status_code == 200
                await asyncio.sleep(0.002)  # the log knows milliseconds
        ledger = (await http.get("/api/leads/7/ledger?model=chatbot")).json()["ledger"]
    with psycopg.connect(database_url) as connection:
        behaviors = rows(connection, "select session_id, score_impact from reports.user_behaviors order by 1")
        answers = rows(connection, "select session_id, score_earned from reports.answers order by 1")
    assert [each["score_impact"] for each in behaviors] == [5, 0]
    assert [each["score_earned"] for each in answers] == [5, 5]
    assert [(each["change"], each["event"]["about"]) for each in ledger] == [
        (5, "Retail 2"),
        (5, "Retail 1"),
        (5, None),
    ]


async def test_the_views_show_what_the_api_shows_also_after_a_rebuild(database_url):
    async with gateway(database_url) as http:
        answer = await http.post("/v1/events?wait=10", json=EVENTS)
        assert answer.status_code == 200, answer.text
        api = {
            name: (await http.get(address)).json()
            for name, address in {
                "scores": "/api/lead-qualification/lead-scores/",
                "history": "/api/lead-qualification/lead-scores/history/?lead_id=7",
                "lead": "/api/leads/7",
                "session": "/api/lead-score/session/visit-1",
                "attribution": "/api/lead-tracking/attribution/7",
                "stages": "/api/lead-tracking/lifecycle/7/history",
                "composite": "/api/lead-tracking/scoring/7",
            }.items()
        }
    with psycopg.connect(database_url, autocommit=True) as connection:
        compute_every_stale_lead(connection, analytics_settings, LIVE_SCHEMA)
        connection.execute("grant usage on schema reports to public; grant select on reports.leads to public")
        connection.execute("set timezone = 'UTC'")
        before = {view: rows(connection, f"select * from reports.{view} order by id") for view in QUERIES}
    assert len(before["lead_journeys"]) == 1
    assert {row["period_type"] for row in before["lead_activity_summary"]} == {"daily", "weekly", "monthly"}
    bought = [row["revenue"] for row in before["lead_activity_summary"] if row["revenue"]]
    assert bought == [{"EUR": Decimal("10.25"), "JPY": 700}] * 3
    rebuild(database_url, read_settings=analytics_settings)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set timezone = 'UTC'")
        after = {view: rows(connection, f"select * from reports.{view} order by id") for view in QUERIES}
        granted = connection.execute(
            "select has_table_privilege('public', 'reports.leads', 'select')"
        ).fetchone()
    assert after == before
    assert granted == (True,)

    [lead] = before["leads"]
    assert (lead["id"], lead["lead_id"], lead["name"], lead["business_type"]) == (7, "7", "Ada", "Retail")
    assert lead["session_id"] == "chat-1"
    shown = api["lead"]["lead"]
    assert (lead["lead_score"], lead["temperature"]) == (shown["lead_score"], shown["temperature"])
    assert (lead["qr_scan_count"], lead["messages_count"], lead["total_interactions"]) == (1, 1, 2)
    assert (lead["utm_source"], lead["lead_type"]) == ("google", "Unqualified")

    [score] = before["lead_scores"]
    [listed] = api["scores"]
    compared = ("id", "lead", "lead_name", "score", "previous_score", "score_change", "qualification_stage")
    assert {name: score[name] for name in compared} == {name: listed[name] for name in compared}
    gained = {group: points for group, points in listed["score_breakdown"].items() if points}
    assert {group: float(points) for group, points in score["score_breakdown"].items()} == gained
    composite = api["composite"]["score"]
    assert (score["grade"], score["temperature"]) == (composite["grade"], composite["temperature"])
    for name, points in composite["components"].items():
        assert float(score[f"{name}_score"]) == pytest.approx(points, abs=0.01), name

    of_lead = sorted(
        (each for each in before["lead_lifecycle"] if each["lead_id"] == "7"),
        key=lambda each: (each["entered_at"], each["previous_stage"] is not None),
    )
    names = ("stage", "previous_stage", "touchpoints_count", "transition_reason", "is_current_stage")
    assert [[each[name] for name in (*names, "engagement_score")] for each in of_lead] == [
        [each[name] for name in (*names, "engagement_score")] for each in api["stages"]["history"]
    ]

    bought = [each for each in before["engagement_history"] if each["lead_id"] == "7"]
    assert sorted(each["engagement_type"] for each in bought) == sorted(
        event["type"] for event in EVENTS if event.get("visitor_id") != "other"
    )
    [order, _] = sorted(
        (each for each in bought if each["engagement_type"] == "purchase_made"),
        key=lambda each: each["currency"],
    )
    assert (order["revenue"], order["currency"], order["engagement_channel"]) == (
        Decimal("12.50"),
        "EUR",
        "web",
    )

    own = [each for each in before["lead_score_history"] if each["lead_id"] == "7"]
    ids = [each["id"] for each in own if each["model"] == "rules"]
    assert sorted(ids) == sorted(each["id"] for each in api["history"])

    [session] = before["sessions"]
    analytics = api["session"]["analytics"]
    assert {name: session[name] for name in analytics if name in session} == analytics
    assert session["session_id"] == "visit-1"

    [answered] = before["answers"]
    assert (answered["session_id"], answered["question_id"], answered["time_taken"]) == ("chat-1", 1, 30)
    assert (answered["answer_text"], answered["question_text"]) == ("Retail", "What is your business?")
    [opened] = before["user_behaviors"]
    assert (opened["action"], opened["session_id"]) == ("session_started", "chat-1")
    gained_in_chat = sum(each["score_change"] for each in own if each["model"] == "chatbot")
    assert opened["score_change"] + answered["score_earned"] == gained_in_chat == lead["chatbot_score"] > 0
    assert {each["user_id"]: each["identified"] for each in before["users"]} == {
        "7": True,
        "anon:other": False,
    }

    own = {
        (each["conversion_type"], each["attribution_model"]): each
        for each in before["lead_attribution"]
        if each["lead_id"] == "7"
    }
    named = "type", "name", "channel", "engagement_type", "weight"
    for each in api["attribution"]["history"]:
        row = own.pop((each["conversion_type"], each["attribution_model"]))
        assert row["total_touchpoints"] == each["total_touchpoints"]
        assert row["currency"] == each["currency"]
        assert {name: float(amount) for name, amount in row["conversion_values"].items()} == each["values"]
        assert (row["conversion_value"] and float(row["conversion_value"])) == each["conversion_value"]
        assert float(row["journey_duration_days"]) == each["journey_duration_days"]
        assert [[touch[name] for name in named] for touch in row["touchpoints"]] == [
            [touch[name] for name in named] for touch in each["touchpoints"]
        ]
        for which in ("first_touch", "last_touch", "primary_touchpoint", "secondary_touchpoint"):
            assert (row[which] or {}).get("name") == (each[which] or {}).get("name")
    assert not own

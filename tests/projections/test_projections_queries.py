"""What readers get, on a real PostgreSQL."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from projection_records import (
    at,
    attached,
    dead_letter,
    delta,
    lead_scored,
    open_log,
    page_view,
    put,
    recorded,
    score_changed,
    session_retracted,
    session_scored,
    statement,
    tombstone,
)
from psycopg.rows import dict_row

from projections import queries
from projections.lead_lists import (
    ALL_IDENTIFIED_LEADS,
    LeadFilters,
    PageStart,
    position_of,
    scored_and_all,
    scored_leads,
    unscored_leads,
)
from projections.lead_scores import features_of
from projections.migrate import migrate
from projections.queries import LedgerCursor, sql_and_parameters
from projections.table_definition import READ_OPTIONS
from projections.worker import project_records
from schemas import statements as say
from schemas.record import Outgoing

pytestmark = pytest.mark.postgres
Rows = list[dict[str, Any]]


@pytest.fixture
def database_url(read_models_url: str) -> str:
    return read_models_url


@pytest.fixture
def tell(database_url: str) -> Callable[..., None]:
    open_log(database_url)
    migrate(database_url)  # for the views of the log
    ends: dict[tuple[str, int], int] = {}

    def tell(*said: Outgoing) -> None:
        with psycopg.connect(database_url) as connection:
            project_records(connection, recorded(said, ends))

    return tell


@pytest.fixture
def ask(database_url: str) -> Callable[..., Rows]:
    def ask(statement: Any) -> Rows:
        with psycopg.connect(database_url, options=READ_OPTIONS, row_factory=dict_row) as connection:
            cursor = connection.execute(*sql_and_parameters(statement))
            return cursor.fetchall() if cursor.description else []

    return ask


def ids(rows: Rows) -> list[str]:
    return [row["lead_id"] for row in rows]


# The board


def board(tenant="default", model="temperature", filters=ALL_IDENTIFIED_LEADS, **page):
    return scored_leads(tenant, model, filters, **{"limit": 50} | page)


def test_the_board_lists_the_highest_rounded_total_first_then_the_newest_lead(tell, ask):
    tell(
        lead_scored("old", 1, {"temperature": 50.4}, created_at=at(1)),
        lead_scored("new", 1, {"temperature": 50}, created_at=at(2)),
        lead_scored("best", 1, {"temperature": 67, "rules": 1}, created_at=at(0)),
        lead_scored("unscored", 1, {"rules": 99}, created_at=at(3)),
    )
    rows = ask(board())
    assert ids(rows) == ["best", "new", "old"]
    assert rows[0]["total"] == 67
    assert ids(ask(board(model="rules", limit=1))) == ["unscored"]
    assert ids(ask(board(limit=2, start=PageStart(offset=1)))) == ["new", "old"]
    assert ids(ask(board(start=PageStart(position_of(rows[0]))))) == ["new", "old"]
    (rest,) = ask(unscored_leads("default", "temperature", ALL_IDENTIFIED_LEADS, limit=9, start=PageStart()))
    assert (rest["lead_id"], rest["total"]) == ("unscored", None)
    assert ask(scored_and_all("default", "temperature", anonymous=False)) == [{"scored": 3, "leads": 4}]


def test_the_board_leaves_out_strangers_shells_and_other_tenants(tell, ask):
    tell(
        lead_scored("known", 1, {"rules": 1}),
        lead_scored("anon:v", 1, {"rules": 1}, identified=False),
        lead_scored("merged-away", 1, {"rules": 0}, identities=0, redirect="known"),
        lead_scored("theirs", 1, {"rules": 1}, tenant="other"),
        lead_scored("gone", 1, {"rules": 1}),
        tombstone("gone"),
    )
    assert ids(ask(board(model="rules"))) == ["known"]
    assert ids(ask(board("other", "rules"))) == ["theirs"]
    with_strangers = LeadFilters(anonymous=True)
    assert sorted(ids(ask(board(model="rules", filters=with_strangers)))) == [
        "anon:v",
        "known",
    ]
    assert ask(queries.lead("default", "merged-away"))[0]["redirect"] == "known"
    assert ask(queries.lead("default", "theirs")) == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (LeadFilters(stage="qualified"), ["ann"]),
        (LeadFilters(band=("temperature", "hot")), ["ann"]),
        (LeadFilters(band=("grade", "A")), []),
        (LeadFilters(minimum=30), ["ann", "bob"]),
        (LeadFilters(minimum=31), ["ann"]),
        (LeadFilters(search="ÅNN"), ["ann"]),
        (LeadFilters(search="@x.de"), ["ann", "bob"]),
        (LeadFilters(search="4912"), ["bob"]),
        (LeadFilters(search="BO"), ["bob"]),
        (LeadFilters(search="%"), ["percent%"]),
        (LeadFilters(search="_"), []),
        (LeadFilters(search="Bob <bob@x.de>", addresses=["bob@x.de"]), ["bob"]),
        (LeadFilters(search="0049 12", addresses=["+4912"]), ["bob"]),
        (LeadFilters(search="ånn", addresses=["+4912"]), ["ann", "bob"]),
        (LeadFilters(search="Bob", addresses=["x.de", "491"]), ["bob"]),
        (LeadFilters(search="'; drop table leads; --"), []),
        (LeadFilters(stage="new", search="b", minimum=1), ["bob"]),
    ],
    ids=str,
)
def test_filters_narrow_the_board(tell, ask, filters, found):
    tell(
        lead_scored(
            "ann",
            1,
            {"temperature": 67},
            bands={"temperature": "hot"},
            stage="qualified",
            fields={"name": "Ånn Öz", "email": "Ann@x.de"},
        ),
        lead_scored("bob", 1, {"temperature": 30}, fields={"phone": "+4912", "email": "bob@x.de"}),
        lead_scored("percent%", 1, {"temperature": 0}),
    )
    assert ids(ask(board(filters=filters))) == found


# One lead


def test_a_lead_shows_what_all_its_identities_did_latest_first(tell, ask):
    tell(
        attached("default/v/a#0", "l", 1, page_view("e1", 1)),
        attached("default/v/b#0", "l", 1, page_view("e2", 2)),
        attached("default/v/c#0", "other", 1, page_view("e3", 3)),
        delta("default/v/a#0", "l", 1, page_view("e4", 4)),
    )
    seen = ask(queries.engagements("default", "l"))
    assert [row["event_id"] for row in seen] == ["e4", "e2", "e1"]
    assert seen[0]["identity"] == "default/v/a#0"
    assert [row["event_id"] for row in ask(queries.engagements("default", "l", limit=1, before=at(4)))] == [
        "e2"
    ]
    assert [row["identity"] for row in ask(queries.identities_of("default", "l"))] == [
        "default/v/a#0",
        "default/v/b#0",
    ]


def test_a_merged_leads_history_is_shown_by_the_lead_that_stays(tell, ask):
    tell(
        attached("default/v/a#0", "goes", 1, page_view("e1", 1)),
        attached("default/v/a#0", "stays", 2),
    )
    assert [row["event_id"] for row in ask(queries.engagements("default", "stays"))] == ["e1"]
    assert ask(queries.engagements("default", "goes")) == []


def test_stages_and_bands_come_in_order(tell, ask):
    tell(
        *(statement(say.StageEntered, "l", n, stage=stage, previous="new", reason="r") for n, stage in
          ((1, "qualified"), (2, "engaged"))),
        statement(say.BandChanged, "l", 1, model="m", version=1, scale="s", band="hot", previous=None, crossed=["hot"]),
    )  # fmt: skip
    assert [row["stage"] for row in ask(queries.stages("default", "l"))] == ["qualified", "engaged"]
    assert [row["crossed"] for row in ask(queries.bands("default", "l"))] == [["hot"]]


# The ledger


@pytest.fixture
def golden_timeline(tell):
    """Requirement 3's expo visitor: 23, 25, 26, 36, 46, 61, 67, and 47 three days later."""
    steps = [
        (0, [("engagement", "QR scans", 3), ("recency", "Last contact", 20)], 23),
        (300, [("engagement", "Catalog", 2)], 25),
        (600, [("engagement", "Messages", 1)], 26),
        (601, [("qualification", "Phone", 10)], 36),
        (900, [("qualification", "Budget", 10)], 46),
        (1200, [("qualification", "Type", 15)], 61),
        (1500, [("engagement", "Voice", 5), ("engagement", "Messages", 1)], 67),
        (260_700, [("recency", "Last contact", -20)], 47),
    ]
    tell(*(score_changed("l", seconds, lines, total) for seconds, lines, total in steps))
    return steps


def test_the_ledger_pages_from_the_newest_change(golden_timeline, ask):
    first = ask(queries.ledger("default", "l", limit=3))
    assert [row["total"] for row in first] == [47, 67, 61]
    last = LedgerCursor(first[-1]["at"], first[-1]["position"])
    rest = ask(queries.ledger("default", "l", model="temperature", before=last))
    assert [row["total"] for row in rest] == [46, 36, 26, 25, 23]
    assert rest[-1]["lines"] == [
        ["engagement", "QR scans", "points", 3.0],
        ["recency", "Last contact", "points", 20.0],
    ]
    assert [row["total"] for row in ask(queries.ledger("default", "l", until=at(600)))] == [26, 25, 23]
    assert ask(queries.ledger("default", "l", model="rules")) == []


def test_changes_of_one_moment_page_one_by_one(tell, ask):
    tell(*(score_changed("l", 5, [("g", "r", 1)], n) for n in (1, 2, 3)))
    (newest,) = ask(queries.ledger("default", "l", limit=1))
    rest = ask(queries.ledger("default", "l", before=LedgerCursor(newest["at"], newest["position"])))
    assert [row["total"] for row in (newest, *rest)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("seconds", "total", "messages", "lines"),
    [(-1, None, None, 0), (0, 23, None, 2), (899, 36, 1, 5), (1500, 67, 2, 8), (300_000, 47, 2, 7)],
)
def test_the_score_at_any_past_moment_comes_from_the_ledger(
    golden_timeline, ask, seconds, total, messages, lines
):
    """A line that sums to nothing, such as recency after three days, is left out."""
    last = ask(queries.last_changes("default", "l", at(seconds)))
    assert [row["total"] for row in last] == ([] if total is None else [total])
    breakdown = ask(queries.breakdowns("default", "l", at(seconds)))
    assert len(breakdown) == lines
    assert sum(row["points"] for row in breakdown) == (total or 0)
    assert {row["rule"]: row["points"] for row in breakdown}.get("Messages") == messages


def test_every_model_has_its_own_past(tell, ask):
    tell(
        score_changed("l", 1, [("g", "r", 5)], 5, model="rules"),
        score_changed("l", 2, [("g", "r", 7)], 7, model="chatbot"),
        score_changed("l", 3, [("g", "r", 1)], 6, model="rules"),
    )
    past = ask(queries.last_changes("default", "l", at(2)))
    assert {row["model"]: row["total"] for row in past} == {"rules": 5, "chatbot": 7}
    now = ask(queries.breakdowns("default", "l"))
    assert {row["model"]: row["points"] for row in now} == {"rules": 6, "chatbot": 7}


def test_a_breakdown_is_exact(tell, ask):
    """A float sum of these is 0.30000000000000004."""
    tell(score_changed("l", 1, [("g", "r", 0.1)], 0.1), score_changed("l", 2, [("g", "r", 0.2)], 0.3))
    assert [row["points"] for row in ask(queries.breakdowns("default", "l"))] == [Decimal("0.3")]


# Sessions


def test_a_session_is_found_by_either_id(tell, ask):
    identity = "default/v/a#0"
    tell(
        attached(identity, "l", 1, page_view("e1"), sessions=[put("e1", 1, pages=4, producer_id="uuid-1")]),
        session_scored(identity, "e1", "l", 66),
    )
    for name in ("e1", "uuid-1"):
        (found,) = ask(queries.session("default", name, model="web_session"))
        assert (found["lead_id"], found["pages"], found["score"]) == ("l", 4, 66)
    assert ask(queries.session("other", "e1", model="web_session")) == []
    (unscored,) = ask(queries.session("default", "e1", model="another"))
    assert unscored["score"] is None


def test_a_session_that_is_none_any_more_is_not_shown(tell, ask):
    identity = "default/v/a#0"
    tell(
        attached(identity, "l", 1, page_view("e1"), sessions=[put("e1", 1)]),
        delta(identity, "l", 1, page_view("e0"), sessions=[put("e0", 2)], retracted=["e1"], revision=2),
        session_scored(identity, "e1", "l", 5),
        session_scored(identity, "e0", "l", 7),
        session_retracted(identity, "e1", "l"),
    )
    (session,) = ask(queries.sessions_of("default", "l", model="web_session"))
    assert (session["session_id"], session["score"]) == ("e0", 7)


def test_a_session_goes_with_its_identity_and_keeps_its_score(tell, ask):
    identity = "default/v/a#0"
    tell(
        attached(identity, "anon:a", 1, page_view("e1"), sessions=[put("e1", 1)]),
        session_scored(identity, "e1", "anon:a", 5, seconds=1),
        attached(identity, "l", 2),
    )
    (moved,) = ask(queries.sessions_of("default", "l", model="web_session"))
    assert moved["score"] == 5
    tell(session_scored(identity, "e1", "l", 8, seconds=2))
    (scored,) = ask(queries.sessions_of("default", "l", model="web_session"))
    assert scored["score"] == 8
    assert ask(queries.sessions_of("default", "anon:a", model="web_session")) == []


# Operators


def test_dead_letters_are_listed_marked_and_paged(tell, ask):
    tell(
        dead_letter(5),
        dead_letter(2, field="type", reason="missing"),
        dead_letter(2, field="v", reason="again"),
    )
    found = ask(queries.select_dead_letters())
    assert [(row["position"], row["reason"]) for row in found] == [(2, "again"), (5, "type: missing")]
    assert found[0]["original"] == b"\x00{"
    assert [row["position"] for row in ask(queries.select_dead_letters(after=("events", 0, 2)))] == [5]

    ask(queries.mark_retried("events", 0, 2, at(1)))
    ask(queries.mark_retried("events", 0, 2, at(2)))
    assert [row["retried_at"] for row in ask(queries.select_dead_letters())] == [at(2), None]
    assert [row["position"] for row in ask(queries.select_dead_letters(retried=False))] == [5]
    assert ask(queries.select_dead_letter("events", 0, 2))[0]["retried_at"] == at(2)


# The embedded log and state


def test_the_archive_holds_what_producers_sent_and_nothing_of_ours(tell, ask, database_url):
    from datetime import UTC, datetime

    from schemas.control import ModelPublished, Reassigned, Refused, SettingsPublished
    from schemas.decode import encode_source

    now = datetime(2026, 1, 1, tzinfo=UTC)
    derived = {"tenant": "default", "recorded_at": now, "identity": "i", "epoch": 1}
    ours = [
        ModelPublished(tenant="*", recorded_at=now, model="m", version=1, text="t"),
        SettingsPublished(tenant="*", recorded_at=now, version=1),
        Reassigned(**derived, holder="h"),
        Refused(**derived),
    ]
    sent = [encode_source(page_view("e1")), b"\xff not JSON", b'{"type":"model_publishe"}']
    values = [*sent, *map(encode_source, ours)]
    with psycopg.connect(database_url) as connection:
        for position, value in enumerate(values):
            connection.execute(
                "insert into public.records (topic, partition, position, key, value) values ('events', 0, %s, 'k', %s)",
                (position, value),
            )
        connection.commit()
        archived = connection.execute("select value from live.event_archive order by position").fetchall()
    assert [value for (value,) in archived] == sent


def test_a_leads_features_are_found_by_its_id(tell, ask, database_url):
    parts = {
        ("score_leads", "default/l/a/l/b", "id:default/v/x#0"): b"\x01one",
        ("score_leads", "default/l/a/l/b", "head"): b"\x01head",
        ("score_leads", "default/l/a", "id:default/v/y#0"): b"\x01two",
        ("track_sessions", "default/l/a/l/b", "id:z"): b"\x01no",
    }
    with psycopg.connect(database_url) as connection:
        for (stage, key, part), value in parts.items():
            connection.execute(
                "insert into public.state (stage, partition, key, part, value) values (%s, 0, %s, %s, %s)",
                (stage, key, part, value),
            )
        connection.commit()
        features = connection.execute("select * from live.lead_features order by tenant, lead_id").fetchall()
    assert ask(features_of("default", ["a/l/b"])) == [
        {"lead_id": "a/l/b", "identity": "default/v/x#0", "encoded": b"\x01one"}
    ]
    assert ("default/l/a", "default", "a", "default/v/y#0", b"\x01two") in features
    assert ("default/l/a/l/b", "default", "a/l/b", "default/v/x#0", b"\x01one") in features
    assert len(features) == 2

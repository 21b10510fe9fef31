"""Retention of rows: what is old goes by kind, whatever kills it; answers about what is younger, scores and sums are as they
were, and a rebuild brings nothing back.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from leadstream.active_models import analytics_settings
from leadstream.operations.retention import RebuildUnderWayError, remove_all_old
from leadstream.operations.store_access import store_of_system
from leadstream.settings import SettingError, Settings, read_settings
from leadstream.wiring import open_system
from projections import retention
from projections.rebuild import REBUILD_LOCK_ID, rebuild
from projections.retention import remove_old_rows
from projections.table_sets import ALL_TABLES, ANALYTICS_TABLES, READ_MODEL_TABLES
from schemas import events as e
from schemas.decode import encode_source, key_of
from schemas.envelope import Campaign, Context
from schemas.record import Outgoing
from schemas.topics import EVENTS

TODAY = datetime(2026, 6, 1, tzinfo=UTC)
BEFORE = TODAY - timedelta(days=30)
SECRETS = (
    "zq-wrote",
    "zq-answer",
    "zq-field",
    "zq-property",
    "zq-page",
    "203.0.113.88",
    "zq-place",
    "zq-name",
    "zq-extra",
)

Connection = psycopg.Connection[tuple[Any, ...]]


def events() -> list[e.Event]:
    """Of three people, on days before and after the moment: everything that has contents, and everything that is summed up."""
    made: list[e.Event] = []
    for number in range(24):
        at = TODAY - timedelta(days=56 - 2 * number, minutes=number)
        lead = f"lead-{number % 3}"
        context = Context(
            ip="203.0.113.88", location="zq-place", url="https://shop.example/zq-page", source_type="newsletter",
            campaign=Campaign(source="mail", name="spring"),
        )  # fmt: skip
        same: dict[str, Any] = {
            "occurred_at": at, "recorded_at": at, "source": "web", "lead_id": lead, "context": context, "imported": True,
            "extra": {"action": "asked", "note": "zq-extra"},
        }  # fmt: skip
        made += [
            e.MessageReceived(**same, event_id=f"m{number}", text="zq-wrote"),
            e.QuestionAnswered(**same, event_id=f"q{number}", question_id="3", text="zq-answer", time_taken_s=4),
            e.FormSubmitted(**same, event_id=f"f{number}", form_name="Quote", submission_id=f"s{number}", fields={"company": "zq-field"}),
            e.Custom(**same, event_id=f"c{number}", name="trial_begun", properties={"plan": "zq-property"}),
            e.ContactShared(**same, event_id=f"k{number}", name="zq-name"),
            e.PurchaseMade(**same, event_id=f"p{number}", value="12.5", currency="EUR", order_id=f"o{number}"),
            e.PurchaseRefunded(**same, event_id=f"r{number}", value="2.5", currency="EUR", order_id=f"o{number}"),
            e.ConversionRecorded(**same, event_id=f"v{number}", conversion_type="signed", conversion_id=f"v{number}"),
            e.CallMade(**same, event_id=f"a{number}", answered=number % 2 == 0, duration_s=60),
        ]  # fmt: skip
    return made


@pytest.fixture
def url(read_models_url: str) -> str:
    with open_system(Settings(database_url=read_models_url, partitions=2)) as opened:
        store = store_of_system(opened)
        for each in events():
            store.append([Outgoing(EVENTS, key_of(each), encode_source(each))])
        store.settle(lambda _: None)
    rebuild(read_models_url, read_settings=analytics_settings)  # everything is computed
    return read_models_url


@pytest.fixture
def store(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
        yield connection


def rows_of(store: Connection, *tables: Any) -> dict[str, list[str]]:
    return {
        table.name: sorted(
            text
            for (text,) in store.execute(
                SQL("select to_jsonb(t)::text from {} t").format(Identifier("live", table.name))
            )
        )
        for table in tables
        if table.name != "stale_leads"
    }


EVERY_OTHER = [each for each in (*READ_MODEL_TABLES, *ANALYTICS_TABLES) if each.name != "engagement_history"]


def events_by_age(store: Connection) -> tuple[list[str], list[str]]:
    rows = store.execute(
        "select occurred_at < %s, to_jsonb(t)::text from live.engagement_history t order by 2", (BEFORE,)
    ).fetchall()
    return [text for old, text in rows if old], [text for old, text in rows if not old]


def test_contents_of_old_events_go_and_all_that_is_summed_up_stays(
    store: Connection, url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "REMOVED_AT_ONCE", 7)
    others = rows_of(store, *EVERY_OTHER)
    old, young = events_by_age(store)
    assert len(old) > 50
    assert {secret for secret in SECRETS if any(secret in text for text in old)} == set(SECRETS)

    # Killed after two transactions, it goes on; then nothing is left to do.
    assert list(islice(remove_old_rows(store, "contents", BEFORE), 2)) == [7, 7]
    assert sum(remove_old_rows(store, "contents", BEFORE)) == len(old) - 14
    assert list(remove_old_rows(store, "contents", BEFORE)) == []

    old_now, young_now = events_by_age(store)
    assert young_now == young, "what is younger is as it was"
    assert not [text for text in old_now for secret in SECRETS if secret in text]
    assert len(old_now) == len(old)
    assert rows_of(store, *EVERY_OTHER) == others, "scores, histories, journeys, credits and sums"

    # What is computed of the rows again, and a rebuild of the whole log, comes to the same.
    rebuild(url, read_settings=analytics_settings)
    assert events_by_age(store) == (old_now, young_now)
    assert rows_of(store, *EVERY_OTHER) == others
    removed = store.execute(
        "select removed_before, removed from public.removed_rows where kind = 'contents'"
    ).fetchone()
    assert removed == (BEFORE, len(old))


def add_execution(store: Connection, number: int, at: datetime, *statuses: str) -> None:
    """An execution as the projection writes it, with its rows of the outbox as delivery leaves them."""
    same = (
        "default",
        number,
        number,
        f"lead-{number}",
        1,
        "w",
        1,
        "manual",
        "asked",
        "send_notification",
        "{}",
    )
    store.execute(
        "insert into live.workflow_executions (tenant, execution_id, lead_key, lead_id, workflow_id, workflow, version, trigger,"
        " reason, action, config, arm, silent, hops, priority, at, caused_by, partition, position)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'x', false, 0, 0, %s, 'e', 0, %s)",
        (*same, at, number),
    )
    for channel, status in enumerate(statuses):
        store.execute(
            "insert into public.outbox (tenant, execution_id, lead_key, lead_id, workflow_id, workflow, version, trigger, reason,"
            " action, config, hops, at, caused_by, channel, priority, status, attempts, next_attempt_at, created_at, counted)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, %s, 'e', %s, 0, %s, 1, %s, %s, false)",
            (*same, at, f"c{channel}", status, at, at),
        )


def test_each_kind_loses_its_old_rows_only_and_what_is_under_way_stays(read_models_url: str):
    from delivery.outbox import count_ended

    with open_system(Settings(database_url=read_models_url, partitions=2)):
        pass
    with psycopg.connect(read_models_url, autocommit=True) as store:
        for number in range(20):
            at = TODAY - timedelta(days=10 * number)
            add_execution(store, number, at, ("delivered", "skipped", "dead", "waiting")[number % 4])
            store.execute(
                "insert into public.notifications values ('default', %s, 'l', 1, null, 't', 'm', %s, null, null)",
                (number, at),
            )
            store.execute(
                "insert into public.audit_log (tenant, at, actor, action, outcome) values ('default', %s, 'cli:x', 'x', 'done')",
                (at,),
            )
        count_ended(store)
        days = {"deliveries": 30, "notifications": 50, "executions": 100, "audit": 70}
        with psycopg.connect(read_models_url) as other:
            other.execute("select pg_advisory_lock(%s)", (REBUILD_LOCK_ID,))
            with pytest.raises(RebuildUnderWayError):
                list(remove_all_old(store, 0, days, TODAY))
        removed = Counter[str]()
        for kind, count in remove_all_old(store, 0, days, TODAY):
            removed[kind] += count
        # Every tenth day back from today; of the deliveries every fourth waits, and is kept however old.
        assert removed == {"deliveries": 12, "notifications": 14, "executions": 9, "audit": 12}
        left = store.execute("select execution_id from public.outbox order by 1").fetchall()
        assert [number for (number,) in left] == [0, 1, 2, 3, 7, 11, 15, 19]
        with pytest.raises(psycopg.errors.RestrictViolation):
            store.execute("delete from public.audit_log")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("letters:9", "'letters:9' is not KIND:DAYS with one of the kinds deliveries, notifications"),
        ("audit", "'audit' is not KIND:DAYS"),
        ("audit:-1", "'audit:-1' is not KIND:DAYS"),
        ("audit:29", "audit wants 30 to 36500 days"),
        ("executions:400,executions:500", "executions is there twice"),
    ],
)
def test_a_wrong_retention_is_refused_by_name(text: str, reason: str):
    with pytest.raises(SettingError, match=f"LEADSTREAM_ROW_RETENTION: .*{reason}"):
        read_settings(row_retention=text)


def test_every_kept_detail_is_a_field_of_an_event_or_of_what_it_belongs_to():
    fields = {name for kind in e.EVENT_TYPES for name in kind.__struct_fields__}
    assert set(retention.KEPT_DETAILS) <= fields
    assert read_settings(row_retention="contents:30, audit:400").row_days == {"contents": 30, "audit": 400}


def test_the_documents_say_of_every_table_how_long_it_is_kept():
    text = (Path(__file__).parents[2] / "docs" / "consent.md").read_text()
    listed = text[text.index("What each table keeps") :]
    of_one_lead = {table.name for table in ANALYTICS_TABLES if table.name.startswith(("lead_", "credit_"))}
    every = {table.name for table in ALL_TABLES.sorted_tables} - of_one_lead
    assert {name for name in every if f"`{name}`" not in listed} == set()

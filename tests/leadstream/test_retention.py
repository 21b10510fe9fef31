"""Retention of the embedded log: what is older goes, whatever kills it; scores and read models stay, a restart and a
rebuild need none of it, and what would need it says so.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import psycopg
import pytest

from leadstream.evaluation.recorded_events import count_events
from leadstream.operations.retention import (
    ArchiveShortened,
    RebuildUnderWayError,
    archive_begins,
    old_records,
    remove_old_archive,
    remove_old_records,
    require_whole_archive,
)
from leadstream.stages import STAGES
from leadstream.wiring import genesis
from projections.archive import archived_events, store_events
from projections.rebuild import REBUILD_LOCK_ID, rebuild
from projections.table_sets import READ_MODEL_TABLES
from projections.worker import project_records
from schemas import events as e
from schemas.decode import decode_source, encode_source, key_of
from schemas.moment import millis
from schemas.record import Outgoing, Record
from schemas.topics import EVENTS
from scoring.features.erased_people import ErasedPeople
from streams.embedded.driver import Driver

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
BEFORE = BEGAN + timedelta(days=50)
DAYS = 100


def event(day: int) -> Outgoing:
    at = BEGAN + timedelta(days=day, hours=1)
    happened = {"event_id": f"e{day}", "occurred_at": at, "recorded_at": at, "source": "web"}
    visitor = f"v{day % 7}"
    made = (
        e.FormSubmitted(**happened, visitor_id=visitor, lead_id=f"L{day % 7}", fields={"company": f"C{day}"})
        if day % 3 == 0
        else e.PageViewed(**happened, visitor_id=visitor, url=f"https://shop.test/{day}")
    )
    return Outgoing(EVENTS, key_of(made), encode_source(made))


class Store:
    def __init__(self, url: str) -> None:
        self.url = url
        self.driver: Driver | None = None

    def run(self, *records: Outgoing) -> None:
        """Serves until the records are scored and everything that time changes by then is concluded."""
        now = millis(BEGAN + timedelta(days=DAYS + 1))
        driver = Driver(
            lambda: self.url, [stage() for stage in STAGES], now=lambda: now, partitions=3,
            genesis=genesis(BEGAN + timedelta(days=DAYS)), project=project_records,
        )  # fmt: skip
        driver.start()
        try:
            for record in records:
                driver.append([record]).result(30)
            driver.append([]).result(30) if records else None
        finally:
            driver.stop()

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return {
                table.name: sorted(
                    connection.execute(f"select * from live.{table.name}").fetchall(), key=repr
                )
                for table in READ_MODEL_TABLES
            }


@pytest.fixture
def store(read_models_url: str) -> Store:
    made = Store(read_models_url)
    made.run(*map(event, range(DAYS)))
    return made


@pytest.fixture
def log(store: Store) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(store.url, autocommit=True) as connection:
        yield connection


def times_left(log):
    rows = log.execute("select value from public.records where topic = 'events' and key <> '~'")
    return [decode_source(value).recorded_at for (value,) in rows]


def test_retention_removes_what_is_older_and_nothing_else(store, log, monkeypatch):
    monkeypatch.setattr("leadstream.operations.retention.REMOVED_AT_ONCE", 7)
    whole, expected = store.contents(), {record.partition: record for record in old_records(log, BEFORE)}
    assert {topic for topic, _ in expected} >= {"events", "lead-activity", "score-changed"}
    require_whole_archive(log)
    # Killed after a few transactions, it goes on where it was.
    list(islice(remove_old_records(log, BEFORE), 3))
    assert (
        0
        < sum(r.end - r.first for r in old_records(log, BEFORE))
        < sum(r.end - r.first for r in expected.values())
    )
    list(remove_old_records(log, BEFORE))
    assert list(old_records(log, BEFORE)) == []
    assert all(at >= BEFORE for at in times_left(log))
    assert len(times_left(log)) == DAYS - 50
    assert store.contents() == whole
    assert archive_begins(log) == BEFORE

    # What needs every event says that they are gone, instead of giving another score.
    with pytest.raises(ArchiveShortened, match=r"before 2030-02-20 00:00 UTC were removed"):
        count_events(log, "default")

    # A restart and later events: as if nothing had been removed.
    store.run(event(DAYS))
    with psycopg.connect(store.url, autocommit=True) as connection:
        positions = connection.execute(
            "select topic, partition, max(position) + 1 from public.records group by 1, 2 except "
            "select topic, partition, position from public.heads"
        ).fetchall()
    assert positions == []
    after = store.contents()
    assert len(after["engagement_history"]) == len(whole["engagement_history"]) + 1

    # A rebuild keeps the rows whose records are gone.
    rebuild(store.url)
    assert store.contents() == after


def test_however_many_erased_records_a_partition_begins_with_older_ones_behind_them_go(
    store, log, monkeypatch
):
    monkeypatch.setattr("leadstream.operations.retention.REMOVED_AT_ONCE", 3)
    expected = {record.partition: (record.first, record.end) for record in old_records(log, BEFORE)}
    first, end = expected["events", 0]
    assert end - first > 10
    log.execute(
        "update public.records set key = '~erased', value = null where topic = 'events' and partition = 0 and position < %s",
        (end - 1,),
    )
    assert {record.partition: (record.first, record.end) for record in old_records(log, BEFORE)} == expected
    assert all(count <= 3 for count in remove_old_records(log, BEFORE))
    assert list(old_records(log, BEFORE)) == []
    assert log.execute(
        "select min(position) from public.records where topic = 'events' and partition = 0"
    ).fetchone() == (end,)


def test_what_a_fold_or_the_projection_has_not_passed_stays(store, log):
    log.execute("update public.checkpoints set position = 2 where stage = 'track_sessions' and partition = 1")
    log.execute("insert into public.unprojected values ('score-changed', 0, 1)")
    ends = {record.partition: record.end for record in old_records(log, BEFORE)}
    assert ends.get(("events", 1), 0) <= 2
    assert ends.get(("score-changed", 0), 0) <= 1


def test_nothing_is_removed_under_a_rebuild(store, log):
    with psycopg.connect(store.url) as other:
        other.execute("select pg_advisory_lock(%s)", (REBUILD_LOCK_ID,))
        with pytest.raises(RebuildUnderWayError):
            list(remove_old_records(log, BEFORE))
    assert archive_begins(log) is None


def test_the_archive_of_kafkas_events_loses_old_ones_and_empty_months(read_models_url):
    records = [
        Record(EVENTS, 0, day, each.key, each.value) for day, each in enumerate(map(event, range(DAYS)))
    ]
    with psycopg.connect(read_models_url, autocommit=True) as connection:
        with connection.transaction(), connection.cursor() as cursor:
            store_events(cursor, list(archived_events(records, ErasedPeople())))
        dead_letters = [("events", 10), ("events", 60), ("lead-activity", 10)]
        for topic, position in dead_letters:
            connection.execute(
                "insert into live.dead_letters values (%s, 0, %s, 'unreadable', null, 'k', 'x', %s)",
                (topic, position, position),
            )
        assert sum(remove_old_archive(connection, BEFORE)) == 50
        left = connection.execute("select topic, position from live.dead_letters order by 1, 2").fetchall()
        assert left == dead_letters[1:], "the dead letter of an event that is gone"
        rows = connection.execute("select min(recorded_at), count(*) from public.event_archive").fetchone()
        assert rows == (BEFORE + timedelta(hours=1), 50)
        months = connection.execute(
            "select relname from pg_class where relname like 'event_archive_2030%' and relkind = 'r' order by 1"
        ).fetchall()
        assert [name for (name,) in months] == [
            "event_archive_2030_02",
            "event_archive_2030_03",
            "event_archive_2030_04",
        ]
        with pytest.raises(ArchiveShortened):
            require_whole_archive(connection)

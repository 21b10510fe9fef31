"""A rebuild gives the rows that the live writer gave, while it goes on writing."""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from projection_records import (
    append,
    batch,
    contents,
    definitions,
    lead_scored,
    open_log,
    recorded,
    tombstone,
)

from projections import rebuild as rebuilding
from projections import worker
from projections.embedded_log import EmbeddedLog
from projections.migrate import migrate
from projections.positions import PositionGapError
from projections.rebuild import NothingToRebuildError, RebuildRunsError, rebuild
from projections.table_definition import READ_OPTIONS
from projections.worker import project_records
from schemas.record import Outgoing, Record

pytestmark = pytest.mark.postgres
Ends = dict[tuple[str, int], int]


@pytest.fixture
def url(read_models_url: str) -> str:
    open_log(read_models_url)
    migrate(read_models_url)  # for the views of the log
    return read_models_url


@pytest.fixture
def db(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as connection:
        yield connection


def write(connection: psycopg.Connection[Any], said: Sequence[Outgoing], ends: Ends) -> None:
    """As the embedded driver does: log and rows in one transaction."""
    records = recorded(said, ends)
    append(connection, records)
    project_records(connection, records)
    connection.commit()


def write_batches(connection: psycopg.Connection[Any], count: int) -> Ends:
    """The first so many batches; returns where each partition ends."""
    ends: Ends = {}
    for n in range(count):
        write(connection, batch(n), ends)
    return ends


def folded_anew(url: str, connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    rebuild(url)
    return contents(connection)


def test_rows_are_identical(url, db):
    write_batches(db, 40)
    before = contents(db)
    assert {table for table in before if not before[table]} == {
        "band_changes",
        "qualification_overrides",
        "worker_dues",
        "worker_state",
    }
    assert folded_anew(url, db) == before
    assert folded_anew(url, db) == before


def test_answers_that_were_let_go_stay_gone(url, db, monkeypatch):
    monkeypatch.setattr(worker, "APPLIED_EVENTS_KEPT", 4)
    write_batches(db, 30)
    before = contents(db)
    assert 0 < len(before["applied_events"]) < 30
    assert folded_anew(url, db) == before


def test_definitions_are_identical(url, db):
    write(db, batch(0), {})
    before = definitions(db)
    rebuild(url)
    assert definitions(db) == before


def test_a_live_writer_goes_on_before_during_and_after_the_swap(url, db):
    """One writer writes all the time, a reader reads all the time, three rebuilds come and go."""
    ends = write_batches(db, 30)
    stop = threading.Event()

    def writer() -> None:
        with psycopg.connect(url) as connection:
            for n in itertools.count(30):
                if stop.is_set():
                    return
                write(connection, batch(n), ends)

    def reader() -> None:
        seen = 0
        with psycopg.connect(url, options=READ_OPTIONS, autocommit=True) as connection:
            while not stop.is_set():
                (facts,) = connection.execute("select count(*) from engagement_history").fetchone()
                assert facts >= seen
                seen = facts

    with ThreadPoolExecutor() as threads:
        running = [threads.submit(writer), threads.submit(reader)]
        try:
            for _ in range(3):
                rebuild(url)
                time.sleep(0.1)
        finally:
            stop.set()
        for each in running:
            each.result(30)

    after = contents(db)
    assert len(after["engagement_history"]) > 60
    assert folded_anew(url, db) == after
    (positions,) = db.execute("select array_agg(distinct generation) from public.positions").fetchone()
    assert positions == ["live"]


def test_a_writer_that_waited_for_the_swap_goes_on_from_the_new_positions(url, db, monkeypatch):
    """Its records are in the log, but not in its tables yet: the swap folds them, so it must not."""
    ends: Ends = {}
    write(db, batch(0), ends)
    behind = recorded(batch(1), ends)
    append(db, behind)
    db.commit()
    original = EmbeddedLog.forget
    waiting: list[Future[None]] = []

    def late() -> None:
        with psycopg.connect(url) as connection:
            project_records(connection, behind)

    def in_the_swap(log: EmbeddedLog, connection: psycopg.Connection[Any]) -> None:
        original(log, connection)
        if connection.execute("select from pg_locks where mode = 'ExclusiveLock' and relation > 0").rowcount:
            waiting.append(threads.submit(late))
            with pytest.raises(TimeoutError):
                waiting[0].result(0.5)

    with ThreadPoolExecutor() as threads:
        monkeypatch.setattr(EmbeddedLog, "forget", in_the_swap)
        rebuild(url)
        (late_writer,) = waiting
        late_writer.result(10)
    monkeypatch.undo()
    write(db, batch(2), ends)
    live = contents(db)
    assert len(live["stage_history"]) == 3
    assert folded_anew(url, db) == live


@pytest.mark.parametrize("step", ["_fold_log", "_complete_shadow", "_swap_schemas"])
def test_an_interrupted_rebuild_leaves_the_live_tables_and_can_be_run_again(url, db, monkeypatch, step):
    ends = write_batches(db, 5)
    before = contents(db)

    class Killed(BaseException):
        pass

    original = getattr(rebuilding, step)

    def dies(*given: Any) -> None:
        original(*given)
        raise Killed

    monkeypatch.setattr(rebuilding, step, dies)
    with pytest.raises(Killed):
        rebuild(url)
    monkeypatch.undo()
    assert contents(db) == before
    write(db, batch(5), ends)
    after = contents(db)
    assert folded_anew(url, db) == after
    schemas = db.execute("select nspname from pg_namespace where nspname in ('live', 'shadow', 'retired')")
    assert schemas.fetchall() == [("live",)]


def test_a_lead_that_goes_while_it_runs_is_gone_afterwards(url, db, monkeypatch):
    """The compacted topic keeps no trace of it: the catching up must notice."""
    ends: Ends = {}
    write(db, [lead_scored("stays", 1, {"rules": 1}), lead_scored("goes", 1, {"rules": 1})], ends)
    original = rebuilding._complete_shadow

    def meanwhile(*given: Any) -> None:
        original(*given)
        write(db, [tombstone("goes"), lead_scored("comes", 1, {"rules": 1})], ends)

    monkeypatch.setattr(rebuilding, "_complete_shadow", meanwhile)
    rebuild(url)
    leads = db.execute("select lead_id from live.leads order by 1").fetchall()
    assert leads == [("comes",), ("stays",)]
    assert len(db.execute("select from live.lead_scores").fetchall()) == 2
    write(db, [tombstone("comes"), tombstone("stays")], ends)
    assert db.execute("select from live.leads").fetchall() == []


@pytest.mark.parametrize("left", ["the end", "nothing"])
def test_a_log_whose_beginning_was_let_go_costs_no_row(url, db, left):
    ends = write_batches(db, 40)
    before = contents(db)
    db.execute("delete from public.records" + (" where position < 5" if left == "the end" else ""))
    db.commit()
    assert "engagement_history" in rebuild(url)
    assert contents(db) == before
    write(db, batch(40), ends)
    after = contents(db)
    assert folded_anew(url, db) == after


def test_a_hole_in_the_log_is_named(url, db):
    write_batches(db, 10)
    db.execute("delete from public.records where topic = 'score-changed' and position = 1")
    db.commit()
    with pytest.raises(PositionGapError, match=r"score-changed/\d: .*records 1 to 1 are missing"):
        rebuild(url)


def test_progress_ends_with_everything(url, db):
    ends = write_batches(db, 10)
    told: list[tuple[int, int]] = []
    rebuild(url, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (sum(ends.values()), sum(ends.values()))


def test_an_empty_log_gives_empty_tables(url, db):
    rebuild(url)
    assert not any(contents(db).values())
    write(db, batch(1), {})
    assert contents(db)["leads"]


def test_listeners_are_told_to_look_again(url, db):
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute(f"listen {worker.NOTIFY_CHANNEL}")
        rebuild(url)
        (notification,) = listener.notifies(timeout=2, stop_after=1)
        assert notification.payload == "{}"


def test_two_at_once_are_refused(url, monkeypatch):
    original = rebuilding._begin_shadow

    def meanwhile(*given: Any) -> Any:
        with pytest.raises(RebuildRunsError):
            rebuild(url)
        return original(*given)

    monkeypatch.setattr(rebuilding, "_begin_shadow", meanwhile)
    rebuild(url)


def test_without_a_log_it_says_so(database_url):
    migrate(database_url)
    with pytest.raises(NothingToRebuildError, match="no embedded log"):
        rebuild(database_url)


def test_many_pages_are_folded_like_one(url, db, monkeypatch):
    write_batches(db, 30)
    before = contents(db)
    monkeypatch.setattr(rebuilding, "PAGE_RECORDS", 3)
    monkeypatch.setattr(worker, "ROWS_PER_STATEMENT", 2)
    monkeypatch.setattr(worker, "MOST_SINGLE_INSERTS", 1)
    assert folded_anew(url, db) == before


def test_records_of_a_topic_that_makes_no_rows_are_not_folded(url, db):
    append(db, [Record("events", 0, 0, "k", b"{")])
    db.commit()
    rebuild(url)
    assert db.execute("select * from public.positions where topic = 'events'").fetchall() == []

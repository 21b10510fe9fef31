"""A rebuild from a log whose beginning retention has deleted gives the rows that were there before."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import psycopg
import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projection_records import attached, batch, contents, delta, empty, page_view, put, recorded
from stream_histories import history, specs
from stream_simulator import PARTITIONS, Pipeline
from test_projections_worker import histories

from projections import history as keeping
from projections.facts import CHANGES_OF_STATEMENT
from projections.history import (
    LOSABLE_TABLES,
    HistoryLostError,
    gaps_between,
    refuse_loss,
    tables_filled_from,
)
from projections.public_tables import event_archive
from projections.rebuild import rebuild
from projections.table_sets import READ_MODEL_TABLES, TABLE_OF_ROW
from projections.upserts import collapse_changes
from projections.worker import _changes_or_dead_letter, contained_positions, project_chunks
from schemas.record import Chunk, LogPartition, Outgoing, Record
from schemas.statements import EventApplied
from schemas.topics import (
    DEAD_LETTERS,
    EVENTS,
    LEAD_ACTIVITY,
    LEAD_CHANGES,
    LEAD_SCORES,
    SCORE_CHANGED,
    SESSION_SCORES,
    STATEMENT_TOPICS,
)
from scoring.models.model import built_in_models

pytestmark = pytest.mark.postgres
PROPERTY = settings(
    max_examples=scaled(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CHANGELOG = "leadstream-score-leads-changelog"
MODELS = tuple(built_in_models().items())
Log = dict[LogPartition, list[Record]]


class Kept:
    """A `projections.rebuild.LogSource`: what is left of a log from `starts` on."""

    strict = False

    def __init__(self, log: Log, starts: Mapping[LogPartition, int]) -> None:
        self._log = {slot: [r for r in log[slot] if r.position >= starts[slot]] for slot in log}
        self._starts = starts
        self._ends = {slot: end_of(records) for slot, records in log.items()}

    def starts(self, _connection: object) -> dict[LogPartition, int]:
        return dict(self._starts)

    def ends(self, _connection: object) -> dict[LogPartition, int]:
        return dict(self._ends)

    def read(self, _connection: object, slot: LogPartition, start: int, _end: int, most: int) -> Chunk:
        records = self._log[slot]
        first = bisect_left([record.position for record in records], start)
        page = records[first : first + most]
        done = first + most >= len(records)
        return Chunk(*slot, start, self._ends[slot] if done else page[-1].position + 1, page)

    def forget(self, _connection: object) -> None: ...

    def swapped(self, _connection: object) -> None: ...


class Recorder(Pipeline):
    """The two real folds, with every record that they write, as Kafka has it."""

    def __init__(self) -> None:
        self.outgoing: list[Outgoing] = []
        super().__init__(MODELS)

    def append(self, outgoing: Outgoing) -> None:
        super().append(outgoing)
        if outgoing.topic != EVENTS:
            self.outgoing.append(outgoing)

    def step(self, topic: str, partition: int, size: int, *, crash: bool = False) -> None:
        before = {key: dict(parts) for key, parts in self.stores[topic][partition].parts.items()}
        super().step(topic, partition, size, crash=crash)
        if topic != LEAD_ACTIVITY:
            return
        after = self.stores[topic][partition].parts
        for key in before.keys() | after.keys():
            old, new = before.get(key, {}), after.get(key, {})
            for part in sorted(old.keys() | new.keys()):
                if old.get(part) != new.get(part):
                    self.outgoing.append(Outgoing(CHANGELOG, f"{key}\0{part}", new.get(part), partition))


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """What the folds make of people who come, claim, merge and split; or statements at random. Between
    the records stand marks of transactions and what somebody else wrote.
    """
    if draw(st.booleans()):
        outgoing = Recorder().run(draw(st.integers(0, 99)), history(draw(specs(5, 30)))).outgoing
    else:
        outgoing = draw(histories())
    chance = Random(draw(st.integers(0, 99)))
    log: Log = {}
    for record in recorded(outgoing):
        slot = record.topic, record.partition
        written = log.setdefault(slot, [])
        position = end_of(written) + chance.choice((0, 0, 0, 1, 2))
        if chance.random() < 0.03:
            written.append(Record(*slot, position, "k", b'{"hello":1}'))
            position += 1
        written.append(record._replace(position=position))
    return log


def end_of(records: Sequence[Record]) -> int:
    return records[-1].position + 1 if records else 0


def whole(log: Log) -> dict[LogPartition, int]:
    return {slot: end_of(records) for slot, records in log.items()}


def project_up_to(db: psycopg.Connection[Any], log: Log, reached: Mapping[LogPartition, int]) -> None:
    """The live writer: each partition from its beginning up to there."""
    for slot, end in reached.items():
        if end:
            records = [record for record in log[slot] if record.position < end]
            project_chunks(db, [Chunk(*slot, 0, end, records)])
    db.commit()


def rows_of(db: psycopg.Connection[Any], log: Log) -> dict[str, list[str]]:
    """Of the whole log, projected into empty tables."""
    empty(db)
    project_up_to(db, log, whole(log))
    return contents(db)


@st.composite
def points(draw: st.DrawFn, ends: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Somewhere in each partition; often at its very beginning or end."""
    return {
        slot: draw(st.one_of(st.just(0), st.just(end), st.integers(0, end))) for slot, end in ends.items()
    }


@PROPERTY
@given(log=logs(), data=st.data())
def test_wherever_the_log_is_cut_the_rows_are_identical(db, read_models_url, log, data):
    """Before it was cut the live tables had come anywhere from there on; then it is cut again."""
    expected = rows_of(db, log)
    reached = data.draw(points(whole(log)), "reached")
    starts = data.draw(points(reached), "starts")
    empty(db)
    project_up_to(db, log, reached)
    rebuild(read_models_url, source=Kept(log, starts))
    assert contents(db) == expected
    later = {slot: data.draw(st.integers(starts[slot], end)) for slot, end in whole(log).items()}
    rebuild(read_models_url, source=Kept(log, later))
    assert contents(db) == expected


@PROPERTY
@given(log=logs(), data=st.data())
def test_what_was_deleted_before_it_was_projected_is_named_and_only_that_is_lost(
    db, read_models_url, log, data
):
    reached = data.draw(points(whole(log)), "reached")
    starts = data.draw(points(whole(log)), "starts")
    known = {slot: end for slot, end in reached.items() if end}
    lost = {slot for slot, end in known.items() if end < starts[slot]}
    left: Log = {
        slot: [r for r in records if r.position >= starts[slot] or r.position < reached[slot]]
        for slot, records in log.items()
    }
    expected = rows_of(db, left)
    empty(db)
    project_up_to(db, log, reached)
    before = contents(db)
    accepted: set[str] = set()
    if lost:
        with pytest.raises(HistoryLostError) as refused:
            rebuild(read_models_url, source=Kept(log, starts))
        for topic, partition in lost:
            first, last = known[topic, partition], starts[topic, partition] - 1
            assert f"{topic}/{partition} positions {first} to {last}" in str(refused.value)
            accepted |= {table.name for table in tables_filled_from(topic)}
        assert contents(db) == before
    rebuild(read_models_url, source=Kept(log, starts), accept_loss=accepted)
    assert contents(db) == expected


def test_the_refusal_counts_what_is_lost_and_every_table_must_be_accepted():
    """Seven records of lead-activity make rows of five tables, three of score-changed of one."""
    starts = {(LEAD_ACTIVITY, 0): 12, (LEAD_ACTIVITY, 1): 4, (SCORE_CHANGED, 2): 3, (SESSION_SCORES, 0): 9}
    held = {(LEAD_ACTIVITY, 0): 5, (LEAD_ACTIVITY, 1): 4, (SCORE_CHANGED, 2): 0}
    found = gaps_between(starts, held)
    with pytest.raises(HistoryLostError) as refused:
        refuse_loss(found, {"identities", "sessions"})
    told = str(refused.value)
    assert "lead-activity/0 positions 5 to 11, score-changed/2 positions 0 to 2" in told
    assert "engagement_history (up to 7 rows)" in told
    assert "score_history (up to 3 rows)" in told
    assert "identities (" not in told
    options = told.rpartition("leadstream rebuild ")[2].rstrip("`.").replace("--accept-loss ", "").split()
    assert options == [
        "engagement_history",
        "identities",
        "identity_history",
        "lead_records",
        "publications",
        "score_history",
        "sessions",
        "settings_history",
    ]
    refuse_loss(found, options)


def test_rows_that_the_log_still_makes_are_made_again(db, read_models_url):
    """A column that a migration could not fill is filled where the record is still there."""
    log: Log = {}
    said = [
        attached("default/v/a#0", "ada", 1, page_view("a", 0), sessions=[put("a", 1)]),
        delta("default/v/a#0", "ada", 1, page_view("b", 60), sessions=[put("a", 2, pages=2)]),
        attached("default/v/z#0", "ada", 1, page_view("z", 90), sessions=[put("z", 1)]),
    ]
    for record in recorded(said):
        log.setdefault((record.topic, record.partition), []).append(record)
    expected = rows_of(db, log)
    db.execute("update live.sessions set pages = 99")
    db.execute("update live.engagement_history set title = 'stale' where event_id <> 'a'")
    db.commit()
    ((slot, _),) = log.items()
    rebuild(read_models_url, source=Kept(log, {slot: 1}))
    assert contents(db) == expected


@pytest.mark.parametrize("moment", ["before", "amid", "after"])
def test_a_live_writer_goes_on_while_rows_are_kept(db, read_models_url, monkeypatch, moment):
    """Whatever of it was there when the rows were read is kept or folded, and never both."""
    log = split(recorded([said for n in range(60) for said in batch(n)]))
    expected = rows_of(db, log)
    some = {slot: end * 2 // 3 for slot, end in whole(log).items()}
    empty(db)
    project_up_to(db, log, some)
    original = keeping.keep_rows

    def meanwhile(connection: Any, cut: Any) -> None:
        tables = list(cut.items())
        at = {"before": 0, "amid": len(tables) // 2, "after": len(tables)}[moment]
        original(connection, dict(tables[:at]))
        with psycopg.connect(read_models_url) as writer:
            project_up_to(writer, log, whole(log))
        original(connection, dict(tables[at:]))

    monkeypatch.setattr(keeping, "keep_rows", meanwhile)
    rebuild(read_models_url, source=Kept(log, {slot: end // 2 for slot, end in whole(log).items()}))
    assert contents(db) == expected


def test_a_new_database_begins_where_the_log_does_and_loses_nothing(db, read_models_url):
    log = split(recorded([said for n in range(10) for said in batch(n)]))
    rebuild(read_models_url, source=Kept(log, dict.fromkeys(log, 1)))
    assert contents(db)["engagement_history"]


def split(records: Iterable[Record]) -> Log:
    log: Log = {}
    for record in records:
        log.setdefault((record.topic, record.partition), []).append(record)
    return log


@PROPERTY
@given(log=logs())
def test_every_row_that_a_topic_makes_is_of_a_table_that_is_said_to_be_made_from_it(log):
    for (topic, _), records in log.items():
        rows = collapse_changes(
            change for record in records for change in _changes_or_dead_letter(record)
        ).rows
        assert set(rows) <= set(tables_filled_from(topic))


def test_every_table_is_made_from_a_topic():
    topics = [
        *(EVENTS, LEAD_ACTIVITY, SESSION_SCORES, SCORE_CHANGED, LEAD_SCORES, LEAD_CHANGES, DEAD_LETTERS),
        CHANGELOG,
    ]
    made = {table for topic in topics for table in tables_filled_from(topic)}
    assert made == {*READ_MODEL_TABLES, event_archive}
    assert {table.name for table in made} == LOSABLE_TABLES
    assert set(CHANGES_OF_STATEMENT) == set(STATEMENT_TOPICS)
    assert STATEMENT_TOPICS[EventApplied] == LEAD_CHANGES
    assert set(TABLE_OF_ROW.values()) == set(READ_MODEL_TABLES)


def test_positions_are_those_of_the_log_afterwards(db, read_models_url):
    log = split(recorded([said for n in range(10) for said in batch(n)]))
    rows_of(db, log)
    rebuild(read_models_url, source=Kept(log, whole(log)))
    assert contained_positions(db) == whole(log)
    assert PARTITIONS == 3

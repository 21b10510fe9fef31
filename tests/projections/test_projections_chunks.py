"""Chunks as Kafka gives them: positions with holes, cut anywhere, brought again, events and state too."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from projection_records import (
    attached,
    by_partition,
    contents,
    contents_without_places,
    empty,
    lead_scored,
    page_view,
    recorded,
    tombstone,
)
from test_projections_worker import histories

from projections.facts import UnreadableRecordError
from projections.positions import PositionGapError
from projections.source import SourceError
from projections.state_rows import SCORE_LEADS, TRACK_SESSIONS, stage_of
from projections.table_definition import SHADOW_SCHEMA
from projections.worker import (
    MOST_SINGLE_INSERTS,
    NOTIFY_CHANNEL,
    contained_positions,
    next_positions,
    project_chunks,
    project_records,
    skip_removed_records,
)
from schemas.control import Refused, SettingsPublished
from schemas.decode import decode_source, encode_source, key_of
from schemas.moment import millis, moment
from schemas.record import Chunk, Record
from schemas.topics import DEAD_LETTERS, EVENTS, LEAD_ACTIVITY, LEAD_SCORES, PARTITION_WIDE_KEY
from streams.engine import shard
from streams.kafka.cluster import Cluster
from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions

pytestmark = pytest.mark.postgres
PROPERTY = settings(
    max_examples=scaled(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LEADS_LOG = "leadstream-score-leads-changelog"
VISITORS_LOG = "leadstream-track-sessions-changelog"


def chunk(records: Sequence[Record], start: int | None = None, end: int | None = None) -> Chunk:
    first, last = records[0], records[-1]
    return Chunk(
        first.topic,
        first.partition,
        first.position if start is None else start,
        last.position + 1 if end is None else end,
        records,
    )


def commit(db: psycopg.Connection[Any], *chunks: Chunk) -> dict[tuple[str, int], int]:
    reached = project_chunks(db, chunks)
    db.commit()
    return reached


def rows(db: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    found = db.execute(query.encode()).fetchall()
    db.rollback()
    return found


@st.composite
def with_holes(draw: st.DrawFn, records: Sequence[Record]) -> list[Record]:
    """One partition's records further apart, as marks of transactions and compaction leave them."""
    position, spread = 0, []
    for record in records:
        position += draw(st.integers(0, 3))
        spread.append(record._replace(position=position))
        position += 1
    return spread


@st.composite
def cuts(draw: st.DrawFn, records: Sequence[Record]) -> list[Chunk]:
    """Chunks that cover one partition from 0 to somewhere behind its last record, cut anywhere."""
    end = records[-1].position + 1 + draw(st.integers(0, 2))
    bounds = sorted({0, end, *draw(st.lists(st.integers(0, end), max_size=6))})
    topic, partition = records[0][:2]
    return [
        Chunk(topic, partition, start, stop, [r for r in records if start <= r.position < stop])
        for start, stop in pairwise(bounds)
    ]


@PROPERTY
@given(data=st.data(), history=histories())
def test_holes_and_cuts_change_no_row(db, data, history):
    """An embedded log's dense positions on one side, Kafka's on the other."""
    records = recorded(history)
    empty(db)
    project_records(db, records)
    db.commit()
    dense = contents_without_places(db)

    empty(db)
    lanes = [data.draw(cuts(data.draw(with_holes(lane)))) for lane in by_partition(records)]
    while any(lanes):
        lane = data.draw(st.sampled_from([lane for lane in lanes if lane]))
        taken = lane.pop(0)
        if data.draw(st.booleans()):
            project_chunks(db, [taken])
            db.rollback()
        commit(db, taken, *([lane.pop(0)] if lane and data.draw(st.booleans()) else []))
        if data.draw(st.booleans()):
            commit(db, taken)
    assert contents_without_places(db) == dense


def test_a_chunk_without_records_moves_the_position(db):
    assert commit(db, Chunk(LEAD_ACTIVITY, 1, 0, 7, [])) == {(LEAD_ACTIVITY, 1): 7}
    (record,) = recorded([attached("default/v/a#0", "l")])
    assert commit(db, chunk([record._replace(partition=1, position=7)]))[LEAD_ACTIVITY, 1] == 8
    assert len(rows(db, "select from live.identities")) == 1


def test_what_is_contained_is_passed_over_and_the_rest_taken(db):
    lane = [
        record._replace(partition=0)
        for record in recorded([attached("default/v/a#0", "l", n, page_view(f"e{n}")) for n in range(1, 6)])
    ]
    commit(db, chunk(lane[:3]))
    assert commit(db, chunk(lane[1:])) == {(LEAD_ACTIVITY, 0): 5}
    assert commit(db, chunk(lane[:2])) == {(LEAD_ACTIVITY, 0): 5}, "another writer was ahead"
    assert rows(db, "select event_id from live.engagement_history order by 1") == [
        (f"e{n}",) for n in range(1, 6)
    ]


def test_a_chunk_that_starts_beyond_what_is_contained_is_a_gap(db):
    commit(db, Chunk(LEAD_SCORES, 0, 0, 4, []))
    with pytest.raises(PositionGapError, match=r"lead-scores/0: .*up to 3.*begin at 6: 4 to 5 are missing"):
        project_chunks(db, [Chunk(LEAD_SCORES, 0, 6, 9, [])])
    db.rollback()
    assert contained_positions(db) == {(LEAD_SCORES, 0): 4}


def test_a_partition_that_is_new_begins_where_its_log_does(db):
    commit(db, Chunk(LEAD_SCORES, 0, 0, 4, []), Chunk(EVENTS, 1, 0, 3, []))
    starts = {(LEAD_SCORES, 0): 2, (LEAD_SCORES, 1): 9, (EVENTS, 1): 5, (EVENTS, 2): 5}
    assert next_positions(db, starts) == {**starts, (LEAD_SCORES, 0): 4, (EVENTS, 1): 3}
    db.commit()
    assert commit(db, Chunk(LEAD_SCORES, 1, 9, 10, [])) == {(LEAD_SCORES, 1): 10}


def test_a_batch_tells_who_listens(read_models_url, db):
    with psycopg.connect(read_models_url, autocommit=True) as listener:
        listener.execute(f"listen {NOTIFY_CHANNEL}")
        commit(db, chunk(recorded([lead_scored("l", 1, {"rules": 1})])))
        (notification,) = listener.notifies(timeout=2, stop_after=1)
        assert notification.payload == '{"applied":[]}'


def test_it_refuses_chunks_without_a_transaction(read_models_url, db):
    with (
        psycopg.connect(read_models_url, autocommit=True) as connection,
        pytest.raises(RuntimeError, match="transaction"),
    ):
        project_chunks(connection, [Chunk(LEAD_SCORES, 0, 0, 4, [])])


def test_topics_that_make_no_rows_are_passed_over(db):
    assert commit(db, Chunk("leadstream-skips", 0, 3, 4, []), Chunk("other", 0, 3, 4, [])) == {}


# The archive


def event_record(position: int, event: Any, *, key: str | None = None, appended_at: int = 0) -> Record:
    return Record(EVENTS, 0, position, key or key_of(event), encode_source(event), appended_at)


REFUSED = Refused(tenant="default", recorded_at=moment(0), identity="i", epoch=1)


def archive(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return rows(db, "select partition, position, key, value from live.event_archive order by 1, 2")


def test_the_archive_takes_what_stage_1_takes_of_producers(db):
    """Dead letters and what this program says are not in it, but count as contained."""
    sent = page_view("e1", 5)
    records = [
        event_record(0, sent),
        Record(EVENTS, 0, 1, "default/v/v", b"\xff no JSON", 0),
        Record(EVENTS, 0, 2, "default/v/v", None, 0),
        event_record(3, page_view("e2"), key="default/v/another"),
        Record(
            EVENTS,
            0,
            4,
            PARTITION_WIDE_KEY,
            encode_source(SettingsPublished(tenant="*", recorded_at=moment(0), version=1)),
            0,
        ),
        Record(EVENTS, 0, 5, "k", encode_source(REFUSED), 0),
        event_record(6, page_view("e3")),
    ]
    assert commit(db, chunk(records)) == {(EVENTS, 0): 7}
    assert archive(db) == [
        (0, 0, "default/v/v", records[0].value),
        (0, 6, "default/v/v", records[6].value),
    ]
    commit(db, chunk(records))
    assert len(archive(db)) == 2
    assert not any(contents(db).values())


def test_the_brokers_time_stands_for_a_missing_recorded_at(db):
    at = 1_790_000_000_123
    bare = structs.replace(page_view("e1", 5), recorded_at=None)
    commit(db, chunk([event_record(0, bare, appended_at=at)]))
    ((_, _, _, value),) = archive(db)
    archived = decode_source(value)
    assert millis(archived.recorded_at) == at
    assert archived.occurred_at == bare.occurred_at
    assert rows(db, "select recorded_at from public.event_archive") == [(moment(at),)]


def test_the_archive_is_partitioned_by_the_month_recorded(db):
    """Impossible years share the tables at either end, so nobody can make tables without end."""
    moments = [
        "2026-01-31T23:59:59.999Z",
        "2026-02-01T00:00:00Z",
        "2026-12-31T12:00:00Z",
        "2027-01-01T00:00:00Z",
        "2000-01-01T00:00:00Z",
        "2099-12-31T23:59:59Z",
        "1999-12-31T23:59:59Z",
        "2100-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
    ]
    records = []
    for position, at in enumerate(moments):
        value = b'{"type":"page_viewed","event_id":"e%d","occurred_at":"2026-01-01T00:00:00Z",' % position
        value += b'"recorded_at":"%s","visitor_id":"v"}' % at.encode()
        records.append(Record(EVENTS, 0, position, "default/v/v", value, 0))
    commit(db, chunk(records[:3]))
    commit(db, chunk(records[3:]))
    found = rows(
        db,
        "select tableoid::regclass::text, array_agg(position order by position) from event_archive group by 1",
    )
    decodable = [n for n, record in enumerate(records) if _decodes(record)]
    assert decodable[:8] == list(range(8))
    assert dict(found) == {
        "event_archive_2026_01": [0],
        "event_archive_2026_02": [1],
        "event_archive_2026_12": [2],
        "event_archive_2027_01": [3],
        "event_archive_2000_01": [4],
        "event_archive_2099_12": [5],
        "event_archive_before": [n for n in decodable if n in {6, 8}],
        "event_archive_after": [n for n in decodable if n in {7, 9}],
    }


def _decodes(record: Record) -> bool:
    try:
        decode_source(record.value or b"")
    except ValueError:
        return False
    return True


def test_two_writers_may_need_a_months_table_at_once(read_models_url, db):
    """The second waits for the first to have made it."""
    one, other = (chunk([event_record(0, page_view(f"e{n}"))._replace(partition=n)]) for n in (0, 1))
    project_chunks(db, [one])

    def second() -> None:
        with psycopg.connect(read_models_url) as connection:
            project_chunks(connection, [other])

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(second)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        db.commit()
        waiting.result(20)
    assert [row[:2] for row in archive(db)] == [(0, 0), (1, 0)]


def test_a_new_month_waits_for_no_reader(read_models_url, db):
    """An export may read the archive for hours."""
    commit(db, chunk([event_record(0, page_view("e0"))]))
    with psycopg.connect(read_models_url) as reader:
        reader.execute("select * from public.event_archive").fetchone()
        db.execute("set lock_timeout = '5s'")
        later = page_view("e1", 40 * 86_400)
        commit(db, chunk([event_record(1, later)]))
    assert len(archive(db)) == 2


def test_the_archive_gives_up_only_what_the_log_let_go(db):
    commit(db, *(Chunk(EVENTS, partition, 0, 10, []) for partition in range(4)))
    held = {(EVENTS, 0): (0, 10), (EVENTS, 1): (10, 20), (EVENTS, 2): (11, 20), (EVENTS, 3): (0, 5)}
    assert skip_removed_records(db, held) == [(EVENTS, 2), (EVENTS, 3)]
    db.commit()
    assert contained_positions(db) == {(EVENTS, 0): 10, (EVENTS, 1): 10, (EVENTS, 2): 11, (EVENTS, 3): 0}


def test_a_shadow_has_no_archive_of_its_own(db):
    """Its positions are its own, the archive's are not."""
    db.execute("create schema shadow")
    project_chunks(db, [Chunk(LEAD_SCORES, 0, 0, 4, [])], schema=SHADOW_SCHEMA)
    db.commit()
    assert contained_positions(db) == {}


# The workers' state


def state(topic: str, position: int, key: str, part: str, value: bytes | None, partition: int = 0) -> Record:
    return Record(topic, partition, position, f"{key}\0{part}", value)


def held(db: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        view: rows(db, f"select * from live.{view} order by 1, 2, 3")
        for view in ("lead_features", "lead_parts", "shard_state")
    } | {"lead_dues": rows(db, "select * from live.lead_dues order by 1")}


CHANGELOG = [
    state(LEADS_LOG, 0, PARTITION_WIDE_KEY, "models", b"m"),
    state(LEADS_LOG, 1, "default/l/a/l/b", "id:default/v/x#0", b"one"),
    state(LEADS_LOG, 2, "default/l/a/l/b", "head", b"stage"),
    state(LEADS_LOG, 3, "default/l/a/l/b", "", b"1790000000123"),
    state(LEADS_LOG, 4, "default/l/a", "id:default/v/y#0", b"two"),
    state(LEADS_LOG, 5, "default/l/a", "", b"-5"),
    state(LEADS_LOG, 6, "default/l/a/l/b", "id:default/v/x#0", b"three"),
    state(LEADS_LOG, 7, "default/l/a", "id:default/v/y#0", None),
    state(LEADS_LOG, 8, "default/l/a", "", None),
    state(LEADS_LOG, 9, "default/l/a", "", b"17"),
    state(LEADS_LOG, 10, PARTITION_WIDE_KEY, "sweep", b"s"),
    state(LEADS_LOG, 11, PARTITION_WIDE_KEY, "sweep", None),
    state(LEADS_LOG, 12, "", "", b"4711"),  # how far the shard has come
    state(VISITORS_LOG, 0, PARTITION_WIDE_KEY, "settings", b"t"),
    state(VISITORS_LOG, 1, "default/v/x", "id:no", b"not shown"),
    state(VISITORS_LOG, 2, "default/v/x", "", b"5"),
]
SHOWN = {
    "lead_features": [("default/l/a/l/b", "default", "a/l/b", "default/v/x#0", b"three")],
    "lead_parts": [
        (0, "default/l/a/l/b", "head", b"stage"),
        (0, "default/l/a/l/b", "id:default/v/x#0", b"three"),
    ],
    "lead_dues": [("default/l/a", 17), ("default/l/a/l/b", 1_790_000_000_123)],
    "shard_state": [(SCORE_LEADS, 0, "models", b"m"), (TRACK_SESSIONS, 0, "settings", b"t")],
}


@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_the_state_that_readers_need_is_the_newest_of_each_part(db, size):
    for lane in by_partition(CHANGELOG):
        for n in range(0, len(lane), size):
            commit(db, chunk(lane[n : n + size]))
            commit(db, chunk(lane[: n + size]))
    assert held(db) == SHOWN
    assert rows(db, "select stage, key, part from live.worker_state order by 1, 2") == [
        (SCORE_LEADS, "default/l/a/l/b", "head"),
        (SCORE_LEADS, "default/l/a/l/b", "id:default/v/x#0"),
        (SCORE_LEADS, PARTITION_WIDE_KEY, "models"),
        (TRACK_SESSIONS, PARTITION_WIDE_KEY, "settings"),
    ], "the rest of the state stays in Kafka"
    assert len(rows(db, "select from live.worker_dues")) == 2


def test_much_state_is_stored_as_little_is(db):
    """Above `MOST_SINGLE_INSERTS` rows go as arrays instead of one by one."""
    many = [state(LEADS_LOG, n, f"default/l/{n}", "id:x", b"%d" % n) for n in range(5 * MOST_SINGLE_INSERTS)]
    ends = [
        state(LEADS_LOG, 5 * MOST_SINGLE_INSERTS + n, f"default/l/{n}", "id:x", None)
        for n in range(1, 5 * MOST_SINGLE_INSERTS)
    ]
    commit(db, chunk(many))
    assert len(held(db)["lead_features"]) == 5 * MOST_SINGLE_INSERTS
    commit(db, chunk(ends, start=5 * MOST_SINGLE_INSERTS))
    assert [row[2] for row in held(db)["lead_features"]] == ["0"]


def test_the_same_part_of_two_partitions_is_two(db):
    one, other = (state(LEADS_LOG, 0, PARTITION_WIDE_KEY, "models", b"m", partition) for partition in (0, 1))
    commit(db, chunk([one]), chunk([other]))
    assert [row[1] for row in held(db)["shard_state"]] == [0, 1]


# What somebody else wrote


def test_a_foreign_record_becomes_a_dead_letter_and_what_comes_after_it_is_taken(db):
    """Of what the worker reads it writes a letter about the same place itself."""
    hello = b'{"hello":1}'
    (known,) = recorded([attached("default/v/a#0", "l")])
    lanes = [
        chunk([Record(LEAD_SCORES, 0, 4, "k\0", hello)], start=0),
        chunk([state(LEADS_LOG, 4, "k", "", b"soon")], start=0),
        chunk([Record(DEAD_LETTERS, 1, 0, "k", hello)]),
        chunk(
            [Record(LEAD_ACTIVITY, 0, 0, "k", hello), known._replace(partition=0, position=1)],
        ),
    ]
    for _ in range(2):
        assert commit(db, *lanes) == {
            (LEAD_SCORES, 0): 5,
            (LEADS_LOG, 0): 5,
            (DEAD_LETTERS, 1): 1,
            (LEAD_ACTIVITY, 0): 2,
        }
    assert len(rows(db, "select from live.identities")) == 1
    found = rows(
        db, "select topic, partition, position, key, original, letter from live.dead_letters order by 1"
    )
    assert found == [
        (DEAD_LETTERS, 1, 0, "k", hello, -1),
        (LEAD_SCORES, 0, 4, "k\ufffd", hello, -1),
        (LEADS_LOG, 0, 4, "k\ufffd", b"soon", -1),
    ]


def test_a_log_that_only_this_program_writes_must_be_readable(db):
    with pytest.raises(
        UnreadableRecordError, match=f"{LEADS_LOG}/0 at position 4: the moment is not a number"
    ):
        project_chunks(db, [chunk([state(LEADS_LOG, 4, "k", "", b"soon")], start=0)], strict=True)


def test_a_place_of_the_archive_that_another_record_has_is_refused(db):
    """The topics were deleted and created again, and the positions do not show it."""
    commit(db, chunk([event_record(0, page_view("e1"))]))
    db.execute("update public.positions set position = -1")
    with pytest.raises(SourceError, match=r"events/0: .*created again.*LEADSTREAM_KAFKA_PREFIX"):
        project_chunks(db, [chunk([event_record(0, page_view("e2"))])])


def test_changelogs_are_known_by_the_names_that_workers_give_them():
    for cluster in (Cluster(""), Cluster("", prefix="p-", app="other")):
        for stage in (TrackSessions(), ScoreLeads()):
            assert stage_of(cluster.name_of(cluster.changelog(stage.name))) == stage.name
    assert {TRACK_SESSIONS, SCORE_LEADS} == {TrackSessions.name, ScoreLeads.name}
    assert [stage_of(topic) for topic in (EVENTS, LEAD_SCORES, DEAD_LETTERS)] == [None] * 3
    assert shard.PARTITION_WIDE_KEY == PARTITION_WIDE_KEY


def test_tombstones_of_leads_are_taken_with_holes_around_them(db):
    lane = [
        record._replace(partition=0, position=3 * n + 2)
        for n, record in enumerate(recorded([lead_scored("l", 1, {"rules": 1}), tombstone("l")]))
    ]
    commit(db, chunk(lane, start=0, end=20))
    assert rows(db, "select from live.leads") == []

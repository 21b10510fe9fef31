"""Records as the two stages write them, and the read models' tables as plain data to compare."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from projections.table_definition import LIVE_SCHEMA
from projections.table_sets import READ_MODEL_TABLES
from schemas import statements as say
from schemas.activity import (
    Activity,
    IdentityAttached,
    IdentityDelta,
    ModelChanged,
    SessionPut,
    SettingsChanged,
)
from schemas.decode import encode_activity, encode_dead_letter, encode_source, encode_statement
from schemas.envelope import Event
from schemas.events import PageViewed
from schemas.moment import moment
from schemas.record import Outgoing, Record
from schemas.topics import (
    DEAD_LETTERS,
    LEAD_ACTIVITY,
    LEAD_CHANGES,
    LEAD_SCORES,
    PARTITION_WIDE_KEY,
    SCORE_CHANGED,
    SESSION_SCORES,
    lead_key,
    partition_of,
)
from streams.embedded import log

TENANT = "default"
START = 1_767_225_600_000
"""2026-01-01T00:00:00Z"""
PARTITIONS = 3

Rows = dict[str, list[str]]


def at(seconds: float) -> datetime:
    return moment(START + int(seconds * 1000))


def page_view(event_id: str, seconds: float = 0, **fields: Any) -> PageViewed:
    return PageViewed(
        event_id=event_id, occurred_at=at(seconds), recorded_at=at(seconds), visitor_id="v", **fields
    )


def activity(said: Activity) -> Outgoing:
    return Outgoing(LEAD_ACTIVITY, lead_key(said.tenant, said.lead_id), encode_activity(said))


def attached(
    identity: str,
    lead_id: str,
    epoch: int = 1,
    event: Event | None = None,
    sessions: Sequence[SessionPut] = (),
    seconds: float = 0,
) -> Outgoing:
    return activity(
        IdentityAttached(
            TENANT,
            lead_id,
            START + int(seconds * 1000),
            identity,
            epoch,
            lead_id,
            b"",
            event=encode_source(event) if event else None,
            event_id=event.event_id if event else None,
            sessions=list(sessions),
        )
    )


def delta(
    identity: str,
    lead_id: str,
    epoch: int,
    event: Event,
    *,
    sessions: Sequence[SessionPut] = (),
    retracted: Sequence[str] = (),
    revision: int = 0,
    late: bool = False,
) -> Outgoing:
    return activity(
        IdentityDelta(
            TENANT,
            lead_id,
            START,
            identity,
            epoch,
            encode_source(event),
            event.event_id,
            b"",
            sessions=list(sessions),
            retracted=list(retracted),
            revision=revision,
            late=late,
        )
    )


def put(session_id: str, revision: int, pages: int = 1, **fields: Any) -> SessionPut:
    return SessionPut(session_id, revision, START, START + 60_000, False, pages, 0, 0, **fields)


TOPIC_OF = {
    say.SessionScored: SESSION_SCORES,
    say.SessionRetracted: SESSION_SCORES,
    say.ScoreChanged: SCORE_CHANGED,
    say.BandChanged: LEAD_CHANGES,
    say.QualificationOverridden: LEAD_CHANGES,
    say.StageEntered: LEAD_CHANGES,
    say.WorkflowTriggered: LEAD_CHANGES,
    say.EventApplied: LEAD_CHANGES,
    say.LeadScored: LEAD_SCORES,
}


def statement(kind: type[say.Statement], lead_id: str, seconds: float = 0, **fields: Any) -> Outgoing:
    fields = {"statement_id": f"s{seconds}", "tenant": TENANT, "caused_by": "event:e", **fields}
    said = kind(lead_id=lead_id, at=at(seconds), **fields)
    return Outgoing(TOPIC_OF[kind], lead_key(said.tenant, lead_id), encode_statement(said))


def score_changed(
    lead_id: str, seconds: float, lines: Iterable[tuple[str, str, float]], total: float, **fields: Any
) -> Outgoing:
    said = [say.Line(group, rule, "points", points) for group, rule, points in lines]
    change = sum(line.points for line in said)
    fields = {"model": "temperature", "version": 1, "bands": {}, "previous": total - change, **fields}
    return statement(say.ScoreChanged, lead_id, seconds, lines=said, total=total, change=change, **fields)


def lead_scored(
    lead_id: str, seconds: float = 0, totals: dict[str, float] | None = None, **fields: Any
) -> Outgoing:
    bands = fields.pop("bands", {})
    scores = {
        model: say.ModelScore(version=1, total=total, bands=bands, as_of=at(seconds))
        for model, total in (totals or {}).items()
    }
    fields = {"identified": True, "created_at": at(0), "identities": 1, "stage": "new", **fields}
    return statement(say.LeadScored, lead_id, seconds, scores=scores, **fields)


def session_scored(
    identity: str, session_id: str, lead_id: str, score: float, seconds: float = 0
) -> Outgoing:
    return statement(
        say.SessionScored,
        lead_id,
        seconds,
        identity=identity,
        session_id=session_id,
        model="web_session",
        version=1,
        score=score,
        lines=[say.Line("pages", "pages", "points", score)],
        ended=False,
        started_at=at(0),
        last_at=at(seconds),
        pages=1,
        clicks=0,
        important_clicks=0,
    )


def session_retracted(identity: str, session_id: str, lead_id: str, seconds: float = 0) -> Outgoing:
    return statement(say.SessionRetracted, lead_id, seconds, identity=identity, session_id=session_id)


def workflow_triggered(lead_id: str, n: int) -> Outgoing:
    return statement(
        say.WorkflowTriggered,
        lead_id,
        n,
        workflow_id=n % 3 + 1,
        workflow="Call hot leads",
        version=n + 1,
        trigger="score_threshold",
        reason="rules rose from 71 to 78, through 75",
        action="create_task",
        config={"title": "Call"},
        arm=f"event:{n}",
        silent=n % 4 == 0,
        silenced_by="import" if n % 4 == 0 else "",
    )


def tombstone(lead_id: str) -> Outgoing:
    return Outgoing(LEAD_SCORES, lead_key(TENANT, lead_id), None)


def dead_letter(position: int, reason: str = "type: missing", **fields: Any) -> Outgoing:
    fields = {"topic": "events", "partition": 0, "original": b"\x00{", "key": "default/v/1", **fields}
    letter = say.DeadLetter(position=position, reason=reason, **fields)
    return Outgoing(DEAD_LETTERS, letter.key or "", encode_dead_letter(letter))


def published(said: Activity) -> list[Outgoing]:
    """In every partition, as it is appended."""
    return [
        activity(said)._replace(key=PARTITION_WIDE_KEY, partition=partition)
        for partition in range(PARTITIONS)
    ]


def batch(n: int) -> list[Outgoing]:
    """What one visitor's event leads to; leads come, merge and go."""
    identity, lead = f"default/v/{n % 7}#0", f"lead-{n % 5}"
    epoch = 1 + n // 7
    said = [
        attached(identity, lead, epoch, page_view(f"a{n}", n), sessions=[put(f"a{n}", 2 * n)]),
        delta(identity, lead, epoch, page_view(f"d{n}", n), sessions=[put(f"a{n}", 2 * n + 1, pages=2)]),
        session_scored(identity, f"a{n}", lead, n % 90, n),
        score_changed(lead, n, [("g", "r", n / 10)], n / 10),
        lead_scored(lead, n, {"temperature": n / 10, "rules": 1.5}),
        statement(say.EventApplied, lead, n, event_id=f"a{n}", outcome="applied", scores={}),
        statement(say.StageEntered, lead, n, stage="qualified", previous="new", reason="mql"),
    ]
    if n % 6 == 0:
        said.append(workflow_triggered(lead, n))
    if n % 4 == 0:
        said.append(delta(identity, lead, epoch, page_view(f"r{n}"), retracted=[f"a{n}"], revision=2 * n + 2))
    if n % 3 == 0:
        said.append(tombstone(lead))
    if n % 10 == 0:
        said.append(dead_letter(n))
        said += published(ModelChanged(TENANT, "", START + n, "rules", n + 1, f"text {n}", by="ada"))
        said += published(SettingsChanged(TENANT, "", START + n, n + 1, "Europe/Berlin", 20 + n))
    return said


def recorded(outgoing: Iterable[Outgoing], ends: dict[tuple[str, int], int] | None = None) -> list[Record]:
    """In the log: `ends` holds the next position of each partition, and is moved on."""
    ends = defaultdict(int) if ends is None else ends
    records = []
    for topic, key, value, partition in outgoing:
        slot = topic, partition_of(key, PARTITIONS) if partition is None else partition
        position = ends.get(slot, 0)
        ends[slot] = position + 1
        records.append(Record(*slot, position, key, value))
    return records


def by_partition(records: Iterable[Record]) -> list[list[Record]]:
    ordered = sorted(records, key=lambda record: record[:3])
    return [list(some) for _, some in groupby(ordered, key=lambda record: record[:2])]


def open_log(url: str) -> None:
    with psycopg.connect(url) as connection:
        log.open_log(connection, PARTITIONS)


def append(connection: psycopg.Connection[Any], records: Sequence[Record]) -> None:
    """Into the embedded log, in the caller's transaction."""
    log.write_records(connection, [record for record in records if record.topic not in log.COMPACTED_TOPICS])
    log.write_compacted(connection, [record for record in records if record.topic in log.COMPACTED_TOPICS])
    heads = {record[:2]: record.position + 1 for record in records}
    log.write_heads(connection, [(*slot, position) for slot, position in heads.items()])


def contents(connection: psycopg.Connection[Any], schema: str = LIVE_SCHEMA) -> Rows:
    """Every row of every table, as text, in one order."""
    found = {}
    for table in READ_MODEL_TABLES:
        query = SQL("select t::text from {} t order by 1").format(Identifier(schema, table.name))
        found[table.name] = [row for (row,) in connection.execute(query)]
    connection.rollback()
    return found


def contents_without_places(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """As `contents`, but for where in the log the records stand, which another log says otherwise."""
    found = {}
    for table in READ_MODEL_TABLES:
        names = [name for name in table.columns.keys() if name not in {"position", "letter"}]  # noqa: SIM118 - a column collection iterates over columns
        columns = SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in names)
        query = SQL("select {columns} from {table} order by {columns}")
        rows = connection.execute(query.format(columns=columns, table=Identifier(LIVE_SCHEMA, table.name)))
        found[table.name] = rows.fetchall()
    connection.rollback()
    return found


def empty(connection: psycopg.Connection[Any]) -> None:
    """Faster than truncating: the tables are small."""
    connection.execute("delete from public.positions")
    connection.execute("delete from public.event_archive")
    for table in READ_MODEL_TABLES:
        connection.execute(SQL("delete from {}").format(Identifier(LIVE_SCHEMA, table.name)))
    connection.commit()


def definitions(connection: psycopg.Connection[Any], schema: str = LIVE_SCHEMA) -> list[tuple[Any, ...]]:
    """Columns, constraints, indexes, storage options, comments and views of a schema."""
    found = connection.execute(
        """
        select c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               (select collname from pg_collation l where l.oid = a.attcollation), c.reloptions::text,
               obj_description(c.oid), case when c.relkind = 'v' then pg_get_viewdef(c.oid) end
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = %(schema)s::text::regnamespace
        union all
        select c.relname, 'constraint', k.conname, pg_get_constraintdef(k.oid), null, null, null, null, null
        from pg_constraint k join pg_class c on c.oid = k.conrelid where c.relnamespace = %(schema)s::text::regnamespace
        union all
        select tablename, 'index', indexname, replace(indexdef, %(schema)s::text || '.', ''), null, null, null, null, null
        from pg_indexes where schemaname = %(schema)s::text
        order by 1, 2, 3, 4
        """,
        {"schema": schema},
    ).fetchall()
    connection.rollback()
    return found

"""Views of the log and of the folds' state. They are the same in both modes, so readers need not know the mode.

They are in the schema of the read models (`live`), so a rebuild creates its own. In embedded mode they show the tables
of the log; in Kafka mode, the tables that the projection fills.

  event_archive(partition, position, key, value)
      Every record of `events` that a producer sent. If it had no `recorded_at`, Kafka's append time is filled in. It may
      include records that cannot be decoded: they are dead letters as well.
  lead_features(key, tenant, lead_id, identity, encoded)
      Each lead's features per identity: a codec version, then MessagePack [epoch, home, features].
  lead_parts(partition, key, part, value)
      Each lead's stored parts: its head, and `id:IDENTITY`. Reading them in the order of (partition, key) needs no sort.
  shard_state(stage, partition, part, value)
      The parts that concern a whole partition: models, settings, a sweep under way.
  lead_lead_dues(key, due_at)
      When (ms) time alone may next change a lead.
"""

from typing import Final

from psycopg.sql import SQL, Composed, Identifier, Literal
from sqlalchemy import column, table

from projections.connection import Connection
from projections.state_rows import IDENTITY_PART, SCORE_LEADS
from projections.table_definition import LIVE_SCHEMA
from schemas.control import CONTROL_TYPES, DERIVED_TYPES
from schemas.envelope import tag_of
from schemas.topics import EVENTS, PARTITION_WIDE_KEY

event_archive = table(
    "event_archive", column("partition"), column("position"), column("key"), column("value")
)
lead_features = table(
    "lead_features",
    column("key"),
    column("tenant"),
    column("lead_id"),
    column("identity"),
    column("encoded"),
)
lead_parts = table("lead_parts", column("partition"), column("key"), column("part"), column("value"))
shard_state = table("shard_state", column("stage"), column("partition"), column("part"), column("value"))
lead_dues = table("lead_dues", column("key"), column("due_at"))

_INTERNAL_RECORD_PREFIXES: Final = tuple(
    f'{{"type":"{tag_of(kind)}",' for kind in (*CONTROL_TYPES, *DERIVED_TYPES)
)
"""How records begin that no producer sent. Only this program writes them, with the tag first."""


def create_views(connection: Connection, schema: str) -> None:
    """Creates the views, over the embedded log if there is one. Replaces only views whose query changed, because that
    waits for readers. The comment of a view is the query that it would have in the live schema.
    """
    embedded = _exists(connection, "public.format")
    texts = _view_queries(LIVE_SCHEMA, embedded=embedded)
    for name, query in _view_queries(schema, embedded=embedded).items():
        view, text = Identifier(schema, name), texts[name].as_string(connection)
        row = connection.execute(
            "select obj_description(to_regclass(%s), 'pg_class')", (view.as_string(connection),)
        ).fetchone()
        if row is None or row[0] != text:
            connection.execute(SQL("create or replace view {} as {}").format(view, query))
            connection.execute(SQL("comment on view {} is {}").format(view, Literal(text)))


def _view_queries(schema: str, *, embedded: bool) -> dict[str, Composed]:
    state = Identifier("public", "state") if embedded else Identifier(schema, "worker_state")
    dues = Identifier("public", "dues") if embedded else Identifier(schema, "worker_dues")
    return {
        event_archive.name: _embedded_events_query() if embedded else _ARCHIVE_QUERY,
        lead_features.name: _features_query(state),
        lead_parts.name: _parts_query(state),
        shard_state.name: _shard_state_query(state),
        lead_dues.name: _lead_timers_query(dues),
    }


_ARCHIVE_QUERY: Final = SQL("select partition, position, key, value from public.event_archive").format()


def _embedded_events_query() -> Composed:
    not_own = SQL(" and ").join(
        SQL("substr(value, 1, {}) <> {}").format(Literal(len(prefix)), Literal(prefix.encode()))
        for prefix in _INTERNAL_RECORD_PREFIXES
    )
    return SQL("select partition, position, key, value from public.records where topic = {} and {}").format(
        Literal(EVENTS), not_own
    )


def _features_query(state: Identifier) -> Composed:
    return SQL(
        "select key, split_part(key, '/', 1) as tenant, substr(key, strpos(key, '/l/') + 3) as lead_id, "
        "substr(part, {}) as identity, value as encoded from {} where stage = {} and starts_with(part, {})"
    ).format(Literal(len(IDENTITY_PART) + 1), state, Literal(SCORE_LEADS), Literal(IDENTITY_PART))


def _parts_query(state: Identifier) -> Composed:
    return SQL("select partition, key, part, value from {} where stage = {} and key <> {}").format(
        state, Literal(SCORE_LEADS), Literal(PARTITION_WIDE_KEY)
    )


def _shard_state_query(state: Identifier) -> Composed:
    return SQL("select stage, partition, part, value from {} where key = {}").format(
        state, Literal(PARTITION_WIDE_KEY)
    )


def _lead_timers_query(dues: Identifier) -> Composed:
    return SQL("select key, due_at from {} where stage = {}").format(dues, Literal(SCORE_LEADS))


def _exists(connection: Connection, name: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", (name,)).fetchone()
    return row is not None and bool(row[0])

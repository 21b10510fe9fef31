"""The embedded log as a rebuild reads it: the tables `records`, `compacted` and `heads` of schema public.

`streams.embedded` owns them; this module only reads. The compacted topic keeps each key's newest record, and none of a
key that was deleted.
"""

from typing import Final, LiteralString

from psycopg.sql import SQL, Identifier

from projections import positions, worker
from projections.connection import Connection
from projections.table_definition import SHADOW_SCHEMA
from projections.tables import PROJECTED_TOPICS
from schemas.record import Chunk, LogPartition, Record
from schemas.topics import LEAD_SCORES

COMPACTED_TOPIC: Final = LEAD_SCORES
APPEND_ONLY_TOPICS: Final = tuple(topic for topic in PROJECTED_TOPICS if topic != COMPACTED_TOPIC)

_ENDS: LiteralString = "select topic, partition, position from public.heads where topic = any(%b::text[])"
_STARTS: LiteralString = """
  select h.topic, h.partition, coalesce(first.position, h.position)
  from public.heads h left join lateral (
    select r.position from public.records r where r.topic = h.topic and r.partition = h.partition
    order by r.position limit 1) first on true
  where h.topic = any(%b::text[])
"""
_PAGE: LiteralString = """
  select topic, partition, position, key, value from public.{table}
  where topic = %b and partition = %b and position >= %b and position < %b order by position limit %b
"""
_DELETE_REMOVED: LiteralString = """
  delete from {table} t using {leads} l
  where t.lead_key = l.lead_key and not exists (
    select from public.compacted c where c.topic = %b and c.key = l.tenant || '/l/' || l.lead_id)
"""


class NothingToRebuildError(RuntimeError):
    """There is no log to rebuild from. The message names the remedy."""


class EmbeddedLog:
    """A `projections.rebuild.LogSource`."""

    strict = True

    def starts(self, connection: Connection) -> dict[LogPartition, int]:
        row = connection.execute("select to_regclass('public.records') is not null").fetchone()
        if row is None or not row[0]:
            raise NothingToRebuildError(
                "There is no embedded log in this database, so there is nothing to rebuild from: name the database of "
                "`leadstream serve`."
            )
        return _read_positions(connection, _STARTS, list(APPEND_ONLY_TOPICS))

    def ends(self, connection: Connection) -> dict[LogPartition, int]:
        return _read_positions(connection, _ENDS, list(PROJECTED_TOPICS))

    def read(
        self, connection: Connection, log_partition: LogPartition, start: int, end: int, most: int
    ) -> Chunk:
        topic, partition = log_partition
        table = "compacted" if topic == COMPACTED_TOPIC else "records"
        with worker.open_cursor(connection) as cursor:
            cursor.execute(SQL(_PAGE).format(table=Identifier(table)), (topic, partition, start, end, most))
            records = [Record(*row) for row in cursor]
        if topic == COMPACTED_TOPIC:
            return Chunk(
                topic, partition, start, records[-1].position + 1 if len(records) == most else end, records
            )
        if not records:
            raise positions.PositionGapError(
                f"{topic}/{partition}: the log ends at {end - 1}, but it has no record after {start - 1}."
            )
        positions.new_records(records, {log_partition: start - 1})
        return Chunk(topic, partition, start, records[-1].position + 1, records)

    def forget(self, connection: Connection) -> None:
        """Deletes the leads that the compacted topic no longer contains."""
        with worker.open_cursor(connection) as cursor:
            for table in ("lead_scores", "leads"):
                cursor.execute(
                    SQL(_DELETE_REMOVED).format(
                        table=Identifier(SHADOW_SCHEMA, table), leads=Identifier(SHADOW_SCHEMA, "leads")
                    ),
                    (COMPACTED_TOPIC,),
                )

    def swapped(self, _connection: Connection) -> None:
        """Nothing to do: the log is in this database."""


def _read_positions(
    connection: Connection, query: LiteralString, topics: list[str]
) -> dict[LogPartition, int]:
    with worker.open_cursor(connection) as cursor:
        cursor.execute(query, (topics,))
        return {(topic, partition): position for topic, partition, position in cursor}

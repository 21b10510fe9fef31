"""The state store: parts of keys and when they are due, written behind within one transaction.

What `put` is told is visible to `load` and `keys_after` at once and reaches the tables with `flush`,
each row once, however often a key changed. Nothing survives `forget`; nothing here commits.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from schemas.record import LogPartition
from schemas.topics import SHARED
from streams.embedded.rows import Connection, upsert, upsert_into

_KEY = {"stage": "text", "partition": "int4", "key": "text"}
_PARTS = upsert_into("state", {**_KEY, "part": "text", "value": "bytea"}, (*_KEY, "part"))
_DUES = upsert_into("dues", {**_KEY, "due_at": "int8"}, tuple(_KEY))
_DELETE_PARTS = """delete from state where (stage, partition, key, part) in
  (select * from unnest(%s::text[], %s::integer[], %s::text[], %s::text[]))"""
_DELETE_DUES = """delete from dues where (stage, partition, key) in
  (select * from unnest(%s::text[], %s::integer[], %s::text[]))"""


class Timer(NamedTuple):
    stage: str
    partition: int
    key: str


class PostgresStateStore:
    """Every shard's stored state over one connection. A slot is (stage, partition)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parts: dict[LogPartition, dict[str, dict[str, bytes | None]]] = {}
        self._dues: dict[Timer, int | None] = {}
        rows = connection.execute("select distinct stage from dues")
        self._timed = {stage for (stage,) in rows}
        """Stages that ever had a due: the others need no row deleted when a key has none."""

    def of(self, stage: str, partition: int) -> "StoredParts":
        return StoredParts(self, (stage, partition))

    @property
    def waiting(self) -> int:
        """How many rows `flush` would write, roughly."""
        return len(self._dues) + sum(len(parts) for keys in self._parts.values() for parts in keys.values())

    def put(
        self,
        slot: LogPartition,
        parts: Mapping[tuple[str, str], bytes | None],
        dues: Mapping[str, int | None],
    ) -> None:
        pending = self._parts.setdefault(slot, {})
        for (key, part), value in parts.items():
            pending.setdefault(key, {})[part] = value
        stage, partition = slot
        for key, due in dues.items():
            if due is not None:
                self._timed.add(stage)
            if stage in self._timed:
                self._dues[Timer(stage, partition, key)] = due

    def load(self, slot: LogPartition, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        found: dict[str, dict[str, bytes]] = {}
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(
                "select key, part, value from state where stage = %s and partition = %s and key = any(%s)",
                (*slot, list(keys)),
            )
            for key, part, value in cursor:
                found.setdefault(key, {})[part] = value
        pending = self._parts.get(slot, {})
        for key in keys:
            if changed := pending.get(key):
                merged = {**found.get(key, {}), **changed}
                found[key] = {part: value for part, value in merged.items() if value is not None}
        return found

    def keys_after(self, slot: LogPartition, after: str, limit: int) -> list[str]:
        self.flush()
        rows = self._connection.execute(
            """select distinct key from state where stage = %s and partition = %s and key > %s
               and left(key, 1) <> %s order by key limit %s""",
            (*slot, after, SHARED, limit),
        )
        return [key for (key,) in rows]

    def due_timers(self, stages: Sequence[str], now: int, limit: int) -> list[Timer]:
        """The keys of these stages whose stored due has come, the longest overdue first."""
        self.flush()
        rows = self._connection.execute(
            "select stage, partition, key from dues where stage = any(%s) and due_at <= %s order by due_at limit %s",
            (stages, now, limit),
        )
        return list(map(Timer._make, rows))

    def flush(self) -> None:
        """Writes what `put` was told."""
        rows = [
            (*slot, key, part, value)
            for slot, keys in self._parts.items()
            for key, parts in keys.items()
            for part, value in parts.items()
        ]
        if gone := [row[:-1] for row in rows if row[-1] is None]:
            self._connection.execute(_DELETE_PARTS, list(map(list, zip(*gone, strict=True))))
        upsert(self._connection, _PARTS, [row for row in rows if row[-1] is not None])
        if never := [key for key, at in self._dues.items() if at is None]:
            self._connection.execute(_DELETE_DUES, list(map(list, zip(*never, strict=True))))
        upsert(self._connection, _DUES, [(*key, at) for key, at in self._dues.items() if at is not None])
        self.forget()

    def forget(self) -> None:
        """Drops what was not flushed: it is written, or the transaction was rolled back."""
        self._parts.clear()
        self._dues.clear()


class StoredParts:
    """What one shard reads of the store (`streams.engine.shard.Parts`)."""

    def __init__(self, store: PostgresStateStore, slot: LogPartition) -> None:
        self._store = store
        self._slot = slot

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        return self._store.load(self._slot, keys)

    def keys_after(self, after: str, limit: int) -> list[str]:
        return self._store.keys_after(self._slot, after, limit)

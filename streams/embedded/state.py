"""The state store in PostgreSQL: the parts of keys and their timers, written behind within one transaction.

`load` and `keys_after` see what `put` took at once; `flush` writes it to the tables, each row once, however
often a key changed. Nothing survives `forget`; nothing here commits.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from schemas.topics import PARTITION_WIDE_KEY
from streams.embedded.rows import Connection, upsert_into, upsert_rows
from streams.engine.task_group import TaskId

_KEY = {"stage": "text", "partition": "int4", "key": "text"}
_UPSERT_PARTS = upsert_into("state", {**_KEY, "part": "text", "value": "bytea"}, (*_KEY, "part"))
_UPSERT_TIMERS = upsert_into("dues", {**_KEY, "due_at": "int8"}, tuple(_KEY))
_DELETE_PARTS = """delete from state where (stage, partition, key, part) in
  (select * from unnest(%s::text[], %s::integer[], %s::text[], %s::text[]))"""
_DELETE_TIMERS = """delete from dues where (stage, partition, key) in
  (select * from unnest(%s::text[], %s::integer[], %s::text[]))"""


class StoredTimer(NamedTuple):
    stage: str
    partition: int
    key: str


class PostgresStateStore:
    """The stored state of every shard, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parts: dict[TaskId, dict[str, dict[str, bytes | None]]] = {}
        self._timers: dict[StoredTimer, int | None] = {}
        rows = connection.execute("select distinct stage from dues")
        self._timed = {stage for (stage,) in rows}
        """Stages that ever had a timer: the others need no row deleted when a key has none."""

    def of(self, stage: str, partition: int) -> "StoredParts":
        return StoredParts(self, (stage, partition))

    @property
    def waiting(self) -> int:
        """How many rows `flush` would write, roughly."""
        return len(self._timers) + sum(len(parts) for keys in self._parts.values() for parts in keys.values())

    def put(
        self,
        task_id: TaskId,
        parts: Mapping[tuple[str, str], bytes | None],
        timers: Mapping[str, int | None],
    ) -> None:
        pending = self._parts.setdefault(task_id, {})
        for (key, part), value in parts.items():
            pending.setdefault(key, {})[part] = value
        stage, partition = task_id
        for key, fires_at in timers.items():
            if fires_at is not None:
                self._timed.add(stage)
            if stage in self._timed:
                self._timers[StoredTimer(stage, partition, key)] = fires_at

    def load(self, task_id: TaskId, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        stored: dict[str, dict[str, bytes]] = {}
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(
                "select key, part, value from state where stage = %s and partition = %s and key = any(%s)",
                (*task_id, list(keys)),
            )
            for key, part, value in cursor:
                stored.setdefault(key, {})[part] = value
        pending = self._parts.get(task_id, {})
        for key in keys:
            if changed := pending.get(key):
                merged = {**stored.get(key, {}), **changed}
                stored[key] = {part: value for part, value in merged.items() if value is not None}
        return stored

    def keys_after(self, task_id: TaskId, after: str, limit: int) -> list[str]:
        self.flush()
        rows = self._connection.execute(
            """select distinct key from state where stage = %s and partition = %s and key > %s
               and left(key, 1) <> %s order by key limit %s""",
            (*task_id, after, PARTITION_WIDE_KEY, limit),
        )
        return [key for (key,) in rows]

    def due_timers(self, stages: Sequence[str], now: int, limit: int) -> list[StoredTimer]:
        """The keys of these stages whose stored timer fires by `now`, the longest overdue first."""
        self.flush()
        rows = self._connection.execute(
            "select stage, partition, key from dues where stage = any(%s) and due_at <= %s order by due_at limit %s",
            (stages, now, limit),
        )
        return list(map(StoredTimer._make, rows))

    def flush(self) -> None:
        """Writes what `put` took."""
        rows = [
            (*task_id, key, part, value)
            for task_id, keys in self._parts.items()
            for key, parts in keys.items()
            for part, value in parts.items()
        ]
        if removed := [row[:-1] for row in rows if row[-1] is None]:
            self._connection.execute(_DELETE_PARTS, list(map(list, zip(*removed, strict=True))))
        upsert_rows(self._connection, _UPSERT_PARTS, [row for row in rows if row[-1] is not None])
        if without := [key for key, at in self._timers.items() if at is None]:
            self._connection.execute(_DELETE_TIMERS, list(map(list, zip(*without, strict=True))))
        upsert_rows(
            self._connection,
            _UPSERT_TIMERS,
            [(*key, at) for key, at in self._timers.items() if at is not None],
        )
        self.forget()

    def forget(self) -> None:
        """Drops what was put: it is written, or the transaction was rolled back."""
        self._parts.clear()
        self._timers.clear()


class StoredParts:
    """What one shard reads of the store (`streams.engine.shard.ShardParts`)."""

    def __init__(self, store: PostgresStateStore, task_id: TaskId) -> None:
        self._store = store
        self._task_id = task_id

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        return self._store.load(self._task_id, keys)

    def keys_after(self, after: str, limit: int) -> list[str]:
        return self._store.keys_after(self._task_id, after, limit)

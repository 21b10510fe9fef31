"""What authors write and what was published of it, in SQL: drafts, and publications on their way.

`public.model_drafts` is no read model: no rebuild touches it. A row in the state `publishing` has a
version that nobody else gets, and its text, before the log has it; so whoever finds it there appends it
again, which changes nothing if the log had it. Nothing here commits.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg.rows import class_row, tuple_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from projections.tables import LIVE, PUBLIC, key_of, leads, model_drafts, publications
from schemas.control import EVERY_TENANT

Connection = psycopg.AsyncConnection[Any]

DRAFT: Final = "draft"
SCHEDULED: Final = "scheduled"
"""To be published when `effective_from` has come."""
PUBLISHING: Final = "publishing"
"""Has its version; the log may not have it yet."""
PUBLISHED: Final = "published"
DISCARDED: Final = "discarded"

LOCK_TIMEOUT: Final = "20s"
"""How long one publisher waits for another of the same model."""

T = TypeVar("T", bound=tuple[Any, ...])


class Draft(NamedTuple):
    """A row of `model_drafts`; its fields are the columns."""

    id: int
    tenant: str
    model: str
    state: str
    text: str | None
    """None: the model is to be retired. Empty in a list, which has no texts."""
    based_on: int | None
    """The version that the author has changed, 0: there was none; None: it is to hold whatever there is."""
    based_on_tenant: str | None
    """Whose that version is: the tenant's own, or everybody's."""
    by: str | None
    note: str | None
    change: str | None
    fire: bool
    effective_from: datetime | None
    problem: str | None
    """Why it was not published when its time had come."""
    created_at: datetime
    changed_at: datetime
    version: int | None = None
    published_at: datetime | None = None


class Version(NamedTuple):
    """One publication of a model; its fields are the columns of `publications`."""

    tenant: str
    model: str
    version: int
    text: str | None
    """None: it was retired. Empty in a history, where it was not asked for."""
    fire: bool = False
    by: str | None = None
    note: str | None = None
    change: str | None = None
    recorded_at: datetime | None = None
    """None: that is not known here."""


_NAMES: Final = {
    "drafts": Identifier(PUBLIC, model_drafts.name),
    "publications": Identifier(LIVE, publications.name),
    "columns": SQL(", ").join(map(Identifier, Draft._fields)),
    "told": SQL(", ").join(map(Identifier, Version._fields)),
    "without_text": SQL(", ").join(
        SQL("case when text is not null then '' end as text") if name == "text" else Identifier(name)
        for name in Draft._fields
    ),
}
DRAFTS_AT_ONCE: Final = 50

_VERSIONS: Final = SQL(
    """select {told} from {publications}
       where (%(tenants)s::text[] is null or tenant = any(%(tenants)s))
         and (%(model)s::text is null or model = %(model)s)
       union all
       select tenant, model, version, text, fire, by, note, change, published_at from {drafts} d
       where (%(tenants)s::text[] is null or tenant = any(%(tenants)s))
         and (%(model)s::text is null or model = %(model)s) and state in ('publishing', 'published')
         and not exists (select from {publications} p
                         where (p.tenant, p.model, p.version) = (d.tenant, d.model, d.version))"""
).format(**_NAMES)
_NEWEST: Final = SQL(
    "select distinct on (tenant, model) {told} from ({versions}) v order by tenant, model, version desc"
).format(**_NAMES, versions=_VERSIONS)
_HISTORY: Final = SQL(
    """select tenant, model, version,
              case when version = any(%(texts_of)s::bigint[]) then text when text is not null then '' end as text,
              fire, by, note, change, recorded_at
       from ({versions}) v order by tenant, version desc"""
).format(versions=_VERSIONS)
_OPEN: Final = SQL(
    """select {without_text} from {drafts} where tenant = %s and model = %s and state in ('draft', 'scheduled')
         and (%s::bigint is null or id < %s) order by id desc limit {most}"""
).format(**_NAMES, most=Literal(DRAFTS_AT_ONCE))
_COMING: Final = SQL(
    """select {without_text} from {drafts} where (%(tenant)s::text is null or tenant = %(tenant)s)
         and (state = 'scheduled' or (state = 'draft' and problem is not null)) order by effective_from, id"""
).format(**_NAMES)
_ONE: Final = SQL("select {columns} from {drafts} where tenant = %s and model = %s and id = %s").format(
    **_NAMES
)
_DUE: Final = SQL(
    """select distinct tenant, model from {drafts}
       where state = 'publishing' or (state = 'scheduled' and effective_from <= %s) order by tenant, model"""
).format(**_NAMES)
_ON_THEIR_WAY: Final = SQL(
    """select {columns} from {drafts} where tenant = %s and model = %s and state = 'publishing' order by version"""
).format(**_NAMES)
_SCHEDULED: Final = SQL(
    """select {columns} from {drafts} where tenant = %s and model = %s and state = 'scheduled'
         and effective_from <= %s order by effective_from, id limit 1 for update"""
).format(**_NAMES)
_SCHEDULED_ALREADY: Final = SQL(
    """select {without_text} from {drafts} where tenant = %s and model = %s and state = 'scheduled' and id <> %s
       order by effective_from, id limit 1"""
).format(**_NAMES)

_UP_TO: Final = SQL(
    """select width_bucket((tenant || '/l/' || lead_id) collate "C", %s::text[]), count(*) from {leads}
       where identities > 0 and (%s = {every} or tenant = %s) group by 1"""
).format(leads=Identifier(LIVE, leads.name), every=Literal(EVERY_TENANT))


async def newest(
    connection: Connection, tenants: Sequence[str] | None, model: str | None = None
) -> dict[tuple[str, str], Version]:
    """Of each (tenant, model), or of one model; of all tenants, if none are given. Those on their way, too."""
    asked = {"tenants": None if tenants is None else list(tenants), "model": model}
    found = await _rows(connection, Version, _NEWEST, asked)
    return {(each.tenant, each.model): each for each in found}


async def history(
    connection: Connection, tenants: Sequence[str], model: str, texts_of: Collection[int]
) -> list[Version]:
    """Every publication for these tenants, newest first; those on their way, too. With the texts of these
    versions.
    """
    asked = {"tenants": list(tenants), "model": model, "texts_of": list(texts_of)}
    return await _rows(connection, Version, _HISTORY, asked)


async def drafts(connection: Connection, tenant: str, model: str, before: int | None) -> list[Draft]:
    """The newest that may still be published, of those `before` this number, newest first; without texts."""
    return await _rows(connection, Draft, _OPEN, (tenant, model, before, before))


async def scheduled_or_failed(connection: Connection, tenant: str | None) -> list[Draft]:
    """What is scheduled, and what was and could not be published; of all tenants, if none is given. Without
    texts.
    """
    return await _rows(connection, Draft, _COMING, {"tenant": tenant})


async def draft(
    connection: Connection, tenant: str, model: str, number: int, *, locked: bool = False
) -> Draft | None:
    """The draft of this number in any state; `locked`: nobody else changes it in this transaction."""
    asked = _ONE + SQL(" for update") if locked else _ONE
    found = await _rows(connection, Draft, asked, (tenant, model, number))
    return found[0] if found else None


async def models_to_publish(connection: Connection, now: datetime) -> list[tuple[str, str]]:
    """(tenant, model) of which something is to be published by now, or is still on its way."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_DUE, (now,))
        return [(tenant, model) for tenant, model in await cursor.fetchall()]


async def publishing_drafts(connection: Connection, tenant: str, model: str) -> list[Draft]:
    """Those that the log may not have yet, in the order of their versions."""
    return await _rows(connection, Draft, _ON_THEIR_WAY, (tenant, model))


async def scheduled(connection: Connection, tenant: str, model: str, now: datetime) -> Draft | None:
    """The first whose time has come; nobody else changes it in this transaction."""
    found = await _rows(connection, Draft, _SCHEDULED, (tenant, model, now))
    return found[0] if found else None


async def other_scheduled(connection: Connection, draft: Draft) -> Draft | None:
    """Another draft of its model that is scheduled; without its text."""
    found = await _rows(connection, Draft, _SCHEDULED_ALREADY, (draft.tenant, draft.model, draft.id))
    return found[0] if found else None


async def insert(connection: Connection, **columns: Any) -> Draft:
    """A new row; columns that are not given are null."""
    query = SQL("insert into {drafts} ({names}) values ({values}) returning {columns}").format(
        **_NAMES,
        names=SQL(", ").join(map(Identifier, columns)),
        values=SQL(", ").join(SQL("%s") for _ in columns),
    )
    (made,) = await _rows(connection, Draft, query, tuple(columns.values()))
    return made


async def update(connection: Connection, number: int, states: Sequence[str], **columns: Any) -> Draft | None:
    """The row as it is now; None: it was in none of these states, and is as it was."""
    query = SQL(
        "update {drafts} set ({names}) = row({values}) where id = %s and state = any(%s) returning {columns}"
    ).format(
        **_NAMES,
        names=SQL(", ").join(map(Identifier, columns)),
        values=SQL(", ").join(SQL("%s") for _ in columns),
    )
    found = await _rows(connection, Draft, query, (*columns.values(), number, list(states)))
    return found[0] if found else None


async def lock_model(connection: Connection, tenant: str, model: str) -> None:
    """Held until the connection closes: who publishes a model does so alone. Raises LockNotAvailable."""
    await connection.execute("select set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
    await connection.execute("select pg_advisory_lock(%s)", (key_of(f"author {tenant}/{model}"),))


async def count_leads_up_to(
    connection: Connection, tenant: str, cursors: Sequence[str]
) -> tuple[int, dict[str, int]]:
    """How many leads the tenant (or, for `*`, everybody) has, and how many of them come before each of
    these keys, in one look at them.
    """
    ordered = sorted(set(cursors))
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_UP_TO, (ordered, tenant, tenant))
        counts: dict[int, int] = dict(await cursor.fetchall())
    before = {
        key: sum(counts.get(bucket, 0) for bucket in range(place + 1)) for place, key in enumerate(ordered)
    }
    return sum(counts.values()), before


async def _rows(
    connection: Connection,
    kind: type[T],
    query: Composed,
    parameters: Sequence[Any] | Mapping[str, Any],
) -> list[T]:
    async with connection.cursor(row_factory=class_row(kind)) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchall()

"""SQL of drafts and publications of models.

`public.model_drafts` is not a read model: no rebuild changes it. A draft in the state `publishing` has its text and a
version that no other draft gets before the log has the publication. A process that finds such a draft appends it again,
which changes nothing if the log had it already. Nothing here commits.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg.rows import class_row, tuple_row
from psycopg.sql import SQL, Composed, Identifier, Literal

from projections.public_rows import Draft
from projections.public_tables import model_drafts
from projections.row_keys import hashed_key
from projections.table_definition import LIVE_SCHEMA, PUBLIC_SCHEMA
from projections.tables import leads, publications
from schemas.control import EVERY_TENANT
from schemas.publications import EXPERIMENT_PREFIX

__all__ = ["Draft"]

Connection = psycopg.AsyncConnection[Any]

STATE_DRAFT: Final = "draft"
STATE_SCHEDULED: Final = "scheduled"
"""It is published at `effective_from`."""
STATE_PUBLISHING: Final = "publishing"
"""It has its version; the log may not contain it yet."""
STATE_PUBLISHED: Final = "published"
STATE_DISCARDED: Final = "discarded"

LOCK_TIMEOUT: Final = "20s"
"""How long a publisher waits for another publisher of the same model."""

T = TypeVar("T", bound=tuple[Any, ...])


class PublishedVersion(NamedTuple):
    """One publication of a model; its fields are the columns of `publications`."""

    tenant: str
    model: str
    version: int
    text: str | None
    """None: this publication retired the model. Empty in a history that was read without texts."""
    fire: bool = False
    by: str | None = None
    note: str | None = None
    change: str | None = None
    recorded_at: datetime | None = None
    """None: the log does not have it yet."""
    folding: int = 1
    """How the model compares texts."""


_NAMES: Final = {
    "drafts": Identifier(PUBLIC_SCHEMA, model_drafts.name),
    "publications": Identifier(LIVE_SCHEMA, publications.name),
    "columns": SQL(", ").join(map(Identifier, Draft._fields)),
    "version_columns": SQL(", ").join(map(Identifier, PublishedVersion._fields)),
    "without_text": SQL(", ").join(
        SQL("case when text is not null then '' end as text") if name == "text" else Identifier(name)
        for name in Draft._fields
    ),
}
DRAFTS_AT_ONCE: Final = 50

_VERSIONS: Final = SQL(
    """select {version_columns} from {publications}
       where (%(tenants)s::text[] is null or tenant = any(%(tenants)s))
         and (%(model)s::text is null or model = %(model)s)
         and (%(prefix)s::text is null or starts_with(model, %(prefix)s))
       union all
       select tenant, model, version, text, fire, by, note, change, published_at, coalesce(folding, 1) from {drafts} d
       where (%(tenants)s::text[] is null or tenant = any(%(tenants)s))
         and (%(model)s::text is null or model = %(model)s)
         and (%(prefix)s::text is null or starts_with(model, %(prefix)s)) and state in ('publishing', 'published')
         and not exists (select from {publications} p
                         where (p.tenant, p.model, p.version) = (d.tenant, d.model, d.version))"""
).format(**_NAMES)
NEWEST_VERSIONS: Final = SQL(
    "select distinct on (tenant, model) {version_columns} from ({versions}) v order by tenant, model, version desc"
).format(**_NAMES, versions=_VERSIONS)
_HISTORY: Final = SQL(
    """select tenant, model, version,
              case when version = any(%(texts_of)s::bigint[]) then text when text is not null then '' end as text,
              fire, by, note, change, recorded_at, folding
       from ({versions}) v order by tenant, version desc"""
).format(versions=_VERSIONS)
_OPEN_DRAFTS: Final = SQL(
    """select {without_text} from {drafts} where tenant = %s and model = %s and state in ('draft', 'scheduled')
         and (%s::bigint is null or id < %s) order by id desc limit {most}"""
).format(**_NAMES, most=Literal(DRAFTS_AT_ONCE))
_SCHEDULED_OR_FAILED: Final = SQL(
    """select {without_text} from {drafts} where (%(tenant)s::text is null or tenant = %(tenant)s)
         and (state = 'scheduled' or (state = 'draft' and problem is not null)) order by effective_from, id"""
).format(**_NAMES)
_DRAFT_BY_NUMBER: Final = SQL(
    "select {columns} from {drafts} where tenant = %s and model = %s and id = %s"
).format(**_NAMES)
_MODELS_TO_PUBLISH: Final = SQL(
    """select distinct tenant, model from {drafts}
       where state = 'publishing' or (state = 'scheduled' and effective_from <= %s) order by tenant, model"""
).format(**_NAMES)
_PUBLISHING_DRAFTS: Final = SQL(
    """select {columns} from {drafts} where tenant = %s and model = %s and state = 'publishing' order by version"""
).format(**_NAMES)
_DUE_DRAFT: Final = SQL(
    """select {columns} from {drafts} where tenant = %s and model = %s and state = 'scheduled'
         and effective_from <= %s order by effective_from, id limit 1 for update"""
).format(**_NAMES)
_OTHER_SCHEDULED_DRAFT: Final = SQL(
    """select {without_text} from {drafts} where tenant = %s and model = %s and state = 'scheduled' and id <> %s
       order by effective_from, id limit 1"""
).format(**_NAMES)

_COUNT_LEADS_UP_TO: Final = SQL(
    """select width_bucket((tenant || '/l/' || lead_id) collate "C", %s::text[]), count(*) from {leads}
       where identities > 0 and (%s = {every} or tenant = %s) group by 1"""
).format(leads=Identifier(LIVE_SCHEMA, leads.name), every=Literal(EVERY_TENANT))


async def newest_versions(
    connection: Connection, tenants: Sequence[str] | None, model: str | None = None
) -> dict[tuple[str, str], PublishedVersion]:
    """The newest version by (tenant, model): of one model or of all, of these tenants or of all. Versions that are being
    published are included.
    """
    filters = {"tenants": None if tenants is None else list(tenants), "model": model, "prefix": None}
    versions = await _rows(connection, PublishedVersion, NEWEST_VERSIONS, filters)
    return {(each.tenant, each.model): each for each in versions}


def filters_of_experiments(tenants: Sequence[str] | None) -> dict[str, Any]:
    """The parameters with which NEWEST_VERSIONS selects experiments, of these tenants or of all."""
    return {
        "tenants": None if tenants is None else list(tenants),
        "model": None,
        "prefix": EXPERIMENT_PREFIX,
    }


async def newest_experiments(connection: Connection, tenant: str) -> list[PublishedVersion]:
    """The newest version of each experiment that the tenant has published."""
    return await _rows(connection, PublishedVersion, NEWEST_VERSIONS, filters_of_experiments([tenant]))


async def version_history(
    connection: Connection, tenants: Sequence[str], model: str, texts_of: Collection[int]
) -> list[PublishedVersion]:
    """Every publication for these tenants, newest first. Versions that are being published are included. Only the
    versions in `texts_of` have their texts.
    """
    filters = {"tenants": list(tenants), "model": model, "prefix": None, "texts_of": list(texts_of)}
    return await _rows(connection, PublishedVersion, _HISTORY, filters)


async def open_drafts(connection: Connection, tenant: str, model: str, before: int | None) -> list[Draft]:
    """Drafts that may still be published, with a number below `before`, newest first, and without texts."""
    return await _rows(connection, Draft, _OPEN_DRAFTS, (tenant, model, before, before))


async def scheduled_or_failed(connection: Connection, tenant: str | None) -> list[Draft]:
    """Scheduled drafts, and drafts that could not be published at their time; of one tenant or of all. Without texts."""
    return await _rows(connection, Draft, _SCHEDULED_OR_FAILED, {"tenant": tenant})


async def draft_by_number(
    connection: Connection, tenant: str, model: str, number: int, *, locked: bool = False
) -> Draft | None:
    """The draft of this number in any state. If `locked`, no other transaction can change it until this one ends."""
    query = _DRAFT_BY_NUMBER + SQL(" for update") if locked else _DRAFT_BY_NUMBER
    rows = await _rows(connection, Draft, query, (tenant, model, number))
    return rows[0] if rows else None


async def models_to_publish(connection: Connection, now: datetime) -> list[tuple[str, str]]:
    """(tenant, model) of drafts that must be published by now or are being published."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_MODELS_TO_PUBLISH, (now,))
        return [(tenant, model) for tenant, model in await cursor.fetchall()]


async def publishing_drafts(connection: Connection, tenant: str, model: str) -> list[Draft]:
    """Drafts whose publication the log may not contain yet, in the order of their versions."""
    return await _rows(connection, Draft, _PUBLISHING_DRAFTS, (tenant, model))


async def due_draft(connection: Connection, tenant: str, model: str, now: datetime) -> Draft | None:
    """The first draft whose time has come. No other transaction can change it until this one ends."""
    rows = await _rows(connection, Draft, _DUE_DRAFT, (tenant, model, now))
    return rows[0] if rows else None


async def other_scheduled_draft(connection: Connection, draft: Draft) -> Draft | None:
    """Another scheduled draft of the same model, without its text."""
    rows = await _rows(connection, Draft, _OTHER_SCHEDULED_DRAFT, (draft.tenant, draft.model, draft.id))
    return rows[0] if rows else None


async def insert_draft(connection: Connection, **columns: Any) -> Draft:
    """Adds a draft. Columns that are not named are null."""
    query = SQL("insert into {drafts} ({names}) values ({values}) returning {columns}").format(
        **_NAMES,
        names=SQL(", ").join(map(Identifier, columns)),
        values=SQL(", ").join(SQL("%s") for _ in columns),
    )
    (draft,) = await _rows(connection, Draft, query, tuple(columns.values()))
    return draft


async def update_draft(
    connection: Connection, number: int, states: Sequence[str], **columns: Any
) -> Draft | None:
    """Changes a draft in one of these states, and returns it. None: it is in another state, and nothing changed."""
    query = SQL(
        "update {drafts} set ({names}) = row({values}) where id = %s and state = any(%s) returning {columns}"
    ).format(
        **_NAMES,
        names=SQL(", ").join(map(Identifier, columns)),
        values=SQL(", ").join(SQL("%s") for _ in columns),
    )
    rows = await _rows(connection, Draft, query, (*columns.values(), number, list(states)))
    return rows[0] if rows else None


async def lock_model(connection: Connection, tenant: str, model: str) -> None:
    """Locks the model until the connection closes: one publisher at a time. Raises LockNotAvailable."""
    await connection.execute("select set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
    await connection.execute("select pg_advisory_lock(%s)", (hashed_key(f"author {tenant}/{model}"),))


async def count_leads_before_cursors(
    connection: Connection, tenant: str, cursors: Sequence[str]
) -> tuple[int, dict[str, int]]:
    """The number of leads of the tenant (of every tenant for `*`), and how many of them come before each of these keys.
    One statement reads both.
    """
    ordered = sorted(set(cursors))
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_COUNT_LEADS_UP_TO, (ordered, tenant, tenant))
        counts: dict[int, int] = dict(await cursor.fetchall())
    before = {
        key: sum(counts.get(interval, 0) for interval in range(number + 1))
        for number, key in enumerate(ordered)
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

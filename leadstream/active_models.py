"""The active models and settings, read from the shards' own state in the read models."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import psycopg
from psycopg.rows import tuple_row

from authoring.active_models import (
    ActiveModelsFilter,
    ActiveRules,
    ActiveRulesOf,
    ReadShards,
)
from gateway.ports import ConsentRequiredSince, LogUnavailable, UniqueFieldsOf
from projections.connection import Connection, connect_watched
from projections.table_definition import READ_OPTIONS
from scoring.analytics.settings import AnalyticsSettings
from scoring.attribution.attribution_text import compiled_attribution
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.active import ActiveModels, TenantSettings
from streams.published import PublishedState, compiled_model
from streams.score_leads.stage import ScoreLeads

CACHE_SECONDS = 1.0
"""How old the cached answer of `published_port` may be."""


def active_by_shard(
    database_url: str, *, stage: str | None = None, first_only: bool = False
) -> list[ActiveModels]:
    """The active models of each shard: of every stage, of one `stage`, or of the first shard that scores leads."""
    shards: defaultdict[tuple[str, int], dict[str, bytes]] = defaultdict(dict)
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        for name, partition, part, value in connection.execute(
            """select stage, partition, part, value from shard_state
               where (%s::text is null or stage = %s) and (not %s or (stage = %s and partition = 0))
               order by stage, partition""",
            (stage, stage, first_only, ScoreLeads.name),
        ):
            shards[name, partition][part] = bytes(value)
    return [PublishedState(parts).published for parts in shards.values()]


TEXT_BEGINNING_BYTES = 24
"""The first bytes of a publication. They contain its codec and its version."""

_SELECT_SHARD_PARTS = """
with filtered as (
    select partition, part, value,
           case when part = %(sweep)s or named[1] = 'moments' then value else substr(value, 1, %(beginning)s) end as beginning
    from shard_state, string_to_array(part, ':') as named
    where stage = %(stage)s
      and case named[1]
          when 'model' then (%(tenants)s::text[] is null or named[2] = any(%(tenants)s))
                        and (%(model)s::text is null or named[3] = %(model)s)
          when 'settings' then %(lifecycles)s
          when 'workflows' then %(workflows)s and (%(tenants)s::text[] is null or named[2] = any(%(tenants)s))
          when 'moments' then %(workflows)s and (%(tenants)s::text[] is null or named[2] = any(%(tenants)s))
          else part = %(sweep)s end
)
select partition, part, beginning,
       case when row_number() over (partition by part, beginning order by partition) = 1 then value end
from (select distinct partition from shard_state where stage = %(stage)s) every left join filtered using (partition)
order by partition, part"""


def active_models_of_shards(database_url: str, shard_filter: ActiveModelsFilter) -> list[ActiveModels]:
    """The active models and the sweep of each partition of scoring, in the order of the partitions.

    Each publication is read whole from one partition only. From the others only its beginning is read: it
    contains the version, which shows that the publication is the same.
    """
    parameters = {
        "stage": ScoreLeads.name,
        "tenants": None if shard_filter.tenants is None else list(shard_filter.tenants),
        "model": shard_filter.model,
        "lifecycles": shard_filter.lifecycles,
        "workflows": shard_filter.workflows,
        "sweep": PublishedState.SWEEP,
        "beginning": TEXT_BEGINNING_BYTES,
    }
    wholes: dict[tuple[str, bytes], bytes] = {}
    partitions: defaultdict[int, list[tuple[str, bytes]]] = defaultdict(list)
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        for partition, part, beginning, whole in connection.execute(_SELECT_SHARD_PARTS, parameters):
            parts_of_partition = partitions[partition]
            if part is not None:
                parts_of_partition.append((part, beginning))
            if whole is not None:
                wholes[part, beginning] = whole

    @cache
    def shard(parts: tuple[tuple[str, bytes], ...]) -> ActiveModels:
        return PublishedState({part[0]: wholes[part] for part in parts}).published

    return [shard(tuple(parts)) for parts in partitions.values()]


_SELECT_SETTINGS_PARTS = """
select part, value from shard_state where stage = %s and partition = 0 and starts_with(part, 'settings:')"""


def analytics_settings(connection: Connection) -> dict[str, AnalyticsSettings]:
    """The settings of analytics by tenant, `*` for those without their own. Reads over the caller's connection."""
    return {
        tenant: AnalyticsSettings(settings.time_zone, settings.attribution)
        for tenant, settings in _published_settings(connection).settings.items()
    }


DOOR_SETTINGS_SECONDS = 0.25
"""So long an event waits at most for the settings by which the door decides."""


def door_settings(database_url: str) -> tuple[ConsentRequiredSince, UniqueFieldsOf]:
    """The ports by which the door reads from when on tenants require consent, and which fields are unique. They read the database
    beside the requests, once a second at most, and go on with what they know while the database is unavailable.
    """
    settings = ActiveModels()
    read_at = -CACHE_SECONDS
    reading: asyncio.Task[None] | None = None

    async def read() -> None:
        nonlocal settings, read_at
        try:
            shards = await asyncio.to_thread(_settings_of_shard, database_url)
        except psycopg.Error:
            return  # the folds apply the settings all the same
        finally:
            read_at = time.monotonic()
        settings = shards

    async def settings_of(tenant: str) -> TenantSettings:
        nonlocal reading
        if time.monotonic() - read_at >= CACHE_SECONDS and (reading is None or reading.done()):
            reading = asyncio.create_task(read())
            await asyncio.wait([reading], timeout=DOOR_SETTINGS_SECONDS)
        return settings.settings_of(tenant)

    async def required_since(tenant: str) -> int | None:
        return (await settings_of(tenant)).consent_required_since

    async def unique_fields(tenant: str) -> Sequence[str]:
        return (await settings_of(tenant)).unique_fields

    return required_since, unique_fields


def _settings_of_shard(database_url: str) -> ActiveModels:
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        return _published_settings(connection)


def _published_settings(connection: Connection) -> ActiveModels:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(_SELECT_SETTINGS_PARTS, (ScoreLeads.name,))
        parts = {part: bytes(value) for part, value in cursor}
    return PublishedState(parts).published


def shards_port(database_url: str) -> ReadShards:
    """The port by which the gateway reads the shards."""

    async def shards(shard_filter: ActiveModelsFilter) -> Sequence[ActiveModels]:
        with _unavailable_without_database():
            return await asyncio.to_thread(active_models_of_shards, database_url, shard_filter)

    return shards


@contextmanager
def _unavailable_without_database() -> Iterator[None]:
    """Raises Unavailable if the database does not answer or has no tables yet."""
    try:
        yield
    except psycopg.OperationalError as cause:
        raise LogUnavailable("the database does not answer; events are still accepted") from cause
    except psycopg.errors.UndefinedTable as cause:
        raise LogUnavailable("the tables do not exist yet; events are still accepted") from cause


def published_port(database_url: str) -> ActiveRulesOf:
    """The port by which the gateway reads the active models. It reads the database once a second at most."""
    cached = ActiveModels()
    read_at = -CACHE_SECONDS
    reading = asyncio.Lock()

    async def published(tenant: str) -> ActiveRules:
        nonlocal cached, read_at
        async with reading:
            if time.monotonic() - read_at >= CACHE_SECONDS:
                with _unavailable_without_database():
                    shards = await asyncio.to_thread(active_by_shard, database_url, first_only=True)
                cached = shards[0] if shards else cached
                read_at = time.monotonic()
        settings = cached.settings_of(tenant)
        models = {
            name: compiled_model(active.text, active.folding)
            for name, active in cached.models_of(tenant).items()
        }
        return ActiveRules(
            models,
            settings.zone,
            settings.idle_ms,
            settings.lifecycle or built_in_lifecycle(),
            settings.profile_fields,
            compiled_attribution(settings.attribution),
        )

    return published

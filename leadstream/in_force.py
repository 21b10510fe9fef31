"""What is in force, read from the folds' own state: models and settings as the shards have them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import psycopg

from authoring.active_models import (
    ActiveRules,
    Published,
    ShardFilter,
    Shards,
)
from gateway.ports import Unavailable
from projections.connection import connect
from projections.tables import READ_OPTIONS
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.active import ActiveModels
from streams.published import PublishedState, compiled
from streams.score_leads.stage import ScoreLeads

FRESH_SECONDS = 1.0
"""How old an answer may be."""


def active_by_shard(
    database_url: str, *, stage: str | None = None, first_only: bool = False
) -> list[ActiveModels]:
    """What each shard has in force, of each stage or of one; or only the first that scores leads."""
    shards: defaultdict[tuple[str, int], dict[str, bytes]] = defaultdict(dict)
    with connect(database_url, options=READ_OPTIONS) as connection:
        for name, partition, part, value in connection.execute(
            """select stage, partition, part, value from shard_state
               where (%s::text is null or stage = %s) and (not %s or (stage = %s and partition = 0))
               order by stage, partition""",
            (stage, stage, first_only, ScoreLeads.name),
        ):
            shards[name, partition][part] = bytes(value)
    return [PublishedState(parts).published for parts in shards.values()]


BEGINNING = 24
"""Bytes that have the codec and the version of whatever is published."""

_WANTED = """
with wanted as (
    select partition, part, value, case part when %(sweep)s then value else substr(value, 1, %(beginning)s) end as beginning
    from shard_state, string_to_array(part, ':') as named
    where stage = %(stage)s
      and case named[1]
          when 'model' then (%(tenants)s::text[] is null or named[2] = any(%(tenants)s))
                        and (%(model)s::text is null or named[3] = %(model)s)
          when 'settings' then %(lifecycles)s
          else part = %(sweep)s end
)
select partition, part, beginning,
       case when row_number() over (partition by part, beginning order by partition) = 1 then value end
from (select distinct partition from shard_state where stage = %(stage)s) every left join wanted using (partition)
order by partition, part"""


def shards_of(database_url: str, wanted: ShardFilter) -> list[ActiveModels]:
    """How far each partition of scoring has come, in their order.

    A publication is read whole from one of the partitions that have it: of the others its beginning, which
    has the version, says that it is the same.
    """
    asked = {
        "stage": ScoreLeads.name,
        "tenants": None if wanted.tenants is None else list(wanted.tenants),
        "model": wanted.model,
        "lifecycles": wanted.lifecycles,
        "sweep": PublishedState.SWEEP,
        "beginning": BEGINNING,
    }
    wholes: dict[tuple[str, bytes], bytes] = {}
    partitions: defaultdict[int, list[tuple[str, bytes]]] = defaultdict(list)
    with connect(database_url, options=READ_OPTIONS) as connection:
        for partition, part, beginning, whole in connection.execute(_WANTED, asked):
            held = partitions[partition]
            if part is not None:
                held.append((part, beginning))
            if whole is not None:
                wholes[part, beginning] = whole

    @cache
    def shard(parts: tuple[tuple[str, bytes], ...]) -> ActiveModels:
        return PublishedState({part[0]: wholes[part] for part in parts}).published

    return [shard(tuple(parts)) for parts in partitions.values()]


def shards_port(database_url: str) -> Shards:
    """For the gateway."""

    async def shards(wanted: ShardFilter) -> Sequence[ActiveModels]:
        with _answering():
            return await asyncio.to_thread(shards_of, database_url, wanted)

    return shards


@contextmanager
def _answering() -> Iterator[None]:
    """Raises Unavailable where the database does not answer."""
    try:
        yield
    except psycopg.OperationalError as cause:
        raise Unavailable("the database does not answer; events are still taken") from cause
    except psycopg.errors.UndefinedTable as cause:
        raise Unavailable("the tables are not made yet; events are still taken") from cause


def published_port(database_url: str) -> Published:
    """For the gateway, asked once a second at most."""
    held = ActiveModels()
    read_at = -FRESH_SECONDS
    reading = asyncio.Lock()

    async def published(tenant: str) -> ActiveRules:
        nonlocal held, read_at
        async with reading:
            if time.monotonic() - read_at >= FRESH_SECONDS:
                with _answering():
                    found = await asyncio.to_thread(active_by_shard, database_url, first_only=True)
                held = found[0] if found else held
                read_at = time.monotonic()
        settings = held.settings_of(tenant)
        models = {name: compiled(active.text) for name, active in held.models_of(tenant).items()}
        return ActiveRules(
            models, settings.zone, settings.idle_ms, settings.lifecycle or built_in_lifecycle()
        )

    return published

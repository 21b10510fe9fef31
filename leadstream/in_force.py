"""What is in force, read from the folds' own state: models and settings as the shards have them."""

import asyncio
import time
from collections import defaultdict

import psycopg

from gateway.ports import Unavailable
from gateway.published import InForce, Published
from projections.tables import READ_OPTIONS
from streams.published import Published as HeldByShard
from streams.published import PublishedState, compiled
from streams.score_leads import ScoreLeads

FRESH_SECONDS = 1.0
"""How old an answer may be."""


def held_by_shards(database_url: str, *, first_only: bool = False) -> list[HeldByShard]:
    """What each shard of each stage has in force; or only the first that scores leads."""
    shards: defaultdict[tuple[str, int], dict[str, bytes]] = defaultdict(dict)
    with psycopg.connect(database_url, connect_timeout=5, options=READ_OPTIONS) as connection:
        for stage, partition, part, value in connection.execute(
            """select stage, partition, part, value from shard_state
               where not %s or (stage = %s and partition = 0)""",
            (first_only, ScoreLeads.name),
        ):
            shards[stage, partition][part] = bytes(value)
    return [PublishedState(parts).published for parts in shards.values()]


def published_port(database_url: str) -> Published:
    """For the gateway, asked once a second at most."""
    held = HeldByShard()
    read_at = -FRESH_SECONDS
    reading = asyncio.Lock()

    async def published(tenant: str) -> InForce:
        nonlocal held, read_at
        async with reading:
            if time.monotonic() - read_at >= FRESH_SECONDS:
                try:
                    found = await asyncio.to_thread(held_by_shards, database_url, first_only=True)
                except psycopg.OperationalError as cause:
                    raise Unavailable("the database does not answer; events are still taken") from cause
                except psycopg.errors.UndefinedTable as cause:
                    raise Unavailable("the tables are not made yet; events are still taken") from cause
                held = found[0] if found else held
                read_at = time.monotonic()
        settings = held.settings_of(tenant)
        models = {name: compiled(active.text) for name, active in held.models_of(tenant).items()}
        return InForce(models, settings.zone, settings.idle_ms)

    return published

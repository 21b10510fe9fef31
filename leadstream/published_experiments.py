"""The port by which the gateway reads which experiments are active, without a database on the way of a request."""

import asyncio
import time
from collections.abc import Mapping
from itertools import groupby

import psycopg
from psycopg.rows import class_row

from authoring.experiment_texts import ExperimentsOf, ExperimentVersion, active_experiments
from gateway.ports import LogUnavailable
from projections.authoring import NEWEST_VERSIONS, PublishedVersion, filters_of_experiments
from projections.connection import connect_watched
from projections.table_definition import READ_OPTIONS

CACHE_SECONDS = 1.0
"""How old the experiments may be while the database answers."""
FIRST_READ_SECONDS = 5.0
REFRESH_SECONDS = 0.25
"""So long a request waits at most for newer experiments than those that are known."""

PublishedByTenant = Mapping[str, list[PublishedVersion]]


def read_published_experiments(database_url: str, tenant: str | None = None) -> PublishedByTenant:
    """The newest version of each published experiment, by tenant: of one, or of all."""
    filters = filters_of_experiments(None if tenant is None else [tenant])
    with (
        connect_watched(database_url, options=READ_OPTIONS) as connection,
        connection.cursor(row_factory=class_row(PublishedVersion)) as cursor,
    ):
        versions = cursor.execute(NEWEST_VERSIONS, filters).fetchall()
    return {owner: list(each) for owner, each in groupby(versions, lambda version: version.tenant)}


def experiments_port(database_url: str, initial: Mapping[str, str]) -> ExperimentsOf:
    """Reads the database once a second at most, and goes on with what it knows while that is unavailable. Before the first
    reading nobody can be assigned: a published text may differ from the initial one.
    """
    published: PublishedByTenant | None = None
    read_at = -CACHE_SECONDS
    reading: asyncio.Task[None] | None = None

    async def read() -> None:
        nonlocal published, read_at
        try:
            published = await asyncio.to_thread(read_published_experiments, database_url)
        except psycopg.Error:
            return
        finally:
            read_at = time.monotonic()

    async def experiments_of(tenant: str) -> Mapping[str, ExperimentVersion]:
        nonlocal reading
        if time.monotonic() - read_at >= CACHE_SECONDS:
            if reading is None or reading.done():
                reading = asyncio.create_task(read())
            await asyncio.wait(
                [reading], timeout=FIRST_READ_SECONDS if published is None else REFRESH_SECONDS
            )
        if published is None:
            raise LogUnavailable("the published experiments are not known yet: the database does not answer")
        return active_experiments(initial, published.get(tenant, []))

    return experiments_of

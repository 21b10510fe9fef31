"""Stores that earlier versions wrote: this one reads them, goes on with them, and counts nothing twice."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from leadstream.operations.kafka_projection import rebuild_from_kafka
from projections.migrate import migrate
from projections.rebuild import rebuild
from schemas.record import Outgoing
from schemas.topics import EVENTS, partition_of
from tests.written.known_history import (
    APART,
    COUNTED,
    ENGAGEMENT,
    LONG_AFTER,
    PAGES,
    PARTITIONS,
    RECENT,
    UNREADABLE,
    WRITTEN_AT,
    more,
)
from tests.written.stores import (
    FILES,
    Partition,
    append_and_settle,
    embedded_driver,
    embedded_file,
    kafka_file,
    load_embedded,
    load_kafka,
    producing,
    read_all,
    read_file,
    working,
)

sys.path += [str(Path(__file__).parents[1] / name) for name in ("kafka", "projections")]
from projected_topics import await_all, projecting
from projection_records import contents


def _of_every_version(db):
    """Rows of all tables but some. Of three an older version kept less, and a rebuild finds all: former owners, what changed a
    lead's state, and former settings. Of the search it is the other way: records of an older version do not say a lead's
    latest event, which the migration took from the tables.
    """
    return {
        table: rows
        for table, rows in contents(db).items()
        if table not in {"identity_history", "lead_records", "lead_search", "settings_history"}
    }


pytestmark = pytest.mark.postgres
VERSIONS = ["0.1"]
"""Each with what it wrote; a release that changes a format adds its own."""
LARGEST_BYTES = 200_000


def temperatures(db: psycopg.Connection[Any]) -> dict[str, int]:
    rows = db.execute(
        """select lead_id, rounded from live.lead_scores join live.leads using (lead_key)
           where model = 'temperature' and identities > 0 and redirect is null"""
    ).fetchall()
    db.rollback()
    return dict(rows)


def recent(engagement: dict[str, int]) -> dict[str, int]:
    return {lead: points + RECENT for lead, points in engagement.items()}


def assert_history_is_there(db: psycopg.Connection[Any]) -> None:
    assert temperatures(db) == recent(ENGAGEMENT)
    (facts,) = db.execute("select count(*) from live.engagement_history").fetchone()
    assert facts == COUNTED
    (pages,) = db.execute("select sum(pages) from live.sessions where not retracted").fetchone()
    assert pages == PAGES
    letters = db.execute("select topic, original from live.dead_letters").fetchall()
    assert letters == [(EVENTS, UNREADABLE)]
    owners = dict(db.execute("select identity, lead_id from live.identities").fetchall())
    assert owners["default/l/cyd#0"] == "bob"
    assert owners["default/v/va#0"] == "ada"
    assert set(owners.values()) == {"ada", "bob"}
    db.rollback()


def assert_more_is_there(db: psycopg.Connection[Any]) -> None:
    """The repetition counts nothing, the fourth scan three points, and cyd is apart again."""
    assert temperatures(db) == recent({**APART, "ada": APART["ada"] + 3})
    (facts,) = db.execute("select count(*) from live.engagement_history").fetchone()
    assert facts == COUNTED + 2
    db.rollback()


@pytest.fixture(params=VERSIONS)
def embedded(request: pytest.FixtureRequest, database_url: str) -> str:
    load_embedded(embedded_file(request.param), database_url)
    migrate(database_url)
    return database_url


def test_an_embedded_store_is_read_rebuilt_and_gone_on_with(embedded: str):
    driver = embedded_driver(embedded, WRITTEN_AT)
    driver.start()
    try:
        append_and_settle(driver, embedded, [])
        with psycopg.connect(embedded) as db:
            assert_history_is_there(db)
            before = _of_every_version(db)
            rebuild(embedded)
            assert _of_every_version(db) == before
            append_and_settle(driver, embedded, more())
            assert_more_is_there(db)
    finally:
        driver.stop()


def test_the_timers_of_an_embedded_store_come_due(embedded: str):
    """Nothing is recent any more: what is left are points for what they did."""
    driver = embedded_driver(embedded, LONG_AFTER)
    driver.start()
    try:
        with psycopg.connect(embedded) as db:
            for _ in range(600):
                if temperatures(db) == ENGAGEMENT:
                    break
                time.sleep(0.1)
            assert temperatures(db) == ENGAGEMENT
    finally:
        driver.stop()


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_topics_and_changelogs_are_read_and_gone_on_with(cluster, database_url: str, version: str):
    """The worker goes on at the positions in the changelogs: it folds nothing of the history again."""
    written = read_file(kafka_file(version))

    async def bring_back() -> None:
        await load_kafka(written, cluster)
        assert places(await read_all(cluster)) == places(written)
        async with working(cluster):
            pass
        assert said(await read_all(cluster)) == said(written), "nothing is folded again"

    asyncio.run(bring_back())
    with projecting(cluster, lambda: database_url) as projection, psycopg.connect(database_url) as db:
        await_all(cluster, database_url, projection)
        assert_history_is_there(db)
        before = _of_every_version(db)
        rebuild_from_kafka(cluster, database_url)
        assert _of_every_version(db) == before
        asyncio.run(tell(cluster, more()))
        await_all(cluster, database_url, projection)
        assert_more_is_there(db)
        projection.stop()


def places(partitions: list[Partition]) -> list[tuple[str, int, list[int], int]]:
    return [(p.topic, p.partition, [record.offset for record in p.records], p.end) for p in partitions]


def said(partitions: list[Partition]) -> list[list[bytes | None]]:
    """What the folds have written, but for what a changelog says of itself."""
    return [[r.value for r in p.records] for p in partitions if "changelog" not in p.topic]


async def tell(cluster: Any, records: list[Outgoing]) -> None:
    async with working(cluster), producing(cluster) as producer:
        for topic, key, value, _ in records:
            place = partition_of(key, PARTITIONS)
            await producer.send_and_wait(cluster.topic(topic), value, key=key.encode(), partition=place)


def test_the_files_are_few_and_small():
    files = sorted(FILES.iterdir())
    stores = [file(version) for version in VERSIONS for file in (embedded_file, kafka_file)]
    assert files == sorted([*stores, FILES / "0.1-older-door.sql.xz"])  # of tests/leadstream/test_restate.py
    assert sum(file.stat().st_size for file in files) <= LARGEST_BYTES

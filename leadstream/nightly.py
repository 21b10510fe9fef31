"""Recalculates every lead, every night, beside a gateway; with any number of gateways each page of leads is compared once.

While the database is unavailable, it waits.
"""

import asyncio
from datetime import UTC, datetime
from threading import Event

import msgspec
import psycopg
import structlog

from gateway.metrics import RECALCULATION_DIFFERENCES
from leadstream.operations.recalculation import recalculate_what_is_due
from scoring.features.features import NewerCodec

LOOK_SECONDS = 60.0
"""Between two looks at the clock."""

_log = structlog.get_logger(__name__)


async def keep_recalculating(database_url: str, *, seconds: float = LOOK_SECONDS) -> None:
    """Never returns. When it is cancelled, its thread ends after the page that it works on."""
    stopped = Event()
    try:
        await _recalculate_again_and_again(database_url, seconds, stopped)
    finally:
        stopped.set()


async def _recalculate_again_and_again(database_url: str, seconds: float, stopped: Event) -> None:
    since = datetime.now(UTC)
    while True:
        await asyncio.sleep(seconds)
        try:
            now = datetime.now(UTC)
            differing = await asyncio.to_thread(
                recalculate_what_is_due, database_url, now, since, stopped.is_set
            )
        except psycopg.Error as cause:
            _log.warning("the nightly recalculation waits", cause=str(cause))
            continue
        except (NewerCodec, msgspec.DecodeError) as cause:  # a check must not end the gateway
            _log.error("the nightly recalculation cannot read what is stored", cause=str(cause))
            continue
        RECALCULATION_DIFFERENCES.set(differing)
        if differing:
            _log.warning("recalculated scores differ from those stored", leads=differing)

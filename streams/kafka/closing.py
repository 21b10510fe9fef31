"""Closes clients of Kafka in bounded time: some wait for an unavailable broker even when they close."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from aiokafka.errors import KafkaError

CLOSING_SECONDS = 3.0


async def close_in_time(closing: Awaitable[None], seconds: float = CLOSING_SECONDS) -> None:
    """Returns when it is closed, or after so many seconds. `asyncio.wait_for` would wait for what it has cancelled."""
    task = asyncio.ensure_future(closing)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if task.done() and not task.cancelled():
        with suppress(KafkaError):
            task.result()

"""Clients of Kafka are closed in bounded time, whatever they do meanwhile."""

import asyncio
import time

import pytest
from aiokafka.errors import KafkaConnectionError

from streams.kafka.closing import close_in_time


async def _deaf(ended: asyncio.Event) -> None:
    """Goes on when it is cancelled, as a client does whose answer comes in that moment."""
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError:
            continue


def test_a_client_that_never_ends_is_left_after_the_time():
    async def run() -> float:
        ended = asyncio.Event()
        began = time.monotonic()
        await close_in_time(_deaf(ended), 0.05)
        took = time.monotonic() - began
        ended.set()
        return took

    assert asyncio.run(run()) < 5


def test_an_error_of_kafka_is_no_matter_and_any_other_is_raised():
    async def failing(error: Exception) -> None:
        raise error

    asyncio.run(close_in_time(failing(KafkaConnectionError())))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(close_in_time(failing(ZeroDivisionError())))


def test_who_is_cancelled_while_a_client_closes_is_cancelled():
    async def run() -> None:
        closing = asyncio.create_task(close_in_time(asyncio.sleep(600), 600))
        await asyncio.sleep(0)
        closing.cancel()
        await closing

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())

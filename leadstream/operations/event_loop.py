"""An event loop in a thread of its own, for commands that are not asynchronous and clients that are."""

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class BlockingLoop:
    """Runs coroutines one at a time while their callers wait, and background tasks in between."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[T]) -> T:
        """The result of the awaitable, or the error that it raised. An interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(_await_result(awaitable), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _await_result(awaitable: Awaitable[T]) -> T:
    return await awaitable


@contextmanager
def event_loop() -> Iterator[BlockingLoop]:
    loop = BlockingLoop()
    try:
        yield loop
    finally:
        loop.close()

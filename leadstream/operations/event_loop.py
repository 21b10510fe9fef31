"""An event loop in a thread of its own, for commands that are not asynchronous and clients that are."""

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Loop:
    """Runs what it is given, one after the other as its callers wait, and what that leaves behind between."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop", daemon=True)
        self._thread.start()

    def run(self, todo: Awaitable[T]) -> T:
        """Its result, or what it raised. Interrupted, it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(_awaited(todo), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _awaited(todo: Awaitable[T]) -> T:
    return await todo


@contextmanager
def event_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()

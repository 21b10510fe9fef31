"""Long work in short steps: on the event loop, where between two of them other requests have their turn, and a server
that has to stop stops; or, where one step may be long, on a thread and for a bounded time.
"""

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

SLICE_SECONDS = 0.004
"""How long others wait at most, if no step is longer."""

T = TypeVar("T")
PacedSteps = Generator[None, None, T]
"""Yields between any two steps, each of which is short whatever a stranger has sent; returns the result."""


class TooLong(Exception):
    """The work took more than its time."""


async def run_paced(steps: PacedSteps[T]) -> T:
    """The result of the steps."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()


async def run_on_thread(steps: PacedSteps[T], most_seconds: float) -> T:
    """The result of the steps. Raises TooLong between two of them."""
    return await asyncio.to_thread(_run_within, steps, most_seconds)


def _run_within(steps: PacedSteps[T], most_seconds: float) -> T:
    until = time.perf_counter() + most_seconds
    while time.perf_counter() < until:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
    steps.close()
    raise TooLong

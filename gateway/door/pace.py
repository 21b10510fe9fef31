"""Long work on the event loop, in short steps: between two of them other requests have their turn, and a
server that has to stop stops.
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

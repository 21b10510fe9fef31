"""Being told to stop, by SIGTERM or SIGINT, from the first line of ours on. Imports nothing that takes time.

A process that runs until it is told to stop exits 0 then, whatever it is at: before it has begun anything,
at once (`end_at_once`); later by a KeyboardInterrupt that its context managers see (`interrupt`). What its parent
has it ignore stays ignored.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

UNTIL_TOLD = {"serve", "demo", "worker", "project", "gateway"}
"""Commands that end only so."""

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def end_at_once() -> None:
    """From now on; for as long as there is nothing to put in order."""
    _handle(lambda _number, _frame: os._exit(0))


def interrupt() -> None:
    """From now on a KeyboardInterrupt is raised."""
    _handle(signal.default_int_handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What begins in it ends; the KeyboardInterrupt of a signal comes after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    _handle(lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)

"""SIGTERM and SIGINT, handled from the first line of the program on. Imports nothing that takes time.

A process that runs until it is stopped exits 0 on either signal. Before it has begun anything it exits at once
(`exit_on_signal`); later a KeyboardInterrupt closes its context managers (`interrupt_on_signal`). Signals that its parent
process ignores stay ignored.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

COMMANDS_UNTIL_STOPPED = {"serve", "demo", "worker", "project", "gateway", "delivery", "telegram"}
"""Commands that run until a signal stops them."""

_SIGNAL_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signal() -> None:
    """Exit on a signal from now on, while there is nothing to close."""
    _set_handler(lambda _number, _frame: os._exit(0))


def interrupt_on_signal() -> None:
    """Raise KeyboardInterrupt on a signal from now on."""
    _set_handler(signal.default_int_handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """The block runs to its end; a signal that came meanwhile takes effect after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNAL_NUMBERS}
    _set_handler(lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _set_handler(handler: Callable[[int, FrameType | None], object]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNAL_NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)

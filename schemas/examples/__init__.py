"""The golden corpus: messages as they really look, one per line, and bytes that must be refused.

Every event type and every statement has at least one. Tests of all parts drive them through; a new
type without an example fails.
"""

from importlib.resources import files

import msgspec
from msgspec import Struct


class RefusedExample(Struct, frozen=True):
    """Bytes that `read_event` refuses, why, and the field that it must name."""

    why: str
    field: str | None
    raw: str


def events() -> list[bytes]:
    """What producers send, in the order in which it happened."""
    return _lines("events.jsonl")


def control() -> list[bytes]:
    """What else travels on `events`."""
    return _lines("control.jsonl")


def statements() -> list[bytes]:
    return _lines("statements.jsonl")


def refused() -> list[RefusedExample]:
    return [msgspec.json.decode(line, type=RefusedExample) for line in _lines("refused.jsonl")]


def _lines(name: str) -> list[bytes]:
    return files(__name__).joinpath(name).read_bytes().splitlines()

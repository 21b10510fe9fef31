"""Log lines go to standard error: readable on a terminal, JSON elsewhere, persons masked.

Texts of others cannot control the terminal: JSON escapes what is not ASCII, a terminal gets it removed.
What a library repeats many times a second while a broker is away, or for a stranger who sends nonsense, is
logged once in a while. The contents of events are never logged.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from gateway.masking import mask_personal
from leadstream.console import inline, printable, printable_json

_REPETITIVE = ("aiokafka", "asyncio", "faust", "mode", "uvicorn")
_WHILE_SECONDS = 30.0
_OF_SEVERAL_LINES = {"event", "exception", "stack"}


def _once_in_a_while(clock: Callable[[], float]) -> Callable[[logging.LogRecord], bool]:
    last_logged: dict[tuple[str, str], float] = {}

    def passes(record: logging.LogRecord) -> bool:
        if not record.name.startswith(_REPETITIVE):
            return True
        kind, now = (record.name, str(record.msg)), clock()
        if now - last_logged.get(kind, -_WHILE_SECONDS) < _WHILE_SECONDS:
            return False
        last_logged[kind] = now
        return True

    return passes


def _printable_fields(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """What is no text, the console renders by `repr`, which escapes."""
    return {
        name: (printable(value) if name in _OF_SEVERAL_LINES else inline(value))
        if isinstance(value, str)
        else value
        for name, value in fields.items()
    }


def _json(fields: object, **options: Any) -> str:
    return printable_json(json.dumps(fields, **options).encode()).decode()


def log_from(level: str) -> None:
    """From this level on, for our own loggers and for those of the libraries."""
    terminal = sys.stderr.isatty()
    rendering: list[Any] = (
        [_printable_fields, structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.JSONRenderer(_json)]
    )
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_personal,
    ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    handler.addFilter(_once_in_a_while(time.monotonic))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    severity = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("aiokafka").setLevel(max(severity, logging.INFO))  # below, it logs what records hold
    if level == "info":
        for talkative in ("alembic", *_REPETITIVE):
            logging.getLogger(talkative).setLevel("WARNING")

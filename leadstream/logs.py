"""What the program logs goes to standard error: readable on a terminal, JSON elsewhere, persons masked.

What a library repeats many times a second while a broker is away, or for a stranger who sends nonsense, is
told once in a while. What events hold is never logged.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

from gateway.masking import mask_personal

_REPETITIVE = ("aiokafka", "asyncio", "faust", "mode", "uvicorn")
_WHILE_SECONDS = 30.0


def _once_in_a_while(clock: Callable[[], float]) -> Callable[[logging.LogRecord], bool]:
    told: dict[tuple[str, str], float] = {}

    def passes(record: logging.LogRecord) -> bool:
        if not record.name.startswith(_REPETITIVE):
            return True
        kind, now = (record.name, str(record.msg)), clock()
        if now - told.get(kind, -_WHILE_SECONDS) < _WHILE_SECONDS:
            return False
        told[kind] = now
        return True

    return passes


def log_from(level: str) -> None:
    """From this level on, for our own loggers and for those of the libraries."""
    terminal = sys.stderr.isatty()
    render: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_personal,
    ]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    handler.addFilter(_once_in_a_while(time.monotonic))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    severity = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("aiokafka").setLevel(max(severity, logging.INFO))  # below, it logs what records hold
    if level == "info":
        for talkative in ("alembic", *_REPETITIVE):
            logging.getLogger(talkative).setLevel("WARNING")

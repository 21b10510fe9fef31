"""Log lines go to standard error: readable on a terminal, JSON elsewhere, with personal data masked.

Foreign texts cannot control the terminal: JSON escapes all but ASCII, and terminal output drops control
characters. Libraries repeat some messages many times a second, for example while a broker is unavailable or a
client sends garbage: each of these is logged at most every 30 seconds. Contents of events are never logged.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from gateway.masking import mask_personal
from leadstream.console import one_line, printable_json, printable_text

_REPETITIVE = ("aiokafka", "asyncio", "faust", "mode", "uvicorn")
_REPEAT_SECONDS = 30.0
_MULTILINE_FIELDS = {"event", "exception", "stack"}


def _repetition_filter(clock: Callable[[], float]) -> Callable[[logging.LogRecord], bool]:
    last_logged: dict[tuple[str, str], float] = {}

    def should_log(record: logging.LogRecord) -> bool:
        if not record.name.startswith(_REPETITIVE):
            return True
        kind, now = (record.name, str(record.msg)), clock()
        if now - last_logged.get(kind, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        last_logged[kind] = now
        return True

    return should_log


def _printable_fields(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Cleans text fields; the console renders all others by `repr`, which escapes."""
    return {
        name: (printable_text(value) if name in _MULTILINE_FIELDS else one_line(value))
        if isinstance(value, str)
        else value
        for name, value in fields.items()
    }


def _json(fields: object, **options: Any) -> str:
    return printable_json(json.dumps(fields, **options).encode()).decode()


def configure_logs(level: str) -> None:
    """Logs from this level on, for our own loggers and for those of the libraries."""
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
    handler.addFilter(_repetition_filter(time.monotonic))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    severity = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("aiokafka").setLevel(
        max(severity, logging.INFO)
    )  # at DEBUG, it logs the contents of records
    if level == "info":
        for logger_name in ("alembic", *_REPETITIVE):
            logging.getLogger(logger_name).setLevel("WARNING")

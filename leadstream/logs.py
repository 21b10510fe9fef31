"""What the program logs goes to standard error: readable on a terminal, JSON elsewhere, persons masked."""

import logging
import sys
from typing import Any

import structlog

from gateway.masking import mask_personal


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
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level == "info":
        for talkative in ("uvicorn.error", "alembic"):
            logging.getLogger(talkative).setLevel("WARNING")

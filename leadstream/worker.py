"""The worker for Faust's own command line: `faust -A leadstream.worker worker|agents|tables`.

Settings come from the environment. The first read of `app` creates the app, so the import of this module
neither reads settings nor needs Kafka.
"""

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

from leadstream.signals import exit_on_signal

if "faust.cli.faust" in sys.modules:  # Faust's command line imports this module
    exit_on_signal()

import uvloop
from aiokafka.errors import ProducerFenced

from leadstream.clock import now_ms
from leadstream.console import Failure, print_error
from leadstream.logs import configure_logs
from leadstream.settings import Settings, read_settings
from leadstream.stages import STAGES
from streams.kafka.failures import OnFailure, explain_failure
from streams.kafka.faust_host import LeadstreamApp
from streams.kafka.journal import Journal

if TYPE_CHECKING:
    app: LeadstreamApp


def worker_app(settings: Settings) -> LeadstreamApp:
    """The worker for these settings, not yet started."""

    def logs(level: str) -> None:
        """Maps Faust's level to ours; WARN, its default, means the level of the settings."""
        configure_logs({"warn": settings.log_level, "crit": "critical"}.get(level, level))

    return LeadstreamApp(
        settings.cluster,
        [stage() for stage in STAGES],
        buckets=settings.buckets,
        worker_id=settings.worker_id,
        port=settings.worker_port,
        host=settings.worker_host,
        data_dir=settings.data_dir / "worker",
        now=now_ms,
        logs=logs,
    )


def with_journal(settings: Settings, fail: OnFailure) -> OnFailure:
    """`fail`, with a journal of the worker's start and of how it ended, for the processes that run after it."""
    name = settings.worker_id or f"{socket.gethostname()}:{settings.worker_port}"
    journal = Journal(settings.cluster, "worker", name)
    journal.started()

    def failed(error: BaseException) -> None:
        fenced = isinstance(error, ProducerFenced)
        journal.ended("fenced" if fenced else "ended", explain_failure(error) or repr(error))
        fail(error)

    return failed


def __getattr__(name: str) -> Any:
    """`app`, for Faust's command line."""
    if name != "app":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    try:
        settings = read_settings()
    except Failure as failure:
        print_error(str(failure))
        raise SystemExit(failure.code) from None
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    globals()["app"] = worker_app(settings)
    return globals()["app"]

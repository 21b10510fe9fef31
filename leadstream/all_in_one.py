"""`serve --kafka`: gateway, worker and projection in one process, the last two on threads of their own.

When one of them fails, the whole process ends with exit code 3, so that a supervisor starts it again. Nothing
is stored in part, and uncommitted work is done again. On a signal, all of them stop at once.
"""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from leadstream.console import WaitFor
from leadstream.delivering import DeliveryThread
from leadstream.settings import Settings
from leadstream.wiring import database_errors_explained, database_server, refuse_database_with_log
from leadstream.wiring_kafka import (
    PartFailed,
    ProjectionThread,
    kafka_append,
    kafka_errors_explained,
    make_topics,
)
from leadstream.worker import with_journal, worker_app
from streams.kafka.cluster import KafkaUnavailable
from streams.kafka.failures import explain_failure
from streams.kafka.worker_thread import WorkerThread

BROKER_SECONDS = 60.0
"""How long a start waits for a broker that does not answer yet."""
_RETRY_SECONDS = 1.0
STOPPING_SECONDS = 8.0
"""How long the worker, the projection and the delivery together may take to stop, of the ten seconds that a supervisor allows."""

_log = structlog.get_logger(__name__)


class KafkaSystem:
    """Everything but the gateway."""

    def __init__(self, settings: Settings, database: Callable[[], str]) -> None:
        self.database_url = database()
        settings = with_worker_id(settings)
        self._app = worker_app(settings)
        self._app.on_failure = with_journal(settings, lambda _: None)
        self._worker = WorkerThread(self._app)
        self._projection = ProjectionThread(settings, database)
        self._delivery = DeliveryThread(settings, self.database_url, kafka_append(settings))
        self._deadline: float | None = None

    def start(self) -> None:
        self._projection.start()
        self._worker.start()
        self._delivery.start()

    def missing(self) -> list[str]:
        """Why parts of this process are not ready."""
        return [reason for reason in (self._unready(), self._projection.reason) if reason]

    def _unready(self) -> str | None:
        with suppress(RuntimeError):  # the worker's thread changed the assignment during the count
            return self._app.unready()
        return "partitions are being assigned"

    def raise_if_broken(self) -> None:
        """Raises Broken, or Failure for what the user can fix."""
        if (failed := self._worker.failed) is not None:
            if (reason := explain_failure(failed)) is None:
                _log.critical("the worker has failed", exc_info=failed)
            raise PartFailed(reason or f"The worker has failed: {failed!r}.") from failed
        self._projection.raise_if_failed()

    def begin_stopping(self) -> None:
        """Starts stopping at once, while the gateway still lets requests end."""
        if self._deadline is None:
            self._deadline = time.monotonic() + STOPPING_SECONDS
            self._projection.begin_stopping()
            self._delivery.begin_stopping()
            threading.Thread(target=self._worker.stop, args=(STOPPING_SECONDS,), daemon=True).start()

    def stop(self) -> None:
        """Waits until the deadline. A part that has not stopped by then ends with the process; no data is lost."""
        self.begin_stopping()
        self._worker.stop(self._left())
        self._projection.stop(self._left())
        self._delivery.stop(self._left())

    def _left(self) -> float:
        return max(0.1, (self._deadline or 0.0) - time.monotonic())


def _make_topics(settings: Settings, wait_for: WaitFor) -> None:
    """Makes the topics once a broker answers. Raises KafkaUnavailable if none does for BROKER_SECONDS."""
    brokers, deadline = settings.cluster.brokers, time.monotonic() + BROKER_SECONDS
    wait_for(f"connecting to Kafka at {brokers}")
    while True:
        try:
            asyncio.run(make_topics(settings, creating=lambda: wait_for("creating the topics in Kafka")))
        except KafkaUnavailable:
            if time.monotonic() >= deadline:
                raise
            wait_for(
                f"no Kafka broker answers at {brokers} yet; `make kafka` starts one on this machine, and "
                "LEADSTREAM_KAFKA names another"
            )
            time.sleep(_RETRY_SECONDS)
        else:
            return


def with_worker_id(settings: Settings) -> Settings:
    """The settings with a worker id, so that a restart continues at once. Machine and port make the id: only one
    server can use a port at a time.
    """
    if settings.worker_id is not None:
        return settings
    machine = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:80]
    return settings.model_copy(update={"worker_id": f"{machine}-{settings.port}"})


@contextmanager
def open_kafka_system(settings: Settings, wait_for: WaitFor = lambda _: None) -> Iterator[KafkaSystem]:
    """Raises Failure for what the user can fix."""
    wait_for("starting the database of the read models")
    with database_server(settings) as database:
        with database_errors_explained(settings):
            refuse_database_with_log(database())
        with kafka_errors_explained():
            _make_topics(settings, wait_for)
        wait_for("starting the worker")
        system = KafkaSystem(settings, database)
        try:
            system.start()
            yield system
        finally:
            system.stop()

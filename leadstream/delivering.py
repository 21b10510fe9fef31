"""Runs a delivery worker on a thread: beside the log and the gateway, or as the only part of a process.

The worker has an event loop of its own, so a receiver that is slow delays no request.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import structlog

from delivery.crm.crm_worker import CrmPorts, CrmWorker
from delivery.enrichment.enrichment_worker import EnrichmentPorts, EnrichmentWorker
from delivery.worker import STOPPING_SECONDS, DeliveryPorts, DeliveryWorker
from gateway.ports import AppendRecords
from leadstream.active_models import analytics_settings
from leadstream.clock import utc_now
from leadstream.contacts import lead_finder
from leadstream.delivery_configuration import delivery_configuration
from leadstream.settings import Settings
from leadstream.wiring import System, append_port_of_driver
from projections.connection import Connection

OpenAppend = Callable[[], AbstractAsyncContextManager[AppendRecords]]
"""Opens the port to the log, on the event loop of the worker."""

_log = structlog.get_logger(__name__)


def time_zones(connection: Connection) -> Mapping[str, str]:
    """The time zone of each tenant that has its own, and of `*`, every other one."""
    return {tenant: settings.time_zone for tenant, settings in analytics_settings(connection).items()}


class DeliveryThread:
    """A worker on a thread. Raises SettingError for a configuration that cannot be used."""

    def __init__(self, settings: Settings, database_url: str, open_append: OpenAppend) -> None:
        self._settings = settings
        self._configuration = delivery_configuration(settings)
        self._database_url = database_url
        self._open_append = open_append
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begin_stopping(self) -> None:
        self._stop.set()

    def stop(self, timeout: float = STOPPING_SECONDS + 2) -> None:
        """What is under way then is sent again after the next start, under its key."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._deliver())
        except Exception:  # noqa: BLE001 - the end of a thread
            _log.exception("delivery has failed; nothing is delivered until the next start")

    async def _deliver(self) -> None:
        async with (
            self._open_append() as append,
            lead_finder(self._settings, self._database_url) as find_leads,
        ):
            ports = DeliveryPorts(lambda: self._database_url, append, utc_now, time_zones)
            crm_ports = CrmPorts(lambda: self._database_url, append, utc_now, find_leads)
            await asyncio.gather(
                DeliveryWorker(self._configuration, ports).run(self._stop),
                CrmWorker(self._configuration, crm_ports).run(self._stop),
                EnrichmentWorker(
                    self._configuration, EnrichmentPorts(lambda: self._database_url, append, utc_now)
                ).run(self._stop),
            )


@contextmanager
def delivery_beside(system: System, settings: Settings) -> Iterator[None]:
    """Delivers beside an embedded log. Raises SettingError."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppendRecords]:
        yield append_port_of_driver(system.driver)

    thread = DeliveryThread(settings, system.database_url, opened)
    thread.start()
    try:
        yield
    finally:
        thread.stop()

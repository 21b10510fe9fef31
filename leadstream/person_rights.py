"""What the gateway offers to people: erasures, which a thread brings to their end one after the other, and exports.

An erasure that fails, since a part of the system is unavailable, is tried again every minute and at the next start.
"""

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import psycopg
import structlog

from gateway.ports import PersonRights, Ports
from leadstream.clock import utc_now
from leadstream.console import Failure
from leadstream.operations.erasing import (
    Remains,
    nothing_remains,
    preview_erasure,
    register_erasure,
    resume_erasures,
)
from leadstream.operations.person_export import write_archive
from leadstream.operations.store_access import StoreAccess, store_of_system
from leadstream.settings import Settings
from leadstream.wiring import System, ports_open
from projections.erasures import erasure_json

RETRY_SECONDS = 60.0
OpenStore = Callable[[], AbstractContextManager[StoreAccess]]

_log = structlog.get_logger(__name__)


class ErasureThread:
    """Finishes what was registered; `wake` says that there is something."""

    def __init__(self, settings: Settings, opened: OpenStore) -> None:
        self._settings = settings
        self._opened = opened
        self._something = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def wake(self) -> None:
        self._something.set()
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="erasures", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        failed = False
        while True:
            self._something.wait(RETRY_SECONDS if failed else None)
            self._something.clear()
            failed = not self._finish()

    def _finish(self) -> bool:
        try:
            with self._opened() as store:
                resume_erasures(
                    store, self._settings.erasure_ledger, utc_now, remains=remains_of(self._settings)
                )
        except psycopg.errors.UndefinedTable:
            pass  # the tables are being made
        except Failure as cause:
            _log.warning("an erasure waits", cause=str(cause))
        except Exception:  # noqa: BLE001 - whatever it is, the next attempt may do
            _log.exception("an erasure failed and is tried again")
        else:
            return True
        return False


@asynccontextmanager
async def embedded_ports(system: System, settings: Settings) -> AsyncIterator[Ports]:
    """The ports of an embedded system, with what people may ask for."""
    rights = person_rights(settings, system.database_url, lambda: nullcontext(store_of_system(system)))
    async with ports_open(system, settings) as ports:
        yield replace(ports, people=rights)


@asynccontextmanager
async def kafka_ports_with_rights(
    settings: Settings, database_url: str, missing: Callable[[], Sequence[str]] | None = None
) -> AsyncIterator[Ports]:
    """The ports of a gateway on Kafka, with what people may ask for. What an older backup brought back is erased beside it."""
    from leadstream.operations.store_access_kafka import kafka_store  # noqa: PLC0415 - embedded mode needs no Kafka
    from leadstream.wiring_kafka import kafka_ports  # noqa: PLC0415 - as above

    rights, thread = _rights_and_thread(settings, database_url, lambda: kafka_store(settings, database_url))
    async with kafka_ports(settings, database_url, missing) as ports:
        thread.wake()
        yield replace(ports, people=rights)


def remains_of(settings: Settings) -> Remains:
    """What tells what a log still has."""
    if settings.kafka is None:
        return nothing_remains
    from leadstream.operations.erased_on_kafka import remaining_on_kafka  # noqa: PLC0415 - embedded mode needs no Kafka

    return partial(remaining_on_kafka, settings)


def person_rights(settings: Settings, database_url: str, opened: OpenStore) -> PersonRights:
    """`opened` gives access to the log, for as long as an erasure works on it."""
    return _rights_and_thread(settings, database_url, opened)[0]


def _rights_and_thread(
    settings: Settings, database_url: str, opened: OpenStore
) -> tuple[PersonRights, ErasureThread]:
    thread = ErasureThread(settings, opened)

    def preview(tenant: str, lead_id: str) -> Mapping[str, object] | None:
        preview_of_person = preview_erasure(database_url, tenant, lead_id)
        if preview_of_person is None:
            return None
        person = preview_of_person.person
        return {
            "leads": len(person.leads),
            "identities": len(person.identities),
            "shared_visitors": len(person.shared_visitors),
            "rows": preview_of_person.rows,
            "records": preview_of_person.records,
        }

    def erase(tenant: str, lead_id: str, by: str) -> Mapping[str, object] | None:
        erasure = register_erasure(database_url, settings.erasure_ledger, tenant, lead_id, utc_now(), by)
        if erasure is None:
            return None
        thread.wake()
        return erasure_json(erasure)

    def export(tenant: str, lead_id: str, file: BinaryIO) -> bool:
        return write_archive(database_url, tenant, lead_id, file, utc_now()) is not None

    return PersonRights(preview, erase, export), thread

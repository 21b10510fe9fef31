"""Asks sources about leads that have a new address, until it is stopped. One process at a time does.

1. It takes a person from the queue, who has become a lead.
2. For each source it looks for an answer that is still good. Without one, and within the budget, it counts a request and asks.
3. It stores the answer.
4. It appends an event with the fields that the lead lacks, under an id that is made of the answer.
5. It removes the person from the queue.

If it is killed between two steps, the person is taken again: the answer is there already, and the event has the same id.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec
import psycopg
import structlog

from delivery import metrics
from delivery.channels.http_requests import http_client
from delivery.channels.lead_events import AppendEvents
from delivery.configuration import DeliveryConfiguration
from delivery.database_thread import DatabaseThread
from delivery.enrichment import enrichment_state
from delivery.enrichment.answers import Fields, SourceFileError, ask_api, read_source_file
from delivery.enrichment.enrichment_state import PersonToAsk
from delivery.enrichment.keys import key_of
from delivery.enrichment.sources import EnrichmentSource, FileSource, HttpSource
from delivery.outcomes import DeliveryError, DeliveryFailedError, DeliveryRejectedError
from delivery.retries import CircuitBreaker, backoff_seconds
from projections.connection import Connection
from projections.enrichment_queue import ENRICHMENT_SOURCE, OLDEST, digest_of_key
from projections.row_keys import hashed_key
from schemas.decode import Refusal, decode_source, encode_source
from schemas.decode import key_of as record_key_of
from schemas.envelope import ANONYMOUS_PREFIX, Context
from schemas.events import ProfileUpdated
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.profile_fields import PROFILING_CONSENT_FIELD

LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0
AT_ONCE: Final = 20
NOT_YET_SECONDS: Final = 5.0
"""When a person is looked for again whom the read models do not have yet."""
PRUNE_SECONDS: Final = 600.0
_OPTIONS: Final = "-c search_path=live -c timezone=UTC -c lock_timeout=10s -c statement_timeout=30s"

_log = structlog.get_logger(__name__)


@dataclass
class EnrichmentPorts:
    """What a worker needs from outside."""

    database: Callable[[], str]
    append: AppendEvents
    now: Callable[[], datetime]
    chance: Callable[[], float] = random.random


class SourceAnswer(NamedTuple):
    """`result`: cache, asked, file, no key, budget or rest: it was not asked; `until`: when it may be."""

    source: str
    result: str
    fields: Fields
    previous: Fields
    at: datetime
    until: datetime | None = None


class _LoadedFile(NamedTuple):
    modified: float
    rows: Mapping[str, Fields]


@dataclass
class EnrichmentWorker:
    configuration: DeliveryConfiguration
    ports: EnrichmentPorts
    _files: dict[str, _LoadedFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = self.configuration.limits
        self.sources: Mapping[str, EnrichmentSource] = self.configuration.enrichment
        self._breakers = {
            name: CircuitBreaker(limits.circuit_failures, limits.circuit_seconds) for name in self.sources
        }
        self._database = DatabaseThread("enrichment", self.ports.database, _OPTIONS)
        self._http: httpx.AsyncClient = http_client(limits.timeout_seconds)

    async def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        pruned, reported = -PRUNE_SECONDS, False
        try:
            while not stop.is_set():
                seconds = LOOK_SECONDS
                try:
                    if time.monotonic() - pruned >= PRUNE_SECONDS:
                        pruned = time.monotonic()
                        await self._database.run(enrichment_state.prune, self.ports.now(), OLDEST)
                        if not self.sources:  # nothing else needs the connection
                            await self._database.run(Connection.close)
                    owns: bool = await self._database.run(_try_lock) if self.sources else False
                    if owns:
                        while not stop.is_set() and await self.step():
                            reported = False
                except psycopg.Error as cause:
                    seconds = RETRY_SECONDS
                    if not reported and not isinstance(cause, psycopg.errors.UndefinedTable):
                        reported = True
                        _log.warning("enrichment pauses", cause=" ".join(str(cause).split()))
                except Exception:  # noqa: BLE001 - reported, and tried again
                    _log.exception("enrichment has failed")
                    seconds = 30.0
                for _ in range(round(seconds / 0.1)):
                    if stop.is_set():
                        break
                    await asyncio.sleep(0.1)
        finally:
            await self.close()

    async def close(self) -> None:
        await self._http.aclose()
        self._database.close()

    async def step(self) -> int:
        """Steps 1 to 5 for those who are due; how many they were."""
        persons = await self._database.run(enrichment_state.due_persons, self.ports.now(), AT_ONCE)
        for person in persons:
            await self._enrich(person)
        return len(persons)

    async def _enrich(self, person: PersonToAsk) -> None:
        now = self.ports.now()
        if person.lead_id is None:
            await self._put_off(person, now + timedelta(seconds=NOT_YET_SECONDS), failed=False)
            return
        if may_be_asked_about(person):
            until: datetime | None = None
            for name in self.sources_of(person.tenant):
                try:
                    answer = await self.answer_of(name, person)
                    if answer.until is not None:
                        until = min(until or answer.until, answer.until)
                    await self._append(person, answer)
                except DeliveryError as cause:
                    if (retry := self._retry_moment(name, person, cause)) is not None:
                        until = min(until or retry, retry)
            if until is not None:
                await self._put_off(person, until, failed=True)
                return
        await self._database.run(enrichment_state.finish, person)

    def sources_of(self, tenant: str) -> list[str]:
        return [name for name, each in self.sources.items() if not each.tenants or tenant in each.tenants]

    async def answer_of(self, name: str, person: PersonToAsk) -> SourceAnswer:
        """Steps 2 and 3. Raises DeliveryError."""
        source, now = self.sources[name], self.ports.now()
        key = key_of(source.key, person.email, person.phone)
        if key is None:
            return SourceAnswer(name, "no key", {}, {}, now)
        if isinstance(source, FileSource):
            rows = await asyncio.to_thread(self._file_rows, name, source)
            metrics.ENRICHMENT.labels(name, "file").inc()
            return SourceAnswer(name, "file", dict(rows.get(key.lower(), {})), {}, now)
        digest = digest_of_key(person.tenant, key)
        cached = await self._database.run(enrichment_state.cached_answer, digest, name, now)
        if cached is not None and cached.is_fresh:
            metrics.ENRICHMENT.labels(name, "cache").inc()
            return SourceAnswer(name, "cache", cached.fields, cached.previous, cached.fetched_at)
        breaker = self._breakers[name]
        if breaker.is_open(time.monotonic()):
            rest = timedelta(seconds=self.configuration.limits.circuit_seconds)
            return SourceAnswer(name, "rest", {}, {}, now, now + rest)
        if (until := await self._database.run(_within_budget, person.tenant, name, source, now)) is not None:
            metrics.ENRICHMENT.labels(name, "budget").inc()
            return SourceAnswer(name, "budget", {}, {}, now, until)
        fields = await self._ask(name, source, key, now)
        await self._database.run(
            enrichment_state.store_answer, digest, person.tenant, name, fields, now, source.days
        )
        return SourceAnswer(name, "asked", fields, {} if cached is None else cached.fields, now)

    async def _ask(self, name: str, source: HttpSource, key: str, now: datetime) -> Fields:
        breaker = self._breakers[name]
        try:
            async with asyncio.timeout(2 * self.configuration.limits.timeout_seconds):
                fields = await ask_api(name, source, key, self._http, now)
        except TimeoutError:
            breaker.failed(time.monotonic(), None)
            metrics.ENRICHMENT.labels(name, "failed").inc()
            metrics.ENRICHMENT_FAILING.failed(name)
            raise DeliveryFailedError(f"the source {name!r} did not answer in time") from None
        except DeliveryFailedError as cause:
            breaker.failed(time.monotonic(), cause.retry_after)
            metrics.ENRICHMENT.labels(name, "failed").inc()
            metrics.ENRICHMENT_FAILING.failed(name)
            raise
        except DeliveryRejectedError:
            breaker.succeeded()
            metrics.ENRICHMENT.labels(name, "rejected").inc()
            metrics.ENRICHMENT_FAILING.failed(name)
            raise
        breaker.succeeded()
        metrics.ENRICHMENT.labels(name, "asked").inc()
        metrics.ENRICHMENT_FAILING.succeeded(name)
        return fields

    def _file_rows(self, name: str, source: FileSource) -> Mapping[str, Fields]:
        """The rows of the file, read again when it has changed. Raises DeliveryFailedError."""
        try:
            modified = Path(source.path).stat().st_mtime
            loaded = self._files.get(name)
            if loaded is None or loaded.modified != modified:
                loaded = self._files[name] = _LoadedFile(modified, read_source_file(source))
        except (OSError, SourceFileError) as cause:
            raise DeliveryFailedError(f"the source {name!r} cannot be read: {cause}") from None
        return loaded.rows

    def _retry_moment(self, name: str, person: PersonToAsk, cause: DeliveryError) -> datetime | None:
        """When the person is asked about again; None: no repetition helps."""
        limits = self.configuration.limits
        _log.warning("a source of enrichment has failed", source=name, reason=cause.reason)
        if not isinstance(cause, DeliveryFailedError) or person.attempts + 1 >= limits.attempts:
            return None
        backoff = backoff_seconds(
            person.attempts + 1,
            limits.first_retry_seconds,
            limits.longest_retry_seconds,
            self.ports.chance(),
        )
        return self.ports.now() + timedelta(seconds=max(backoff, cause.retry_after or 0.0))

    async def _append(self, person: PersonToAsk, answer: SourceAnswer) -> None:
        """Step 4. Raises DeliveryFailedError."""
        fields = fields_to_fill(person.fields or {}, answer)
        if not fields or person.lead_id is None:
            return
        event = enriched_event(person.tenant, person.lead_id, answer, fields, self.ports.now())
        try:
            encoded = encode_source(event)
            decode_source(encoded)
        except (Refusal, TypeError, ValueError, OverflowError) as cause:
            _log.warning("an answer is refused", source=answer.source, reason=str(cause)[:200])
            return
        try:
            await self.ports.append([Outgoing(EVENTS, record_key_of(event), encoded)])
        except Exception as cause:
            raise DeliveryFailedError(f"the log takes no events now ({type(cause).__name__})") from cause

    async def _put_off(self, person: PersonToAsk, until: datetime, *, failed: bool) -> None:
        def put_off(connection: Connection) -> None:
            enrichment_state.put_off(connection, person, until, failed=failed)

        await self._database.run(put_off)


def may_be_asked_about(person: PersonToAsk) -> bool:
    """Nobody is asked about an anonymous visitor, nor about a person who objects to profiling."""
    fields = person.fields or {}
    anonymous = not person.identified or (person.lead_id or "").startswith(ANONYMOUS_PREFIX)
    return not anonymous and fields.get(PROFILING_CONSENT_FIELD) is not False


def fields_to_fill(current: Mapping[str, Any], answer: SourceAnswer) -> Fields:
    """An answer counts less than what the person said: it fills what the lead lacks, and replaces only what the same
    source has answered before.
    """
    return {
        name: value
        for name, value in answer.fields.items()
        if current.get(name) in (None, "")
        or (current[name] != value and name in answer.previous and current[name] == answer.previous[name])
    }


def enriched_event(
    tenant: str, lead_id: str, answer: SourceAnswer, fields: Fields, now: datetime
) -> ProfileUpdated:
    """The same answer makes the same event."""
    named = msgspec.json.encode([tenant, lead_id, answer.source, answer.fields], order="sorted")
    return ProfileUpdated(
        event_id=f"enriched-{blake2b(named, digest_size=20).hexdigest()}",
        occurred_at=min(answer.at, now),
        recorded_at=now,
        tenant=tenant,
        lead_id=lead_id,
        source=ENRICHMENT_SOURCE,
        context=Context(source_type=ENRICHMENT_SOURCE, source_id=answer.source),
        fields=fields,
    )


def _within_budget(
    connection: Connection, tenant: str, name: str, source: HttpSource, now: datetime
) -> datetime | None:
    """Counts a request; or when the next one may be made, if the budget of the day or month is used up."""
    with connection.transaction():
        today, month = enrichment_state.requests_made(connection, tenant, name, now.date())
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if source.per_month is not None and month >= source.per_month:
            return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        if source.per_day is not None and today >= source.per_day:
            return midnight + timedelta(days=1)
        enrichment_state.count_request(connection, tenant, name, now.date())
        return None


def _try_lock(connection: Connection) -> bool:
    """The same session may take the lock again and again."""
    with connection.cursor() as cursor:
        ((locked,),) = cursor.execute(
            "select pg_try_advisory_lock(%s)", (hashed_key("enrichment"),)
        ).fetchall()
    return bool(locked)

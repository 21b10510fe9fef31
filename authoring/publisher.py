"""One definition of publishing a model: a version that nobody else gets, appended to every partition, and
on record with who, when and why. One publisher at a time per tenant and model.

What has its version is appended, whatever dies in between: it stands in the database before the log has
it, and whoever comes next appends it again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import psycopg
from psycopg.rows import tuple_row

from authoring.active_models import ShardFilter, Shards
from authoring.revisions import OPEN, Publication, newest_of, publication_of, record_of, storable
from gateway.answers import RequestProblem
from gateway.ports import Append
from gateway.store import UNAVAILABLE_ERRORS, Missing
from projections import authoring as rows
from projections.authoring import Draft, Version
from projections.connection import BoundedAsyncConnection, parameters
from schemas.control import EVERY_TENANT
from schemas.moment import millis, moment
from schemas.publications import publication_records

CONNECTIONS = 6
"""To the database, of all authors together."""

PATIENCE_SECONDS = 20.0
"""How long a call waits for its turn, and for a connection."""

_STATEMENT_SECONDS = 30
_OPTIONS = f"-c timezone=UTC -c search_path=live -c statement_timeout={_STATEMENT_SECONDS}s"


class _Authors(BoundedAsyncConnection):
    patience = _STATEMENT_SECONDS + 2.0


class PublisherLock(NamedTuple):
    """Where one publisher of a model sits, alone."""

    connection: rows.Connection
    tenant: str
    model: str
    newest: Version | None
    """The tenant's own, else everybody's."""

    @property
    def text(self) -> str | None:
        return None if self.newest is None else self.newest.text

    @property
    def next_version(self) -> int:
        """A tenant's own versions go on from everybody's: to its authors, no number ever means two texts."""
        return (self.newest.version if self.newest else 0) + 1


class Publisher:
    """A connection per call, none in between; so it opens and closes nothing."""

    def __init__(
        self, database_url: str, append: Append, shards: Shards, now: Callable[[], datetime]
    ) -> None:
        self._database_url = database_url
        self._append = append
        self._shards = shards
        self._now = now
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[rows.Connection]:
        try:
            async with (
                _having(self._room, "too many models are worked on"),
                await _Authors.connect(
                    self._database_url,
                    **parameters(
                        self._database_url,
                        autocommit=True,
                        options=_OPTIONS,
                        application_name="leadstream authoring",
                        row_factory=tuple_row,
                    ),
                ) as connection,
            ):
                yield connection
        except psycopg.errors.LockNotAvailable as cause:
            raise _busy("somebody else publishes this model") from cause
        except psycopg.errors.UndefinedTable as cause:
            raise Missing from cause
        except UNAVAILABLE_ERRORS as cause:
            raise RequestProblem(503, "the database does not answer", retry_after_s=2) from cause

    @asynccontextmanager
    async def alone(self, tenant: str, model: str) -> AsyncIterator[PublisherLock]:
        """Nobody else publishes this model meanwhile, and everything that has a version is in the log.

        Who waits for another author here does so without a connection, so that a model which many publish
        keeps nobody from the others.
        """
        turn = self._turns.setdefault((tenant, model), asyncio.Lock())
        async with _having(turn, "somebody else publishes this model"), self.connected() as connection:
            await rows.lock_model(connection, tenant, model)
            for left in await rows.publishing_drafts(connection, tenant, model):
                await self.send(connection, left)
            known = await self.known(connection, tenant, model)
            yield PublisherLock(connection, tenant, model, newest_of(known, tenant, model))

    async def known(
        self, connection: rows.Connection, tenant: str | None, model: str | None = None
    ) -> dict[tuple[str, str], Version]:
        """The newest of each (tenant, model): on record, or what the shards have, whichever is newer. The
        tenant's own and everybody's; of all tenants, if none is given.
        """
        tenants = None if tenant is None else (tenant, EVERY_TENANT)
        found = await rows.newest(connection, tenants, model)
        for held in await self._held(tenants, model):
            known = found.get((held.tenant, held.model))
            if known is None or known.version < held.version:
                found[held.tenant, held.model] = held
        return found

    async def history(
        self, connection: rows.Connection, tenant: str, model: str, texts_of: Collection[int] = ()
    ) -> list[Version]:
        """The tenant's own and, before these, everybody's, newest first; with what only the shards know, since
        it was published before publications were kept. Whole are the texts of the versions `texts_of`.
        """
        tenants = (tenant, EVERY_TENANT)
        recorded = await rows.history(connection, tenants, model, texts_of)
        told = {(each.tenant, each.version): each for each in await self._held(tenants, model)}
        told |= {(each.tenant, each.version): each for each in recorded}
        first = min((version for whose, version in told if whose == tenant), default=None)
        found = [
            each
            for (whose, version), each in told.items()
            if whose == tenant or first is None or version < first
        ]
        return sorted(found, key=lambda each: each.version, reverse=True)

    async def _held(self, tenants: Sequence[str] | None, model: str | None) -> list[Version]:
        """What shards have, of these tenants."""
        shards = await self._shards(ShardFilter(tenants, model))
        if not shards:
            raise RequestProblem(503, "what is in force is not known yet", retry_after_s=2)
        return [
            Version(tenant, name, held.version, held.text)
            for shard in shards
            for tenant, own in shard.models.items()
            if tenants is None or tenant in tenants
            for name, held in own.items()
            if model in {None, name}
        ]

    async def publish(
        self,
        desk: PublisherLock,
        text: str | None,
        *,
        by: str | None,
        note: str | None,
        change: str | None,
        fire: bool,
    ) -> Publication:
        claimed = await self.insert(
            desk.connection,
            tenant=desk.tenant,
            model=desk.model,
            state=rows.PUBLISHING,
            text=text,
            by=by,
            note=note,
            change=change,
            fire=fire,
            version=desk.next_version,
            published_at=self._moment(),
        )
        return await self.send(desk.connection, claimed)

    async def claim(self, desk: PublisherLock, draft: Draft) -> Draft:
        """The draft with the next version, on its way; within the caller's transaction."""
        return await self.keep(
            desk.connection,
            draft._replace(state=rows.PUBLISHING, version=desk.next_version, published_at=self._moment()),
        )

    def _moment(self) -> datetime:
        """Now, as the log says it."""
        return moment(millis(self._now()))

    async def keep(self, connection: rows.Connection, draft: Draft) -> Draft:
        columns = draft._asdict()
        return await self.update(connection, draft.model, columns.pop("id"), columns)

    async def update(
        self, connection: rows.Connection, model: str, number: int, columns: Mapping[str, Any]
    ) -> Draft:
        kept = await rows.update(connection, number, OPEN, **storable({**columns, "changed_at": self._now()}))
        if kept is None:
            raise RequestProblem(
                409, f"draft {number} of {model} was published or discarded meanwhile", field="id"
            )
        return kept

    async def insert(self, connection: rows.Connection, **columns: Any) -> Draft:
        now = self._now()
        return await rows.insert(connection, created_at=now, changed_at=now, **storable(columns))

    async def send(self, connection: rows.Connection, claimed: Draft) -> Publication:
        """Into the log, again if need be."""
        said = publication_of(claimed)
        try:
            await self._append(publication_records(record_of(said, fire=claimed.fire)))
        except RequestProblem as away:
            raise RequestProblem(
                503,
                f"version {said.version} of {said.model} is on record and takes effect as soon as the log takes "
                f"records again: do not publish it a second time ({away.reason})",
            ) from away
        with suppress(psycopg.Error):  # it is in the log: who finds it unmarked appends it again
            await rows.update(connection, claimed.id, [rows.PUBLISHING], state=rows.PUBLISHED)
        return said


@asynccontextmanager
async def _having(wanted: asyncio.Lock | asyncio.Semaphore, why_not: str) -> AsyncIterator[None]:
    try:
        await asyncio.wait_for(wanted.acquire(), PATIENCE_SECONDS)
    except TimeoutError:
        raise _busy(why_not) from None
    try:
        yield
    finally:
        wanted.release()


def _busy(why: str) -> RequestProblem:
    return RequestProblem(503, f"{why} just now: nothing was changed", retry_after_s=2)

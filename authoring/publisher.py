"""How a model is published: it gets a version of its own, is recorded with author, time and reason, and is
appended to every partition. One publisher at a time per tenant and model.

The database has a publication before the log has it (an outbox). If a publisher dies in between, the next one
appends it again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import psycopg
from psycopg.rows import tuple_row

from authoring.active_models import ActiveModelsFilter, ReadShards
from authoring.new_signals import signals_of
from authoring.problem import Conflict, Problem, TryLater
from authoring.published_texts import WORKFLOWS, title_of
from authoring.revisions import (
    OPEN_DRAFT_STATES,
    Publication,
    checked_draft_columns,
    control_record_of,
    newest_for_tenant,
    publication_of_draft,
)
from projections import authoring as rows
from projections import backfills
from projections.authoring import Draft, PublishedVersion
from projections.connection import BoundedAsyncConnection, connection_parameters
from schemas.control import EVERY_TENANT, WorkflowsDue
from schemas.moment import millis, moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.models.active import RETIRED_MODEL_TEXT

MOST_CONNECTIONS = 6
"""To the database, of all authors together."""

PATIENCE_SECONDS = 20.0
"""How long a call waits for its turn, and for a connection."""

_STATEMENT_SECONDS = 30
_OPTIONS = f"-c timezone=UTC -c search_path=live -c statement_timeout={_STATEMENT_SECONDS}s"


AppendPublication = Callable[[Sequence[Outgoing]], Awaitable[None]]
"""Returns once the log has the records; raises Problem while the log takes none."""


class _AuthorConnection(BoundedAsyncConnection):
    patience = _STATEMENT_SECONDS + 2.0


class PublisherLock(NamedTuple):
    """One publisher of a model, alone while it has this."""

    connection: rows.Connection
    tenant: str
    model: str
    newest: PublishedVersion | None
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
        self, database_url: str, append: AppendPublication, shards: ReadShards, now: Callable[[], datetime]
    ) -> None:
        self._database_url = database_url
        self._append = append
        self._shards = shards
        self._now = now
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[rows.Connection]:
        try:
            async with (
                _acquired(self._room, "too many models are being published"),
                await _AuthorConnection.connect(
                    self._database_url,
                    **connection_parameters(
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
            raise _busy_problem("someone else is publishing this model") from cause
        except psycopg.errors.UndefinedTable as cause:
            raise TryLater("the tables are not made yet", retry_after_s=2) from cause
        except (psycopg.OperationalError, psycopg.InterfaceError) as cause:
            raise TryLater("the database does not answer", retry_after_s=2) from cause

    @asynccontextmanager
    async def locked(self, tenant: str, model: str) -> AsyncIterator[PublisherLock]:
        """No other publisher of this model runs meanwhile, and every publication with a version is in the log.

        A caller waits here without a connection, so that a model with many publishers does not block the
        other models.
        """
        turn = self._turns.setdefault((tenant, model), asyncio.Lock())
        async with _acquired(turn, "someone else is publishing this model"), self.connected() as connection:
            await rows.lock_model(connection, tenant, model)
            for left in await rows.publishing_drafts(connection, tenant, model):
                await self.send_claimed_draft(connection, left)
            newest_versions = await self.newest_versions(connection, tenant, model)
            yield PublisherLock(connection, tenant, model, newest_for_tenant(newest_versions, tenant, model))

    async def newest_versions(
        self, connection: rows.Connection, tenant: str | None, model: str | None = None
    ) -> dict[tuple[str, str], PublishedVersion]:
        """The newest of each (tenant, model): on record, or what the shards have, whichever is newer. The
        tenant's own and everybody's; of all tenants, if none is given.
        """
        tenants = None if tenant is None else (tenant, EVERY_TENANT)
        newest = await rows.newest_versions(connection, tenants, model)
        for active in await self._active_versions(tenants, model):
            recorded = newest.get((active.tenant, active.model))
            if recorded is None or recorded.version < active.version:
                newest[active.tenant, active.model] = active
        return newest

    async def history(
        self, connection: rows.Connection, tenant: str, model: str, texts_of: Collection[int] = ()
    ) -> list[PublishedVersion]:
        """The tenant's own versions and, before these, everybody's, newest first. Versions that only the shards have
        (published before publications were recorded) are included. Texts come with the versions `texts_of`.
        """
        tenants = (tenant, EVERY_TENANT)
        recorded = await rows.version_history(connection, tenants, model, texts_of)
        by_version = {
            (each.tenant, each.version): each for each in await self._active_versions(tenants, model)
        }
        by_version |= {(each.tenant, each.version): each for each in recorded}
        first = min((version for owner, version in by_version if owner == tenant), default=None)
        visible = [
            each
            for (owner, version), each in by_version.items()
            if owner == tenant or first is None or version < first
        ]
        return sorted(visible, key=lambda each: each.version, reverse=True)

    async def _active_versions(
        self, tenants: Sequence[str] | None, model: str | None
    ) -> list[PublishedVersion]:
        """What shards have, of these tenants."""
        shards = await self._shards(ActiveModelsFilter(tenants, model, workflows=model in {None, WORKFLOWS}))
        if not shards:
            raise TryLater("the active models are not known yet", retry_after_s=2)
        workflows = [
            PublishedVersion(tenant, WORKFLOWS, active.version, active.text, folding=active.folding)
            for shard in shards
            for tenant, active in shard.workflows.items()
            if model in {None, WORKFLOWS} and (tenants is None or tenant in tenants)
        ]
        return workflows + [
            PublishedVersion(
                tenant,
                name,
                active.version,
                None if active.text == RETIRED_MODEL_TEXT else active.text,
                folding=active.folding,
            )
            for shard in shards
            for tenant, own in shard.models.items()
            if tenants is None or tenant in tenants
            for name, active in own.items()
            if model in {None, name}
        ]

    async def publish(
        self,
        lock: PublisherLock,
        text: str | None,
        *,
        by: str | None,
        note: str | None,
        change: str | None,
        fire: bool,
        from_now: bool | None = None,
    ) -> Publication:
        await self._refuse_uncountable(lock, text, from_now=from_now)
        claimed = await self.insert(
            lock.connection,
            tenant=lock.tenant,
            model=lock.model,
            state=rows.STATE_PUBLISHING,
            text=text,
            by=by,
            note=note,
            change=change,
            fire=fire,
            version=lock.next_version,
            published_at=self._moment(),
            folding=NEWEST_COMPARISON.folding,
        )
        await self._note_new_signals(lock.connection, claimed, from_now=bool(from_now))
        return await self.send_claimed_draft(lock.connection, claimed)

    async def _refuse_uncountable(
        self, lock: PublisherLock, text: str | None, *, from_now: bool | None
    ) -> None:
        """`from_now` False: the author wants earlier events counted. Raises Conflict where that cannot be."""
        if from_now is not False or text is None or lock.model == WORKFLOWS:
            return
        if not await backfills.follows_kafka(lock.connection):
            return
        version = lock.next_version
        new = await self._new_signals(
            lock.connection, lock.tenant, lock.model, version, text, NEWEST_COMPARISON.folding
        )
        if new:
            raise Conflict(
                f"nobody has counted {', '.join(sorted(set(new.values())))} yet, and with Kafka, earlier events cannot be "
                "counted: publish with from_now (--from-now) to count from now on",
                field="from_now",
            )

    async def _note_new_signals(
        self, connection: rows.Connection, claimed: Draft, *, from_now: bool = False
    ) -> None:
        """Before the log has the publication, so that no crash loses it."""
        if claimed.text is None or claimed.model == WORKFLOWS or claimed.version is None:
            return
        folding = claimed.folding or 1
        new = await self._new_signals(
            connection, claimed.tenant, claimed.model, claimed.version, claimed.text, folding
        )
        if new:
            await backfills.insert_backfill(
                connection,
                (claimed.tenant, claimed.model, claimed.version, claimed.text, folding),
                new,
                from_now=from_now or await backfills.follows_kafka(connection),
                at=self._moment(),
            )

    async def _new_signals(
        self, connection: rows.Connection, tenant: str, model: str, version: int, text: str, folding: int
    ) -> dict[str, str]:
        """Stored name -> name of the signals that no publication had before."""
        signals = await asyncio.to_thread(signals_of, [(text, folding)])
        if not signals:
            return {}
        texts = await backfills.published_texts(connection, tenant, model, version)
        tenants = None if tenant == EVERY_TENANT else (tenant, EVERY_TENANT)
        active = await self._active_versions(tenants, None)
        texts += [(each.text, each.folding) for each in active if each.text and each.model != WORKFLOWS]
        counted = await asyncio.to_thread(signals_of, texts)
        return {stored: name for stored, name in signals.items() if stored not in counted}

    async def append_control(self, record: WorkflowsDue) -> None:
        """Appends a control record to every partition. Raises Problem while the log takes none."""
        await self._append(publication_records(record))

    async def claim_draft(self, lock: PublisherLock, draft: Draft) -> Draft:
        """The draft with the next version, on its way; within the caller's transaction."""
        claimed = await self.save_draft(
            lock.connection,
            draft._replace(
                state=rows.STATE_PUBLISHING,
                version=lock.next_version,
                published_at=self._moment(),
                folding=NEWEST_COMPARISON.folding,
            ),
        )
        await self._note_new_signals(lock.connection, claimed)
        return claimed

    def _moment(self) -> datetime:
        """Now, as the log says it."""
        return moment(millis(self._now()))

    async def save_draft(self, connection: rows.Connection, draft: Draft) -> Draft:
        columns = draft._asdict()
        return await self.update(connection, draft.model, columns.pop("id"), columns)

    async def update(
        self, connection: rows.Connection, model: str, number: int, columns: Mapping[str, Any]
    ) -> Draft:
        kept = await rows.update_draft(
            connection,
            number,
            OPEN_DRAFT_STATES,
            **checked_draft_columns({**columns, "changed_at": self._now()}),
        )
        if kept is None:
            raise Conflict(
                f"draft {number} of {title_of(model)} was published or discarded meanwhile", field="id"
            )
        return kept

    async def insert(self, connection: rows.Connection, **columns: Any) -> Draft:
        now = self._now()
        return await rows.insert_draft(
            connection, created_at=now, changed_at=now, **checked_draft_columns(columns)
        )

    async def send_claimed_draft(self, connection: rows.Connection, claimed: Draft) -> Publication:
        """Appends it to the log; safe to repeat."""
        publication = publication_of_draft(claimed)
        try:
            await self._append(publication_records(control_record_of(publication, fire=claimed.fire)))
        except Problem as problem:
            raise TryLater(
                f"version {publication.version} of {title_of(publication.model)} is on record and takes effect as soon as the log takes "
                f"records again: do not publish it a second time ({problem.reason})",
            ) from problem
        with suppress(
            psycopg.Error
        ):  # the log has it: a later publisher that reads it unmarked appends it again
            await rows.update_draft(
                connection, claimed.id, [rows.STATE_PUBLISHING], state=rows.STATE_PUBLISHED
            )
        return publication


@asynccontextmanager
async def _acquired(turn: asyncio.Lock | asyncio.Semaphore, why_not: str) -> AsyncIterator[None]:
    try:
        await asyncio.wait_for(turn.acquire(), PATIENCE_SECONDS)
    except TimeoutError:
        raise _busy_problem(why_not) from None
    try:
        yield
    finally:
        turn.release()


def _busy_problem(why: str) -> TryLater:
    return TryLater(f"{why} just now: nothing was changed", retry_after_s=2)

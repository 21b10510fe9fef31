"""A recorded log as alternating parts: the events up to a publication, then that publication.

Scores depend on the place of a publication among the events, so whatever reads events into another log puts
publications at the same places. Reads one moment of the store in bounded memory; the transaction must stay open.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Final

import psycopg

from leadstream.console import Failure
from leadstream.operations.export import StoredEvent, merged_by_recording, stored_events
from projections.connection import Connection
from projections.erasures import publications_of, read_erasures
from projections.state_rows import SCORE_LEADS
from schemas.control import (
    DERIVED_TYPES,
    ExperimentPublished,
    FoldingVersion,
    ModelPublished,
    ModelRetired,
    SettingsPublished,
    WorkflowsPublished,
)
from schemas.decode import decode_source
from schemas.envelope import tag_of
from schemas.moment import moment_or_none
from schemas.publications import EXPERIMENT_PREFIX, WORKFLOWS, Publication
from schemas.topics import PARTITION_WIDE_KEY
from streams.published import PublishedState

Parts = Iterator[Iterator[StoredEvent] | Publication]
"""Each iterator of events must be read to its end before the next part."""

_DERIVED: Final = tuple(f'{{"type":"{tag_of(kind)}",'.encode() for kind in DERIVED_TYPES)
_LOG: Final = (
    "select key, value from public.records where topic = 'events' and partition = %s order by position"
)
_ARCHIVE: Final = (
    "select key, value from public.event_archive where partition = %s order by partition, position"
)


class EmbeddedParts:
    """The log in PostgreSQL. What the folds wrote into it is left out."""

    def __init__(self, connection: "psycopg.Connection[tuple[object, ...]]", partitions: int) -> None:
        self._partitions = [stored_events(connection, _LOG, number) for number in range(partitions)]
        self._publications: list[bytes | None] = []

    def parts(self) -> Parts:
        """Raises Failure."""
        while True:
            self._publications = []
            yield merged_by_recording([self._until_publication(partition) for partition in self._partitions])
            [*next_publications] = set(self._publications)
            if next_publications == [None]:
                return
            message = decode_source(next_publications[0] or b"") if len(next_publications) == 1 else None
            if not isinstance(message, Publication):
                raise Failure(
                    "The partitions of this log disagree on what was published between the events: it is damaged. "
                    "`leadstream export FILE` still writes its events."
                )
            yield message

    def _until_publication(self, partition: Iterator[StoredEvent]) -> Iterator[StoredEvent]:
        """The events up to the next publication. Every partition has each publication."""
        for each in partition:
            if each.key == PARTITION_WIDE_KEY:
                self._publications.append(each.value)
                return
            if not each.value.startswith(_DERIVED):
                yield each
        self._publications.append(None)


class ArchivedParts:
    """The archive that a projection keeps of Kafka's events. Models come at the time of their publication; settings come
    first, as they are now, since nobody keeps older ones. People who were erased come last: their events are gone.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def parts(self) -> Parts:
        publications = self._publications()
        yield from self._settings(publications[0].recorded_at if publications else None)
        numbers = self._connection.execute(
            "select distinct partition from event_archive order by 1"
        ).fetchall()
        events = merged_by_recording(
            [stored_events(self._connection, _ARCHIVE, number) for (number,) in numbers]
        )
        following: list[StoredEvent] = []
        for publication in publications:
            yield _before(publication, events, following)
            yield publication
        yield chain(following, events)
        for erasure in read_erasures(self._connection):
            yield from publications_of(erasure, erasure.requested_at)

    def _publications(self) -> list[ModelPublished | ModelRetired | WorkflowsPublished | ExperimentPublished]:
        rows = self._connection.execute(
            """select tenant, model, version, text, fire, by, note, change, recorded_at, folding
               from publications
               order by recorded_at, tenant, model, version"""
        )
        return [_publication(*row) for row in rows.fetchall()]

    def _settings(self, at: datetime | None) -> Iterator[SettingsPublished]:
        rows = self._connection.execute(
            "select part, value from shard_state where stage = %s and partition = 0", (SCORE_LEADS,)
        )
        active = PublishedState({part: bytes(value) for part, value in rows.fetchall()}).published
        for tenant, own in sorted(active.settings.items()):
            yield SettingsPublished(
                tenant=tenant,
                recorded_at=at or datetime.now(UTC),
                version=own.version,
                time_zone=own.time_zone,
                idle_minutes=own.idle_minutes,
                lifecycle=own.lifecycle,
                profile_fields=own.profile_fields,
                attribution=own.attribution,
                consent_required_since=moment_or_none(own.consent_required_since),
                unique_fields=own.unique_fields,
            )


def _before(
    publication: Publication, events: Iterator[StoredEvent], following: list[StoredEvent]
) -> Iterator[StoredEvent]:
    """The events that were recorded before the publication; the first one after them goes into `following`."""
    for each in chain(tuple(following), events):
        if each.recorded_at >= publication.recorded_at:
            following[:] = [each]
            return
        yield each
    following.clear()


def _publication(
    tenant: str,
    model: str,
    version: int,
    text: str | None,
    fire: bool,  # noqa: FBT001 - a column
    by: str | None,
    note: str | None,
    change: str | None,
    recorded_at: datetime,
    folding: FoldingVersion,
) -> ModelPublished | ModelRetired | WorkflowsPublished | ExperimentPublished:
    if model.startswith(EXPERIMENT_PREFIX):
        return ExperimentPublished(
            tenant=tenant,
            recorded_at=recorded_at,
            experiment=model.removeprefix(EXPERIMENT_PREFIX),
            version=version,
            text=text or "",
            by=by,
            note=note,
            change=change,
        )
    if model == WORKFLOWS:
        return WorkflowsPublished(
            tenant=tenant,
            recorded_at=recorded_at,
            version=version,
            text=text or "",
            by=by,
            note=note,
            change=change,
            folding=folding,
        )
    if text is None:
        return ModelRetired(
            tenant=tenant, recorded_at=recorded_at, model=model, version=version, by=by, note=note
        )
    return ModelPublished(
        tenant=tenant,
        recorded_at=recorded_at,
        model=model,
        version=version,
        text=text,
        fire=fire,
        by=by,
        note=note,
        change=change,
        folding=folding,
    )

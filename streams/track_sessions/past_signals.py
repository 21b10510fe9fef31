"""What signals that are new would have counted in the events before their publication.

Stage 1 folds the recorded events of some visitors again, as it folded them then, but with the new signals from the first
event on. So identities, repetitions, consent and erasures are those of the log. Pure.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from schemas.control import EVERY_TENANT, SignalsCounted
from schemas.decode import encode_source
from schemas.record import Chunk, Outgoing, Record
from schemas.topics import EVENTS
from scoring.features.features import Features, encode_features
from scoring.features.identity import identity_id
from scoring.features.past_signals import only_signals
from scoring.features.signals import SignalCatalogue
from streams.engine.state_store import StateStore
from streams.engine.task import Task, TaskCounts
from streams.published import compiled_model
from streams.track_sessions.signal_catalogues import PublishedSignals
from streams.track_sessions.stage import TrackSessions
from streams.track_sessions.visitor_state import VisitorState

CHUNK_RECORDS = 500


class NewSignals(NamedTuple):
    """A publication with signals that nobody counted before."""

    tenant: str
    model: str
    version: int
    text: str
    folding: int
    signals: tuple[str, ...]
    """Stored names, NAME@HASH."""

    @property
    def publication(self) -> str:
        return f"{self.tenant}:{self.model}:{self.version}"


def past_counts(
    new: NewSignals, records: Iterable[tuple[str, bytes]], recorded_at: datetime
) -> Iterator[Outgoing]:
    """The record of each identity in whose events the signals counted anything. `records` are (key, value) of one partition
    up to the publication, in order: the publications among them, and all of some visitors.
    """
    task = Task(_CountingStage(new), 0, StateStore(), TaskCounts())
    task.restored(0, {})
    position = 0
    chunk: list[Record] = []
    for key, value in records:
        chunk.append(Record(EVENTS, 0, position + len(chunk), key, value))
        if len(chunk) == CHUNK_RECORDS:
            position = _fold(task, position, chunk)
    _fold(task, position, chunk)
    task.changes()
    names, after = frozenset(new.signals), ""
    while keys := task.store.keys_after(after, CHUNK_RECORDS):
        for key, parts in task.store.load(keys).items():
            yield from _records_of(new, names, VisitorState(key, parts), recorded_at)
        after = keys[-1]


def _fold(task: Task, position: int, chunk: list[Record]) -> int:
    end = position + len(chunk)
    if chunk:
        task.offer(Chunk(EVENTS, 0, position, end, list(chunk)))
        while task.fold(CHUNK_RECORDS)[0]:
            pass
        chunk.clear()
    return end


def _records_of(
    new: NewSignals, names: Collection[str], state: VisitorState, recorded_at: datetime
) -> Iterator[Outgoing]:
    if new.tenant not in (EVERY_TENANT, state.tenant):
        return
    for at, body in sorted(state.bodies.items()):
        counted = only_signals(body.features, names)
        if counted == Features():
            continue
        record = SignalsCounted(
            tenant=state.tenant,
            recorded_at=recorded_at,
            identity=identity_id(state.key, at),
            epoch=state.visitor.segments[at].epoch,
            publication=new.publication,
            home_lead=state.visitor.segments[at].home,
            signals=list(new.signals),
            counted=encode_features(counted),
        )
        yield Outgoing(EVENTS, state.key, encode_source(record))


class _CountingStage(TrackSessions):
    """Stage 1, with the new signals in every catalogue."""

    def __init__(self, new: NewSignals) -> None:
        self._new = new

    def open_shared(self, parts: dict[str, bytes]) -> PublishedSignals:
        return _WithNewSignals(parts, self._new)


class _WithNewSignals(PublishedSignals):
    def __init__(self, parts: dict[str, bytes], new: NewSignals) -> None:
        super().__init__(parts)
        self._new = new
        self._with_new: dict[str, SignalCatalogue] = {}

    def catalogue(self, tenant: str) -> SignalCatalogue:
        if tenant not in self._with_new:
            active = sorted(self.published.models_of(tenant).values(), key=lambda each: each.folding)
            models = [compiled_model(each.text, each.folding) for each in active]
            models.append(compiled_model(self._new.text, self._new.folding))
            self._with_new[tenant] = SignalCatalogue.of(models)
        return self._with_new[tenant]

    def refresh(self) -> None:
        super().refresh()
        self._with_new.clear()

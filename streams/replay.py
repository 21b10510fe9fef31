"""Both real stages in memory, one partition each: what would the scores be, had other models held?

Begins with any publications, takes events, and has every lead's state at any moment, as a system that
did nothing else would have it; what stage 2 sends back is followed. Deterministic, and every call of
`step` does bounded work, so that progress can be shown. Writes nothing and reads no clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import structs

from schemas.record import Outgoing, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, lead_key
from scoring.features.identity import key_of_identity
from scoring.models.model import Subject
from streams.engine.shard import Shard, Stage
from streams.engine.state_store import StateStore
from streams.engine.task import TIMERS_AT_ONCE, cache_size
from streams.score_leads.conclusions import LeadStep, advance, evaluate
from streams.score_leads.lead_rules import Rules
from streams.score_leads.lead_state import LeadState
from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions, VisitorState

CHUNK = 500
"""Records that one step folds at most."""

OnOutput = Callable[[Outgoing], None]


class _Fold(NamedTuple):
    """One stage, its state, and what waits for it."""

    shard: Shard[Any, Any]
    store: StateStore
    waiting: deque[Record]


class Replay:
    """`genesis` are publications, as an untouched log begins with them; `on_output` is told every record that
    the stages write, in order.
    """

    def __init__(
        self, genesis: Iterable[Outgoing], *, on_output: OnOutput | None = None, chunk: int = CHUNK
    ) -> None:
        self._events = _fold(TrackSessions())
        self._activity = _fold(ScoreLeads())
        self._sources = {EVENTS: self._events, LEAD_ACTIVITY: self._activity}
        self._on_output = on_output
        self._chunk = chunk
        self._ends = dict.fromkeys(self._sources, 0)
        self.append(genesis)
        self.rest()

    def append(self, records: Iterable[Outgoing]) -> None:
        """Events, and publications for both stages; what goes to other topics is of no interest."""
        for topic, key, value, _ in records:
            if topic in self._sources:
                at = self._ends[topic]
                self._ends[topic] += 1
                self._sources[topic].waiting.append(Record(topic, 0, at, key, value))

    def step(self) -> bool:
        """Fold a chunk, or one step of a sweep, of what came first; False if nothing waits."""
        fold = self._activity if self._activity.waiting else self._events
        records = [fold.waiting[i] for i in range(min(len(fold.waiting), self._chunk))]
        if not records:
            return False
        fold.shard.cache_size = cache_size(fold.store)
        outcome = fold.shard.fold(records)
        for _ in range(outcome.applied):
            fold.waiting.popleft()
        deque(fold.store.put(outcome, records[0].position + outcome.applied), maxlen=0)
        self.append(outcome.outputs)
        if self._on_output is not None:
            for each in outcome.outputs:
                self._on_output(each)
        return True

    def rest(self) -> None:
        """Fold until nothing waits."""
        while self.step():
            pass

    def wake(self, now: int) -> bool:
        """Some leads whose time came by `now` are told so; False if there are none."""
        fold = self._activity
        keys = fold.store.due_keys(now, TIMERS_AT_ONCE)
        if not keys:
            return False
        woken, dues = fold.shard.timers(keys, now)
        fold.store.mark_woken([key for key in keys if key not in dues])
        deque(fold.store.put_timers(dues), maxlen=0)
        self.append(woken)
        return True

    def advance_to(self, now: int) -> None:
        """`now` has come: conclude whatever time alone changes until then."""
        self.rest()
        while self.wake(now):
            self.rest()

    def leads(self) -> Iterator[LeadState]:
        """Every lead as it is now, ordered by key: also those that hold no identity. Not to be changed;
        nothing may be folded meanwhile.
        """
        memory, after = self._activity.store, ""
        while keys := memory.keys_after(after, self._chunk):
            for key, parts in memory.load(keys).items():
                yield LeadState(key, parts)
            after = keys[-1]

    def lead(self, tenant: str, lead_id: str) -> LeadState:
        """One lead as it is now; one that nobody has heard of does not exist (`exists`)."""
        key = lead_key(tenant, lead_id)
        return LeadState(key, self._activity.store.load([key]).get(key, {}))

    def owner(self, identity: str) -> LeadState:
        """The lead that holds an identity, which some event has made, now that nothing waits."""
        key, segment = key_of_identity(identity)
        parts = self._events.store.load([key])[key]
        visitor = VisitorState(key, parts).visitor
        return self.lead(key.partition("/")[0], visitor.segments[segment].owner)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of encoded state: of visitors, and of leads; what is published is in both."""
        return self._events.store.size, self._activity.store.size


def subject_of(state: LeadState) -> Subject:
    """The lead as scores see it."""
    return Subject(state.features, state.head.position.stage)


def lead_as_of(state: LeadState, rules: Rules, now: int) -> LeadState:
    """The lead as it will be at `now` if nothing happens: its time passes, and what is said is not kept.

    What is published, but has not come to this lead yet, comes to it first.
    """
    step = LeadStep(rules, state, "", _say_nothing)
    if state.exists and _behind(state, rules):
        evaluate(step, "", moved=False, silent=True)
    if state.exists and state.edge <= now:
        advance(step, now)
    state.head.clock = max(state.head.clock, now)
    return state


def _behind(state: LeadState, rules: Rules) -> bool:
    """Are there models by other versions of which the lead was last scored? Their lines mean nothing here."""
    head, versions = state.head, rules.versions
    for name in head.emitted.keys() - versions.keys():
        head.emitted.pop(name)
        head.timers.pop(name, None)
    lines = {name: len(model.slots) for name, model in rules.models.items()}
    others = [
        name
        for name, said in head.emitted.items()
        if said.version != versions[name] or len(said.vector) != lines[name]
    ]
    for name in others:
        head.emitted[name] = structs.replace(head.emitted[name], vector=[0] * lines[name])
    return bool(others) or head.emitted.keys() != versions.keys()


def _say_nothing(topic: str, key: str, value: bytes | None) -> None:
    pass


def _fold(stage: Stage[Any, Any]) -> _Fold:
    memory = StateStore()
    return _Fold(Shard(stage, 0, memory), memory, deque())

"""Both real stages in memory, one partition each: what the scores would be if other models were active.

Starts with any publications, takes events, and has the state of every lead at any moment, as a running system
would; it also folds what stage 2 sends back to stage 1. Deterministic, and every call of
`step` does bounded work, so that progress can be shown. Writes nothing and reads no clock.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import structs

from schemas.record import Chunk, Outgoing, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, lead_key
from scoring.features.identity import key_of_identity
from scoring.models.model import Subject
from streams.engine.shard import Stage
from streams.engine.state_store import StateStore
from streams.engine.task import Task, TaskCounts
from streams.score_leads.clock import advance_clock
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState
from streams.score_leads.lead_step import LeadStep
from streams.score_leads.scores import evaluate_lead
from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions, VisitorState

CHUNK_RECORDS = 500
"""Records that one step folds at most."""

OnOutput = Callable[[Outgoing], None]


class Replay:
    """`genesis` are publications, as an untouched log begins with them; `on_output` gets every record that the
    stages write, in order.
    """

    def __init__(
        self, genesis: Iterable[Outgoing], *, on_output: OnOutput | None = None, chunk: int = CHUNK_RECORDS
    ) -> None:
        self._events = _task_of_stage(TrackSessions())
        self._activity = _task_of_stage(ScoreLeads())
        self._tasks = {EVENTS: self._events, LEAD_ACTIVITY: self._activity}
        self._on_output = on_output
        self._chunk = chunk
        self.append(genesis)
        self.fold_all()

    def append(self, records: Iterable[Outgoing]) -> None:
        """Queues events, and publications for both stages; ignores records of other topics."""
        ends = {topic: task.queue.end for topic, task in self._tasks.items() if task.queue is not None}
        new: dict[str, list[Record]] = {topic: [] for topic in ends}
        for topic, key, value, _ in records:
            if topic in new:
                new[topic].append(Record(topic, 0, ends[topic] + len(new[topic]), key, value))
        for topic, start in ends.items():
            self._tasks[topic].offer(Chunk(topic, 0, start, start + len(new[topic]), new[topic]))

    def step(self) -> bool:
        """Fold a chunk, or one step of a sweep, of what came first; False if nothing waits."""
        task = self._activity
        work, output = task.fold(self._chunk)
        if not work:
            task = self._events
            work, output = task.fold(self._chunk)
        outputs = [*output.outputs, *task.changes().outputs]
        self.append(outputs)
        if self._on_output is not None:
            for each in outputs:
                self._on_output(each)
        return work > 0

    def fold_all(self) -> None:
        """Fold until nothing waits."""
        while self.step():
            pass

    def wake(self, now: int) -> bool:
        """Fires some of the timers up to `now`; False if there are none."""
        output = self._activity.fire_timers(now)
        self.append(output.outputs)
        return bool(output.outputs or output.changes)

    def advance_to(self, now: int) -> None:
        """Brings every lead to `now`: concludes everything that time alone changes until then."""
        self.fold_all()
        while self.wake(now):
            self.fold_all()

    def leads(self) -> Iterator[LeadState]:
        """Every lead as it is now, ordered by key: also those without an identity. Not to be changed;
        nothing may be folded meanwhile.
        """
        store, after = self._activity.store, ""
        while keys := store.keys_after(after, self._chunk):
            for key, parts in store.load(keys).items():
                yield LeadState(key, parts)
            after = keys[-1]

    def lead(self, tenant: str, lead_id: str) -> LeadState:
        """One lead as it is now; an unknown one does not exist (`exists`)."""
        key = lead_key(tenant, lead_id)
        return LeadState(key, self._activity.store.load([key]).get(key, {}))

    def owner(self, identity: str) -> LeadState:
        """The lead that owns an identity. Some event must have made the identity, and nothing may wait."""
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


def lead_as_of(state: LeadState, rules: LeadRules, now: int) -> LeadState:
    """The lead as it will be at `now` if nothing happens: its time passes, and its statements are dropped.

    A publication that has not reached this lead yet reaches it first.
    """
    step = LeadStep(rules, state, "", _emit_nothing)
    if state.exists and _was_scored_by_older_versions(state, rules):
        evaluate_lead(step, "", reassigned=False, silent=True)
    if state.exists and state.fires_at <= now:
        advance_clock(step, now)
    state.head.clock = max(state.head.clock, now)
    return state


def _was_scored_by_older_versions(state: LeadState, rules: LeadRules) -> bool:
    """Are there models by other versions of which the lead was last scored? Their lines mean nothing here."""
    head, versions = state.head, rules.versions
    for name in head.emitted.keys() - versions.keys():
        head.emitted.pop(name)
        head.timers.pop(name, None)
    lines = {name: len(model.line_labels) for name, model in rules.models.items()}
    others = [
        name
        for name, emitted in head.emitted.items()
        if emitted.version != versions[name] or len(emitted.vector) != lines[name]
    ]
    for name in others:
        head.emitted[name] = structs.replace(head.emitted[name], vector=[0] * lines[name])
    return bool(others) or head.emitted.keys() != versions.keys()


def _emit_nothing(topic: str, key: str, value: bytes | None) -> None:
    pass


def _task_of_stage(stage: Stage[Any, Any]) -> Task:
    task = Task(stage, 0, StateStore(), TaskCounts())
    task.restored(0, {})
    return task

"""The common job, which every engine does: score web sessions, then leads by the mean of theirs.

Stage 1, by visitor: a session ends after 30 idle minutes; its score grows with its duration, pages
and clicks, and whenever it changes, the visitor's lead is told. Stage 2, by lead: the rounded mean
of all its sessions' scores, emitted whenever it changes. Two steps and two stages of `streams.engine`
that do nothing else; `fold` is what any engine must arrive at.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from msgspec import Struct, field, json, msgpack

from bench.engine.events import Raw
from schemas.record import Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, SCORE_CHANGED
from streams.engine.shard import Emit

IDLE_MS = 30 * 60_000
NEVER = -(10**15)
IMPORTANT = {"be an early bird", "get a demo"}


class Seen(Struct, gc=False):
    """What the job reads of an event."""

    type: str
    t: int
    visitor_id: str
    lead_id: str
    text: str


class ScoredSession(Struct, array_like=True, gc=False):
    visitor_id: str
    lead_id: str
    session: int
    score: int
    t: int


class Changed(Struct, gc=False):
    lead_id: str
    score: int
    previous: int | None
    t: int


class LatestSession(Struct, array_like=True, gc=False):
    """A visitor's latest session."""

    number: int = 0
    start: int = 0
    last: int = NEVER
    pages: int = 0
    clicks: int = 0
    important: int = 0
    score: int | None = None


class Lead(Struct, array_like=True):
    sessions: dict[str, int] = field(default_factory=dict)
    total: int = 0
    score: int | None = None


def visit(session: LatestSession, event: Seen) -> int | None:
    """The session's score, if it changed."""
    if event.t - session.last > IDLE_MS:
        session.number += 1
        session.start = event.t
        session.pages = session.clicks = session.important = 0
        session.score = None
    session.last = event.t
    if event.type == "page_viewed":
        session.pages += 1
    elif event.type == "clicked":
        if event.text.lower() in IMPORTANT:
            session.important += 1
        else:
            session.clicks += 1
    score = scored(event.t - session.start, session.pages, session.clicks, session.important)
    if score == session.score:
        return None
    session.score = score
    return score


def scored(lasted_ms: int, pages: int, clicks: int, important: int) -> int:
    if lasted_ms < 180_000:
        duration = 5 if lasted_ms < 60_000 else 15
    else:
        duration = 25 if lasted_ms < 300_000 else 35 if lasted_ms < 600_000 else 40
    viewed = 5 * pages
    clicked = 2 * clicks + 5 * important
    return duration + (30 if viewed > 30 else viewed) + (30 if clicked > 30 else clicked)  # noqa: FURB136 - min() costs three times as much


def gather(lead: Lead, activity: ScoredSession) -> Changed | None:
    """The lead's score, if it changed."""
    name = f"{activity.visitor_id}:{activity.session}"
    lead.total += activity.score - lead.sessions.get(name, 0)
    lead.sessions[name] = activity.score
    score = round(lead.total / len(lead.sessions))
    if score == lead.score:
        return None
    changed = Changed(activity.lead_id, score, lead.score, activity.t)
    lead.score = score
    return changed


read_event = json.Decoder(Seen).decode
read_activity = msgpack.Decoder(ScoredSession).decode
read_changed = json.Decoder(Changed).decode
read_session = msgpack.Decoder(LatestSession).decode
read_lead = msgpack.Decoder(Lead).decode
write_packed = msgpack.Encoder().encode
write_changed = json.Encoder().encode


class Truth(NamedTuple):
    """What an engine must have emitted at the end, in any order between visitors."""

    activities: int
    scores: dict[str, int]


def fold(raw: Iterable[Raw]) -> Truth:
    """The job without an engine."""
    sessions: dict[str, LatestSession] = {}
    leads: dict[str, Lead] = {}
    activities = 0
    for _, value in raw:
        event = read_event(value)
        session = sessions.setdefault(event.visitor_id, LatestSession())
        if (score := visit(session, event)) is None:
            continue
        activities += 1
        lead = leads.setdefault(event.lead_id, Lead())
        gather(lead, ScoredSession(event.visitor_id, event.lead_id, session.number, score, event.t))
    return Truth(activities, {name: lead.score for name, lead in leads.items() if lead.score is not None})


# As stages of our engine


class Nothing:
    """What concerns a whole shard: nothing does."""

    def changes(self) -> dict[str, bytes | None]:
        return {}


class Kept:
    """One key's state, kept in one part."""

    __slots__ = ("changed", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.changed = False

    def changes(self) -> dict[str, bytes | None]:
        if not self.changed:
            return {}
        self.changed = False
        return {"state": write_packed(self.value)}


class Keyed:
    """What both stages have in common: no sweeps, no timers, nothing emitted at the end of a chunk."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        """`first` is called when the first record is read."""
        self._first = first

    def open_shared(self, _parts: dict[str, bytes]) -> Nothing:
        return Nothing()

    def apply_to_all(self, *_: Any) -> None:
        """No message concerns a whole shard."""


class Sessions(Keyed):
    """Stage 1."""

    name = "sessions"
    source = EVENTS

    def decode(self, record: Record) -> Seen:
        self._first()
        self.decode = read_value  # the instance's own from now on: the clock is read once
        return read_event(record.value)

    def key_of(self, message: Seen) -> str:
        return message.visitor_id

    def open(self, _key: str, parts: dict[str, bytes]) -> Kept:
        raw = parts.get("state")
        return Kept(LatestSession() if raw is None else read_session(raw))

    def evolve(self, _shared: Nothing, state: Kept, message: Seen, _origin: str, emit: Emit) -> None:
        session = state.value
        state.changed = True
        if (score := visit(session, message)) is not None:
            activity = ScoredSession(message.visitor_id, message.lead_id, session.number, score, message.t)
            emit(LEAD_ACTIVITY, message.lead_id, write_packed(activity))


def read_value(record: Record) -> Seen:
    return read_event(record.value)


class Leads(Keyed):
    """Stage 2."""

    name = "leads"
    source = LEAD_ACTIVITY

    def decode(self, record: Record) -> ScoredSession:
        return read_activity(record.value)

    def key_of(self, message: ScoredSession) -> str:
        return message.lead_id

    def open(self, _key: str, parts: dict[str, bytes]) -> Kept:
        raw = parts.get("state")
        return Kept(Lead() if raw is None else read_lead(raw))

    def evolve(self, _shared: Nothing, state: Kept, message: ScoredSession, _origin: str, emit: Emit) -> None:
        state.changed = True
        if (change := gather(state.value, message)) is not None:
            emit(SCORE_CHANGED, message.lead_id, write_changed(change))

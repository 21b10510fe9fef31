"""Stage 1, keyed by visitor: drop repetitions, own identity, cut sessions, evaluate signals.

From `events` to `lead-activity`. For each event that counts, the lead that owns the visitor's
current segment is told: the first time by an attach, then by deltas. It never scores.

Cost per event is flat: at most 64 acts are re-cut, and only the visitor's head, one segment's parts
and one bucket of seen ids are written. State per visitor is bounded: 21 segments, 16,384 seen ids.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct, msgpack, structs

from schemas import events as e
from schemas.activity import (
    Activity,
    EventNoted,
    IdentityAttached,
    IdentityDelta,
    IdentityDetached,
    RedirectChanged,
    SessionPut,
)
from schemas.control import (
    Carried,
    Control,
    Derived,
    ModelPublished,
    ModelRetired,
    Reassigned,
    Refused,
    SettingsPublished,
)
from schemas.decode import decode_source, encode_activity, encode_source, key_of
from schemas.envelope import Event
from schemas.moment import millis, moment
from schemas.record import Outgoing, Record
from schemas.refusal import Refusal, shorten
from schemas.topics import EVENTS, LEAD_ACTIVITY, lead_key
from scoring.features import identity, sessions
from scoring.features.features import Features, Session, encode_delta, evolve, put_session, retract_session
from scoring.features.features import decode as decode_features
from scoring.features.features import encode as encode_features
from scoring.features.identity import Reassignment, Visitor
from scoring.features.sessions import END, HEARTBEAT, KeptEvents, SessionCut, SessionEvent
from scoring.features.signals import SignalCatalogue
from streams.engine.shard import Emit
from streams.published import (
    RETIRED,
    ModelVersion,
    PublishedState,
    TenantSettings,
    check_model,
    check_settings,
    compiled,
    read_codec,
)

CODEC = 1
ALLOWED_SKEW = 5 * 60_000
"""How far an event may lie after its recording; beyond it `occurred_at` is clamped."""
SEEN_PER_BUCKET = 256
SEEN_BUCKETS = 64
SEEN_FOR = 7 * 86_400_000
"""Repetitions are recognised among at least the last 16,128 events of a key (all buckets but the one
just opened); ids older than seven days may be let go earlier."""

WEB_EVENTS = (
    e.SessionStarted,
    e.FormSubmitted,
    e.ContentDownloaded,
    e.AdClicked,
    e.SocialInteraction,
    e.ProductClicked,
    e.DemoRequested,
    e.CtaClicked,
    e.ContactShared,
    e.MeetingScheduled,
    e.PurchaseMade,
    e.Custom,
)
"""What makes and lengthens web sessions beside pages and clicks: chats, scans, e-mails and calls never
do, also where their producer leaves the source out."""


class SegmentBody(Struct):
    """A segment's features and what it keeps of its sessions."""

    features: Features
    kept: KeptEvents


_decode_kept = msgpack.Decoder(KeptEvents).decode


class VisitorState:
    """One key: head, per segment its features and what it keeps of its sessions, buckets of seen ids."""

    def __init__(self, key: str, parts: dict[str, bytes]) -> None:
        self.key = key
        self.tenant = key.partition("/")[0]
        head = parts.get("head")
        self.visitor = (
            msgpack.decode(read_codec(head, CODEC), type=Visitor) if head else identity.open_visitor(key)
        )
        self.bodies = {
            int(name[9:]): SegmentBody(
                decode_features(value),
                _decode_kept(read_codec(kept, CODEC))
                if (kept := parts.get("kept:" + name[9:]))
                else KeptEvents(),
            )
            for name, value in parts.items()
            if name.startswith("features:")
        }
        self._buckets = {int(name[5:]): value for name, value in parts.items() if name.startswith("seen:")}
        self._seen = {value[i : i + 8] for value in self._buckets.values() for i in range(8, len(value), 8)}
        self._changed: set[str] = set()

    def body(self, segment: int) -> SegmentBody:
        if segment not in self.bodies:
            self.bodies[segment] = SegmentBody(Features(), KeptEvents())
        return self.bodies[segment]

    def touch(self, segment: int | None = None) -> None:
        self._changed.update(["head"] if segment is None else [f"features:{segment}", f"kept:{segment}"])

    def see(self, event_id: str) -> bool:
        """Remember the id; False if it was seen before."""
        mark = blake2b(event_id.encode(), digest_size=8).digest()
        if mark in self._seen:
            return False
        self._seen.add(mark)
        newest = max(self._buckets, default=0)
        bucket = self._buckets.get(newest, b"")
        if len(bucket) >= 8 * (SEEN_PER_BUCKET + 1):
            newest, bucket = newest + 1, b""
            self._let_go()
        self._buckets[newest] = self.visitor.clock.to_bytes(8, "big", signed=True) + bucket[8:] + mark
        self._changed.add(f"seen:{newest}")
        return True

    def _let_go(self) -> None:
        """A bucket opens with the clock of its newest id: the oldest and the surplus go."""
        horizon = self.visitor.clock - SEEN_FOR
        for number in sorted(self._buckets):
            value = self._buckets[number]
            old = int.from_bytes(value[:8], "big", signed=True) < horizon
            if not old and len(self._buckets) < SEEN_BUCKETS:
                break
            del self._buckets[number]
            self._seen.difference_update(value[i : i + 8] for i in range(8, len(value), 8))
            self._changed.add(f"seen:{number}")

    def changes(self) -> dict[str, bytes | None]:
        changed: dict[str, bytes | None] = {}
        for part in sorted(self._changed):
            if part == "head":
                changed[part] = bytes([CODEC]) + msgpack.encode(self.visitor)
            elif part.startswith("seen:"):
                changed[part] = self._buckets.get(int(part[5:]))
            elif part.startswith("features:"):
                changed[part] = encode_features(self.bodies[int(part[9:])].features)
            else:
                changed[part] = bytes([CODEC]) + msgpack.encode(self.bodies[int(part[5:])].kept)
        self._changed.clear()
        return changed

    def due(self) -> int | None:
        return None


class SourceShared(PublishedState):
    """What is published, and the signal catalogue of each tenant's models."""

    def __init__(self, parts: dict[str, bytes]) -> None:
        super().__init__(parts)
        self._catalogues: dict[str, SignalCatalogue] = {}

    def catalogue(self, tenant: str) -> SignalCatalogue:
        found = self._catalogues.get(tenant)
        if found is None:
            models = self.published.models_of(tenant)
            found = _catalogue(tuple(active.text for active in models.values()))
            self._catalogues[tenant] = found
        return found

    def refresh(self) -> None:
        self._catalogues.clear()


@lru_cache(maxsize=64)
def _catalogue(texts: tuple[str, ...]) -> SignalCatalogue:
    return SignalCatalogue.of([compiled(text) for text in texts])


class _VisitorStep:
    """One record of one visitor: where its messages go."""

    def __init__(self, state: VisitorState, emit: Emit) -> None:
        self.state = state
        self.visitor = state.visitor
        self.emit = emit

    def tell(self, activity: Activity) -> None:
        key = lead_key(activity.tenant, activity.lead_id)
        self.emit(LEAD_ACTIVITY, key, encode_activity(activity))

    @property
    def clock(self) -> int:
        """What leads are told: never behind a lead that reassigned this visitor."""
        return max(self.visitor.clock, self.visitor.moved)

    def identity(self, at: int) -> str:
        return identity.identity_id(self.state.key, at)

    def carry_out(
        self, moved: Reassignment | None, carried: Carried | None = None, *, silent: bool = False
    ) -> None:
        """Tell the leads that a segment leaves, and the one it comes to."""
        if moved is None:
            return
        segment = self.visitor.segments[moved.segment]
        name = self.identity(moved.segment)
        for lead in moved.leave:
            self.tell(
                IdentityDetached(
                    self.state.tenant, lead, self.clock, name, segment.epoch, gone=lead in moved.gone
                )
            )
        self.attach(moved.segment, carried=carried, silent=silent)
        self.state.touch()

    def attach(
        self,
        at: int,
        *,
        carried: Carried | None = None,
        event: tuple[bytes, Event, list[SessionPut]] | None = None,
        silent: bool = False,
    ) -> None:
        segment = self.visitor.segments[at]
        segment.born = True
        raw, first, put = event or (None, None, [])
        self.tell(
            IdentityAttached(
                self.state.tenant,
                segment.owner,
                self.clock,
                self.identity(at),
                segment.epoch,
                segment.home,
                encode_features(self.state.body(at).features),
                path=segment.path,
                final=segment.final,
                carried=carried,
                event=raw,
                event_id=first.event_id if first else None,
                sessions=put,
                silent=silent,
                reply=bool(first and first.reply),
            )
        )


class TrackSessions:
    """The stage; see the module's docstring."""

    name = "track_sessions"
    source = EVENTS

    def decode(self, record: Record) -> tuple[bytes, Event | Control | Derived]:
        value = record.value or b""
        said = decode_source(value)
        match said:
            case ModelPublished(model=model, text=text):
                check_model(model, text)
            case SettingsPublished(time_zone=time_zone, lifecycle=lifecycle):
                check_settings(time_zone, lifecycle)
            case Event() if record.appended_at is not None:
                return _from_broker(said, value, record.key, record.appended_at)
        return value, said

    def key_of(self, message: tuple[bytes, Event | Control | Derived]) -> str | None:
        match message[1]:
            case Control():
                return None
            case Derived(identity=name):
                return identity.key_of_identity(name)[0]
            case event:
                return key_of(event)

    def open_shared(self, parts: dict[str, bytes]) -> SourceShared:
        return SourceShared(parts)

    def open(self, key: str, parts: dict[str, bytes]) -> VisitorState:
        return VisitorState(key, parts)

    def begin(self, shared: SourceShared, message: tuple[bytes, Event | Control | Derived]) -> str | None:
        """Signals and settings hold from here on; what was counted stays counted: no sweep."""
        match message[1]:
            case ModelPublished() as m:
                shared.publish_model(m.tenant, m.model, ModelVersion(m.version, m.text))
            case ModelRetired() as m:
                shared.publish_model(m.tenant, m.model, ModelVersion(m.version, RETIRED))
            case SettingsPublished() as s:
                settings = TenantSettings(s.version, s.time_zone, s.idle_minutes, s.lifecycle)
                shared.publish_settings(s.tenant, settings)
        return None

    def visit(self, *_: object) -> None:
        raise NotImplementedError("no record sweeps visitors")

    def visited(self, *_: object) -> None:
        raise NotImplementedError("no record sweeps visitors")

    def settle(self, state: VisitorState, emit: Emit) -> None:
        """Visitors say everything at once."""

    def timer(self, shared: SourceShared, state: VisitorState, now: int) -> tuple[bool, int | None]:
        """Time alone never changes a visitor: stage 2 decides when a session has fallen idle."""
        return False, None

    def wake(self, state: VisitorState, now: int) -> Outgoing:
        raise NotImplementedError("no timer wakes visitors")

    def evolve(
        self,
        shared: SourceShared,
        state: VisitorState,
        message: tuple[bytes, Event | Control | Derived],
        origin: str,
        emit: Emit,
    ) -> None:
        raw, said = message
        step = _VisitorStep(state, emit)
        if isinstance(said, Derived):
            _reassigned(step, said)
        elif isinstance(said, Event):
            _event(shared, step, said, raw)


def _reassigned(step: _VisitorStep, said: Derived) -> None:
    visitor = step.visitor
    at = identity.key_of_identity(said.identity)[1]
    visitor.moved = max(visitor.moved, millis(said.recorded_at))
    step.state.touch()
    match said:
        case Reassigned(holder=holder, epoch=epoch, to=to, path=path, final=final, carried=carried):
            moved = identity.reassign(
                visitor, at, holder=holder, epoch=epoch, to=to, path=list(path), final=final
            )
            step.carry_out(moved, carried)
        case Refused(identity=name, epoch=epoch):
            step.carry_out(identity.park(visitor, at, name, epoch))


def _from_broker(event: Event, value: bytes, key: str, appended_at: int) -> tuple[bytes, Event]:
    """An event that may not have passed the door. Raises Refusal for one under another's key: its
    repetitions and its sessions would be counted apart.
    """
    if key != key_of(event):
        raise Refusal(
            "key", f"the record's key is {shorten(repr(key))}; for this event it must be {key_of(event)!r}"
        )
    if event.recorded_at is None:
        event = structs.replace(event, recorded_at=moment(appended_at))
        value = encode_source(event)
    return value, event


def _event(shared: SourceShared, step: _VisitorStep, event: Event, raw: bytes) -> None:
    state, visitor = step.state, step.visitor
    recorded = millis(event.recorded_at or event.occurred_at)
    if event.bot is not None:
        if event.reply:
            owner = visitor.segments[visitor.current].owner
            step.tell(EventNoted(state.tenant, owner, max(recorded, step.clock), event.event_id, "bot"))
        return
    visitor.clock = max(visitor.clock, recorded)
    occurred = min(millis(event.occurred_at), recorded + ALLOWED_SKEW)
    state.touch()
    late = occurred < visitor.clock - sessions.LATENESS
    silent = event.imported or late
    at = visitor.current
    if event.visitor_id is not None and event.lead_id is not None:
        at, moved = identity.claim(visitor, state.key, event.lead_id, occurred, event.event_id)
        step.carry_out(moved, silent=silent)
    segment = visitor.segments[at]
    if not state.see(event.event_id):
        if event.reply:
            step.tell(EventNoted(state.tenant, segment.owner, step.clock, event.event_id, "duplicate"))
        return

    settings = shared.published.settings_of(state.tenant)
    body = state.body(at)
    state.touch(at)
    catalogue = shared.catalogue(state.tenant)
    lift = catalogue.lift(event, occurred, settings.zone.day_of(occurred))
    act = None if late else _act(event, occurred, catalogue.is_important_click)
    changed = sessions.track(body.kept, body.features.sessions, act, visitor.clock, settings.idle_ms)
    for cut, session in changed.put:
        put_session(body.features, cut.session_id, session)
    for session_id in (*changed.retracted, *changed.forgotten):
        retract_session(body.features, session_id)
    evolve(body.features, lift)
    put = [_session_put(cut, session) for cut, session in changed.put]
    if not segment.born:
        step.attach(at, event=(raw, event, put), silent=silent)
    else:
        step.tell(
            IdentityDelta(
                state.tenant,
                segment.owner,
                step.clock,
                step.identity(at),
                segment.epoch,
                raw,
                event.event_id,
                encode_delta(lift),
                sessions=put,
                retracted=changed.retracted,
                late=late,
                silent=silent,
                reply=event.reply,
                forgotten=changed.forgotten,
                revision=body.kept.revision,
            )
        )
    match event:
        case e.LeadsMerged(lead_id=str(goes), into=into):
            step.tell(RedirectChanged(state.tenant, goes, step.clock, into, event.event_id))
        case e.MergeUndone(lead_id=str(back)):
            step.tell(RedirectChanged(state.tenant, back, step.clock, None, event.event_id))


def _session_put(cut: SessionCut, session: Session) -> SessionPut:
    return SessionPut(
        cut.session_id,
        session.revision,
        session.opened_at,
        session.last_at,
        session.closed,
        session.pages,
        session.clicks,
        session.important_clicks,
        cut.producer_id or None,
        cut.campaign or None,
    )


def _act(event: Event, occurred: int, is_important: Callable[[Event], bool]) -> SessionEvent | None:
    """The event as an act of a web session; None if it is none: only a visitor's own acts on the web
    make or lengthen a session. Ends and heartbeats belong to whatever session is open, so they
    bring no campaign.
    """
    if event.source != "web" or event.visitor_id is None:
        return None
    act = SessionEvent(occurred, event.event_id, occurred, producer_id=event.session_id or "")
    match event:
        case e.SessionEnded():
            act.kind = END
            return act
        case e.SessionHeartbeat():
            act.kind = HEARTBEAT
            return act
        case e.PageViewed():
            act.pages = 1
        case e.ElementClicked() | e.LinkClicked() if is_important(event):
            act.important_clicks = 1
        case e.ElementClicked() | e.LinkClicked():
            act.clicks = 1
        case _ if not isinstance(event, WEB_EVENTS):
            return None
    act.campaign = _campaign(event)
    return act


def _campaign(event: Event) -> str:
    """What tells one campaign from another; empty if the event names none."""
    if event.context is None or event.context.campaign is None:
        return ""
    c = event.context.campaign
    return (
        "/".join(part or "" for part in (c.source, c.medium, c.name))
        .encode()[:64]
        .decode(errors="ignore")
        .strip("/")
    )


TRACK_SESSIONS = TrackSessions()

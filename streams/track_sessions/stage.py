"""Stage 1, keyed by visitor: drop repetitions, own identity, cut sessions, evaluate signals.

From `events` to `lead-activity`. Each event that counts goes to the lead that owns the visitor's current
segment: the first time in an attach, then in deltas. It never scores.

Cost per event is flat: at most 64 kept events are cut into sessions again, and only the visitor's head, one
segment's parts and one part of seen ids are written.
"""

from msgspec import structs

from schemas import events as e
from schemas.activity import (
    EventNoted,
    IdentityCompleted,
    IdentityDelta,
    IdentityDetached,
    RedirectChanged,
)
from schemas.control import (
    Control,
    Derived,
    ExperimentPublished,
    IdentityErased,
    LeftBehind,
    ModelPublished,
    ModelRetired,
    PersonErased,
    Reassigned,
    Refused,
    SettingsPublished,
    WorkflowsPublished,
)
from schemas.decode import decode_source, encode_source, key_of
from schemas.envelope import Event, tag_of
from schemas.moment import happened_at, millis, moment
from schemas.record import Record
from schemas.refusal import Refusal, shorten
from schemas.topics import EVENTS
from schemas.validation import check_ids_name_somebody
from scoring.features import identity, sessions
from scoring.features.consent import last_tracking_word, may_be_counted
from scoring.features.erased_people import is_key_erased
from scoring.features.features import (
    Features,
    encode_delta,
    evolve,
    last_counted,
    put_session,
    retract_session,
)
from scoring.features.mail_opens import is_prefetch
from streams.engine.shard import Emit
from streams.published import (
    RETIRED_MODEL_TEXT,
    ModelVersion,
    TenantSettings,
    check_experiment,
    check_model,
    check_settings,
    check_workflows,
)
from streams.track_sessions.signal_catalogues import PublishedSignals
from streams.track_sessions.visitor_state import VisitorState
from streams.track_sessions.visitor_step import VisitorStep
from streams.track_sessions.web_sessions import (
    campaign_name,
    forget_campaigns,
    remember_campaign,
    session_event,
    session_put_of,
    session_puts_of,
)

EMAIL_SENT_SIGNAL = tag_of(e.EmailSent)
ALLOWED_CLOCK_LEAD_MS = 5 * 60_000
"""How far an event may lie after its recording; beyond it `occurred_at` is clamped."""


class TrackSessions:
    """The stage; see the module's docstring."""

    name = "track_sessions"
    source = EVENTS

    def decode(self, record: Record) -> tuple[bytes, Event | Control | Derived]:
        value = record.value or b""
        source = decode_source(value)
        match source:
            case ModelPublished(model=model, text=text, folding=folding):
                check_model(model, text, folding)
            case SettingsPublished(time_zone=time_zone, lifecycle=lifecycle, attribution=attribution):
                check_settings(time_zone, lifecycle, attribution)
            case WorkflowsPublished(text=text, folding=folding):
                check_workflows(text, folding)
            case ExperimentPublished(text=text):
                check_experiment(text)
            case Event() if record.appended_at is not None:
                return _checked_event(source, value, record.key, record.appended_at)
        return value, source

    def key_of(self, message: tuple[bytes, Event | Control | Derived]) -> str | None:
        match message[1]:
            case Control():
                return None
            case Derived(identity=name):
                return identity.key_of_identity(name)[0]
            case event:
                return key_of(event)

    def open_shared(self, parts: dict[str, bytes]) -> PublishedSignals:
        return PublishedSignals(parts)

    def open(self, key: str, parts: dict[str, bytes]) -> VisitorState:
        return VisitorState(key, parts)

    def apply_to_all(
        self, shared: PublishedSignals, message: tuple[bytes, Event | Control | Derived]
    ) -> None:
        """Signals and settings are active from here on; what was counted stays counted, so there is no sweep."""
        match message[1]:
            case ModelPublished() as m:
                shared.publish_model(m.tenant, m.model, ModelVersion(m.version, m.text, m.folding))
            case ModelRetired() as m:
                shared.publish_model(m.tenant, m.model, ModelVersion(m.version, RETIRED_MODEL_TEXT))
            case SettingsPublished() as s:
                since = s.consent_required_since
                settings = TenantSettings(
                    s.version,
                    s.time_zone,
                    s.idle_minutes,
                    s.lifecycle,
                    s.profile_fields,
                    s.attribution,
                    None if since is None else millis(since),
                    s.unique_fields,
                )
                shared.publish_settings(s.tenant, settings)
            case PersonErased() as p:
                shared.remember_erased(p.tenant, p.salt, p.hashes)

    def refuses(self, shared: PublishedSignals, message: tuple[bytes, Event | Control | Derived]) -> bool:
        source = message[1]
        return bool(shared.erased) and isinstance(source, Event) and shared.erased.is_named_in(source)

    def evolve(
        self,
        shared: PublishedSignals,
        state: VisitorState,
        message: tuple[bytes, Event | Control | Derived],
        origin: str,
        emit: Emit,
    ) -> None:
        raw, source = message
        step = VisitorStep(state, emit, shared.published.settings_of(state.tenant).idle_ms)
        if isinstance(source, Derived):
            if is_key_erased(shared.erased, state.key):
                state.remove()
            elif isinstance(source, IdentityErased):
                _forget_identity(step, source)
            else:
                _apply_reassignment(step, source)
        elif isinstance(source, Event):
            _apply_event(shared, step, source, raw)


def _forget_identity(step: VisitorStep, derived: IdentityErased) -> None:
    """Somebody else uses the same browser: only this person's segment goes."""
    at = identity.key_of_identity(derived.identity)[1]
    before = identity.erase_segment(step.visitor, step.state.key, at)
    if before is None:
        return
    step.state.clear_body(at)
    step.emit_activity(
        IdentityDetached(
            step.state.tenant, before.owner, step.clock, step.identity(at), before.epoch + 1, gone=True
        )
    )


def _apply_reassignment(step: VisitorStep, derived: Derived) -> None:
    visitor = step.visitor
    at = identity.key_of_identity(derived.identity)[1]
    visitor.moved = max(visitor.moved, millis(derived.recorded_at))
    step.state.mark_changed()
    match derived:
        case Reassigned(holder=holder, epoch=epoch, to=to, path=path, final=settled, carried=carried):
            reassignment = identity.reassign_as_requested(
                visitor, at, holder=holder, epoch=epoch, to=to, path=list(path), final=settled
            )
            step.emit_reassignment(reassignment, carried)
        case Refused(identity=name, epoch=epoch):
            step.emit_reassignment(identity.park_refused_segment(visitor, at, name, epoch))
        case LeftBehind():
            _pass_on_what_was_left(step, at, derived)


def _pass_on_what_was_left(step: VisitorStep, at: int, left: LeftBehind) -> None:
    """Sent to whoever owns the segment now. A stage stays with the segment, and goes with it wherever it goes; a stranger
    who took the place of an erased person gets nothing of it.
    """
    visitor = step.visitor
    if at >= len(visitor.segments) or not visitor.segments[at].born:
        return
    segment, body = visitor.segments[at], step.state.body(at)
    carried = None if identity.is_anonymous(segment.home) else left.carried
    if carried is not None:
        segment.identified = carried
    current = body.features.sessions
    retracted = [session_id for session_id in left.retracted if session_id not in current]
    put = session_puts_of(body.kept, current, left.sessions, step.idle_ms)
    if carried is not None or put or retracted:
        step.emit_activity(
            IdentityCompleted(
                step.state.tenant,
                segment.owner,
                step.clock,
                step.identity(at),
                segment.epoch,
                carried,
                put,
                retracted,
            )
        )


def _checked_event(event: Event, value: bytes, key: str, appended_at: int) -> tuple[bytes, Event]:
    """An event that may not have passed the door. Raises Refusal for one under another's key: its
    repetitions and its sessions would be counted apart.
    """
    if key != key_of(event):
        raise Refusal(
            "key", f"the record's key is {shorten(repr(key))}; for this event it must be {key_of(event)!r}"
        )
    if event.recorded_at is None:
        check_ids_name_somebody(event)
        recorded = moment(appended_at)
        event = structs.replace(
            event, recorded_at=recorded, occurred_at=happened_at(event.occurred_at, recorded)
        )
        value = encode_source(event)
    return value, event


def _is_prefetch(opened: e.EmailOpened, at: int, features: Features) -> bool:
    agent = opened.context.user_agent if opened.context else None
    return is_prefetch(agent or "", at, last_counted(features, EMAIL_SENT_SIGNAL))


def _apply_event(shared: PublishedSignals, step: VisitorStep, event: Event, raw: bytes) -> None:
    state, visitor = step.state, step.visitor
    recorded = millis(event.recorded_at or event.occurred_at)
    settings = shared.published.settings_of(state.tenant)
    uncounted = None
    if event.bot is not None:
        uncounted = "bot"
    elif not may_be_counted(event, settings.consent_required_since, visitor.tracking):
        uncounted = "no_consent"
    if uncounted is not None:
        if event.reply:
            owner, at_clock = visitor.segments[visitor.current].owner, max(recorded, step.clock)
            step.emit_activity(
                EventNoted(state.tenant, owner, at_clock, event.event_id, uncounted, state.key)
            )
        return
    visitor.tracking = last_tracking_word(event, visitor.tracking)
    visitor.clock = max(visitor.clock, recorded)
    occurred = min(millis(event.occurred_at), recorded + ALLOWED_CLOCK_LEAD_MS)
    state.mark_changed()
    late = occurred < visitor.clock - sessions.LARGEST_LATENESS_MS
    silent = event.imported or late
    at = visitor.current
    if event.visitor_id is not None and event.lead_id is not None:
        at, reassignment = identity.claim_visitor(visitor, state.key, event.lead_id, occurred, event.event_id)
        step.emit_reassignment(reassignment, silent=silent)
    segment = visitor.segments[at]
    if not state.remember(event.event_id):
        if event.reply:
            step.emit_activity(
                EventNoted(state.tenant, segment.owner, step.clock, event.event_id, "duplicate", state.key)
            )
        return

    body = state.body(at)
    if isinstance(event, e.EmailOpened) and _is_prefetch(event, occurred, body.features):
        if event.reply:
            step.emit_activity(
                EventNoted(state.tenant, segment.owner, step.clock, event.event_id, "bot", state.key)
            )
        return
    state.mark_changed(at)
    catalogue = shared.catalogue(state.tenant)
    day = settings.zone.day_of(occurred)
    feature_delta = catalogue.feature_delta_of(event, occurred, day, settings.profile_fields)
    part = None if late else session_event(event, occurred, catalogue.is_important_click)
    if part is not None and part.campaign:
        remember_campaign(body.kept.campaigns, campaign_name(event))
    changed = sessions.track_session_event(
        body.kept, body.features.sessions, part, visitor.clock, settings.idle_ms
    )
    for cut, session in changed.put:
        put_session(body.features, cut.session_id, session)
    for session_id in (*changed.retracted, *changed.forgotten):
        retract_session(body.features, session_id)
    evolve(body.features, feature_delta)
    put = [session_put_of(cut, session, body.kept.campaigns) for cut, session in changed.put]
    forget_campaigns(body.kept)
    if not segment.born:
        step.attach(at, event=(raw, event, put), silent=silent)
    else:
        step.emit_activity(
            IdentityDelta(
                state.tenant,
                segment.owner,
                step.clock,
                step.identity(at),
                segment.epoch,
                raw,
                event.event_id,
                encode_delta(feature_delta),
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
            step.emit_activity(RedirectChanged(state.tenant, goes, step.clock, into, event.event_id))
        case e.MergeUndone(lead_id=str(back)):
            step.emit_activity(RedirectChanged(state.tenant, back, step.clock, None, event.event_id))


TRACK_SESSIONS = TrackSessions()

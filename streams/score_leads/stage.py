"""Stage 2, keyed by lead: merge features, score by every active model, say what changed.

From `lead-activity` to the score topics. The recorded order of `lead-activity` decides everything:
folding it again says the same statements with the same ids. It evaluates no signal and never looks
at a clock; a lead's own clock is the highest `recorded_at` of its records.
"""

from collections.abc import Sequence
from functools import partial

from schemas import statements as say
from schemas.activity import (
    Activity,
    EventNoted,
    IdentityAttached,
    IdentityDelta,
    IdentityDetached,
    ModelChanged,
    ModelRemoved,
    RedirectChanged,
    SettingsChanged,
    TimePassed,
)
from schemas.control import EVERY_TENANT, Carried, Reassigned, Refused
from schemas.decode import decode_activity, encode_activity, encode_source, encode_statement
from schemas.moment import moment
from schemas.record import Outgoing, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_SCORES, SESSION_SCORES, lead_key
from scoring.features.features import Session, decode_delta
from scoring.features.features import decode as decode_features
from scoring.features.identity import MOST_IDENTITIES, forwarding, is_anonymous, key_of_identity
from scoring.features.lead_identity import LeadIdentity
from scoring.models.model import INF, Model, may_change_score
from streams.engine.shard import Emit
from streams.published import RETIRED, ModelVersion, TenantSettings, check_model, check_settings
from streams.score_leads.conclusions import (
    LeadStep,
    advance,
    answer,
    emit_ended_sessions,
    emit_session_score,
    end_model,
    evaluate,
    next_change,
)
from streams.score_leads.lead_rules import ActivityShared
from streams.score_leads.lead_state import LeadState, card


class ScoreLeads:
    """The stage; see the module's docstring."""

    name = "score_leads"
    source = LEAD_ACTIVITY

    def decode(self, record: Record) -> Activity:
        activity = decode_activity(record.value or b"")
        match activity:
            case ModelChanged(model=model, text=text):
                check_model(model, text)
            case SettingsChanged(time_zone=time_zone, lifecycle=lifecycle):
                check_settings(time_zone, lifecycle)
        return activity

    def key_of(self, message: Activity) -> str | None:
        if isinstance(message, ModelChanged | ModelRemoved | SettingsChanged):
            return None
        return lead_key(message.tenant, message.lead_id)

    def open_shared(self, parts: dict[str, bytes]) -> ActivityShared:
        return ActivityShared(parts)

    def open(self, key: str, parts: dict[str, bytes]) -> LeadState:
        return LeadState(key, parts)

    def begin(self, shared: ActivityShared, message: Activity) -> str | None:
        under_way = shared.published.sweep
        what = _sweep_of(message)
        if under_way is not None and under_way.what == what:
            return under_way.cursor
        match message:
            case ModelChanged(tenant=tenant, model=model, version=version, text=text):
                sweep = shared.publish_model(tenant, model, ModelVersion(version, text), what)
            case ModelRemoved(tenant=tenant, model=model, version=version):
                sweep = shared.publish_model(tenant, model, ModelVersion(version, RETIRED), what)
            case SettingsChanged(tenant=tenant) as s:
                settings = TenantSettings(s.version, s.time_zone, s.idle_minutes, s.lifecycle)
                sweep = shared.publish_settings(tenant, settings, what)
            case _:
                sweep = None
        if sweep is None:
            return None
        shared.begin(sweep)
        return ""

    def visited(self, shared: ActivityShared, message: Activity, cursor: str | None) -> None:
        shared.visited(cursor)

    def visit(
        self, shared: ActivityShared, state: LeadState, message: Activity, origin: str, emit: Emit
    ) -> None:
        if not state.exists or message.tenant not in (EVERY_TENANT, state.tenant):
            return
        # Up to here the lead lived under what was in force before; only now does the new text hold.
        before = shared.rules(state.tenant, before_sweep=True)
        step = LeadStep(before, state, origin, emit)
        advance(step, message.recorded_at)
        after = shared.rules(state.tenant)
        step.turn_to(after)
        what, clock = _sweep_of(message), state.head.clock
        match message:
            case ModelChanged(model=name, fire=fire):
                published = partial(_is, name)
                evaluate(step, what, moved=False, silent=not fire, affects=published)
            case ModelRemoved(model=name) if name in after.models:
                pass  # it was everybody's, and this tenant has its own
            case ModelRemoved(model=name, version=version):
                end_model(step, name, version, what)
            case _:
                evaluate(step, what, moved=False, silent=True)
                emit_ended_sessions(step, what, clock - before.idle_ms, clock - after.idle_ms)
        state.touch()

    def settle(self, state: LeadState, emit: Emit) -> None:
        """Once per chunk: the lead's card, whole, or a tombstone."""
        if not state.spoken:
            return
        state.spoken = False
        emit(LEAD_SCORES, state.key, encode_statement(card(state)) if state.exists else None)

    def timer(self, shared: ActivityShared, state: LeadState, now: int) -> tuple[bool, int | None]:
        if not state.exists:
            return False, None
        at = next_change(shared.rules(state.tenant), state)
        return (True, None) if at <= now else (False, at if at < INF else None)

    def wake(self, state: LeadState, now: int) -> Outgoing:
        activity = TimePassed(state.tenant, state.lead_id, now)
        return Outgoing(LEAD_ACTIVITY, state.key, encode_activity(activity))

    def evolve(
        self, shared: ActivityShared, state: LeadState, message: Activity, origin: str, emit: Emit
    ) -> None:
        step = LeadStep(shared.rules(state.tenant), state, origin, emit)
        advance(step, message.recorded_at)
        match message:
            case IdentityAttached():
                _attached(step, message)
            case IdentityDetached():
                _detached(step, message)
            case IdentityDelta():
                _delta(step, message)
            case RedirectChanged():
                _redirected(step, message)
            case EventNoted(event_id=event_id, outcome=outcome):
                answer(step, event_id, outcome)
            case TimePassed():
                pass
        head = state.head
        if (
            is_anonymous(state.lead_id)
            and not state.identities
            and not head.forwarded
            and head.redirect is None
        ):
            state.spoken = state.spoken or state.exists
            state.vanish()
        elif state.exists:
            state.touch()
        else:
            state.vanish()


def _is(name: str, model: Model) -> bool:
    return model.name == name


def _sweep_of(message: Activity) -> str:
    match message:
        case ModelChanged() | ModelRemoved():
            return f"model:{message.tenant}:{message.model}:{message.version}"
        case SettingsChanged(tenant=tenant, version=version):
            return f"settings:{tenant}:{version}"
        case _:
            return ""


# -- records of identities


def _attached(step: LeadStep, a: IdentityAttached) -> None:
    state, head = step.state, step.head
    cause = f"event:{a.event_id}" if a.event_id else f"attached:{a.identity}:{a.epoch}"
    held = state.identities.get(a.identity)
    if held is not None and held.epoch >= a.epoch:
        return
    head.silent = a.silent
    # The first attach is an event's doing; a later one is a move and arms nothing again.
    moved = a.epoch > 1
    redirected = head.redirect is not None and not a.final
    company = head.forwarded if redirected else state.identities
    if a.identity not in company and len(company) >= MOST_IDENTITIES:
        _refuse(step, a)
        return
    if head.redirect is not None and redirected:
        head.forwarded = sorted({*head.forwarded, a.identity})
        state.drop(a.identity)
        state.touch()
        if _forward(step, a, head.redirect):
            evaluate(step, cause, moved=True, silent=a.silent)
            if a.reply and a.event_id:
                answer(step, a.event_id, "applied")
            return
    state.hold(a.identity, LeadIdentity(a.epoch, a.home, decode_features(a.features)))
    if head.redirect is None and a.identity in head.forwarded:
        head.forwarded = [name for name in head.forwarded if name != a.identity]
    evaluate(step, cause, moved=moved, silent=a.silent, carried=a.carried, event=a.event)
    for put in a.sessions:
        emit_session_score(step, a.identity, put.session_id, put.producer_id, cause)
    if a.reply and a.event_id:
        answer(step, a.event_id, "applied")


def _refuse(step: LeadStep, a: IdentityAttached) -> None:
    """The lead is full: the identity shall park in an anonymous lead of its own."""
    refused = Refused(
        tenant=step.state.tenant, recorded_at=moment(step.head.clock), identity=a.identity, epoch=a.epoch
    )
    step.emit(EVENTS, key_of_identity(a.identity)[0], encode_source(refused))
    if a.reply and a.event_id:
        answer(step, a.event_id, "applied")


def _forward(step: LeadStep, a: IdentityAttached, redirect: str) -> bool:
    """Send an identity along the redirect; False if a cycle settles it here."""
    way = forwarding(step.state.lead_id, redirect, a.path)
    if way.settles:
        return False
    _reassign(step, a.identity, a.epoch, to=way.to, path=way.path, final=way.final)
    return True


def _reassign(
    step: LeadStep, name: str, epoch: int, *, to: str | None, path: Sequence[str] = (), final: bool = False
) -> None:
    position = step.head.position
    step.emit(
        EVENTS,
        key_of_identity(name)[0],
        encode_source(
            Reassigned(
                tenant=step.state.tenant,
                recorded_at=moment(step.head.clock),
                identity=name,
                epoch=epoch,
                holder=step.state.lead_id,
                to=to,
                path=list(path),
                final=final,
                carried=Carried(position.stage, position.entered_at) if to is not None else None,
            )
        ),
    )


def _detached(step: LeadStep, d: IdentityDetached) -> None:
    state, head = step.state, step.head
    if d.gone and d.identity in head.forwarded:
        head.forwarded = [name for name in head.forwarded if name != d.identity]
        state.touch()
    held = state.identities.get(d.identity)
    if held is not None and held.epoch < d.epoch:
        state.drop(d.identity)
        evaluate(step, f"detached:{d.identity}:{d.epoch}", moved=True, silent=head.silent)


def _delta(step: LeadStep, d: IdentityDelta) -> None:
    state, head = step.state, step.head
    held = state.identities.get(d.identity)
    cause = f"event:{d.event_id}"
    if held is not None and held.epoch == d.epoch:
        head.silent = d.silent
        before = {put.session_id: held.features.sessions.get(put.session_id) for put in d.sessions}
        lift = decode_delta(d.lift)
        state.apply(d.identity, lift, d)
        ended = (d.retracted or d.forgotten) or any(
            _has_ended(session, step)
            for put in d.sessions
            for session in (before[put.session_id], held.features.sessions.get(put.session_id))
        )
        evaluate(
            step,
            cause,
            moved=False,
            silent=d.silent,
            affects=lambda model: may_change_score(model, lift, bool(ended), False),
            event=d.event,
        )
        for put in d.sessions:
            old = before[put.session_id]
            emit_session_score(step, d.identity, put.session_id, put.producer_id, cause, old)
        for session_id in d.retracted:
            step.say(
                SESSION_SCORES,
                say.SessionRetracted(**step.envelope(cause), identity=d.identity, session_id=session_id),
            )
    if d.reply:
        answer(step, d.event_id, "applied")


def _has_ended(session: Session | None, step: LeadStep) -> bool:
    """Only ended sessions are in a lead's mean; an open one may grow without touching it."""
    return session is not None and (session.closed or step.head.clock >= session.last_at + step.rules.idle_ms)


def _redirected(step: LeadStep, r: RedirectChanged) -> None:
    state, head = step.state, step.head
    to = r.to if r.to != state.lead_id else None
    if to == head.redirect:
        return
    head.redirect = to
    for name in sorted({*head.forwarded, *state.identities}):
        held = state.identities.get(name)
        _reassign(step, name, held.epoch if held else 0, to=None)
    if to is not None:
        head.forwarded = sorted({*head.forwarded, *state.identities})
        for name in list(state.identities):
            state.drop(name)
    state.touch()
    evaluate(step, f"redirect:{r.event_id}", moved=True, silent=head.silent)


SCORE_LEADS = ScoreLeads()

"""The records of a lead's identities: attached, detached, changed by an event, redirected."""

from collections.abc import Sequence

from schemas import statements
from schemas.activity import (
    IdentityAttached,
    IdentityCompleted,
    IdentityCounted,
    IdentityDelta,
    IdentityDetached,
    RedirectChanged,
    SessionPut,
)
from schemas.control import Carried, LeftBehind, Reassigned, Refused
from schemas.decode import encode_source
from schemas.moment import moment
from schemas.topics import EVENTS, SESSION_SCORES
from scoring.features.features import Session, decode_delta, decode_features
from scoring.features.identity import MOST_IDENTITIES, forwarded_identity, is_anonymous, key_of_identity
from scoring.features.lead_identity import LeadIdentity
from scoring.models.model import may_change_score
from streams.score_leads.contact_clock import carried_clock, pass_clock_on
from streams.score_leads.lead_step import LeadStep, emit_event_applied
from streams.score_leads.scores import evaluate_lead
from streams.score_leads.session_scores import emit_session_score


def attach_identity(step: LeadStep, attached: IdentityAttached) -> None:
    state, head = step.state, step.head
    cause = (
        f"event:{attached.event_id}"
        if attached.event_id
        else f"attached:{attached.identity}:{attached.epoch}"
    )
    current = state.identities.get(attached.identity)
    if current is not None and current.epoch >= attached.epoch:
        return
    head.silent = attached.silent
    # The first attach is an event's doing; a later one is a reassignment and arms nothing again.
    reassigned = attached.epoch > 1
    forwards = head.redirect is not None and not attached.final
    identities = head.forwarded if forwards else state.identities
    if attached.identity not in identities and len(identities) >= MOST_IDENTITIES:
        _park_identity(step, attached)
        return
    if head.redirect is not None and forwards:
        head.forwarded = sorted({*head.forwarded, attached.identity})
        state.detach(attached.identity)
        state.mark_changed()
        if _forward_identity(step, attached, head.redirect):
            _leave_sessions_behind(step, attached, attached.sessions)
            pass_clock_on(state)
            evaluate_lead(step, cause, reassigned=True, silent=attached.silent)
            if attached.reply and attached.event_id:
                emit_event_applied(step, key_of_identity(attached.identity)[0], attached.event_id, "applied")
            return
    state.attach(
        attached.identity, LeadIdentity(attached.epoch, attached.home, decode_features(attached.features))
    )
    if head.redirect is None and attached.identity in head.forwarded:
        head.forwarded = [name for name in head.forwarded if name != attached.identity]
    evaluate_lead(
        step,
        cause,
        reassigned=reassigned,
        silent=attached.silent,
        carried=attached.carried,
        identified=attached.identified,
        event=attached.event,
    )
    for put in attached.sessions:
        emit_session_score(step, attached.identity, put.session_id, put.producer_id, cause)
    if attached.reply and attached.event_id:
        emit_event_applied(step, key_of_identity(attached.identity)[0], attached.event_id, "applied")


def _park_identity(step: LeadStep, attached: IdentityAttached) -> None:
    """The lead is full: the identity parks in an anonymous lead of its own."""
    refused = Refused(
        tenant=step.state.tenant,
        recorded_at=moment(step.head.clock),
        identity=attached.identity,
        epoch=attached.epoch,
    )
    step.emit(EVENTS, key_of_identity(attached.identity)[0], encode_source(refused))
    _leave_sessions_behind(step, attached, attached.sessions)
    if attached.reply and attached.event_id:
        emit_event_applied(step, key_of_identity(attached.identity)[0], attached.event_id, "applied")


def _forward_identity(step: LeadStep, attached: IdentityAttached, redirect: str) -> bool:
    """Send an identity along the redirect; False if a cycle settles it here."""
    route = forwarded_identity(step.state.lead_id, redirect, attached.path)
    if route.settles:
        return False
    _reassign_identity(
        step, attached.identity, attached.epoch, to=route.to, path=route.path, settled=route.final
    )
    return True


def _reassign_identity(
    step: LeadStep, name: str, epoch: int, *, to: str | None, path: Sequence[str] = (), settled: bool = False
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
                final=settled,
                carried=None
                if to is None
                else Carried(position.stage, position.entered_at, carried_clock(step.head.contact)),
            )
        ),
    )


def detach_identity(step: LeadStep, detached: IdentityDetached) -> None:
    state, head = step.state, step.head
    if detached.gone and detached.identity in head.forwarded:
        head.forwarded = [name for name in head.forwarded if name != detached.identity]
        state.mark_changed()
    current = state.identities.get(detached.identity)
    if current is not None and current.epoch < detached.epoch:
        if detached.gone and is_anonymous(state.lead_id) and head.position.stage != "new":
            stage = Carried(head.position.stage, head.position.entered_at)
            _leave_behind(step, detached.identity, detached.epoch, carried=stage)
        state.detach(detached.identity)
        evaluate_lead(
            step, f"detached:{detached.identity}:{detached.epoch}", reassigned=True, silent=head.silent
        )


def complete_identity(step: LeadStep, completed: IdentityCompleted) -> None:
    """What the identity left behind at a lead. If it has moved on, its sessions follow it; the stage goes with it anyway."""
    current = step.state.identities.get(completed.identity)
    if current is None or current.epoch != completed.epoch:
        _leave_sessions_behind(step, completed, completed.sessions, completed.retracted)
        return
    cause = f"attached:{completed.identity}:{completed.epoch}"
    if completed.identified is not None:
        evaluate_lead(step, cause, reassigned=True, silent=step.head.silent, identified=completed.identified)
    for put in completed.sessions:
        emit_session_score(step, completed.identity, put.session_id, put.producer_id, cause)
    _retract_sessions(step, completed.identity, completed.retracted, cause)


def count_past_signals(step: LeadStep, counted: IdentityCounted) -> None:
    """The publication whose signals are new is the cause of what changes, as in its sweep."""
    current = step.state.identities.get(counted.identity)
    if current is None or current.epoch != counted.epoch:
        return
    step.state.count_past(counted.identity, decode_features(counted.counted))
    evaluate_lead(step, f"model:{counted.publication}", reassigned=False, silent=True)


def _leave_sessions_behind(
    step: LeadStep,
    activity: IdentityAttached | IdentityDelta | IdentityCompleted,
    put: Sequence[SessionPut],
    retracted: Sequence[str] = (),
) -> None:
    """Sessions of an identity that another lead owns by now: that one scores them."""
    if put or retracted:
        _leave_behind(
            step,
            activity.identity,
            activity.epoch,
            sessions=[each.session_id for each in put],
            retracted=list(retracted),
        )


def _leave_behind(
    step: LeadStep,
    name: str,
    epoch: int,
    *,
    carried: Carried | None = None,
    sessions: Sequence[str] = (),
    retracted: Sequence[str] = (),
) -> None:
    left = LeftBehind(
        tenant=step.state.tenant,
        recorded_at=moment(step.head.clock),
        identity=name,
        epoch=epoch,
        carried=carried,
        sessions=list(sessions),
        retracted=list(retracted),
    )
    step.emit(EVENTS, key_of_identity(name)[0], encode_source(left))


def _retract_sessions(step: LeadStep, name: str, session_ids: Sequence[str], cause: str) -> None:
    for session_id in session_ids:
        step.emit_statement(
            SESSION_SCORES,
            statements.SessionRetracted(**step.envelope(cause), identity=name, session_id=session_id),
        )


def apply_event(step: LeadStep, delta: IdentityDelta) -> None:
    state, head = step.state, step.head
    current = state.identities.get(delta.identity)
    cause = f"event:{delta.event_id}"
    if current is not None and current.epoch == delta.epoch:
        head.silent = delta.silent
        before = {put.session_id: current.features.sessions.get(put.session_id) for put in delta.sessions}
        feature_delta = decode_delta(delta.lift)
        state.apply(delta.identity, feature_delta, delta)
        ended = (delta.retracted or delta.forgotten) or any(
            _has_ended(session, step)
            for put in delta.sessions
            for session in (before[put.session_id], current.features.sessions.get(put.session_id))
        )
        evaluate_lead(
            step,
            cause,
            reassigned=False,
            silent=delta.silent,
            affects=lambda model: may_change_score(model, feature_delta, bool(ended), False),
            event=delta.event,
        )
        for put in delta.sessions:
            old = before[put.session_id]
            emit_session_score(step, delta.identity, put.session_id, put.producer_id, cause, old)
        _retract_sessions(step, delta.identity, delta.retracted, cause)
    else:
        _leave_sessions_behind(step, delta, delta.sessions, delta.retracted)
    if delta.reply:
        emit_event_applied(step, key_of_identity(delta.identity)[0], delta.event_id, "applied")


def _has_ended(session: Session | None, step: LeadStep) -> bool:
    """Only ended sessions are in a lead's mean; an open one may grow without touching it."""
    return session is not None and (session.closed or step.head.clock >= session.last_at + step.rules.idle_ms)


def redirect_lead(step: LeadStep, redirected: RedirectChanged) -> None:
    state, head = step.state, step.head
    to = redirected.to if redirected.to != state.lead_id else None
    if to == head.redirect:
        return
    head.redirect = to
    for name in sorted({*head.forwarded, *state.identities}):
        current = state.identities.get(name)
        _reassign_identity(step, name, current.epoch if current else 0, to=None)
    if to is not None:
        head.forwarded = sorted({*head.forwarded, *state.identities})
        for name in list(state.identities):
            state.detach(name)
    state.mark_changed()
    evaluate_lead(step, f"redirect:{redirected.event_id}", reassigned=True, silent=head.silent)

"""The scores of sessions, and their ends."""

from schemas import statements
from schemas.moment import moment
from schemas.topics import SESSION_SCORES
from scoring.features.features import Session
from scoring.models.model import (
    ONE_POINT,
    score_session,
)
from streams.score_leads.lead_step import LeadStep


def emit_session_score(
    step: LeadStep,
    identity: str,
    session_id: str,
    producer_id: str | None,
    cause: str,
    before: Session | None = None,
) -> None:
    """Emits the session's score by each model that reads sessions, if the score or the end is new."""
    session = step.state.identities[identity].features.sessions.get(session_id)
    if session is None:
        return
    ended = session.closed or step.head.clock >= session.last_at + step.rules.idle_ms
    for name in step.rules.reading_sessions:
        model = step.rules.models[name]
        scored = score_session(model, session)
        if before is not None and before.closed == session.closed and not ended:
            was = score_session(model, before)
            if was.total == scored.total and was.vector == scored.vector:
                continue
        step.emit_statement(
            SESSION_SCORES,
            statements.SessionScored(
                **step.envelope(cause),
                identity=identity,
                session_id=session_id,
                producer_id=producer_id,
                model=name,
                version=step.rules.versions[name],
                score=scored.total / ONE_POINT,
                lines=[
                    statements.Line(slot.group, slot.rule, slot.kind, points / ONE_POINT)
                    for slot, points in zip(model.line_labels, scored.vector, strict=False)
                    if points
                ],
                ended=ended,
                started_at=moment(session.opened_at),
                last_at=moment(session.last_at),
                pages=session.pages,
                clicks=session.clicks,
                important_clicks=session.important_clicks,
            ),
        )


def emit_ended_sessions(step: LeadStep, cause: str, after: int, until: int) -> None:
    """Emit the end of the open sessions whose last event was after `after`, until `until`.

    Sorted, since stored sessions come back in another order than they were made in.
    """
    ended = sorted(
        (name, session_id)
        for name, identity in step.state.identities.items()
        for session_id, session in identity.features.sessions.items()
        if not session.closed and after < session.last_at <= until
    )
    for name, session_id in ended:
        emit_session_score(step, name, session_id, None, cause)


def emit_all_session_scores(step: LeadStep, cause: str) -> None:
    """The lead is scored again, and so are its sessions."""
    for name, session_id in _sessions_in_order(step):
        emit_session_score(step, name, session_id, None, cause)


def retract_session_scores(step: LeadStep, cause: str) -> None:
    """The lead objects to profiling: the scores of its sessions are void."""
    for name, session_id in _sessions_in_order(step):
        step.emit_statement(
            SESSION_SCORES,
            statements.SessionRetracted(**step.envelope(cause), identity=name, session_id=session_id),
        )


def _sessions_in_order(step: LeadStep) -> list[tuple[str, str]]:
    return sorted(
        (name, session_id)
        for name, identity in step.state.identities.items()
        for session_id in identity.features.sessions
    )

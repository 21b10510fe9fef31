"""When time alone next changes a lead: its scores, its open sessions, its stage, an override, its workflows. Emits nothing."""

from collections.abc import Iterable

from scoring.features.view import view_of
from scoring.models.model import (
    NEVER,
    Model,
    Subject,
    earliest_time_change,
    next_visible_time_change,
)
from streams.score_leads.contact_clock import next_contact_moment
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_stage import next_stage_change_at
from streams.score_leads.lead_state import (
    CONTACT_TIMER,
    LAPSE_TIMER,
    OVERRIDE_TIMER,
    SESSIONS_TIMER,
    STAGE_TIMER,
    LeadState,
)
from streams.score_leads.lead_step import LeadStep
from streams.score_leads.overrides import next_override_end
from streams.score_leads.workflow_lapses import next_lapse_at


def next_session_end(state: LeadState, idle_ms: int) -> int:
    """The next moment after the lead's clock at which an open session falls idle."""
    clock = state.head.clock
    return min(
        (
            session.last_at + idle_ms
            for identity in state.identities.values()
            for session in identity.features.sessions.values()
            if not session.closed and session.last_at + idle_ms > clock
        ),
        default=NEVER,
    )


def set_timers(step: LeadStep, models: Iterable[str], *, exact: bool) -> None:
    """Compute again when time next matters to these models, to the sessions and to the stage.

    After an event a cheap bound is enough. When time passes, the `exact` moment keeps a lead that was quiet for
    years from being evaluated on every day of them.
    """
    rules, state, head = step.rules, step.state, step.head
    timers = dict.fromkeys(models, NEVER)
    if state.identities:
        subject = Subject(state.features, head.position.stage)
        for name in timers:
            model = rules.models[name]
            if exact:
                timers[name] = _next_visible_change(rules, state, model, subject)
            else:
                timers[name] = earliest_time_change(model, subject, head.clock, rules.zone, rules.idle_ms)
    timers[SESSIONS_TIMER] = next_session_end(state, rules.idle_ms)
    timers[STAGE_TIMER] = next_stage_change_at(rules, state) if state.identities else NEVER
    timers[OVERRIDE_TIMER] = next_override_end(state)
    if rules.workflows is not None:
        timers[LAPSE_TIMER] = next_lapse_at(rules, state, head.clock)
        timers[CONTACT_TIMER] = next_contact_moment(rules, state)
    for name, fires_at in timers.items():
        if head.clock < fires_at < NEVER:  # what is due by now has been concluded
            head.timers[name] = fires_at
        else:
            head.timers.pop(name, None)


def next_change_by_time(rules: LeadRules, state: LeadState) -> int:
    """The next moment at which time alone makes the lead emit a statement; exact."""
    if not state.identities:
        return NEVER
    subject = Subject(state.features, state.head.position.stage)
    clock = state.head.clock
    at = min(
        next_session_end(state, rules.idle_ms),
        next_stage_change_at(rules, state),
        next_override_end(state),
        next_lapse_at(rules, state, clock),
        next_contact_moment(rules, state),
    )
    for model in rules.models.values():
        at = min(at, _next_visible_change(rules, state, model, subject))
    return at


def _next_visible_change(rules: LeadRules, state: LeadState, model: Model, subject: Subject) -> int:
    clock, points = state.head.clock, None
    if model.mean is None:
        view = view_of(subject, clock, rules.zone)
        points = state.kept_points(model, view).points_at(view)
    return next_visible_time_change(model, subject, clock, rules.zone, rules.idle_ms, points)

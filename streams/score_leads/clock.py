"""A lead's own clock. Time first: before a record counts, the lead is evaluated at every moment at which time alone
changes it, so the ledger is the same whether a timer fires in time, late, twice or never.
"""

from functools import partial

from scoring.models.model import (
    Model,
)
from streams.score_leads.lead_state import LAPSE_TIMER, SESSIONS_TIMER
from streams.score_leads.lead_step import LeadStep
from streams.score_leads.scores import evaluate_lead
from streams.score_leads.session_scores import emit_ended_sessions
from streams.score_leads.workflow_triggers import trigger_lapses


def advance_clock(step: LeadStep, to: int) -> None:
    """Bring the lead's clock to `to`, concluding at every moment on the way that may matter."""
    state, head = step.state, step.head
    if to <= head.clock:
        return
    while state.exists and (due := state.fires_at) <= to:
        head.clock = due
        at_hand = {name for name, fires_at in head.timers.items() if fires_at == due}
        if SESSIONS_TIMER in at_hand:
            at_hand.update(step.rules.reading_sessions)
        cause = f"due:{due}"
        affects = partial(_is_model_among, at_hand)
        evaluate_lead(step, cause, reassigned=False, silent=head.silent, time_only=True, affects=affects)
        if SESSIONS_TIMER in at_hand:
            last_at = due - step.rules.idle_ms
            emit_ended_sessions(step, cause, last_at - 1, last_at)
        if LAPSE_TIMER in at_hand:
            trigger_lapses(step, cause)
    head.clock = to


def _is_model_among(names: set[str], model: Model) -> bool:
    return model.name in names

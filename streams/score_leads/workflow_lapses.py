"""Workflows that wait for days without an event: at which moments they come for a lead. Emits nothing."""

from collections.abc import Iterator

from schemas.moment import LATEST_MS
from scoring.features.calendar import DAY_MS
from scoring.features.identity import is_anonymous
from scoring.features.view import created_at
from scoring.models.points import NEVER
from scoring.workflows.workflow import LapseTrigger, Workflow
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState


def lapses_of_lead(rules: LeadRules, state: LeadState) -> Iterator[tuple[int, Workflow, LapseTrigger]]:
    """(the moment, the workflow, what it waits for) of each; moments that have passed, too. In the order in which they fire."""
    if rules.workflows is None or not rules.workflows.lapses or not state.identities:
        return
    signals, anonymous = state.features.signals, is_anonymous(state.lead_id)
    for workflow, trigger in rules.workflows.lapses:
        if anonymous and not workflow.anonymous:
            continue
        signal = signals.get(trigger.signal)
        since = created_at(signals) if signal is None else signal.last
        if since is not None and since + trigger.days * DAY_MS <= LATEST_MS:
            yield since + trigger.days * DAY_MS, workflow, trigger


def next_lapse_at(rules: LeadRules, state: LeadState, after: int) -> int:
    """The next moment after `after`; exact."""
    return min((at for at, *_ in lapses_of_lead(rules, state) if at > after), default=NEVER)

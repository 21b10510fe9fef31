"""The qualification that somebody set by hand: emits when it is set, replaced, removed, and when it ends.

It ends on the lead's own clock, so lost, late and doubled timers change nothing.
"""

from schemas import statements
from schemas.moment import moment
from schemas.topics import LEAD_CHANGES
from scoring.features.qualification_override import (
    QUALIFICATION_MODEL,
    QUALIFICATION_SET,
    QualificationOverride,
    override_in,
)
from scoring.models.points import NEVER
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState
from streams.score_leads.lead_step import LeadStep


def conclude_override(step: LeadStep, cause: str, *, silent: bool) -> None:
    """Emit it if it is another one than was emitted last."""
    head, old = step.head, step.head.override
    new = _override_of_lead(step.rules, step.state)
    if new == old:
        return
    head.override = new
    step.state.mark_changed()
    step.emit_statement(
        LEAD_CHANGES,
        statements.QualificationOverridden(
            **step.envelope(cause),
            model=QUALIFICATION_MODEL,
            scale=QUALIFICATION_SET,
            band=None if new is None else new.band,
            previous=None if old is None else old.band,
            by=None if new is None else new.by,
            until=None if new is None or new.until is None else moment(new.until),
            silent=silent,
        ),
    )


def _override_of_lead(rules: LeadRules, state: LeadState) -> QualificationOverride | None:
    model = rules.models.get(QUALIFICATION_MODEL)
    if model is None or not state.identities:
        return None
    bands = model.band_sets.get(QUALIFICATION_SET, ())
    return override_in(state.features.fields, bands, state.head.clock)


def next_override_end(state: LeadState) -> int:
    """When the emitted override ends."""
    override = state.head.override
    return NEVER if override is None or override.until is None else override.until

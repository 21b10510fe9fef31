"""One record of one lead: numbers the statements that the record causes.

The number is part of a statement's id, so folding the same log again gives the same ids.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, TypedDict

from schemas import statements
from schemas.decode import encode_statement
from schemas.moment import moment
from schemas.topics import LEAD_CHANGES
from scoring.features.profile_fields import FieldValue
from scoring.models.model import (
    ONE_POINT,
)
from streams.engine.shard import Emit
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState


class StatementEnvelope(TypedDict):
    """What every statement begins with."""

    statement_id: str
    tenant: str
    lead_id: str
    at: datetime
    caused_by: str


class EventOfStep(NamedTuple):
    """The event behind a record, as workflows look at it, and what it found."""

    raw: bytes
    arm: str
    """event:KEY:EVENT_ID"""
    fields: Mapping[str, FieldValue]
    """The profile fields that workflows watch, before the event."""
    is_repetition: bool
    """The lead knew already what its natural key names: the order, the form's submission."""


class LeadStep:
    """One record of one lead: its statements, numbered, so that their ids are deterministic."""

    def __init__(self, rules: LeadRules, state: LeadState, origin: str, emit: Emit) -> None:
        self._rules = self.before = rules
        self.state = state
        self.began_refusing = state.refuses_profiling
        """Before the record, the lead objected to profiling."""
        self.head = state.head
        self.emit = emit
        self.event: EventOfStep | None = None
        """The event that workflows look at; None: there is none, or the tenant has no workflows."""
        self._origin = origin
        self._number = 0

    def use_rules(self, rules: LeadRules) -> None:
        """From here on these rules are active; `before` keeps those of the last statements."""
        self.before, self._rules = self._rules, rules

    @property
    def rules(self) -> LeadRules:
        """What is active for the lead as it is now: no model, if it objects to profiling."""
        return self._rules.for_lead(self.state)

    @property
    def agreed_again(self) -> bool:
        """With this record the lead is scored again."""
        return self.began_refusing and not self.state.refuses_profiling

    def envelope(self, caused_by: str) -> StatementEnvelope:
        self._number += 1
        return {
            "statement_id": f"{self._origin}:{self._number}",
            "tenant": self.state.tenant,
            "lead_id": self.state.lead_id,
            "at": moment(self.head.clock),
            "caused_by": caused_by,
        }

    def emit_statement(self, topic: str, statement: statements.Statement) -> None:
        self.emit(topic, self.state.key, encode_statement(statement))


def emit_event_applied(step: LeadStep, key: str, event_id: str, outcome: str) -> None:
    step.emit_statement(
        LEAD_CHANGES,
        statements.EventApplied(
            **step.envelope(f"event:{event_id}"),
            event_id=event_id,
            outcome=outcome,
            scores={name: emitted.total / ONE_POINT for name, emitted in step.head.emitted.items()},
            key=key,
        ),
    )

"""What the analytics of one lead read: its events, stages, scores and owners, as plain data.

Every number of a journey, a summary or an attribution is a pure function of a `LeadFacts`. Times are milliseconds since
the epoch. Sequences are sorted, so the same facts always give the same numbers.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from scoring.features.signals import EFFECT_BY_EVENT_TYPE, EVENT_TYPE_BY_TAG

CREATING_STAGE: Final = "new"
"""The stage of a lead that has entered none."""


class EventDetails(NamedTuple):
    """The own fields of event types that say what an event counts as; named as in `schemas.events`."""

    answered: bool | None = None
    submission_id: str | None = None
    message_id: str | None = None
    order_id: str | None = None
    refund_id: str | None = None
    conversion_type: str | None = None
    conversion_id: str = ""


class EventFact(NamedTuple):
    """One event of one identity.

    `amount_minor` and `currency`: of a purchase its value, of a refund what it returns, of a recorded conversion its
    value. `key` names what counts once for a lead (an order, a submission, a message, a conversion), however often it
    is reported: equal type and key are one.
    """

    event_id: str
    identity_key: int
    type: str
    occurred_at: int
    recorded_at: int
    partition: int
    position: int
    channel: str
    source: str
    channel_group: str | None = None
    source_type: str | None = None
    source_id: str | None = None
    source_name: str | None = None
    campaign_source: str | None = None
    campaign_medium: str | None = None
    campaign_name: str | None = None
    campaign_id: str | None = None
    title: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    key: tuple[str, ...] | None = None
    order_id: str | None = None
    """Of a purchase or refund, as it names the order for the lead; None for a purchase without one."""
    refund_id: str | None = None
    conversion_type: str | None = None
    conversion_id: str = ""
    interaction: bool = False
    """The person did it."""
    high_intent: bool = False
    late: bool = False
    imported: bool = False

    @property
    def recorded_order(self) -> tuple[int, int, int]:
        """Sorts facts as they were recorded, the same after every rebuild."""
        return self.recorded_at, self.partition, self.position


class StageFact(NamedTuple):
    """The lead entered a stage. `at` is the lead's own clock."""

    at: int
    position: int
    stage: str
    previous: str
    reason: str
    caused_by: str


class ExecutionFact(NamedTuple):
    """A workflow was triggered for the lead. `at` is the lead's own clock."""

    at: int
    execution_id: int


class ScoreFact(NamedTuple):
    """A score changed. Points are exact decimals as millionths. `engagement` is the change of the group `engagement`,
    weighted as in the total.
    """

    at: int
    position: int
    model: str
    total: int
    previous: int
    engagement: int
    caused_by: str
    removed: bool = False
    """The model no longer scores the lead."""


class OwnerFact(NamedTuple):
    """From `recorded_at` on, the identity belonged to `lead_id`, until its next epoch."""

    identity_key: int
    epoch: int
    lead_id: str
    recorded_at: int
    partition: int
    position: int

    @property
    def recorded_order(self) -> tuple[int, int, int]:
        return self.recorded_at, self.partition, self.position


class LeadFacts(NamedTuple):
    """Everything that the analytics know of one lead.

    `events` are those of the identities that the lead owns now, by (occurred_at, recorded order). `former_events` are
    those of identities that have left it, recorded while it had them. `stages` and `scores` are by (at, position); the
    scores are those of the model `composite`. `owners` has every owner of every identity that the lead ever had, by
    recorded order.
    """

    tenant: str
    lead_id: str
    identified: bool
    created_at: int
    stage: str
    """The current stage."""
    events: Sequence[EventFact] = ()
    stages: Sequence[StageFact] = ()
    scores: Sequence[ScoreFact] = ()
    owners: Sequence[OwnerFact] = ()
    former_events: Sequence[EventFact] = ()

    @property
    def first_stage(self) -> str:
        """The stage that the lead was created in."""
        return self.stages[0].previous if self.stages else self.stage


def is_interaction(event_type: str, details: EventDetails) -> bool:
    """Whether the person did something."""
    return EFFECT_BY_EVENT_TYPE[EVENT_TYPE_BY_TAG[event_type]].is_interaction(details)


def is_high_intent(event_type: str) -> bool:
    return EFFECT_BY_EVENT_TYPE[EVENT_TYPE_BY_TAG[event_type]].high_intent


def key_of(event_type: str, details: EventDetails) -> tuple[str, ...] | None:
    """What names the event for its lead, so that it counts once; None: every event counts."""
    read: Any = details
    return EFFECT_BY_EVENT_TYPE[EVENT_TYPE_BY_TAG[event_type]].key(read)

"""Facts of leads for the tests of attribution, one short line for each event."""

from scoring.analytics.facts import (
    EventDetails,
    EventFact,
    LeadFacts,
    OwnerFact,
    StageFact,
    is_interaction,
    key_of,
)

DAY = 86_400_000
HOUR = 3_600_000
T0 = 1_900_000_000_000


class LeadStory:
    """A lead, told in recorded order. Times are days after T0."""

    def __init__(self, lead_id="L", identity=1):
        self.lead_id, self.identity = lead_id, identity
        self.facts, self.stages, self.owners = [], [], []
        self.position = 0
        self.owner_of = {identity: lead_id}
        self.attach(identity, lead_id, 0, epoch=1)

    def attach(self, identity, lead_id, day, epoch):
        self.position += 1
        self.owners.append(OwnerFact(identity, epoch, lead_id, round(T0 + day * DAY), 0, self.position))
        self.owner_of[identity] = lead_id
        return self

    def event(self, kind, day, recorded=None, identity=None, **fields):
        self.position += 1
        details = EventDetails(
            answered=fields.pop("answered", None),
            order_id=fields.get("order_id"),
            refund_id=fields.get("refund_id"),
            submission_id=fields.pop("submission_id", None),
            conversion_type=fields.get("conversion_type"),
            conversion_id=fields.get("conversion_id", ""),
        )
        fact = EventFact(
            event_id=fields.pop("event_id", f"e{self.position}"),
            identity_key=identity or self.identity,
            type=kind,
            occurred_at=round(T0 + day * DAY),
            recorded_at=round(T0 + (day if recorded is None else recorded) * DAY),
            partition=0,
            position=self.position,
            channel=fields.pop("channel", "web"),
            source="web",
            key=key_of(kind, details),
            interaction=is_interaction(kind, details),
            **fields,
        )
        self.facts.append(fact)
        return self

    def stage(self, stage, day, previous="new"):
        self.position += 1
        self.stages.append(StageFact(round(T0 + day * DAY), self.position, stage, previous, "", ""))
        return self

    def facts_now(self):
        by_time = sorted(self.facts, key=lambda each: (each.occurred_at, each.recorded_order))
        mine = {identity for identity, owner in self.owner_of.items() if owner == self.lead_id}
        return LeadFacts(
            "default",
            self.lead_id,
            True,
            min((each.occurred_at for each in self.facts), default=T0),
            self.stages[-1].stage if self.stages else "new",
            [each for each in by_time if each.identity_key in mine],
            sorted(self.stages),
            (),
            self.owners,
            [each for each in by_time if each.identity_key not in mine],
        )

"""How the past of a lead's credits changed: one restatement for each fact that changed a conversion's credits. Pure.

The facts of the lead are read again in the order in which they were recorded. After each fact that may matter, every
conversion made before is compared with what it was. So the same log always gives the same restatements.

A fact is recorded at its `recorded_at`, but not before the facts that precede it in its partition: an import says when
something occurred, and changes what was credited only from its place in the log on.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from scoring.analytics import orders
from scoring.analytics.facts import EventFact, LeadFacts, OwnerFact, StageFact
from scoring.attribution.conversions import (
    AttributedConversion,
    ConversionFacts,
    ConversionKey,
    CurrencyAmount,
    add_facts,
)
from scoring.attribution.credits import weights_by_channel
from scoring.attribution.rules import AttributionRules
from scoring.attribution.touchpoints import touchpoint_of

MOST_COMPARISONS: Final = 500
"""Comparisons of one lead's conversions after a fact, and restatements, together. What later facts change is one
restatement for each conversion, with the reason MORE.
"""
EVENTS_OF_COMPARISON: Final = 100
"""A merge or split costs another comparison for each so many events that the lead has then."""
TOUCHPOINT: Final = "touchpoint"
EARLIER_EVENT: Final = "earlier_event"
PURCHASE: Final = "purchase"
REFUND: Final = "refund"
CONVERSION: Final = "conversion"
STAGE: Final = "stage"
MERGE: Final = "merge"
SPLIT: Final = "split"
MORE: Final = "more"
_REASON_OF_TYPE: Final = {
    orders.PURCHASE: PURCHASE,
    orders.REFUND: REFUND,
    "conversion_recorded": CONVERSION,
}


class CreditedState(NamedTuple):
    """A conversion's credits at some moment."""

    at: int
    values: tuple[CurrencyAmount, ...]
    touchpoints: int
    weights: dict[str, dict[str, int]]
    """By model and channel, in billionths."""


class CreditRestatement(NamedTuple):
    """One fact changed the credits of one conversion. `after` is None if the conversion is no longer the lead's."""

    conversion_type: str
    conversion_id: str
    recorded_at: int
    """When the fact was recorded."""
    reason: str
    """touchpoint, earlier_event (than the first one, which made the lead), purchase, refund, conversion, stage, merge,
    split or more.
    """
    event_id: str | None
    """The event that was the fact; None for a stage, a merge and a split."""
    before: CreditedState
    after: CreditedState | None


class _Fact(NamedTuple):
    """Sorts as recorded."""

    recorded_at: int
    rank: int
    partition: int
    position: int
    fact: EventFact | OwnerFact | StageFact


def restatements_of(lead: LeadFacts, rules: AttributionRules) -> list[CreditRestatement]:
    """Every restatement of the lead's conversions, in recorded order."""
    history = _LeadHistory(lead, rules)
    conversions: dict[ConversionKey, AttributedConversion] = {}
    latest = 0
    restated: list[CreditRestatement] = []
    comparisons = 0
    skipped: _Fact | None = None
    for fact in recorded_facts(lead):
        if not history.apply(fact.fact) or (conversions and _is_later_touchpoint(fact.fact, latest)):
            continue
        comparisons += history.cost_of(fact.fact)
        if comparisons > MOST_COMPARISONS:
            skipped = fact
            continue
        now = history.conversions()
        changes = list(_differences(conversions, now, fact, history.reason_of(fact.fact), rules))
        restated += changes
        comparisons += len(changes)
        conversions, latest = now, max((each.at for each in now.values()), default=0)
    if skipped is not None:
        restated += _differences(conversions, history.conversions(), skipped, MORE, rules)
    return restated


def recorded_facts(lead: LeadFacts) -> list[_Fact]:
    """The facts of the lead as they were recorded. At one moment: owners, their events, and the stages that follow."""
    facts = [_Fact(owner.recorded_at, 0, owner.partition, owner.position, owner) for owner in lead.owners]
    clock: dict[int, int] = {}
    for event in sorted(
        (*lead.events, *lead.former_events), key=lambda each: (each.partition, each.position)
    ):
        at = clock[event.partition] = max(event.recorded_at, clock.get(event.partition, event.recorded_at))
        facts.append(_Fact(at, 1, event.partition, event.position, event))
    facts += [_Fact(entry.at, 2, 0, entry.position, entry) for entry in lead.stages]
    return sorted(facts, key=lambda each: each[:4])


def _is_later_touchpoint(fact: EventFact | OwnerFact | StageFact, latest: int) -> bool:
    """Whether the fact is an event that came after every conversion and neither makes one nor changes a value."""
    return isinstance(fact, EventFact) and fact.type not in _REASON_OF_TYPE and fact.occurred_at > latest


class _LeadHistory:
    """The conversions of a lead while its facts are read in recorded order."""

    def __init__(self, lead: LeadFacts, rules: AttributionRules) -> None:
        self._lead_id = lead.lead_id
        self._rules = rules
        self._events: dict[int, list[EventFact]] = {}
        """Of each identity, whoever owns it."""
        self._stages: list[StageFact] = []
        tracked = {owner.identity_key for owner in lead.owners}
        untracked = {event.identity_key for event in lead.events} - tracked
        self._owned: set[int] = untracked
        """Identities without a recorded owner are the lead's from the beginning."""
        self._facts = ConversionFacts(rules)
        self._outdated = False
        """An identity has left: the facts are collected again when somebody asks for the conversions."""

    def apply(self, fact: EventFact | OwnerFact | StageFact) -> bool:
        """Whether the fact may change a conversion."""
        match fact:
            case EventFact():
                self._events.setdefault(fact.identity_key, []).append(fact)
                return fact.identity_key in self._owned and (self._outdated or self._facts.add_event(fact))
            case StageFact():
                self._stages.append(fact)
                return self._outdated or self._facts.enter_stage(fact)
            case OwnerFact():
                return self._change_owner(fact)

    def conversions(self) -> dict[ConversionKey, AttributedConversion]:
        if self._outdated:
            self._facts = ConversionFacts(self._rules)
            kept = (event for identity in sorted(self._owned) for event in self._events.get(identity, ()))
            add_facts(self._facts, kept, self._stages)
            self._outdated = False
        return self._facts.conversions()

    def reason_of(self, fact: EventFact | OwnerFact | StageFact) -> str:
        match fact:
            case EventFact():
                return _REASON_OF_TYPE.get(fact.type) or (
                    TOUCHPOINT if touchpoint_of(fact, self._rules) else EARLIER_EVENT
                )
            case StageFact():
                return STAGE
            case OwnerFact():
                return MERGE if fact.lead_id == self._lead_id else SPLIT

    def cost_of(self, fact: EventFact | OwnerFact | StageFact) -> int:
        """In comparisons."""
        if not isinstance(fact, OwnerFact):
            return 1
        identities = self._owned | {fact.identity_key}
        return 1 + sum(len(self._events.get(identity, ())) for identity in identities) // EVENTS_OF_COMPARISON

    def _change_owner(self, owner: OwnerFact) -> bool:
        events = self._events.get(owner.identity_key, [])
        owned = owner.identity_key in self._owned
        if (owner.lead_id == self._lead_id) == owned:
            return False
        if owned:
            self._owned.remove(owner.identity_key)
        else:
            self._owned.add(owner.identity_key)
        if not events:
            return False
        if owned:
            self._outdated = True
        elif not self._outdated:
            add_facts(self._facts, events, ())
        return True


def _differences(
    before: dict[ConversionKey, AttributedConversion],
    now: dict[ConversionKey, AttributedConversion],
    fact: _Fact,
    reason: str,
    rules: AttributionRules,
) -> Iterator[CreditRestatement]:
    for key, old in before.items():
        new = now.get(key)
        if new == old:
            continue
        event_id = fact.fact.event_id if isinstance(fact.fact, EventFact) else None
        yield CreditRestatement(
            *key,
            fact.recorded_at,
            reason,
            event_id,
            credited_state(old, rules),
            None if new is None else credited_state(new, rules),
        )


def credited_state(conversion: AttributedConversion, rules: AttributionRules) -> CreditedState:
    return CreditedState(
        conversion.at,
        conversion.values,
        len(conversion.touchpoints),
        weights_by_channel(conversion, rules.half_life_ms),
    )

"""The conversions of a lead: when each was made, what it is worth, and the touchpoints that led to it. Pure.

Entering a stage of the funnel makes its conversion, and so does a recorded one (`conversion_recorded`). There is one
for each (type, conversion id); recorded again it is updated. It was made when it first happened: at the first entry
into the stage, or at the first record if that was earlier.

The value is what was recorded last. Without a recorded value, `customer` is worth the net revenue of the lead's orders,
in each currency, and other conversions have no value.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from scoring.analytics.facts import EventFact, LeadFacts, StageFact
from scoring.analytics.orders import ORDER_TYPES, Orders, order_reports
from scoring.attribution.rules import STAGE_CONVERSIONS, AttributionRules
from scoring.attribution.touchpoints import Touchpoint, touchpoint_of, touchpoints_before

LEAD_CREATED: Final = "lead_created"
OPPORTUNITY: Final = "opportunity"
CUSTOMER: Final = "customer"
MOST_CONVERSIONS: Final = 64
"""Recorded conversions of one lead; further ids are not counted."""

ConversionKey = tuple[str, str]
"""(type, conversion id); the conversion of a stage has the id ""."""
CurrencyAmount = tuple[str, int]
"""(currency, minor units)"""


class AttributedConversion(NamedTuple):
    """A conversion with what its credits depend on. Equal ones have equal credits by every model."""

    conversion_type: str
    conversion_id: str
    at: int
    values: tuple[CurrencyAmount, ...]
    """By currency; none: it has no value."""
    touchpoints: tuple[Touchpoint, ...]
    opportunity: int | None
    """The index of the last touchpoint at or before entering the stage opportunity; None if that is the first or the last
    one, or if there is none.
    """

    @property
    def key(self) -> ConversionKey:
        return self.conversion_type, self.conversion_id


class _Record(NamedTuple):
    """What the records of a conversion say together."""

    first_at: int
    latest: tuple[int, tuple[int, int, int]]
    value: CurrencyAmount | None


class ConversionFacts:
    """What is on record of a lead at some moment, as far as its conversions depend on it."""

    def __init__(self, rules: AttributionRules) -> None:
        self._rules = rules
        self._touchpoints: list[Touchpoint] = []
        self._keyed: dict[tuple[str, tuple[str, ...]], Touchpoint] = {}
        self._orders = Orders()
        self._records: dict[ConversionKey, _Record] = {}
        self._entered: dict[str, int] = {}
        self._first_at: int | None = None

    def add_event(self, event: EventFact) -> bool:
        """Whether the event may change a conversion."""
        first = self._first_at is None or event.occurred_at < self._first_at
        if first:
            self._first_at = event.occurred_at
        touchpoint = touchpoint_of(event, self._rules)
        if touchpoint is not None:
            return self._add_touchpoint(event, touchpoint) or first
        if event.type in ORDER_TYPES:
            for report in order_reports([event]):
                self._orders.add(report)
            return True
        if event.type == "conversion_recorded" and event.conversion_type:
            return self._add_record(event) or first
        return first

    def enter_stage(self, entry: StageFact) -> bool:
        if entry.stage not in STAGE_CONVERSIONS or entry.stage in self._entered:
            return False
        self._entered[entry.stage] = entry.at
        return True

    def conversions(self) -> dict[ConversionKey, AttributedConversion]:
        """Every conversion, by its key, in the order in which they were made."""
        made: dict[ConversionKey, int] = {(stage, ""): at for stage, at in self._entered.items()}
        if self._first_at is not None:
            made[LEAD_CREATED, ""] = self._first_at
        for key, record in self._records.items():
            made[key] = min(record.first_at, made.get(key, record.first_at))
        in_order = sorted(made, key=lambda key: (made[key], _funnel_order(key), key))
        return {key: self._conversion(key, made[key]) for key in in_order}

    def last_touchpoints(self) -> Sequence[Touchpoint]:
        """The touchpoints within the lookback of the last one."""
        if not self._touchpoints:
            return ()
        return touchpoints_before(self._touchpoints, self._touchpoints[-1].at, self._rules.lookback_ms)

    def _conversion(self, key: ConversionKey, at: int) -> AttributedConversion:
        touchpoints = touchpoints_before(self._touchpoints, at, self._rules.lookback_ms)
        return AttributedConversion(
            *key, at, self._values(key), tuple(touchpoints), self._opportunity_touch(touchpoints)
        )

    def _opportunity_touch(self, touchpoints: Sequence[Touchpoint]) -> int | None:
        entered_at = self._entered.get(OPPORTUNITY)
        if entered_at is None:
            return None
        last = sum(each.at <= entered_at for each in touchpoints) - 1
        return last if 0 < last < len(touchpoints) - 1 else None

    def _values(self, key: ConversionKey) -> tuple[CurrencyAmount, ...]:
        record = self._records.get(key)
        if record is not None and record.value is not None:
            return (record.value,)
        return tuple(self._orders.revenue.items()) if key == (CUSTOMER, "") else ()

    def _add_touchpoint(self, event: EventFact, touchpoint: Touchpoint) -> bool:
        """Of several reports of one submission the first in time counts."""
        if event.key is not None:
            reported = self._keyed.get((event.type, event.key))
            if reported is not None:
                if reported <= touchpoint:
                    return False
                self._touchpoints.remove(reported)
            self._keyed[event.type, event.key] = touchpoint
        insort(self._touchpoints, touchpoint)
        return True

    def _add_record(self, event: EventFact) -> bool:
        key = (event.conversion_type or "", event.conversion_id)
        reported = (event.occurred_at, event.recorded_order)
        value = (
            None
            if event.amount_minor is None or event.currency is None
            else (event.currency, event.amount_minor)
        )
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= MOST_CONVERSIONS:
                return False
            self._records[key] = _Record(event.occurred_at, reported, value)
            return True
        newer = reported > record.latest
        self._records[key] = _Record(
            min(record.first_at, event.occurred_at),
            reported if newer else record.latest,
            value if newer else record.value,
        )
        return True


def conversions_of(lead: LeadFacts, rules: AttributionRules) -> list[AttributedConversion]:
    """The conversions of a lead as its facts are now."""
    return list(current_facts(lead, rules).conversions().values())


def current_facts(lead: LeadFacts, rules: AttributionRules) -> ConversionFacts:
    facts = ConversionFacts(rules)
    add_facts(facts, lead.events, lead.stages)
    return facts


def add_facts(facts: ConversionFacts, events: Iterable[EventFact], stages: Sequence[StageFact]) -> None:
    """Add facts in recorded order, so that bounds drop the same as when they came one by one."""
    for event in sorted(events, key=lambda each: each.recorded_order):
        facts.add_event(event)
    for entry in stages:
        facts.enter_stage(entry)


def _funnel_order(key: ConversionKey) -> int:
    return STAGE_CONVERSIONS.index(key[0]) if key[0] in STAGE_CONVERSIONS else len(STAGE_CONVERSIONS)

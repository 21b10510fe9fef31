"""Summaries of days, ISO weeks and months, made of a lead's days. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

from scoring.analytics.orders import Money, sum_of_money
from scoring.analytics.periods import PeriodType, first_day_of_period, next_period, period_name
from scoring.features.calendar import date_of_day, day_of_date
from scoring.journeys.day_summary import COUNTED_TYPES, DaySummary

SUMMED: Final = ("interactions", "touchpoints", *COUNTED_TYPES.values(), "orders", "stage_changes")


class PeriodSummary(NamedTuple):
    """Half-open: `until` is the first day after it."""

    name: str
    begin: date
    until: date
    counts: dict[str, int]
    """SUMMED"""
    net: Money
    engagement: Decimal
    score_start: int
    score_end: int
    stage_start: str
    stage_end: str
    last_interaction_at: int | None


def period_summaries(days: Iterable[DaySummary], period_type: PeriodType) -> list[PeriodSummary]:
    """The periods in which something happened, in order, of days in order."""
    grouped: defaultdict[int, list[DaySummary]] = defaultdict(list)
    for day in days:
        grouped[first_day_of_period(period_type, day_of_date(day.day))].append(day)
    return [_summary(period_type, first, within) for first, within in grouped.items()]


def _summary(period_type: PeriodType, first: int, days: Sequence[DaySummary]) -> PeriodSummary:
    return PeriodSummary(
        name=period_name(period_type, first),
        begin=date_of_day(first),
        until=date_of_day(next_period(period_type, first)),
        counts={name: sum(getattr(day, name) for day in days) for name in SUMMED},
        net=sum_of_money(day.net for day in days),
        engagement=sum((day.engagement for day in days), Decimal(0)),
        score_start=days[0].score_start,
        score_end=days[-1].score_end,
        stage_start=days[0].stage_start,
        stage_end=days[-1].stage_end,
        last_interaction_at=days[-1].last_interaction_at,
    )

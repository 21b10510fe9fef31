"""One lead's journey: what happened until now, in numbers. Pure; linear in the facts.

`LeadJourney` is stored, so nothing in it depends on the present moment. What does (trend, churn risk, days since the
last interaction) are functions here, and the reader passes the moment.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Final, Literal, NamedTuple

from scoring.analytics.facts import LeadFacts
from scoring.analytics.orders import PURCHASE, Money, order_reports, orders_of
from scoring.analytics.shares import TrendDirection
from scoring.features.calendar import Calendar, date_of_day
from scoring.journeys.counted_events import CONTACT_TYPES, counted_once, is_touchpoint
from scoring.lifecycle.transitions import FUNNEL_STAGES
from scoring.models.points import rounded_points

ActivityStatus = Literal["active", "dormant", "inactive"]

TREND_DAYS: Final = 14
"""Local calendar days of each of the two windows that a trend compares (`scoring.analytics.shares`); the later one ends
today."""
HIGH_CHURN_RISK: Final = Decimal("0.7")
"""A risk above this is high."""
CHURN_DAYS: Final = 90
"""After so many idle days the risk is 1."""
DECLINING_RISK: Final = Decimal("0.1")
"""What a declining trend adds to the risk."""
ACTIVE_DAYS: Final = 30
DORMANT_DAYS: Final = 90
LONGEST_PATH: Final = 50
"""Stages of a path, the latest; a lead that goes back and forth all day has no longer one."""
PATH_ARROW: Final = " > "
DECILES: Final = 10

_FUNNEL_STEP: Final[dict[str, int]] = {stage: step for step, stage in enumerate(FUNNEL_STAGES)}
_FUNNEL_STEP_OF_SIDE_STAGE: Final = {"churned": _FUNNEL_STEP["customer"]}
"""A lead that churned was a customer."""


class LeadJourney(NamedTuple):
    """Times are milliseconds since the epoch. None: it has not happened."""

    cohort_month: date
    """The first day of the local month in which the lead was created."""
    furthest_stage: str
    """Of the funnel."""
    stage_path: str
    """Every stage in order, the current one last."""
    entered: dict[str, int]
    """When each stage was first entered; the first stage when the lead was created."""
    reached: dict[str, int]
    """When the lead first was in each stage of the funnel or in a later one."""
    first_outreach_at: int | None
    """The first e-mail, text message or call to the lead."""
    first_contact_at: int | None
    """The first outreach, or the entry into `contacted` if that was earlier."""
    first_interaction_at: int | None
    last_interaction_at: int | None
    last_interaction_day: date | None
    engagements: int
    """Interactions of the person; each order and submission once."""
    touchpoints: int
    """Interactions, and e-mails, text messages and calls to the lead; each order, submission and message once."""
    type_counts: dict[str, int]
    """Touchpoints by event type; each order, submission and message once."""
    channel_counts: dict[str, int]
    """Touchpoints by channel."""
    average_gap_ms: int | None
    """The mean time from one interaction to the next, rounded down; None: there are not two."""
    median_gap_ms: int | None
    longest_gap_ms: int | None
    gross: Money
    net: Money
    """Purchases less refunds."""
    orders: int
    score: int | None
    """The rounded total of the model `composite`."""


def journey_of(facts: LeadFacts, days: Calendar) -> LeadJourney:
    """The journey in the tenant's calendar."""
    counted = [event for event in counted_once(facts.events) if is_touchpoint(event)]
    interactions = [event for event in counted if event.interaction]
    moments = [event.occurred_at for event in interactions]
    reports = list(order_reports(facts.events))
    orders = orders_of(reports)
    gaps = [after - before for before, after in pairwise(moments)]
    entered = _entered(facts)
    reached = _reached(facts)
    outreach = [event.occurred_at for event in facts.events if event.type in CONTACT_TYPES]
    first_contacts = outreach + ([entered["contacted"]] if "contacted" in entered else [])
    return LeadJourney(
        cohort_month=local_date(days, facts.created_at).replace(day=1),
        furthest_stage=max(reached, key=lambda stage: _FUNNEL_STEP[stage]),
        stage_path=PATH_ARROW.join(path_of(facts)),
        entered=entered,
        reached=reached,
        first_outreach_at=min(outreach, default=None),
        first_contact_at=min(first_contacts, default=None),
        first_interaction_at=min(moments, default=None),
        last_interaction_at=max(moments, default=None),
        last_interaction_day=local_date(days, max(moments)) if moments else None,
        engagements=len(interactions),
        touchpoints=len(counted),
        type_counts=dict(sorted(Counter(event.type for event in counted).items())),
        channel_counts=dict(sorted(Counter(event.channel for event in counted).items())),
        average_gap_ms=sum(gaps) // len(gaps) if gaps else None,
        median_gap_ms=int(median(gaps)) if gaps else None,
        longest_gap_ms=max(gaps, default=None),
        gross=orders_of(report for report in reports if report.type == PURCHASE).revenue,
        net=orders.revenue,
        orders=len(orders),
        score=_current_score(facts),
    )


def _current_score(facts: LeadFacts) -> int | None:
    if not facts.scores:
        return 0
    latest = facts.scores[-1]
    return None if latest.removed else rounded_points(latest.total)


def local_date(days: Calendar, at: int) -> date:
    return date_of_day(days.day_of(at))


# Stages


def path_of(facts: LeadFacts) -> list[str]:
    """The stages that the lead went through, the latest LONGEST_PATH; a stage entered again at once counts once."""
    path = [facts.first_stage]
    for entry in facts.stages:
        if entry.stage != path[-1]:
            path.append(entry.stage)
    return path[-LONGEST_PATH:]


def completed_stages(path: Sequence[str]) -> list[str]:
    """The stages that a lead has left, in the order in which it entered them first."""
    return list(dict.fromkeys(stage for stage in path[:-1] if stage != path[-1]))


def ended_stays(facts: LeadFacts) -> list[tuple[str, int]]:
    """(stage, ms) of every stay in a stage that has ended, in order."""
    return [(stage, left_at - at) for (at, stage), (left_at, _) in pairwise(_entries(facts))]


def _entries(facts: LeadFacts) -> list[tuple[int, str]]:
    """(when, stage) of every entry. The lead was in its first stage from the beginning."""
    began = min([facts.created_at, *(entry.at for entry in facts.stages[:1])])
    return [(began, facts.first_stage), *((entry.at, entry.stage) for entry in facts.stages)]


def _entered(facts: LeadFacts) -> dict[str, int]:
    entered: dict[str, int] = {}
    for at, stage in _entries(facts):
        entered.setdefault(stage, at)
    return entered


def _reached(facts: LeadFacts) -> dict[str, int]:
    reached: dict[str, int] = {}
    for at, stage in _entries(facts):
        step = _FUNNEL_STEP.get(stage, _FUNNEL_STEP_OF_SIDE_STAGE.get(stage, 0))
        for earlier in FUNNEL_STAGES[: step + 1]:
            reached.setdefault(earlier, at)
    return reached


# What depends on the present


def churn_risk_of(idle_days: int, trend: TrendDirection) -> Decimal:
    """Idle days / 90, plus DECLINING_RISK if the trend is declining; 1 at most."""
    risk = min(Decimal(max(idle_days, 0)) / CHURN_DAYS, Decimal(1))
    return min(risk + (DECLINING_RISK if trend == "declining" else 0), Decimal(1))


def activity_status_of(idle_days: int | None) -> ActivityStatus:
    """By the days since the last interaction; None: there was none."""
    if idle_days is None or idle_days > DORMANT_DAYS:
        return "inactive"
    return "active" if idle_days <= ACTIVE_DAYS else "dormant"


# Other leads


def decile_of(score: int) -> int:
    """The tenth of the points in which a rounded total is: 0 (below 10) to 9 (90 and more)."""
    return min(max(score, 0) // 10, DECILES - 1)


def path_deviation(path: Sequence[str], usual: Sequence[str]) -> Decimal:
    """The edit distance of two paths divided by the longer one's length: 0 the same, 1 nothing in common."""
    return Decimal(_edit_distance(path, usual)) / max(len(path), len(usual), 1)


def _edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Insertions, deletions and replacements that make one of the other (Levenshtein)."""
    previous = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        current = [i]
        for j, right in enumerate(b, start=1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


LEADS_FOR_A_MEAN: Final = 30
"""With fewer leads, a group's mean is shrunk to the tenant's."""


def predicted_value(group_sum: int, group_leads: int, tenant_sum: int, tenant_leads: int) -> Decimal | None:
    """The expected revenue of a lead, in the unit of the sums: the mean of its group, shrunk to the tenant's mean where
    the group has fewer than LEADS_FOR_A_MEAN leads. None: the tenant has no revenue yet.
    """
    if tenant_leads == 0 or tenant_sum == 0:
        return None
    missing = max(LEADS_FOR_A_MEAN - group_leads, 0)
    tenant_mean = Decimal(tenant_sum) / tenant_leads
    return (group_sum + missing * tenant_mean) / (group_leads + missing)

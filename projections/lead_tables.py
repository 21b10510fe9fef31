"""The tables that are computed of each lead's facts, and the function that makes a lead's rows of each.

A new one needs an entry here; the analytics worker and a rebuild do the rest. The functions are pure, so the same facts
and settings always give the same rows.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Table

from projections.analytics_rows import LeadDayRow, LeadEngagementsRow, LeadJourneyRow, LeadStayRow
from projections.analytics_tables import (
    credit_restatements,
    lead_conversions,
    lead_credits,
    lead_days,
    lead_engagements,
    lead_journeys,
    lead_paths,
    lead_stays,
)
from projections.attribution_rows import conversion_rows, credit_rows, path_rows, restatement_rows
from projections.column_values import jsonb_text
from projections.row_keys import lead_row_key
from schemas.moment import moment
from scoring.analytics.facts import LeadFacts
from scoring.analytics.settings import AnalyticsSettings
from scoring.features.calendar import calendar
from scoring.journeys.day_summary import day_summaries
from scoring.journeys.engagement_counts import engagement_counts
from scoring.journeys.journey import ended_stays, journey_of


class LeadTable(NamedTuple):
    """`rows_of` makes all rows of one lead; their column `lead_key` names it."""

    table: Table
    rows_of: Callable[[LeadFacts, AnalyticsSettings], Iterable[tuple[Any, ...]]]


def journey_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[LeadJourneyRow]:
    journey = journey_of(facts, calendar(settings.time_zone))
    yield LeadJourneyRow(
        lead_key=lead_row_key(facts.tenant, facts.lead_id),
        tenant=facts.tenant,
        lead_id=facts.lead_id,
        identified=facts.identified,
        created_at=moment(facts.created_at),
        cohort_month=journey.cohort_month,
        stage=facts.stage,
        furthest_stage=journey.furthest_stage,
        stage_path=journey.stage_path,
        entered=jsonb_text({stage: moment(at) for stage, at in journey.entered.items()}),
        contacted_at=_moment_or_none(journey.reached.get("contacted")),
        qualified_at=_moment_or_none(journey.reached.get("qualified")),
        engaged_at=_moment_or_none(journey.reached.get("engaged")),
        opportunity_at=_moment_or_none(journey.reached.get("opportunity")),
        customer_at=_moment_or_none(journey.reached.get("customer")),
        first_contact_at=_moment_or_none(journey.first_contact_at),
        first_interaction_at=_moment_or_none(journey.first_interaction_at),
        last_interaction_at=_moment_or_none(journey.last_interaction_at),
        last_interaction_day=journey.last_interaction_day,
        engagements=journey.engagements,
        touchpoints=journey.touchpoints,
        type_counts=jsonb_text(journey.type_counts),
        channel_counts=jsonb_text(journey.channel_counts),
        average_gap_ms=journey.average_gap_ms,
        gross=jsonb_text(journey.gross),
        net=jsonb_text(journey.net),
        orders=journey.orders,
        score=journey.score,
        first_outreach_at=_moment_or_none(journey.first_outreach_at),
        median_gap_ms=journey.median_gap_ms,
        longest_gap_ms=journey.longest_gap_ms,
    )


def day_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[LeadDayRow]:
    lead_key = lead_row_key(facts.tenant, facts.lead_id)
    for summary in day_summaries(facts, calendar(settings.time_zone)):
        yield LeadDayRow(
            lead_key,
            tenant=facts.tenant,
            identified=facts.identified,
            **summary._asdict()
            | {
                "net": jsonb_text(summary.net),
                "last_interaction_at": _moment_or_none(summary.last_interaction_at),
            },
        )


def stay_rows(facts: LeadFacts, _: AnalyticsSettings) -> Iterable[LeadStayRow]:
    lead_key, created_at = lead_row_key(facts.tenant, facts.lead_id), moment(facts.created_at)
    for number, (stage, stayed_ms) in enumerate(ended_stays(facts)):
        yield LeadStayRow(lead_key, number, facts.tenant, facts.identified, created_at, stage, stayed_ms)


def engagement_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[LeadEngagementsRow]:
    counts = engagement_counts(facts, calendar(settings.time_zone))
    if counts:
        lead_key = lead_row_key(facts.tenant, facts.lead_id)
        by_day = jsonb_text([(each.day.isoformat(), *each[1:]) for each in counts])
        yield LeadEngagementsRow(lead_key, facts.tenant, facts.identified, by_day)


LEAD_TABLES: Final[tuple[LeadTable, ...]] = (
    LeadTable(lead_journeys, journey_rows),
    LeadTable(lead_days, day_rows),
    LeadTable(lead_stays, stay_rows),
    LeadTable(lead_engagements, engagement_rows),
    LeadTable(lead_conversions, conversion_rows),
    LeadTable(lead_credits, credit_rows),
    LeadTable(lead_paths, path_rows),
    LeadTable(credit_restatements, restatement_rows),
)


def _moment_or_none(at: int | None) -> datetime | None:
    return None if at is None else moment(at)

"""The reports that `bench analytics` measures, as statements of the invented company's year."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, TextClause

from projections import analytics, attribution, journeys
from projections.lead_scores import score_distribution
from schemas.moment import millis, moment
from scoring.analytics.periods import PeriodType, periods_of
from scoring.attribution.conversions import CUSTOMER
from scoring.features.calendar import calendar

TENANT = "default"
NOW = datetime(2030, 6, 17, 18, tzinfo=UTC)
YEAR = 365
UTC_DAYS = calendar("UTC")
PERIOD_TYPES: tuple[PeriodType, ...] = ("daily", "weekly", "monthly")

Statement = TextClause | Select[Any]


def measured_queries() -> Iterator[tuple[str, list[Statement]]]:
    """(name, statements) of every report, over 90 days and over a year, in whole local days and not."""
    whole = {"anonymous": False}
    midnight = datetime(NOW.year, NOW.month, NOW.day + 1, tzinfo=UTC)
    for days, end in ((90, midnight), (YEAR, midnight), (YEAR, NOW - timedelta(days=2))):
        begin = end - timedelta(days=days)
        made = attribution.ConversionWindow(TENANT, begin, end, anonymous=False)
        leads, weeks, months = (
            (TENANT, begin, end),
            _starts("weekly", begin, end),
            _starts("monthly", begin, end),
        )
        ends = [*weeks[1:], end]
        reports: dict[str, list[Statement]] = {
            "funnel": [
                analytics.furthest_steps(*leads, **whole),
                analytics.stage_stays(*leads, **whole),
            ],
            "cohorts": [
                analytics.cohorts(TENANT, months, end, **whole),
                analytics.cohort_revenue(TENANT, months, end, **whole),
            ],
            "lead quality": [
                analytics.leads_by_band(TENANT, "composite", **whole),
                analytics.points_gained(TENANT, UTC_DAYS, ends, **whole),
                analytics.leads_created(TENANT, ends, **whole),
            ],
            "engagement summary": [
                analytics.engagements_by_type(TENANT, UTC_DAYS, begin - (end - begin), weeks, end, **whole),
                analytics.purchase_reports(TENANT, **whole),
                analytics.leads_created(TENANT, [end], **whole),
            ],
            "deciles": [analytics.scores_before_conversion(TENANT, "composite", begin, end, **whole)],
            "touchpoints to conversion": [analytics.touchpoints_before_conversion(*leads, **whole)],
            "speed to contact": [analytics.speed_to_contact(*leads, **whole)],
            "attribution": [
                attribution.conversions_by_type(made),
                attribution.values_by_type(made),
                attribution.revenue_of_customers(made),
                attribution.credits_by_channel(made, CUSTOMER),
                attribution.credits_by_source(made, CUSTOMER),
                attribution.converting_paths(made, CUSTOMER),
                attribution.values_of_paths(made, CUSTOMER),
                attribution.open_paths(made, CUSTOMER),
            ],
            "journeys": [
                journeys.journey_overview(*leads, today=NOW.date(), zone="UTC", **whole),
                journeys.journey_revenue(*leads, **whole),
            ],
        }
        for period_type in PERIOD_TYPES:
            within = TENANT, period_type, begin.date(), end.date()
            reports[f"{period_type} summaries"] = [
                journeys.tenant_summaries(*within, **whole),
                journeys.tenant_revenue(*within, **whole),
                journeys.new_leads(TENANT, period_type, begin, end, zone="UTC", **whole),
            ]
        for name, statements in reports.items():
            yield f"{name}, {days} days{'' if end == midnight else ', until a moment'}", statements
    yield "distribution", [score_distribution(TENANT, "composite")]
    yield (
        "of other leads, for one journey",
        [
            journeys.usual_path(TENANT, "new"),
            journeys.value_groups(TENANT, "new", NOW),
        ],
    )


def _starts(period_type: PeriodType, begin: datetime, end: datetime) -> list[datetime]:
    periods = periods_of(UTC_DAYS, period_type, millis(begin), millis(end))
    return [moment(each.begin) for each in periods]

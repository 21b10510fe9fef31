"""The rows that the analytics worker makes of the read models."""

from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from projections.column_types import BigIntColumn, JsonColumn


class StaleLeadRow(NamedTuple):
    """One of the keys is null. An identity stands for every lead that has or had it."""

    lead_key: BigIntColumn | None
    identity_key: BigIntColumn | None
    marked_at: datetime


class AnalyticsSettingsRow(NamedTuple):
    tenant: str
    settings: str
    """Encoded `scoring.analytics.settings.AnalyticsSettings`."""


class LeadJourneyRow(NamedTuple):
    """As `scoring.journeys.journey.LeadJourney`; money in minor units by currency."""

    lead_key: BigIntColumn
    tenant: str
    lead_id: str
    identified: bool
    created_at: datetime
    cohort_month: date
    stage: str
    furthest_stage: str
    stage_path: str
    entered: JsonColumn
    contacted_at: datetime | None
    """The first moment in this stage of the funnel or a later one."""
    qualified_at: datetime | None
    engaged_at: datetime | None
    opportunity_at: datetime | None
    customer_at: datetime | None
    first_contact_at: datetime | None
    first_interaction_at: datetime | None
    last_interaction_at: datetime | None
    last_interaction_day: date | None
    engagements: int
    touchpoints: int
    type_counts: JsonColumn
    channel_counts: JsonColumn
    average_gap_ms: BigIntColumn | None
    gross: JsonColumn
    net: JsonColumn
    orders: int
    score: int | None
    """None: no model scores the lead any more."""
    first_outreach_at: datetime | None
    median_gap_ms: BigIntColumn | None
    longest_gap_ms: BigIntColumn | None


class LeadDayRow(NamedTuple):
    """As `scoring.journeys.day_summary.DaySummary`; money in minor units by currency."""

    lead_key: BigIntColumn
    day: date
    tenant: str
    identified: bool
    interactions: int
    touchpoints: int
    emails_sent: int
    emails_opened: int
    emails_clicked: int
    emails_replied: int
    forms_submitted: int
    pages_viewed: int
    orders: int
    net: JsonColumn
    score_start: int
    score_end: int
    engagement: Decimal
    stage_start: str
    stage_end: str
    stage_changes: int
    last_interaction_at: datetime | None


class LeadEngagementsRow(NamedTuple):
    lead_key: BigIntColumn
    tenant: str
    identified: bool
    by_day: JsonColumn
    """[day, type, channel, engagements], as `scoring.journeys.engagement_counts`."""


class LeadStayRow(NamedTuple):
    """A stay in a stage that has ended."""

    lead_key: BigIntColumn
    number: int
    tenant: str
    identified: bool
    created_at: datetime
    """The lead."""
    stage: str
    stayed_ms: BigIntColumn


class TenantDayRow(NamedTuple):
    """The sums of `lead_days` over a tenant's leads, those with a known identity and the others apart."""

    tenant: str
    day: date
    identified: bool
    leads: BigIntColumn
    """For whom something happened."""
    active_leads: BigIntColumn
    """Who did something."""
    interactions: BigIntColumn
    touchpoints: BigIntColumn
    emails_sent: BigIntColumn
    emails_opened: BigIntColumn
    emails_clicked: BigIntColumn
    emails_replied: BigIntColumn
    forms_submitted: BigIntColumn
    pages_viewed: BigIntColumn
    orders: BigIntColumn
    stage_changes: BigIntColumn
    score_change: BigIntColumn
    engagement: Decimal


class TenantPeriodRow(NamedTuple):
    """The leads of `lead_days` in a week or month, each counted once."""

    tenant: str
    period_type: str
    first_day: date
    identified: bool
    leads: BigIntColumn
    active_leads: BigIntColumn


class TenantEngagementRow(NamedTuple):
    """The sums of `lead_engagements` over a tenant's leads."""

    tenant: str
    day: date
    identified: bool
    type: str
    channel: str
    engagements: BigIntColumn


class LeadConversionRow(NamedTuple):
    """As `scoring.attribution.conversions.AttributedConversion`. Journeys begin at the first touchpoint."""

    lead_key: BigIntColumn
    conversion_key: BigIntColumn
    """Of type and id: a key of short columns, since an index has no room for long texts."""
    conversion_type: str
    conversion_id: str
    tenant: str
    lead_id: str
    identified: bool
    converted_at: datetime
    touchpoints: int
    journey_ms: BigIntColumn
    average_gap_ms: BigIntColumn | None
    path: str
    """The channels in order, as JSON."""
    amounts: JsonColumn
    """[currency, minor units] of each value."""
    weighed: JsonColumn
    """Of each touchpoint [moment in ms, engagement type, channel, source type, source name, weights in billionths by each
    of TOUCH_MODELS].
    """


class CreditRow(NamedTuple):
    """As `scoring.attribution.credits.SourceCredit`: billionths and minor units; currency "": the conversion has no value."""

    lead_key: BigIntColumn
    conversion_key: BigIntColumn
    source_key: BigIntColumn
    conversion_type: str
    conversion_id: str
    channel: str
    source_type: str
    source_name: str
    currency: str
    tenant: str
    identified: bool
    converted_at: datetime
    first_touch: int
    last_touch: int
    linear: int
    time_decay: int
    u_shaped: int
    w_shaped: int
    first_touch_minor: BigIntColumn
    last_touch_minor: BigIntColumn
    linear_minor: BigIntColumn
    time_decay_minor: BigIntColumn
    u_shaped_minor: BigIntColumn
    w_shaped_minor: BigIntColumn


class LeadPathRow(NamedTuple):
    """The channels of a lead's last touchpoints, as JSON, and the types of the conversions that it made."""

    lead_key: BigIntColumn
    tenant: str
    identified: bool
    last_touch_at: datetime
    path: str
    converted: JsonColumn


class CreditRestatementRow(NamedTuple):
    """As `scoring.attribution.restatements.CreditRestatement`; `number` counts those of the lead in recorded order."""

    lead_key: BigIntColumn
    number: int
    tenant: str
    lead_id: str
    conversion_type: str
    conversion_id: str
    recorded_at: datetime
    reason: str
    event_id: str | None
    before: JsonColumn
    after: JsonColumn | None

"""The tables that the analytics worker makes of the other tables, and its queue."""

from typing import Final

from sqlalchemy import Index, text

from projections.analytics_rows import (
    AnalyticsSettingsRow,
    CreditRestatementRow,
    CreditRow,
    LeadConversionRow,
    LeadDayRow,
    LeadEngagementsRow,
    LeadJourneyRow,
    LeadPathRow,
    LeadStayRow,
    StaleLeadRow,
    TenantDayRow,
    TenantEngagementRow,
    TenantPeriodRow,
)
from projections.table_definition import UPDATED_IN_PLACE, define_table

LEAD_OUTCOMES: Final = (
    "identified",
    "stage",
    "furthest_stage",
    "customer_at",
    "first_outreach_at",
    "score",
)
"""What reports over many leads read of each; an index has it, since the rows are wide."""

HAS_VALUE_CONDITION: Final = "amounts <> '[]'"
"""The conversions that have a value: few among many."""

stale_leads = define_table(
    "stale_leads",
    StaleLeadRow,
    key=(),
    analytics=True,
    comment="leads whose analytics must be computed again; no key, so that the projection waits for nobody",
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 10000},
)

analytics_settings = define_table(
    "analytics_settings",
    AnalyticsSettingsRow,
    key=("tenant",),
    analytics=True,
    comment="the settings that the analytics of each tenant were computed by",
)

lead_journeys = define_table(
    "lead_journeys",
    LeadJourneyRow,
    Index("lead_journeys_path", "tenant", "stage", "stage_path"),
    Index(
        "lead_journeys_created",
        "tenant",
        "created_at",
        postgresql_include=["lead_key", *LEAD_OUTCOMES],
    ),
    Index("lead_journeys_buyers", "tenant", "created_at", postgresql_where=text("orders > 0")),
    key=("lead_key",),
    analytics=True,
    comment="each lead's journey in numbers; what depends on the present is computed at the read",
)

lead_days = define_table(
    "lead_days",
    LeadDayRow,
    Index("lead_days_tenant", "tenant", "day", postgresql_include=["lead_key", "identified", "interactions"]),
    Index("lead_days_orders", "tenant", "day", postgresql_where=text("orders > 0")),
    key=("lead_key", "day"),
    analytics=True,
    comment="what each lead did on each local day; weeks and months are sums of days",
)

lead_stays = define_table(
    "lead_stays",
    LeadStayRow,
    Index(
        "lead_stays_tenant", "tenant", "created_at", postgresql_include=["identified", "stage", "stayed_ms"]
    ),
    key=("lead_key", "number"),
    analytics=True,
    comment="how long each lead was in each stage that it has left",
)

lead_engagements = define_table(
    "lead_engagements",
    LeadEngagementsRow,
    key=("lead_key",),
    analytics=True,
    comment="what each lead adds to tenant_engagements",
)

tenant_days = define_table(
    "tenant_days",
    TenantDayRow,
    key=("tenant", "day", "identified"),
    analytics=True,
    comment="sums of lead_days; reports over many leads read them",
    postgresql_with=UPDATED_IN_PLACE,
)

tenant_periods = define_table(
    "tenant_periods",
    TenantPeriodRow,
    key=("tenant", "period_type", "first_day", "identified"),
    analytics=True,
    comment="how many leads had an active week or month: no sum of days says it",
    postgresql_with=UPDATED_IN_PLACE,
)

tenant_engagements = define_table(
    "tenant_engagements",
    TenantEngagementRow,
    key=("tenant", "day", "identified", "type", "channel"),
    analytics=True,
    comment="engagements by local day, type and channel",
    postgresql_with=UPDATED_IN_PLACE,
)

lead_conversions = define_table(
    "lead_conversions",
    LeadConversionRow,
    Index(
        "lead_conversions_tenant",
        "tenant",
        "conversion_type",
        "converted_at",
        postgresql_include=["identified", "touchpoints", "journey_ms"],
    ),
    Index("lead_conversions_valued", "tenant", "converted_at", postgresql_where=text(HAS_VALUE_CONDITION)),
    key=("lead_key", "conversion_key"),
    analytics=True,
    comment="each conversion of a lead, with the touchpoints that led to it",
)

lead_credits = define_table(
    "lead_credits",
    CreditRow,
    Index("lead_credits_tenant", "tenant", "conversion_type", "converted_at"),
    key=("lead_key", "conversion_key", "source_key"),
    analytics=True,
    comment="what each channel and source earned of a conversion by each model",
)

lead_paths = define_table(
    "lead_paths",
    LeadPathRow,
    Index("lead_paths_tenant", "tenant", "last_touch_at"),
    key=("lead_key",),
    analytics=True,
    comment="the channels of each lead's last touchpoints, for paths without a conversion",
)

credit_restatements = define_table(
    "credit_restatements",
    CreditRestatementRow,
    Index("credit_restatements_tenant", "tenant", "recorded_at"),
    key=("lead_key", "number"),
    analytics=True,
    comment="each fact that changed the credits of a conversion: what they were, what they are, why",
)

"""Sums over a tenant's leads, which reports read instead of each lead, and indexes for the others.

The worker computes every lead again: the engagement summary and speed to contact are whole once its lag is back at 0.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0016"

TEXT = sa.Text(collation="C")
UPDATED_IN_PLACE = {"fillfactor": 50}


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.drop_index("score_history_composite", "score_history")
    op.add_column("lead_journeys", sa.Column("first_outreach_at", sa.DateTime(timezone=True)))
    op.create_index(
        "lead_journeys_created",
        "lead_journeys",
        ["tenant", "created_at"],
        postgresql_include=[
            "lead_key",
            "identified",
            "stage",
            "furthest_stage",
            "customer_at",
            "first_outreach_at",
            "score",
        ],
    )
    op.create_index(
        "lead_journeys_buyers",
        "lead_journeys",
        ["tenant", "created_at"],
        postgresql_where=sa.text("orders > 0"),
    )
    op.create_index(
        "lead_days_orders", "lead_days", ["tenant", "day"], postgresql_where=sa.text("orders > 0")
    )
    op.create_table(
        "lead_stays",
        required("lead_key", sa.BigInteger),
        required("number", sa.Integer),
        required("tenant", TEXT),
        required("identified", sa.Boolean),
        required("created_at", sa.DateTime(timezone=True)),
        required("stage", TEXT),
        required("stayed_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("lead_key", "number"),
        comment="how long each lead was in each stage that it has left",
    )
    op.create_index(
        "lead_stays_tenant",
        "lead_stays",
        ["tenant", "created_at"],
        postgresql_include=["identified", "stage", "stayed_ms"],
    )
    op.create_table(
        "lead_engagements",
        required("lead_key", sa.BigInteger),
        required("tenant", TEXT),
        required("identified", sa.Boolean),
        required("by_day", JSONB),
        sa.PrimaryKeyConstraint("lead_key"),
        comment="what each lead adds to tenant_engagements",
    )
    op.create_table(
        "tenant_days",
        required("tenant", TEXT),
        required("day", sa.Date),
        required("identified", sa.Boolean),
        *(
            required(name, sa.BigInteger)
            for name in (
                "leads",
                "active_leads",
                "interactions",
                "touchpoints",
                "emails_sent",
                "emails_opened",
                "emails_clicked",
                "emails_replied",
                "forms_submitted",
                "pages_viewed",
                "orders",
                "stage_changes",
                "score_change",
            )
        ),
        required("engagement", sa.Numeric),
        sa.PrimaryKeyConstraint("tenant", "day", "identified"),
        comment="sums of lead_days; reports over many leads read them",
        postgresql_with=UPDATED_IN_PLACE,
    )
    op.create_table(
        "tenant_periods",
        required("tenant", TEXT),
        required("period_type", TEXT),
        required("first_day", sa.Date),
        required("identified", sa.Boolean),
        required("leads", sa.BigInteger),
        required("active_leads", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant", "period_type", "first_day", "identified"),
        comment="how many leads had an active week or month: no sum of days says it",
        postgresql_with=UPDATED_IN_PLACE,
    )
    op.create_table(
        "tenant_engagements",
        required("tenant", TEXT),
        required("day", sa.Date),
        required("identified", sa.Boolean),
        required("type", TEXT),
        required("channel", TEXT),
        required("engagements", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant", "day", "identified", "type", "channel"),
        comment="engagements by local day, type and channel",
        postgresql_with=UPDATED_IN_PLACE,
    )
    op.execute(
        "insert into tenant_days select tenant, day, identified, count(*), count(*) filter (where interactions > 0), "
        "sum(interactions), sum(touchpoints), sum(emails_sent), sum(emails_opened), sum(emails_clicked), "
        "sum(emails_replied), sum(forms_submitted), sum(pages_viewed), sum(orders), sum(stage_changes), "
        "sum(score_end - score_start), trim_scale(sum(engagement)) from lead_days group by tenant, day, identified"
    )
    op.execute(
        "insert into tenant_periods select tenant, period_type, first_day, identified, count(*), "
        "count(*) filter (where interactions > 0) from ("
        "select tenant, period_type, first_day, identified, max(interactions) as interactions from lead_days, "
        "lateral (values ('weekly', date_trunc('week', day::timestamp)::date), "
        "('monthly', date_trunc('month', day::timestamp)::date)) period (period_type, first_day) "
        "group by tenant, period_type, first_day, identified, lead_key) of_lead "
        "group by tenant, period_type, first_day, identified"
    )
    op.execute("insert into stale_leads (lead_key, marked_at) select lead_key, now() from leads")

"""Which leads had each identity, and what analytics compute of each lead. Earlier owners are known after a rebuild."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "identity_history",
        required("identity_key", sa.BigInteger),
        required("epoch", sa.Integer),
        required("tenant", TEXT),
        required("lead_key", sa.BigInteger),
        required("lead_id", TEXT),
        required("attached_at", MOMENT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("identity_key", "epoch"),
        comment="every lead that had an identity, and since when: one row for each epoch",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("identity_history_lead", "identity_history", ["lead_key"])
    op.create_table(
        "stale_leads",
        sa.Column("lead_key", sa.BigInteger),
        sa.Column("identity_key", sa.BigInteger),
        required("marked_at", MOMENT),
        comment="leads whose analytics must be computed again; no key, so that the projection waits for nobody",
        postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 10000},
    )
    op.create_table(
        "analytics_settings",
        required("tenant", TEXT),
        required("settings", TEXT),
        sa.PrimaryKeyConstraint("tenant"),
        comment="the settings that the analytics of each tenant were computed by",
    )
    op.create_table(
        "lead_journeys",
        required("lead_key", sa.BigInteger),
        required("tenant", TEXT),
        required("lead_id", TEXT),
        required("identified", sa.Boolean),
        required("created_at", MOMENT),
        required("cohort_month", sa.Date),
        required("stage", TEXT),
        required("furthest_stage", TEXT),
        required("stage_path", TEXT),
        required("entered", JSONB),
        *(
            sa.Column(f"{stage}_at", MOMENT)
            for stage in ("contacted", "qualified", "engaged", "opportunity", "customer")
        ),
        sa.Column("first_contact_at", MOMENT),
        sa.Column("first_interaction_at", MOMENT),
        sa.Column("last_interaction_at", MOMENT),
        sa.Column("last_interaction_day", sa.Date),
        required("engagements", sa.Integer),
        required("touchpoints", sa.Integer),
        required("type_counts", JSONB),
        required("channel_counts", JSONB),
        sa.Column("average_gap_ms", sa.BigInteger),
        required("gross", JSONB),
        required("net", JSONB),
        required("orders", sa.Integer),
        required("score", sa.Integer),
        sa.PrimaryKeyConstraint("lead_key"),
        comment="each lead's journey in numbers; what depends on the present is computed at the read",
    )
    op.create_index("lead_journeys_path", "lead_journeys", ["tenant", "stage", "stage_path"])
    op.create_table(
        "lead_days",
        required("lead_key", sa.BigInteger),
        required("day", sa.Date),
        required("tenant", TEXT),
        required("identified", sa.Boolean),
        *(
            required(name, sa.Integer)
            for name in (
                "interactions",
                "touchpoints",
                "emails_sent",
                "emails_opened",
                "emails_clicked",
                "emails_replied",
                "forms_submitted",
                "pages_viewed",
                "orders",
            )
        ),
        required("net", JSONB),
        required("score_start", sa.Integer),
        required("score_end", sa.Integer),
        required("engagement", sa.Numeric),
        required("stage_start", TEXT),
        required("stage_end", TEXT),
        required("stage_changes", sa.Integer),
        sa.Column("last_interaction_at", MOMENT),
        sa.PrimaryKeyConstraint("lead_key", "day"),
        comment="what each lead did on each local day; weeks and months are sums of days",
    )
    op.create_index(
        "lead_days_tenant",
        "lead_days",
        ["tenant", "day"],
        postgresql_include=["lead_key", "identified", "interactions"],
    )
    op.execute(
        "insert into identity_history "
        "select identity_key, epoch, tenant, lead_key, lead_id, attached_at, -1, -1 from identities"
    )
    op.execute("insert into stale_leads (lead_key, marked_at) select lead_key, now() from leads")

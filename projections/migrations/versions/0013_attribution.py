"""What attribution computes of each lead: conversions, credits, paths and restatements."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)
MODELS = ("first_touch", "last_touch", "linear", "time_decay", "u_shaped", "w_shaped")


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "lead_conversions",
        required("lead_key", sa.BigInteger),
        required("conversion_key", sa.BigInteger),
        required("conversion_type", TEXT),
        required("conversion_id", TEXT),
        required("tenant", TEXT),
        required("lead_id", TEXT),
        required("identified", sa.Boolean),
        required("converted_at", MOMENT),
        required("touchpoints", sa.Integer),
        required("journey_ms", sa.BigInteger),
        sa.Column("average_gap_ms", sa.BigInteger),
        required("path", TEXT),
        required("amounts", JSONB),
        required("weighed", JSONB),
        sa.PrimaryKeyConstraint("lead_key", "conversion_key"),
        comment="each conversion of a lead, with the touchpoints that led to it",
    )
    op.create_index(
        "lead_conversions_tenant",
        "lead_conversions",
        ["tenant", "conversion_type", "converted_at"],
        postgresql_include=["identified", "touchpoints", "journey_ms"],
    )
    op.create_index(
        "lead_conversions_valued",
        "lead_conversions",
        ["tenant", "converted_at"],
        postgresql_where=sa.text("amounts <> '[]'"),
    )
    op.create_table(
        "lead_credits",
        required("lead_key", sa.BigInteger),
        required("conversion_key", sa.BigInteger),
        required("source_key", sa.BigInteger),
        *(
            required(name, TEXT)
            for name in (
                "conversion_type",
                "conversion_id",
                "channel",
                "source_type",
                "source_name",
                "currency",
                "tenant",
            )
        ),
        required("identified", sa.Boolean),
        required("converted_at", MOMENT),
        *(required(model, sa.Integer) for model in MODELS),
        *(required(f"{model}_minor", sa.BigInteger) for model in MODELS),
        sa.PrimaryKeyConstraint("lead_key", "conversion_key", "source_key"),
        comment="what each channel and source earned of a conversion by each model",
    )
    op.create_index("lead_credits_tenant", "lead_credits", ["tenant", "conversion_type", "converted_at"])
    op.create_table(
        "lead_paths",
        required("lead_key", sa.BigInteger),
        required("tenant", TEXT),
        required("identified", sa.Boolean),
        required("last_touch_at", MOMENT),
        required("path", TEXT),
        required("converted", JSONB),
        sa.PrimaryKeyConstraint("lead_key"),
        comment="the channels of each lead's last touchpoints, for paths without a conversion",
    )
    op.create_index("lead_paths_tenant", "lead_paths", ["tenant", "last_touch_at"])
    op.create_table(
        "credit_restatements",
        required("lead_key", sa.BigInteger),
        required("number", sa.Integer),
        required("tenant", TEXT),
        required("lead_id", TEXT),
        required("conversion_type", TEXT),
        required("conversion_id", TEXT),
        required("recorded_at", MOMENT),
        required("reason", TEXT),
        sa.Column("event_id", TEXT),
        required("before", JSONB),
        sa.Column("after", JSONB),
        sa.PrimaryKeyConstraint("lead_key", "number"),
        comment="each fact that changed the credits of a conversion: what they were, what they are, why",
    )
    op.create_index("credit_restatements_tenant", "credit_restatements", ["tenant", "recorded_at"])
    op.execute("insert into stale_leads (lead_key, marked_at) select lead_key, now() from leads")

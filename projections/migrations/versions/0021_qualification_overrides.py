"""Qualifications that somebody set by hand, the clock from qualified to the first contact, and nightly recalculations.

Leads have none until their next record, as the folds had none before.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"

TEXT = sa.Text(collation="C")


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.add_column("leads", sa.Column("qualification_override", JSONB))
    op.add_column("leads", sa.Column("speed_to_lead", JSONB))
    op.create_table(
        "qualification_overrides",
        required("lead_key", sa.BigInteger),
        required("at", sa.DateTime(timezone=True)),
        required("position", sa.BigInteger),
        required("model", TEXT),
        required("scale", TEXT),
        sa.Column("band", TEXT),
        sa.Column("previous", TEXT),
        sa.Column("by", TEXT),
        sa.Column("until", sa.DateTime(timezone=True)),
        required("silent", sa.Boolean),
        required("caused_by", TEXT),
        sa.PrimaryKeyConstraint("lead_key", "at", "position"),
        comment="every band that somebody set by hand, and its end",
    )
    op.create_table(
        "recalculations",
        required("tenant", TEXT),
        required("scheduled_for", sa.DateTime(timezone=True)),
        required("started_by", TEXT),
        required("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        required("partition", sa.Integer),
        required("key", TEXT),
        required("checked", sa.BigInteger),
        required("differing", sa.BigInteger),
        required("differences", JSONB),
        sa.PrimaryKeyConstraint("tenant", "scheduled_for"),
        schema="public",
        comment="recalculations of all leads of a tenant: how far each is, and what differed",
    )

"""Which signals are new, and how far they are counted in the events before their publication."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0035"
down_revision = "0033"

TEXT = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "backfills",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("signals", JSONB, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("folding", sa.Integer, nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("from_now", sa.Boolean, nullable=False),
        sa.Column("partitions", JSONB),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tenant", "model", "version"),
        schema="public",
        comment="which signals are new, and how far they are counted in the events before their publication",
    )

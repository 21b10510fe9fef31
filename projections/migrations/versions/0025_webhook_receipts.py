"""Webhooks of CRMs that were taken within the last minutes, so that a copy of one counts once."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.create_table(
        "webhook_receipts",
        sa.Column("digest", sa.Text(collation="C"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        schema="public",
        comment="webhooks of CRMs that were taken in the last minutes, as hashes: a copy counts once",
    )
    op.create_index("webhook_receipts_received", "webhook_receipts", ["received_at"], schema="public")

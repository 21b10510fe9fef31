"""Answers are kept for a while only; the ledger's key is the one that its pages are read by."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("delete from applied_events")  # nobody waits for them while the server is down
    op.add_column("applied_events", sa.Column("partition", sa.Integer, nullable=False))
    op.create_index("applied_events_place", "applied_events", ["partition", "position"])
    op.create_table_comment(
        "applied_events",
        "what became of the events that a caller waits for; only the latest are kept",
    )
    op.drop_constraint("score_history_pkey", "score_history")
    op.create_primary_key("score_history_pkey", "score_history", ["lead_key", "at", "position"])
    op.drop_column("score_history", "statement_id")

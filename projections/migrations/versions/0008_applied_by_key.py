"""Answers name the key of the event's record: event ids are unique only within a visitor or lead."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("delete from applied_events")  # nobody waits for them while the server is down
    op.add_column("applied_events", sa.Column("key", sa.Text(collation="C"), nullable=False))
    op.drop_constraint("applied_events_pkey", "applied_events")
    op.create_primary_key("applied_events_pkey", "applied_events", ["event_key", "lead_key", "key"])

"""Scores that were taken back, since a model was retired or a lead objects to profiling; and what retention has removed."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

TEXT = sa.Text(collation="C")


def upgrade() -> None:
    op.add_column(
        "score_history", sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    op.alter_column("score_history", "removed", server_default=None)
    op.alter_column("lead_journeys", "score", nullable=True)
    op.create_table(
        "removed_records",
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("recorded_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition"),
        schema="public",
        comment="what retention has removed of the log, so that whoever needs all of it can say so",
    )

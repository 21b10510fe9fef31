"""Every publication of settings, for leads as of a moment. It begins empty; `leadstream rebuild` reads what the log still has."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0026"

TEXT = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "settings_history",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_zone", TEXT, nullable=False),
        sa.Column("idle_minutes", sa.Integer, nullable=False),
        sa.Column("lifecycle", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "version"),
        comment="every publication of settings, as far as what a lead was at a moment depends on them",
        postgresql_with={"fillfactor": 75},
    )

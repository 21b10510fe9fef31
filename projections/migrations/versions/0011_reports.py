"""The schema of the views for people who query by SQL. `projections.reports` defines the views."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("create schema if not exists reports")

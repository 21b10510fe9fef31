"""Indexes of reports over many leads: the changes of the composite score, and the reports of orders."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_index(
        "score_history_composite",
        "score_history",
        ["at"],
        postgresql_include=["lead_key", "total", "previous"],
        postgresql_where=sa.text("model = 'composite'"),
    )
    op.create_index(
        "engagement_history_orders",
        "engagement_history",
        ["tenant"],
        postgresql_where=sa.text("type in ('purchase_made', 'purchase_refunded')"),
    )

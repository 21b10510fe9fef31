"""Exposures to experiments are found without reading every engagement."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index(
        "engagement_history_exposures",
        "engagement_history",
        ["tenant"],
        postgresql_where=sa.text("type = 'experiment_exposed'"),
    )

"""Each engagement shows the group of the default channel grouping that the door decided."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("engagement_history", sa.Column("channel_group", sa.Text(collation="C")))

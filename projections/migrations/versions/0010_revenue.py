"""What each lead spent. Null until the lead's next record, or a rebuild that has one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("leads", sa.Column("revenue", JSONB))

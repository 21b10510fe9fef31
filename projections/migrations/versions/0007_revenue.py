"""What each lead spent. Null until the lead's next record, or a rebuild that has one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("leads", sa.Column("revenue", JSONB))

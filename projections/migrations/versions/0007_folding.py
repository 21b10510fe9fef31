"""Publications record how they compare texts. Those of earlier versions compare by the first folding."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("publications", sa.Column("folding", sa.Integer(), nullable=False, server_default="1"))
    op.alter_column("publications", "folding", server_default=None)
    op.add_column("model_drafts", sa.Column("folding", sa.Integer()), schema="public")

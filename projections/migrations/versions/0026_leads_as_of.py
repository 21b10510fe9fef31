"""What changed each lead's own state, for the lead as of a moment; and an index for lists of leads as of a moment.

The table begins empty: it has what is recorded from now on. `leadstream rebuild` fills it from what the log still has.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "lead_records",
        sa.Column("lead_key", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("identity_key", sa.BigInteger, nullable=False),
        sa.Column("leads_to", sa.BigInteger, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("lead_key", "position"),
        comment="what changed each lead's own state, in recorded order: folded up to a moment, the lead as of then",
    )
    op.create_index("lead_records_identity", "lead_records", ["identity_key"])
    op.create_index(
        "lead_records_redirects", "lead_records", ["leads_to"], postgresql_where=sa.text("leads_to <> 0")
    )
    op.create_index(
        "score_history_model",
        "score_history",
        ["lead_key", "model", "at", "position"],
        postgresql_include=["total", "removed"],
    )

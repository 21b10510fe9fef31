"""The addresses of a lead's identities that its own fields do not show, by which it is found, too.

Rows of now have none. The next record of a lead writes them, and a rebuild those that the log still has.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.add_column("leads", sa.Column("other_addresses", JSONB))
    op.create_index(
        "leads_other_addresses",
        "leads",
        ["other_addresses"],
        postgresql_using="gin",
        postgresql_ops={"other_addresses": "jsonb_path_ops"},
        postgresql_where=sa.text("other_addresses is not null"),
    )

"""The addresses of a lead's identities that its own fields do not show, by which it is found, too; and indexes of merges by
the lead that stays, and of events whose person was kept apart from the lead that has its address.

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
    op.create_index(
        "engagement_history_kept_apart",
        "engagement_history",
        ["identity_key"],
        postgresql_where=sa.text("jsonb_exists(details -> 'extra', 'kept_apart_from')"),
    )
    op.create_index(
        "engagement_history_merges",
        "engagement_history",
        ["tenant", sa.text("(details ->> 'into')")],
        postgresql_where=sa.text("type = 'leads_merged'"),
    )

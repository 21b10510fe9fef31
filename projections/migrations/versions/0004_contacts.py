"""Who has an e-mail address or a phone number: known leads are found by them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for column in ("email", "phone"):
        op.create_index(
            f"leads_{column}",
            "leads",
            ["tenant", column],
            postgresql_where=sa.text(f"identified and identities > 0 and {column} is not null"),
        )

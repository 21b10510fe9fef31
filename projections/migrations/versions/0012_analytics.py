"""Which leads had each identity, and since when. Earlier owners are known after a rebuild."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "identity_history",
        required("identity_key", sa.BigInteger),
        required("epoch", sa.Integer),
        required("tenant", TEXT),
        required("lead_key", sa.BigInteger),
        required("lead_id", TEXT),
        required("attached_at", MOMENT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("identity_key", "epoch"),
        comment="every lead that had an identity, and since when: one row for each epoch",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("identity_history_lead", "identity_history", ["lead_key"])
    op.execute(
        "insert into identity_history "
        "select identity_key, epoch, tenant, lead_key, lead_id, attached_at, -1, -1 from identities"
    )

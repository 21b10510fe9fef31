"""Who published which model when and why, and the drafts of what is to be published."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)


def required(name: str, type_: Any, *more: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, *more, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "publications",
        required("tenant", TEXT),
        required("model", TEXT),
        required("version", sa.BigInteger),
        sa.Column("text", TEXT),
        required("fire", sa.Boolean),
        sa.Column("by", TEXT),
        sa.Column("note", TEXT),
        sa.Column("change", TEXT),
        required("recorded_at", MOMENT),
        sa.PrimaryKeyConstraint("tenant", "model", "version"),
        comment="every model that was published, whole; without a text it was retired",
        postgresql_with={"fillfactor": 75},
    )
    op.create_table(
        "model_drafts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        required("tenant", TEXT),
        required("model", TEXT),
        required("state", TEXT),
        sa.Column("text", TEXT),
        sa.Column("based_on", sa.BigInteger),
        sa.Column("based_on_tenant", TEXT),
        sa.Column("by", TEXT),
        sa.Column("note", TEXT),
        sa.Column("change", TEXT),
        required("fire", sa.Boolean),
        sa.Column("effective_from", MOMENT),
        sa.Column("problem", TEXT),
        required("created_at", MOMENT),
        required("changed_at", MOMENT),
        sa.Column("version", sa.BigInteger),
        sa.Column("published_at", MOMENT),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "state in ('draft', 'scheduled', 'publishing', 'published', 'discarded')",
            name="model_drafts_state",
        ),
        schema="public",
        comment="models as authors write them, and what is published of them, on its way to the log",
    )
    op.create_index(
        "model_drafts_version", "model_drafts", ["tenant", "model", "version"], unique=True, schema="public"
    )
    op.create_index(
        "model_drafts_waiting",
        "model_drafts",
        ["state"],
        postgresql_where=sa.text("state in ('scheduled', 'publishing')"),
        schema="public",
    )

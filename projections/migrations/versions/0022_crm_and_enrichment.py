"""What CRMs report, and what sources of enrichment were asked and have answered."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "crm_records",
        required("tenant", TEXT),
        required("crm", TEXT),
        required("kind", TEXT),
        required("record_id", TEXT),
        sa.Column("lead_id", TEXT),
        sa.Column("status", TEXT),
        required("state", JSONB),
        required("pushed", JSONB),
        sa.Column("changed_at", MOMENT),
        sa.PrimaryKeyConstraint("tenant", "crm", "kind", "record_id"),
        schema="public",
        comment="records of CRMs: whose they are, what the last events of them were made of, what we wrote there",
    )
    op.create_index("crm_records_lead", "crm_records", ["tenant", "lead_id"], schema="public")
    op.create_table(
        "crm_cursors",
        required("tenant", TEXT),
        required("crm", TEXT),
        required("kind", TEXT),
        required("since", MOMENT),
        sa.Column("page", TEXT),
        required("next_at", MOMENT),
        required("failures", sa.Integer),
        sa.Column("pulled_at", MOMENT),
        sa.Column("last_error", TEXT),
        sa.PrimaryKeyConstraint("tenant", "crm", "kind"),
        schema="public",
        comment="how far the changes of each CRM were read, and when they are read next",
    )
    op.create_table(
        "crm_inbox",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
        required("tenant", TEXT),
        required("crm", TEXT),
        required("kind", TEXT),
        required("record_id", TEXT),
        required("received_at", MOMENT),
        required("next_at", MOMENT),
        sa.Column("record", JSONB),
        sa.PrimaryKeyConstraint("number"),
        schema="public",
        comment="what webhooks of CRMs have reported, until it is in the log",
    )
    op.create_index(
        "crm_inbox_record",
        "crm_inbox",
        ["tenant", "crm", "kind", "record_id"],
        unique=True,
        schema="public",
        postgresql_where=sa.text("record is null"),
    )
    op.create_index("crm_inbox_next", "crm_inbox", ["tenant", "crm", "number"], schema="public")
    op.create_table(
        "enrichment_queue",
        required("identity_key", sa.BigInteger),
        required("tenant", TEXT),
        required("noticed_at", MOMENT),
        required("next_at", MOMENT),
        required("attempts", sa.Integer),
        sa.PrimaryKeyConstraint("identity_key"),
        schema="public",
        comment="persons whom a live event may have given a new address, until sources were asked about them",
    )
    op.create_index("enrichment_queue_next", "enrichment_queue", ["next_at"], schema="public")
    op.create_table(
        "enrichment_cache",
        required("key_digest", TEXT),
        required("tenant", TEXT),
        required("source", TEXT),
        required("fields", JSONB),
        required("previous", JSONB),
        required("fetched_at", MOMENT),
        required("expires_at", MOMENT),
        sa.PrimaryKeyConstraint("key_digest", "source"),
        schema="public",
        comment="what sources have answered; of a key only its digest",
    )
    op.create_index("enrichment_cache_expiry", "enrichment_cache", ["expires_at"], schema="public")
    op.create_table(
        "enrichment_usage",
        required("tenant", TEXT),
        required("source", TEXT),
        required("day", sa.Date),
        required("requests", sa.Integer),
        sa.PrimaryKeyConstraint("tenant", "source", "day"),
        schema="public",
        comment="how many requests each source had, by day, for the budgets",
    )

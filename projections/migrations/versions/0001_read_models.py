"""The first read models."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)
JSON = postgresql.JSONB()


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "applied_events",
        required("event_key", sa.BigInteger),
        required("lead_key", sa.BigInteger),
        required("tenant", TEXT),
        required("event_id", TEXT),
        required("lead_id", TEXT),
        required("at", MOMENT),
        required("outcome", TEXT),
        required("scores", JSON),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("event_key", "lead_key"),
        comment="what became of the events that a caller waits for",
        postgresql_with={"fillfactor": 75},
    )
    op.create_table(
        "band_changes",
        required("lead_key", sa.BigInteger),
        required("at", MOMENT),
        required("position", sa.BigInteger),
        required("model", TEXT),
        required("version", sa.BigInteger),
        required("scale", TEXT),
        sa.Column("band", TEXT),
        sa.Column("previous", TEXT),
        required("crossed", JSON),
        required("silent", sa.Boolean),
        required("caused_by", TEXT),
        sa.PrimaryKeyConstraint("lead_key", "at", "position"),
        comment="every band that a lead left or entered",
    )
    op.create_table(
        "dead_letters",
        required("topic", TEXT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        required("reason", TEXT),
        sa.Column("field", TEXT),
        sa.Column("key", TEXT),
        required("original", sa.LargeBinary),
        required("letter", sa.BigInteger),
        sa.PrimaryKeyConstraint("topic", "partition", "position"),
        comment="records that could not be read or applied; `letter` is the position of the dead letter",
        postgresql_with={"fillfactor": 75},
    )
    op.create_table(
        "engagement_history",
        required("identity_key", sa.BigInteger),
        required("occurred_at", MOMENT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        required("tenant", TEXT),
        required("event_id", TEXT),
        required("type", TEXT),
        required("channel", TEXT),
        required("source", TEXT),
        required("recorded_at", MOMENT),
        sa.Column("session_id", TEXT),
        required("late", sa.Boolean),
        required("imported", sa.Boolean),
        sa.Column("title", TEXT),
        sa.Column("url", TEXT),
        sa.Column("referrer", TEXT),
        sa.Column("engagement_value", sa.Integer),
        sa.Column("revenue_minor", sa.BigInteger),
        sa.Column("currency", TEXT),
        sa.Column("source_type", TEXT),
        sa.Column("source_id", TEXT),
        sa.Column("source_name", TEXT),
        sa.Column("campaign_source", TEXT),
        sa.Column("campaign_medium", TEXT),
        sa.Column("campaign_name", TEXT),
        sa.Column("campaign_term", TEXT),
        sa.Column("campaign_content", TEXT),
        sa.Column("device_type", TEXT),
        sa.Column("os", TEXT),
        sa.Column("browser", TEXT),
        sa.Column("location", TEXT),
        sa.Column("ip", TEXT),
        sa.Column("details", JSON),
        sa.PrimaryKeyConstraint("identity_key", "occurred_at", "partition", "position"),
        comment="every event that counted, by identity: a merge or a split moves no row",
    )
    op.create_index("engagement_history_time", "engagement_history", ["occurred_at"], postgresql_using="brin")
    op.create_table(
        "identities",
        required("identity_key", sa.BigInteger),
        required("tenant", TEXT),
        required("identity", TEXT),
        required("lead_key", sa.BigInteger),
        required("lead_id", TEXT),
        required("epoch", sa.Integer),
        required("home", TEXT),
        required("attached_at", MOMENT),
        sa.PrimaryKeyConstraint("identity_key"),
        comment="who is behind a key, and which lead has them now: the highest epoch",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("identities_lead", "identities", ["lead_key"])
    op.create_table(
        "lead_scores",
        required("lead_key", sa.BigInteger),
        required("model", TEXT),
        required("version", sa.BigInteger),
        required("total", sa.Numeric),
        required("rounded", sa.Integer),
        required("bands", JSON),
        required("as_of", MOMENT),
        sa.Column("next_due", MOMENT),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("lead_key", "model"),
        comment="each lead's current scores; no index on the total, which would cost every update",
        postgresql_with={"fillfactor": 75},
    )
    op.create_table(
        "leads",
        required("lead_key", sa.BigInteger),
        required("tenant", TEXT),
        required("lead_id", TEXT),
        required("identified", sa.Boolean),
        required("created_at", MOMENT),
        sa.Column("last_interaction_at", MOMENT),
        required("stage", TEXT),
        sa.Column("redirect", TEXT),
        required("identities", sa.Integer),
        required("as_of", MOMENT),
        sa.Column("name", TEXT),
        sa.Column("email", TEXT),
        sa.Column("phone", TEXT),
        sa.Column("company", TEXT),
        sa.Column("assigned_to", TEXT),
        required("search", TEXT),
        required("counts", JSON),
        required("fields", JSON),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("lead_key"),
        comment="every lead as it is now; `search` is what a search looks in, case folded",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("leads_tenant", "leads", ["tenant", "identified"])
    op.create_table(
        "positions",
        required("generation", TEXT),
        required("topic", TEXT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("generation", "topic", "partition"),
        schema="public",
        comment="the last record that each schema's tables contain, per partition",
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "retried_letters",
        required("topic", TEXT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        required("at", MOMENT),
        sa.PrimaryKeyConstraint("topic", "partition", "position"),
        schema="public",
        comment="when an operator sent a dead letter's record in again; no fold of the log knows",
    )
    op.create_table(
        "score_history",
        required("lead_key", sa.BigInteger),
        required("model", TEXT),
        required("at", MOMENT),
        required("position", sa.BigInteger),
        required("statement_id", TEXT),
        required("version", sa.BigInteger),
        required("total", sa.Numeric),
        required("previous", sa.Numeric),
        required("change", sa.Numeric),
        required("bands", JSON),
        required("lines", JSON),
        required("caused_by", TEXT),
        sa.PrimaryKeyConstraint("lead_key", "model", "at", "position"),
        comment="the ledger: every change of a score, with the lines that changed",
    )
    op.create_table(
        "session_scores",
        required("session_key", sa.BigInteger),
        required("lead_key", sa.BigInteger),
        required("model", TEXT),
        required("version", sa.BigInteger),
        required("score", sa.Numeric),
        required("lines", JSON),
        required("ended", sa.Boolean),
        required("scored_at", MOMENT),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("session_key", "lead_key", "model"),
        comment="a session's score, as the lead that had it said",
        postgresql_with={"fillfactor": 75},
    )
    op.create_table(
        "sessions",
        required("session_key", sa.BigInteger),
        required("identity_key", sa.BigInteger),
        required("tenant", TEXT),
        required("session_id", TEXT),
        sa.Column("producer_id", TEXT),
        sa.Column("campaign", TEXT),
        required("revision", sa.BigInteger),
        required("retracted", sa.Boolean),
        sa.Column("opened_at", MOMENT),
        sa.Column("last_at", MOMENT),
        required("closed", sa.Boolean),
        required("pages", sa.Integer),
        required("clicks", sa.Integer),
        required("important_clicks", sa.Integer),
        sa.PrimaryKeyConstraint("session_key"),
        comment="web sessions as the latest cut has them; one that no longer is one stays as retracted",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("sessions_identity", "sessions", ["identity_key", "opened_at"])
    op.create_index("sessions_producer_id", "sessions", ["producer_id"])
    op.create_index("sessions_session_id", "sessions", ["session_id"])
    op.create_table(
        "stage_history",
        required("lead_key", sa.BigInteger),
        required("at", MOMENT),
        required("position", sa.BigInteger),
        required("stage", TEXT),
        required("previous", TEXT),
        required("reason", TEXT),
        required("caused_by", TEXT),
        sa.PrimaryKeyConstraint("lead_key", "at", "position"),
        comment="every stage that a lead entered",
    )

"""Workflows: what was triggered, the outbox of their actions, and messages inside the application."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "workflow_executions",
        required("tenant", TEXT),
        required("execution_id", sa.BigInteger),
        required("lead_key", sa.BigInteger),
        required("lead_id", TEXT),
        required("workflow_id", sa.BigInteger),
        required("workflow", TEXT),
        required("version", sa.BigInteger),
        required("trigger", TEXT),
        required("reason", TEXT),
        required("action", TEXT),
        required("config", JSONB),
        required("arm", TEXT),
        required("silent", sa.Boolean),
        sa.Column("silenced_by", TEXT),
        required("hops", sa.Integer),
        required("priority", sa.Integer),
        required("at", MOMENT),
        required("caused_by", TEXT),
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant", "execution_id"),
        comment="every workflow that was triggered, for which lead, and why; `outbox` has what became of it",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("workflow_executions_tenant", "workflow_executions", ["tenant", "at", "execution_id"])
    op.create_index("workflow_executions_lead", "workflow_executions", ["lead_key", "at"])
    op.create_table(
        "outbox",
        required("tenant", TEXT),
        required("execution_id", sa.BigInteger),
        required("lead_key", sa.BigInteger),
        required("lead_id", TEXT),
        required("workflow_id", sa.BigInteger),
        required("workflow", TEXT),
        required("version", sa.BigInteger),
        required("trigger", TEXT),
        required("reason", TEXT),
        required("action", TEXT),
        required("config", JSONB),
        required("hops", sa.Integer),
        required("at", MOMENT),
        required("caused_by", TEXT),
        required("channel", TEXT),
        required("priority", sa.Integer),
        required("status", TEXT),
        required("attempts", sa.Integer),
        required("next_attempt_at", MOMENT),
        required("created_at", MOMENT),
        sa.Column("last_attempt_at", MOMENT),
        sa.Column("delivered_at", MOMENT),
        sa.Column("last_error", TEXT),
        sa.Column("decision", JSONB),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "channel"),
        sa.CheckConstraint(
            "status in ('waiting', 'delivering', 'failed', 'delivered', 'dead', 'skipped')",
            name="outbox_status",
        ),
        schema="public",
        comment="actions of workflows on their way to the world; no rebuild and no import adds a row",
    )
    op.create_index(
        "outbox_next",
        "outbox",
        ["channel", "next_attempt_at"],
        schema="public",
        postgresql_where=sa.text("status in ('waiting', 'delivering', 'failed')"),
    )
    op.create_index(
        "outbox_dead",
        "outbox",
        ["tenant", "execution_id"],
        schema="public",
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.create_index("outbox_lead", "outbox", ["lead_key", "last_attempt_at"], schema="public")
    op.create_index(
        "outbox_workflow", "outbox", ["tenant", "workflow_id", "last_attempt_at"], schema="public"
    )
    op.create_table(
        "notifications",
        required("tenant", TEXT),
        required("execution_id", sa.BigInteger),
        required("lead_id", TEXT),
        required("workflow_id", sa.BigInteger),
        sa.Column("recipient", TEXT),
        required("title", TEXT),
        required("message", TEXT),
        required("created_at", MOMENT),
        sa.Column("read_at", MOMENT),
        sa.Column("read_by", TEXT),
        sa.PrimaryKeyConstraint("tenant", "execution_id"),
        schema="public",
        comment="messages of workflows to people inside the application, and who has read them",
    )
    op.create_index(
        "notifications_tenant", "notifications", ["tenant", "created_at", "execution_id"], schema="public"
    )

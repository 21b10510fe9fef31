"""What a database that follows Kafka keeps besides the read models: the archive, the workers' state."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)


def required(name: str, type_: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, autoincrement=False, **options)


def upgrade() -> None:
    op.create_table(
        "worker_state",
        required("stage", TEXT),
        required("partition", sa.Integer),
        required("key", TEXT),
        required("part", TEXT),
        required("value", sa.LargeBinary),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("stage", "partition", "key", "part"),
        comment="what readers need of the state that workers keep in Kafka; empty beside an embedded log",
        postgresql_with={"fillfactor": 75},
    )
    op.create_table(
        "worker_dues",
        required("stage", TEXT),
        required("partition", sa.Integer),
        required("key", TEXT),
        required("due_at", sa.BigInteger),
        required("position", sa.BigInteger),
        sa.PrimaryKeyConstraint("stage", "partition", "key"),
        comment="when time alone may next change a key (ms), as workers keep it in Kafka",
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("worker_dues_moment", "worker_dues", ["due_at"])
    op.create_table(
        "event_archive",
        required("partition", sa.Integer),
        required("position", sa.BigInteger),
        required("recorded_at", MOMENT),
        required("key", TEXT),
        required("value", sa.LargeBinary),
        sa.PrimaryKeyConstraint("partition", "position", "recorded_at"),
        schema="public",
        comment="every event that a producer sent to Kafka, which keeps them for a while only",
        postgresql_partition_by="RANGE (recorded_at)",
    )
    op.create_index("event_archive_key", "event_archive", ["key"], schema="public")
    for name, bounds in (
        ("event_archive_before", "from (minvalue) to ('2000-01-01 00:00:00+00')"),
        ("event_archive_after", "from ('2100-01-01 00:00:00+00') to (maxvalue)"),
    ):
        op.execute(f"create table public.{name} partition of public.event_archive for values {bounds}")
    op.create_table(
        "log_source",
        required("only_row", sa.Boolean, server_default="true"),
        required("cluster_id", TEXT),
        required("prefix", TEXT),
        required("app", TEXT),
        sa.PrimaryKeyConstraint("only_row"),
        sa.CheckConstraint("only_row", name="log_source_one"),
        schema="public",
        comment="the Kafka cluster whose topics this database follows; no row: none",
    )

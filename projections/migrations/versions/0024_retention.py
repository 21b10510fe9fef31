"""What retention has removed of the rows, and kept counts of what became of workflows' executions: a report reads these
instead of every execution. Executions that the outbox has forgotten are counted here once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)

COUNT_FORGOTTEN = """
insert into public.execution_counts (tenant, quarter, status, executions)
select e.tenant, date_bin('15 minutes', e.at, timestamptz '2000-01-01 00:00:00+00'), 'forgotten', count(*)
from live.workflow_executions e
where not e.silent and e.at < now() - interval '90 days'
  and not exists (select from public.outbox o where (o.tenant, o.execution_id) = (e.tenant, e.execution_id))
group by 1, 2
"""


def upgrade() -> None:
    op.create_table(
        "removed_rows",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("removed_before", MOMENT, nullable=False),
        sa.Column("removed_at", MOMENT, nullable=False),
        sa.Column("removed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind"),
        schema="public",
        comment="what retention has removed of the rows, by kind, so that a rebuild brings none of it back",
    )
    op.create_table(
        "execution_counts",
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("quarter", MOMENT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("executions", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "quarter", "status"),
        schema="public",
        comment="how the executions of workflows ended, by quarter of an hour; kept when the outbox forgets them",
        postgresql_with={"fillfactor": 50},
    )
    op.add_column(
        "outbox",
        sa.Column("counted", sa.Boolean, nullable=False, server_default=sa.text("false")),
        schema="public",
    )
    op.alter_column("outbox", "counted", server_default=None, schema="public")
    op.create_index(
        "outbox_uncounted",
        "outbox",
        ["tenant", "execution_id"],
        schema="public",
        postgresql_where=sa.text("not counted"),
    )
    op.execute(COUNT_FORGOTTEN)

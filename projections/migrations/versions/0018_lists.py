"""What lists of leads are sorted and narrowed by, beside each score and in one index; the gaps between a lead's touches.

It writes every score again. The worker computes every lead again, for the gaps.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

COLUMNS: dict[str, Any] = {
    "tenant": sa.Text(collation="C"),
    "identified": sa.Boolean(),
    "listed": sa.Boolean(),
    "created_at": sa.DateTime(timezone=True),
    "stage": sa.Text(collation="C"),
    "band_keys": sa.Text(collation="C"),
}


def upgrade() -> None:
    for name, type_ in COLUMNS.items():
        op.add_column("lead_scores", sa.Column(name, type_))
    op.execute(
        "update lead_scores s set tenant = l.tenant, identified = l.identified, listed = l.identities > 0, "
        "created_at = l.created_at, stage = l.stage, band_keys = coalesce((select string_agg("
        "' ' || left(md5(b.key), 12) || ' ' || left(md5(b.key || chr(31) || b.value), 12), '' order by b.key collate \"C\") "
        "from jsonb_each_text(s.bands) b where b.value is not null), '') from leads l where l.lead_key = s.lead_key"
    )
    op.execute("delete from lead_scores where tenant is null")  # of no lead: nothing shows them
    for name in COLUMNS:
        op.alter_column("lead_scores", name, nullable=False)
    op.create_table_comment(
        "lead_scores", "each lead's current scores; lists of leads read only its index up to their page"
    )
    op.create_index(
        "lead_scores_listed",
        "lead_scores",
        ["tenant", "model", "identified", "rounded", "created_at", "lead_key"],
        postgresql_include=["stage", "band_keys"],
        postgresql_where=sa.text("listed"),
    )
    op.drop_index("leads_tenant", "leads")
    op.create_index(
        "leads_listed",
        "leads",
        ["tenant", "identified", "created_at", "lead_key"],
        postgresql_include=["identities"],
    )
    for name in ("median_gap_ms", "longest_gap_ms"):
        op.add_column("lead_journeys", sa.Column(name, sa.BigInteger()))
    op.execute("insert into stale_leads (lead_key, marked_at) select lead_key, now() from leads")

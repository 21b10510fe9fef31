"""People who were erased. While one is being erased, their name is replaced in the audit log, which else nobody changes."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"

TEXT = sa.Text(collation="C")
MOMENT = sa.DateTime(timezone=True)

REFUSE_AUDIT_CHANGE = """
create or replace function public.refuse_audit_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('leadstream.audit_retention', true) = 'on' then
    return old;
  end if;
  if tg_op = 'UPDATE' and current_setting('leadstream.erasure', true) = 'on' then
    return new;
  end if;
  raise exception 'the audit log is append-only' using errcode = 'restrict_violation';
end $$;
"""


def required(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False)


def upgrade() -> None:
    op.create_table(
        "erasures",
        *(required(name, TEXT) for name in ("erasure_id", "tenant", "salt")),
        required("hashes", JSONB),
        required("requested_at", MOMENT),
        *(required(name, TEXT) for name in ("requested_by", "step")),
        sa.Column("person", JSONB),
        required("removed", JSONB),
        required("remains", JSONB),
        sa.Column("finished_at", MOMENT),
        sa.PrimaryKeyConstraint("erasure_id"),
        sa.CheckConstraint("step in ('registered', 'recorded', 'emptied', 'done')", name="erasures_step"),
        schema="public",
        comment="people who were erased, as keyed hashes by which later events are refused",
    )
    op.create_index("erasures_tenant", "erasures", ["tenant", "requested_at"], schema="public")
    op.execute(REFUSE_AUDIT_CHANGE)

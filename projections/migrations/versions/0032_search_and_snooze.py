"""A search looks in everything that a row of the call list says, in a narrow table; and leads that are put off.

Rows of now get their text from the columns of the lead, with capital letters folded only, and from its latest event. The
next record of a lead, or a rebuild, folds the rest.
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0028"

TEXT = sa.Text(collation="C")
FILL = """
  insert into lead_search (lead_key, tenant, text, position)
  select lead_key, tenant, lower(concat(E'\\n', (
      select string_agg(left(part, 320), E'\\n')
      from unnest(array[search, company, assigned_to, replace(stage, '_', ' '), replace(latest.type, '_', ' '),
        fields ->> 'budget', fields ->> 'budget_min', fields ->> 'budget_max', fields ->> 'transaction_type',
        fields ->> 'property_type', fields ->> 'bedrooms', fields ->> 'location', fields ->> 'payment_method']) as part
      where part <> ''), E'\\n')), position
  from leads
  left join lateral (
    select coalesce(event.details ->> 'name', event.type) as type from identities
    cross join lateral (
      select type, case when type = 'custom' then details end as details, occurred_at from engagement_history
      where identity_key = identities.identity_key and type <> all('{session_ended,session_heartbeat,lead_identified,
        leads_merged,merge_undone,lead_assigned,task_created,campaign_joined,note_added,experiment_exposed,workflow_requested}')
      order by occurred_at desc, partition desc, position desc limit 1
    ) as event
    where identities.lead_key = leads.lead_key
    order by occurred_at desc limit 1
  ) as latest on true
"""


def upgrade() -> None:
    op.add_column("leads", sa.Column("snoozed_until", sa.DateTime(timezone=True)))
    op.create_table(
        "lead_search",
        sa.Column("lead_key", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("tenant", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("lead_key"),
        comment="what a search for leads looks in: the values of each lead's row, case folded",
        postgresql_with={"fillfactor": 75},
    )
    op.execute(FILL)
    op.drop_column("leads", "search")
    op.execute("comment on table leads is 'every lead as it is now'")
    op.create_index(
        "leads_snoozed",
        "leads",
        ["tenant", "snoozed_until"],
        postgresql_where=sa.text("snoozed_until is not null"),
    )
    op.drop_index("leads_listed", "leads")
    op.create_index(
        "leads_listed",
        "leads",
        ["tenant", "identified", "created_at", "lead_key"],
        postgresql_include=["identities", "stage"],
    )

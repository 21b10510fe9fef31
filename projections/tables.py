"""The tables that records make: the read models. Reports over them are in `projections.analytics_tables`, and what no
rebuild may change is in `projections.public_tables`.
"""

from typing import Final

from sqlalchemy import Index, text

from projections.rows import (
    AppliedEventRow,
    BandChangeRow,
    DeadLetterRow,
    EngagementRow,
    IdentityAttachmentRow,
    IdentityRow,
    LeadRecordRow,
    LeadRow,
    LeadScoreRow,
    LeadSearchRow,
    PublicationRow,
    QualificationOverrideRow,
    ScoreChangeRow,
    SessionRow,
    SessionScoreRow,
    SettingsVersionRow,
    StageEntryRow,
    WorkerPartRow,
    WorkerTimerRow,
    WorkflowExecutionRow,
)
from projections.table_definition import define_table
from schemas.topics import (
    DEAD_LETTERS,
    LEAD_ACTIVITY,
    LEAD_CHANGES,
    LEAD_SCORES,
    SCORE_CHANGED,
    SESSION_SCORES,
)

PROJECTED_TOPICS: Final = (
    LEAD_ACTIVITY,
    SESSION_SCORES,
    SCORE_CHANGED,
    LEAD_SCORES,
    LEAD_CHANGES,
    DEAD_LETTERS,
)
"""The topics that the tables are made from."""

APPLIED_EVENTS_KEPT: Final = 10_000
"""`applied_events` keeps the events among this many last records of each partition of `lead-changes`. The limit is a
number of positions, not an age, so that a rebuild ends with the same rows. Callers wait for seconds only.
"""

IDENTIFIED_AND_UNMERGED: Final = "identified and identities > 0"
"""The leads that an e-mail address or phone number may find: identified, and not merged into another lead."""

IS_EXPOSURE_CONDITION: Final = "type = 'experiment_exposed'"
"""The engagements that are exposures to experiments: few among very many."""

IS_MERGE_CONDITION: Final = "type = 'leads_merged'"
"""The engagements that merge a lead into another: few among very many."""

IS_KEPT_APART_CONDITION: Final = "jsonb_exists(details -> 'extra', 'kept_apart_from')"
"""The engagements whose person has an address of another lead, and was kept apart from it."""

IS_ORDER_CONDITION: Final = "type in ('purchase_made', 'purchase_refunded')"
"""The engagements that report orders."""

identities = define_table(
    "identities",
    IdentityRow,
    Index("identities_lead", "lead_key"),
    key=("identity_key",),
    newest_by=("epoch",),
    comment="who is behind a key, and which lead has them now: the highest epoch",
)

identity_history = define_table(
    "identity_history",
    IdentityAttachmentRow,
    Index("identity_history_lead", "lead_key"),
    key=("identity_key", "epoch"),
    newest_by=("epoch",),
    comment="every lead that had an identity, and since when: one row for each epoch",
)
"""Mutable only so that an attachment which comes twice changes nothing."""

lead_records = define_table(
    "lead_records",
    LeadRecordRow,
    Index("lead_records_identity", "identity_key"),
    Index("lead_records_redirects", "leads_to", postgresql_where=text("leads_to <> 0")),
    key=("lead_key", "position"),
    comment="what changed each lead's own state, in recorded order: folded up to a moment, the lead as of then",
)

engagement_history = define_table(
    "engagement_history",
    EngagementRow,
    Index("engagement_history_time", "occurred_at", postgresql_using="brin"),
    Index("engagement_history_exposures", "tenant", postgresql_where=text(IS_EXPOSURE_CONDITION)),
    Index(
        "engagement_history_merges",
        "tenant",
        text("(details ->> 'into')"),
        postgresql_where=text(IS_MERGE_CONDITION),
    ),
    Index("engagement_history_kept_apart", "identity_key", postgresql_where=text(IS_KEPT_APART_CONDITION)),
    Index("engagement_history_orders", "tenant", postgresql_where=text(IS_ORDER_CONDITION)),
    key=("identity_key", "occurred_at", "partition", "position"),
    comment="every event that counted, by identity: a merge or a split moves no row",
)

sessions = define_table(
    "sessions",
    SessionRow,
    Index("sessions_identity", "identity_key", "opened_at"),
    Index("sessions_session_id", "session_id"),
    Index("sessions_producer_id", "producer_id"),
    key=("session_key",),
    newest_by=("revision",),
    comment="web sessions as the latest cut has them; one that no longer is one stays as retracted",
)

session_scores = define_table(
    "session_scores",
    SessionScoreRow,
    key=("session_key", "lead_key", "model"),
    newest_by=("position",),
    comment="a session's score, as the lead that had it said",
)

leads = define_table(
    "leads",
    LeadRow,
    Index(
        "leads_listed",
        "tenant",
        "identified",
        "created_at",
        "lead_key",
        postgresql_include=["identities", "stage"],
    ),
    Index(
        "leads_email",
        "tenant",
        "email",
        postgresql_where=text(f"{IDENTIFIED_AND_UNMERGED} and email is not null"),
    ),
    Index(
        "leads_phone",
        "tenant",
        "phone",
        postgresql_where=text(f"{IDENTIFIED_AND_UNMERGED} and phone is not null"),
    ),
    Index(
        "leads_other_addresses",
        "other_addresses",
        postgresql_using="gin",
        postgresql_ops={"other_addresses": "jsonb_path_ops"},
        postgresql_where=text("other_addresses is not null"),
    ),
    Index("leads_snoozed", "tenant", "snoozed_until", postgresql_where=text("snoozed_until is not null")),
    key=("lead_key",),
    newest_by=("position",),
    comment="every lead as it is now",
)

lead_search = define_table(
    "lead_search",
    LeadSearchRow,
    key=("lead_key",),
    newest_by=("position",),
    comment="what a search for leads looks in: the values of each lead's row, case folded",
)

lead_scores = define_table(
    "lead_scores",
    LeadScoreRow,
    Index(
        "lead_scores_listed",
        "tenant",
        "model",
        "identified",
        "rounded",
        "created_at",
        "lead_key",
        postgresql_include=["stage", "band_keys"],
        postgresql_where=text("listed"),
    ),
    key=("lead_key", "model"),
    newest_by=("position",),
    comment="each lead's current scores; lists of leads read only its index up to their page",
)

score_history = define_table(
    "score_history",
    ScoreChangeRow,
    Index(
        "score_history_model",
        "lead_key",
        "model",
        "at",
        "position",
        postgresql_include=["total", "removed"],
    ),
    key=("lead_key", "at", "position"),
    comment="the ledger: every change of a score, with the lines that changed",
)

stage_history = define_table(
    "stage_history",
    StageEntryRow,
    key=("lead_key", "at", "position"),
    comment="every stage that a lead entered",
)

band_changes = define_table(
    "band_changes",
    BandChangeRow,
    key=("lead_key", "at", "position"),
    comment="every band that a lead left or entered",
)

qualification_overrides = define_table(
    "qualification_overrides",
    QualificationOverrideRow,
    key=("lead_key", "at", "position"),
    comment="every band that somebody set by hand, and its end",
)

applied_events = define_table(
    "applied_events",
    AppliedEventRow,
    Index("applied_events_place", "partition", "position"),
    key=("event_key", "lead_key", "key"),
    newest_by=("position",),
    comment="what became of the events that a caller waits for; only the latest are kept",
)

dead_letters = define_table(
    "dead_letters",
    DeadLetterRow,
    key=("topic", "partition", "position"),
    newest_by=("letter",),
    comment="records that could not be read or applied; `letter` is the position of the dead letter",
)

worker_state = define_table(
    "worker_state",
    WorkerPartRow,
    key=("stage", "partition", "key", "part"),
    newest_by=("position",),
    comment="what readers need of the state that workers keep in Kafka; empty beside an embedded log",
)

worker_dues = define_table(
    "worker_dues",
    WorkerTimerRow,
    Index("worker_dues_moment", "due_at"),
    key=("stage", "partition", "key"),
    newest_by=("position",),
    comment="when time alone may next change a key (ms), as workers keep it in Kafka",
)

settings_history = define_table(
    "settings_history",
    SettingsVersionRow,
    key=("tenant", "version"),
    newest_by=("version",),
    comment="every publication of settings, as far as what a lead was at a moment depends on them",
)

publications = define_table(
    "publications",
    PublicationRow,
    key=("tenant", "model", "version"),
    newest_by=("version",),
    comment="every model that was published, whole; without a text it was retired",
)
"""Mutable only so that a publication which comes twice changes nothing."""

workflow_executions = define_table(
    "workflow_executions",
    WorkflowExecutionRow,
    Index("workflow_executions_tenant", "tenant", "at", "execution_id"),
    Index("workflow_executions_workflow", "tenant", "workflow_id", "at", "execution_id"),
    Index("workflow_executions_lead", "lead_key", "at"),
    key=("tenant", "execution_id"),
    newest_by=("execution_id",),
    comment="every workflow that was triggered, for which lead, and why; `outbox` has what became of it",
)
"""Mutable only so that an execution which comes twice changes nothing."""

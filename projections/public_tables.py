"""The tables that no rebuild may change, in the schema `public`."""

from datetime import datetime
from typing import Final

from sqlalchemy import Boolean, CheckConstraint, Column, Index, Table, text

from projections.column_types import BigIntColumn
from projections.public_rows import (
    ApiKeyRow,
    ArchivedEventRow,
    AuditRow,
    BackfillRow,
    CrmCursorRow,
    CrmInboxRow,
    CrmRecordRow,
    Draft,
    EnrichmentCacheRow,
    EnrichmentQueueRow,
    EnrichmentUsageRow,
    ErasureRow,
    ExecutionCountRow,
    NotificationRow,
    OutboxRow,
    RecalculationRow,
    RemovedRecordsRow,
    RemovedRowsRow,
    SignInAttemptsRow,
    UserRow,
    UserSessionRow,
    WebhookReceiptRow,
)
from projections.table_definition import (
    PUBLIC_SCHEMA,
    UPDATED_IN_PLACE,
    define_column,
    define_table,
    metadata,
)

TO_BE_DELIVERED_CONDITION: Final = "status in ('waiting', 'delivering', 'failed')"
"""The rows of the outbox that a worker has to take: few among many."""

positions = Table(
    "positions",
    metadata,
    define_column("generation", str, key=True),
    define_column("topic", str, key=True),
    define_column("partition", int, key=True),
    define_column("position", BigIntColumn),
    schema=PUBLIC_SCHEMA,
    comment="the last record that each schema's tables contain, per partition",
    postgresql_with={"fillfactor": 50},
)

event_archive = define_table(
    "event_archive",
    ArchivedEventRow,
    Index("event_archive_key", "key"),
    key=("partition", "position", "recorded_at"),
    schema=PUBLIC_SCHEMA,
    comment="every event that a producer sent to Kafka, which keeps them for a while only",
    postgresql_partition_by="RANGE (recorded_at)",
)
"""`projections.archive` makes its partitions, one for each month."""

log_source = Table(
    "log_source",
    metadata,
    Column("only_row", Boolean(), primary_key=True, server_default="true"),
    define_column("cluster_id", str),
    define_column("prefix", str),
    define_column("app", str),
    CheckConstraint("only_row", name="log_source_one"),
    schema=PUBLIC_SCHEMA,
    comment="the Kafka cluster whose topics this database follows; no row: none",
)

retried_dead_letters = Table(
    "retried_letters",
    metadata,
    define_column("topic", str, key=True),
    define_column("partition", int, key=True),
    define_column("position", BigIntColumn, key=True),
    define_column("at", datetime),
    schema=PUBLIC_SCHEMA,
    comment="when an operator sent a dead letter's record in again; no fold of the log knows",
)

model_drafts = define_table(
    "model_drafts",
    Draft,
    CheckConstraint(
        "state in ('draft', 'scheduled', 'publishing', 'published', 'discarded')", name="model_drafts_state"
    ),
    Index("model_drafts_version", "tenant", "model", "version", unique=True),
    Index(
        "model_drafts_waiting",
        "state",
        postgresql_where=text("state in ('scheduled', 'publishing')"),
    ),
    key=("id",),
    schema=PUBLIC_SCHEMA,
    comment="models as authors write them, and what is published of them, on its way to the log",
)

backfills = define_table(
    "backfills",
    BackfillRow,
    key=("tenant", "model", "version"),
    schema=PUBLIC_SCHEMA,
    comment="which signals are new, and how far they are counted in the events before their publication",
)

outbox = define_table(
    "outbox",
    OutboxRow,
    CheckConstraint(
        "status in ('waiting', 'delivering', 'failed', 'delivered', 'dead', 'skipped')", name="outbox_status"
    ),
    Index("outbox_next", "channel", "next_attempt_at", postgresql_where=text(TO_BE_DELIVERED_CONDITION)),
    Index("outbox_dead", "tenant", "execution_id", postgresql_where=text("status = 'dead'")),
    Index("outbox_lead", "lead_key", "last_attempt_at"),
    Index("outbox_workflow", "tenant", "workflow_id", "last_attempt_at"),
    Index("outbox_uncounted", "tenant", "execution_id", postgresql_where=text("not counted")),
    key=("tenant", "execution_id", "channel"),
    schema=PUBLIC_SCHEMA,
    comment="actions of workflows on their way to the world; no rebuild and no import adds a row",
)

execution_counts = define_table(
    "execution_counts",
    ExecutionCountRow,
    key=("tenant", "quarter", "status"),
    schema=PUBLIC_SCHEMA,
    comment="how the executions of workflows ended, by quarter of an hour; kept when the outbox forgets them",
    postgresql_with=UPDATED_IN_PLACE,
)

recalculations = define_table(
    "recalculations",
    RecalculationRow,
    key=("tenant", "scheduled_for"),
    schema=PUBLIC_SCHEMA,
    comment="recalculations of all leads of a tenant: how far each is, and what differed",
)

notifications = define_table(
    "notifications",
    NotificationRow,
    Index("notifications_tenant", "tenant", "created_at", "execution_id"),
    key=("tenant", "execution_id"),
    schema=PUBLIC_SCHEMA,
    comment="messages of workflows to people inside the application, and who has read them",
)

crm_records = define_table(
    "crm_records",
    CrmRecordRow,
    Index("crm_records_lead", "tenant", "lead_id"),
    key=("tenant", "crm", "kind", "record_id"),
    schema=PUBLIC_SCHEMA,
    comment="records of CRMs: whose they are, what the last events of them were made of, what we wrote there",
)

crm_cursors = define_table(
    "crm_cursors",
    CrmCursorRow,
    key=("tenant", "crm", "kind"),
    schema=PUBLIC_SCHEMA,
    comment="how far the changes of each CRM were read, and when they are read next",
)

crm_inbox = define_table(
    "crm_inbox",
    CrmInboxRow,
    Index(
        "crm_inbox_record",
        "tenant",
        "crm",
        "kind",
        "record_id",
        unique=True,
        postgresql_where=text("record is null"),
    ),
    Index("crm_inbox_next", "tenant", "crm", "number"),
    key=("number",),
    schema=PUBLIC_SCHEMA,
    comment="what webhooks of CRMs have reported, until it is in the log",
)

webhook_receipts = define_table(
    "webhook_receipts",
    WebhookReceiptRow,
    Index("webhook_receipts_received", "received_at"),
    key=("digest",),
    schema=PUBLIC_SCHEMA,
    comment="webhooks of CRMs that were taken in the last minutes, as hashes: a copy counts once",
)

enrichment_queue = define_table(
    "enrichment_queue",
    EnrichmentQueueRow,
    Index("enrichment_queue_next", "next_at"),
    key=("identity_key",),
    schema=PUBLIC_SCHEMA,
    comment="persons whom a live event may have given a new address, until sources were asked about them",
)

enrichment_cache = define_table(
    "enrichment_cache",
    EnrichmentCacheRow,
    Index("enrichment_cache_expiry", "expires_at"),
    key=("key_digest", "source"),
    schema=PUBLIC_SCHEMA,
    comment="what sources have answered; of a key only its digest",
)

enrichment_usage = define_table(
    "enrichment_usage",
    EnrichmentUsageRow,
    key=("tenant", "source", "day"),
    schema=PUBLIC_SCHEMA,
    comment="how many requests each source had, by day, for the budgets",
)

api_keys = define_table(
    "api_keys",
    ApiKeyRow,
    Index("api_keys_digest", "digest", unique=True),
    Index("api_keys_tenant", "tenant", "created_at"),
    key=("key_id",),
    schema=PUBLIC_SCHEMA,
    comment="keys that were made; of a secret only its digest",
)

users = define_table(
    "users",
    UserRow,
    Index("users_email", "email", unique=True),
    Index("users_oidc", "oidc_issuer", "oidc_subject", unique=True),
    key=("user_id",),
    schema=PUBLIC_SCHEMA,
    comment="people who may sign in, with their roles",
)

user_sessions = define_table(
    "user_sessions",
    UserSessionRow,
    Index("user_sessions_user", "user_id"),
    Index("user_sessions_expiry", "expires_at"),
    key=("digest",),
    schema=PUBLIC_SCHEMA,
    comment="browsers that people have signed in with; of a cookie only its digest",
)

sign_in_attempts = define_table(
    "sign_in_attempts",
    SignInAttemptsRow,
    Index("sign_in_attempts_last", "last_at"),
    key=("subject",),
    schema=PUBLIC_SCHEMA,
    comment="attempts to sign in, by account and by address, for the lock-out; a day",
)

audit_log = define_table(
    "audit_log",
    AuditRow,
    Index("audit_log_tenant", "tenant", "entry_id"),
    key=("entry_id",),
    schema=PUBLIC_SCHEMA,
    comment="who changed what, signed in or was refused; append-only, personal data masked",
)

removed_records = define_table(
    "removed_records",
    RemovedRecordsRow,
    key=("topic", "partition"),
    schema=PUBLIC_SCHEMA,
    comment="what retention has removed of the log, so that whoever needs all of it can say so",
)

removed_rows = define_table(
    "removed_rows",
    RemovedRowsRow,
    key=("kind",),
    schema=PUBLIC_SCHEMA,
    comment="what retention has removed of the rows, by kind, so that a rebuild brings none of it back",
)

erasures = define_table(
    "erasures",
    ErasureRow,
    CheckConstraint("step in ('registered', 'recorded', 'emptied', 'done')", name="erasures_step"),
    Index("erasures_tenant", "tenant", "requested_at"),
    key=("erasure_id",),
    schema=PUBLIC_SCHEMA,
    comment="people who were erased, as keyed hashes by which later events are refused",
)

"""The read models' tables: the only definition of them.

Tables without a schema are in the schema `live`. A rebuild fills `shadow` and replaces `live` by it as a whole. Readers
connect with `READ_OPTIONS` and name no schema; writers name the schema they mean. Tables that no rebuild may change are
in `public`. Text compares by bytes. Keys are hashes and log positions, never serials, so that a rebuild gives
identical rows.

`newest_by` in a table's `info` makes it mutable: the row whose version is higher wins. A table
without it is append-only, and its key contains the log position of the record of the fact.

The tables of ANALYTICS_TABLES are not made of records but of the other tables, by `projections.analytics_worker`.
"""

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b, md5
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from projections.rows import (
    AnalyticsSettingsRow,
    ApiKeyRow,
    AppliedEventRow,
    ArchivedEventRow,
    AuditRow,
    BandChangeRow,
    BigIntColumn,
    CreditRestatementRow,
    CreditRow,
    CrmCursorRow,
    CrmInboxRow,
    CrmRecordRow,
    DeadLetterRow,
    Draft,
    EngagementRow,
    EnrichmentCacheRow,
    EnrichmentQueueRow,
    EnrichmentUsageRow,
    ErasureRow,
    ExecutionCountRow,
    IdentityAttachmentRow,
    IdentityRow,
    LeadConversionRow,
    LeadDayRow,
    LeadEngagementsRow,
    LeadJourneyRow,
    LeadPathRow,
    LeadRecordRow,
    LeadRow,
    LeadScoreRow,
    LeadSearchRow,
    LeadStayRow,
    NotificationRow,
    OutboxRow,
    PublicationRow,
    QualificationOverrideRow,
    RecalculationRow,
    RemovedRecordsRow,
    RemovedRowsRow,
    ScoreChangeRow,
    SessionRow,
    SessionScoreRow,
    SettingsVersionRow,
    SignInAttemptsRow,
    StageEntryRow,
    StaleLeadRow,
    TenantDayRow,
    TenantEngagementRow,
    TenantPeriodRow,
    UserRow,
    UserSessionRow,
    WebhookReceiptRow,
    WorkerPartRow,
    WorkerTimerRow,
    WorkflowExecutionRow,
)
from schemas.topics import (
    DEAD_LETTERS,
    LEAD_ACTIVITY,
    LEAD_CHANGES,
    LEAD_SCORES,
    SCORE_CHANGED,
    SESSION_SCORES,
    lead_key,
)

LIVE_SCHEMA: Final = "live"
SHADOW_SCHEMA: Final = "shadow"
PUBLIC_SCHEMA: Final = "public"

READ_OPTIONS: Final = f"-c search_path={LIVE_SCHEMA} -c timezone=UTC"
"""The options of a reader's connection: `psycopg.connect(url, options=READ_OPTIONS)`."""

PROJECTED_TOPICS: Final = (
    LEAD_ACTIVITY,
    SESSION_SCORES,
    SCORE_CHANGED,
    LEAD_SCORES,
    LEAD_CHANGES,
    DEAD_LETTERS,
)
"""The topics that the tables are made from."""

NEWEST_BY_INFO_KEY: Final = "newest_by"
ANALYTICS_INFO_KEY: Final = "analytics"
"""In a table's `info`: no record makes its rows, but the analytics worker."""
ROW_INFO_KEY: Final = "row"
"""In a table's `info`: the type of its rows, which defines its columns."""

APPLIED_EVENTS_KEPT: Final = 10_000
"""`applied_events` keeps the events among this many last records of each partition of `lead-changes`. The limit is a
number of positions, not an age, so that a rebuild ends with the same rows. Callers wait for seconds only.
"""

IDENTIFIED_AND_UNMERGED: Final = "identified and identities > 0"
"""The leads that an e-mail address or phone number may find: identified, and not merged into another lead."""

IS_EXPOSURE_CONDITION: Final = "type = 'experiment_exposed'"
"""The engagements that are exposures to experiments: few among very many."""

IS_ORDER_CONDITION: Final = "type in ('purchase_made', 'purchase_refunded')"
"""The engagements that report orders."""

LEAD_OUTCOMES: Final = (
    "identified",
    "stage",
    "furthest_stage",
    "customer_at",
    "first_outreach_at",
    "score",
)
"""What reports over many leads read of each; an index has it, since the rows are wide."""

_UPDATED_IN_PLACE: Final = {"fillfactor": 50}
"""Rows that nearly every batch updates, and no index but the key."""

BAND_KEY_LENGTH: Final = 12

HAS_VALUE_CONDITION: Final = "amounts <> '[]'"
"""The conversions that have a value: few among many."""

TO_BE_DELIVERED_CONDITION: Final = "status in ('waiting', 'delivering', 'failed')"
"""The rows of the outbox that a worker has to take: few among many."""

metadata: Final = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})


@lru_cache(maxsize=16_384)  # a batch names the same leads and identities many times
def hashed_key(name: str) -> int:
    """The eight-byte key of a text: the same on every machine and after every rebuild."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def lead_row_key(tenant: str, lead_id: str) -> int:
    return hashed_key(lead_key(tenant, lead_id))


def session_row_key(identity: str, session_id: str) -> int:
    """Session ids contain no space, so no two pairs have the same text."""
    return hashed_key(f"{identity} {session_id}")


def band_key(scale: str, band: str | None = None) -> str:
    """Names a band of a scale, or any of its bands, in `lead_scores.band_keys`; a migration computes the same in SQL."""
    name = scale if band is None else f"{scale}\x1f{band}"
    return md5(name.encode(), usedforsecurity=False).hexdigest()[:BAND_KEY_LENGTH]


def event_row_key(tenant: str, event_id: str) -> int:
    return hashed_key(f"{tenant}/{event_id}")


def execution_number(tenant: str, lead_id: str, workflow_id: int, arm: str) -> int:
    """The id of what a workflow did for a lead: the first 53 bits of a hash, a number that JSON keeps exactly. `arm` is what
    made this firing unique.
    """
    text_of_key = f"{lead_key(tenant, lead_id)} {workflow_id} {arm}"
    return int.from_bytes(blake2b(text_of_key.encode(), digest_size=8).digest(), "big") >> 11


def _table(
    name: str,
    row: type[tuple[Any, ...]],
    *extras: SchemaItem,
    key: tuple[str, ...],
    newest_by: tuple[str, ...] = (),
    schema: str | None = None,
    analytics: bool = False,
    comment: str,
    **options: Any,
) -> Table:
    """A table with the columns that `row` names. Free space on the pages of a mutable table lets an update stay on
    its page and leave the indexes alone.
    """
    info: dict[str, Any] = {ROW_INFO_KEY: row, ANALYTICS_INFO_KEY: analytics}
    if newest_by:
        info[NEWEST_BY_INFO_KEY] = newest_by
        options["postgresql_with"] = {"fillfactor": 75}
    hints = get_type_hints(row, include_extras=True)
    columns = [_column(column, hint, key=column in key) for column, hint in hints.items()]
    return Table(name, metadata, *columns, *extras, schema=schema, comment=comment, info=info, **options)


def _column(name: str, hint: Any, *, key: bool = False) -> Column[Any]:
    """A column for values of the type `hint`; `X | None` may be null."""
    null = NoneType in get_args(hint)
    kind = get_args(hint)[0] if null else hint
    type_, *extras = kind.__metadata__ if get_origin(kind) is Annotated else (_COLUMN_TYPES[kind],)
    return Column(name, type_, *extras, nullable=null, primary_key=key, autoincrement=bool(extras))


_COLUMN_TYPES: Final[dict[type, TypeEngine[Any]]] = {
    str: Text(collation="C"),
    int: Integer(),
    bool: Boolean(),
    bytes: LargeBinary(),
    datetime: DateTime(timezone=True),
    date: Date(),
    Decimal: Numeric(),
}


identities = _table(
    "identities",
    IdentityRow,
    Index("identities_lead", "lead_key"),
    key=("identity_key",),
    newest_by=("epoch",),
    comment="who is behind a key, and which lead has them now: the highest epoch",
)

identity_history = _table(
    "identity_history",
    IdentityAttachmentRow,
    Index("identity_history_lead", "lead_key"),
    key=("identity_key", "epoch"),
    newest_by=("epoch",),
    comment="every lead that had an identity, and since when: one row for each epoch",
)
"""Mutable only so that an attachment which comes twice changes nothing."""

lead_records = _table(
    "lead_records",
    LeadRecordRow,
    Index("lead_records_identity", "identity_key"),
    Index("lead_records_redirects", "leads_to", postgresql_where=text("leads_to <> 0")),
    key=("lead_key", "position"),
    comment="what changed each lead's own state, in recorded order: folded up to a moment, the lead as of then",
)

engagement_history = _table(
    "engagement_history",
    EngagementRow,
    Index("engagement_history_time", "occurred_at", postgresql_using="brin"),
    Index("engagement_history_exposures", "tenant", postgresql_where=text(IS_EXPOSURE_CONDITION)),
    Index("engagement_history_orders", "tenant", postgresql_where=text(IS_ORDER_CONDITION)),
    key=("identity_key", "occurred_at", "partition", "position"),
    comment="every event that counted, by identity: a merge or a split moves no row",
)

sessions = _table(
    "sessions",
    SessionRow,
    Index("sessions_identity", "identity_key", "opened_at"),
    Index("sessions_session_id", "session_id"),
    Index("sessions_producer_id", "producer_id"),
    key=("session_key",),
    newest_by=("revision",),
    comment="web sessions as the latest cut has them; one that no longer is one stays as retracted",
)

session_scores = _table(
    "session_scores",
    SessionScoreRow,
    key=("session_key", "lead_key", "model"),
    newest_by=("position",),
    comment="a session's score, as the lead that had it said",
)

leads = _table(
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
    Index("leads_snoozed", "tenant", "snoozed_until", postgresql_where=text("snoozed_until is not null")),
    key=("lead_key",),
    newest_by=("position",),
    comment="every lead as it is now",
)

lead_search = _table(
    "lead_search",
    LeadSearchRow,
    key=("lead_key",),
    newest_by=("position",),
    comment="what a search for leads looks in: the values of each lead's row, case folded",
)

lead_scores = _table(
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

score_history = _table(
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

stage_history = _table(
    "stage_history",
    StageEntryRow,
    key=("lead_key", "at", "position"),
    comment="every stage that a lead entered",
)

band_changes = _table(
    "band_changes",
    BandChangeRow,
    key=("lead_key", "at", "position"),
    comment="every band that a lead left or entered",
)

qualification_overrides = _table(
    "qualification_overrides",
    QualificationOverrideRow,
    key=("lead_key", "at", "position"),
    comment="every band that somebody set by hand, and its end",
)

applied_events = _table(
    "applied_events",
    AppliedEventRow,
    Index("applied_events_place", "partition", "position"),
    key=("event_key", "lead_key", "key"),
    newest_by=("position",),
    comment="what became of the events that a caller waits for; only the latest are kept",
)

dead_letters = _table(
    "dead_letters",
    DeadLetterRow,
    key=("topic", "partition", "position"),
    newest_by=("letter",),
    comment="records that could not be read or applied; `letter` is the position of the dead letter",
)

worker_state = _table(
    "worker_state",
    WorkerPartRow,
    key=("stage", "partition", "key", "part"),
    newest_by=("position",),
    comment="what readers need of the state that workers keep in Kafka; empty beside an embedded log",
)

worker_dues = _table(
    "worker_dues",
    WorkerTimerRow,
    Index("worker_dues_moment", "due_at"),
    key=("stage", "partition", "key"),
    newest_by=("position",),
    comment="when time alone may next change a key (ms), as workers keep it in Kafka",
)

settings_history = _table(
    "settings_history",
    SettingsVersionRow,
    key=("tenant", "version"),
    newest_by=("version",),
    comment="every publication of settings, as far as what a lead was at a moment depends on them",
)

publications = _table(
    "publications",
    PublicationRow,
    key=("tenant", "model", "version"),
    newest_by=("version",),
    comment="every model that was published, whole; without a text it was retired",
)
"""Mutable only so that a publication which comes twice changes nothing."""

workflow_executions = _table(
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

stale_leads = _table(
    "stale_leads",
    StaleLeadRow,
    key=(),
    analytics=True,
    comment="leads whose analytics must be computed again; no key, so that the projection waits for nobody",
    postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 10000},
)

analytics_settings = _table(
    "analytics_settings",
    AnalyticsSettingsRow,
    key=("tenant",),
    analytics=True,
    comment="the settings that the analytics of each tenant were computed by",
)

lead_journeys = _table(
    "lead_journeys",
    LeadJourneyRow,
    Index("lead_journeys_path", "tenant", "stage", "stage_path"),
    Index(
        "lead_journeys_created",
        "tenant",
        "created_at",
        postgresql_include=["lead_key", *LEAD_OUTCOMES],
    ),
    Index("lead_journeys_buyers", "tenant", "created_at", postgresql_where=text("orders > 0")),
    key=("lead_key",),
    analytics=True,
    comment="each lead's journey in numbers; what depends on the present is computed at the read",
)

lead_days = _table(
    "lead_days",
    LeadDayRow,
    Index("lead_days_tenant", "tenant", "day", postgresql_include=["lead_key", "identified", "interactions"]),
    Index("lead_days_orders", "tenant", "day", postgresql_where=text("orders > 0")),
    key=("lead_key", "day"),
    analytics=True,
    comment="what each lead did on each local day; weeks and months are sums of days",
)

lead_stays = _table(
    "lead_stays",
    LeadStayRow,
    Index(
        "lead_stays_tenant", "tenant", "created_at", postgresql_include=["identified", "stage", "stayed_ms"]
    ),
    key=("lead_key", "number"),
    analytics=True,
    comment="how long each lead was in each stage that it has left",
)

lead_engagements = _table(
    "lead_engagements",
    LeadEngagementsRow,
    key=("lead_key",),
    analytics=True,
    comment="what each lead adds to tenant_engagements",
)

tenant_days = _table(
    "tenant_days",
    TenantDayRow,
    key=("tenant", "day", "identified"),
    analytics=True,
    comment="sums of lead_days; reports over many leads read them",
    postgresql_with=_UPDATED_IN_PLACE,
)

tenant_periods = _table(
    "tenant_periods",
    TenantPeriodRow,
    key=("tenant", "period_type", "first_day", "identified"),
    analytics=True,
    comment="how many leads had an active week or month: no sum of days says it",
    postgresql_with=_UPDATED_IN_PLACE,
)

tenant_engagements = _table(
    "tenant_engagements",
    TenantEngagementRow,
    key=("tenant", "day", "identified", "type", "channel"),
    analytics=True,
    comment="engagements by local day, type and channel",
    postgresql_with=_UPDATED_IN_PLACE,
)

lead_conversions = _table(
    "lead_conversions",
    LeadConversionRow,
    Index(
        "lead_conversions_tenant",
        "tenant",
        "conversion_type",
        "converted_at",
        postgresql_include=["identified", "touchpoints", "journey_ms"],
    ),
    Index("lead_conversions_valued", "tenant", "converted_at", postgresql_where=text(HAS_VALUE_CONDITION)),
    key=("lead_key", "conversion_key"),
    analytics=True,
    comment="each conversion of a lead, with the touchpoints that led to it",
)

lead_credits = _table(
    "lead_credits",
    CreditRow,
    Index("lead_credits_tenant", "tenant", "conversion_type", "converted_at"),
    key=("lead_key", "conversion_key", "source_key"),
    analytics=True,
    comment="what each channel and source earned of a conversion by each model",
)

lead_paths = _table(
    "lead_paths",
    LeadPathRow,
    Index("lead_paths_tenant", "tenant", "last_touch_at"),
    key=("lead_key",),
    analytics=True,
    comment="the channels of each lead's last touchpoints, for paths without a conversion",
)

credit_restatements = _table(
    "credit_restatements",
    CreditRestatementRow,
    Index("credit_restatements_tenant", "tenant", "recorded_at"),
    key=("lead_key", "number"),
    analytics=True,
    comment="each fact that changed the credits of a conversion: what they were, what they are, why",
)

positions = Table(
    "positions",
    metadata,
    _column("generation", str, key=True),
    _column("topic", str, key=True),
    _column("partition", int, key=True),
    _column("position", BigIntColumn),
    schema=PUBLIC_SCHEMA,
    comment="the last record that each schema's tables contain, per partition",
    postgresql_with={"fillfactor": 50},
)

event_archive = _table(
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
    _column("cluster_id", str),
    _column("prefix", str),
    _column("app", str),
    CheckConstraint("only_row", name="log_source_one"),
    schema=PUBLIC_SCHEMA,
    comment="the Kafka cluster whose topics this database follows; no row: none",
)

retried_dead_letters = Table(
    "retried_letters",
    metadata,
    _column("topic", str, key=True),
    _column("partition", int, key=True),
    _column("position", BigIntColumn, key=True),
    _column("at", datetime),
    schema=PUBLIC_SCHEMA,
    comment="when an operator sent a dead letter's record in again; no fold of the log knows",
)

model_drafts = _table(
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

outbox = _table(
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

execution_counts = _table(
    "execution_counts",
    ExecutionCountRow,
    key=("tenant", "quarter", "status"),
    schema=PUBLIC_SCHEMA,
    comment="how the executions of workflows ended, by quarter of an hour; kept when the outbox forgets them",
    postgresql_with=_UPDATED_IN_PLACE,
)

recalculations = _table(
    "recalculations",
    RecalculationRow,
    key=("tenant", "scheduled_for"),
    schema=PUBLIC_SCHEMA,
    comment="recalculations of all leads of a tenant: how far each is, and what differed",
)

notifications = _table(
    "notifications",
    NotificationRow,
    Index("notifications_tenant", "tenant", "created_at", "execution_id"),
    key=("tenant", "execution_id"),
    schema=PUBLIC_SCHEMA,
    comment="messages of workflows to people inside the application, and who has read them",
)

crm_records = _table(
    "crm_records",
    CrmRecordRow,
    Index("crm_records_lead", "tenant", "lead_id"),
    key=("tenant", "crm", "kind", "record_id"),
    schema=PUBLIC_SCHEMA,
    comment="records of CRMs: whose they are, what the last events of them were made of, what we wrote there",
)

crm_cursors = _table(
    "crm_cursors",
    CrmCursorRow,
    key=("tenant", "crm", "kind"),
    schema=PUBLIC_SCHEMA,
    comment="how far the changes of each CRM were read, and when they are read next",
)

crm_inbox = _table(
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

webhook_receipts = _table(
    "webhook_receipts",
    WebhookReceiptRow,
    Index("webhook_receipts_received", "received_at"),
    key=("digest",),
    schema=PUBLIC_SCHEMA,
    comment="webhooks of CRMs that were taken in the last minutes, as hashes: a copy counts once",
)

enrichment_queue = _table(
    "enrichment_queue",
    EnrichmentQueueRow,
    Index("enrichment_queue_next", "next_at"),
    key=("identity_key",),
    schema=PUBLIC_SCHEMA,
    comment="persons whom a live event may have given a new address, until sources were asked about them",
)

enrichment_cache = _table(
    "enrichment_cache",
    EnrichmentCacheRow,
    Index("enrichment_cache_expiry", "expires_at"),
    key=("key_digest", "source"),
    schema=PUBLIC_SCHEMA,
    comment="what sources have answered; of a key only its digest",
)

enrichment_usage = _table(
    "enrichment_usage",
    EnrichmentUsageRow,
    key=("tenant", "source", "day"),
    schema=PUBLIC_SCHEMA,
    comment="how many requests each source had, by day, for the budgets",
)

api_keys = _table(
    "api_keys",
    ApiKeyRow,
    Index("api_keys_digest", "digest", unique=True),
    Index("api_keys_tenant", "tenant", "created_at"),
    key=("key_id",),
    schema=PUBLIC_SCHEMA,
    comment="keys that were made; of a secret only its digest",
)

users = _table(
    "users",
    UserRow,
    Index("users_email", "email", unique=True),
    Index("users_oidc", "oidc_issuer", "oidc_subject", unique=True),
    key=("user_id",),
    schema=PUBLIC_SCHEMA,
    comment="people who may sign in, with their roles",
)

user_sessions = _table(
    "user_sessions",
    UserSessionRow,
    Index("user_sessions_user", "user_id"),
    Index("user_sessions_expiry", "expires_at"),
    key=("digest",),
    schema=PUBLIC_SCHEMA,
    comment="browsers that people have signed in with; of a cookie only its digest",
)

sign_in_attempts = _table(
    "sign_in_attempts",
    SignInAttemptsRow,
    Index("sign_in_attempts_last", "last_at"),
    key=("subject",),
    schema=PUBLIC_SCHEMA,
    comment="attempts to sign in, by account and by address, for the lock-out; a day",
)

audit_log = _table(
    "audit_log",
    AuditRow,
    Index("audit_log_tenant", "tenant", "entry_id"),
    key=("entry_id",),
    schema=PUBLIC_SCHEMA,
    comment="who changed what, signed in or was refused; append-only, personal data masked",
)

removed_records = _table(
    "removed_records",
    RemovedRecordsRow,
    key=("topic", "partition"),
    schema=PUBLIC_SCHEMA,
    comment="what retention has removed of the log, so that whoever needs all of it can say so",
)

removed_rows = _table(
    "removed_rows",
    RemovedRowsRow,
    key=("kind",),
    schema=PUBLIC_SCHEMA,
    comment="what retention has removed of the rows, by kind, so that a rebuild brings none of it back",
)

erasures = _table(
    "erasures",
    ErasureRow,
    CheckConstraint("step in ('registered', 'recorded', 'emptied', 'done')", name="erasures_step"),
    Index("erasures_tenant", "tenant", "requested_at"),
    key=("erasure_id",),
    schema=PUBLIC_SCHEMA,
    comment="people who were erased, as keyed hashes by which later events are refused",
)

_REBUILT_TABLES: Final = tuple(table for table in metadata.sorted_tables if table.schema is None)
READ_MODEL_TABLES: Final = tuple(table for table in _REBUILT_TABLES if not table.info[ANALYTICS_INFO_KEY])
"""The tables that records make."""
ANALYTICS_TABLES: Final = tuple(table for table in _REBUILT_TABLES if table.info[ANALYTICS_INFO_KEY])
"""The tables that the analytics worker makes, and its queue."""
FACT_TABLES: Final = tuple(table for table in READ_MODEL_TABLES if NEWEST_BY_INFO_KEY not in table.info)
TABLE_OF_ROW: Final[dict[type[tuple[Any, ...]], Table]] = {
    table.info[ROW_INFO_KEY]: table for table in READ_MODEL_TABLES
}
"""The table of each type of row."""

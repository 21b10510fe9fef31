"""The rows of the tables that no rebuild may change: what people and other programs entered, and what was delivered."""

from datetime import date, datetime
from typing import Annotated, NamedTuple

from sqlalchemy.dialects.postgresql import JSONB

from projections.column_types import BigIntColumn, JsonColumn, SerialColumn


class ArchivedEventRow(NamedTuple):
    partition: int
    position: BigIntColumn
    recorded_at: datetime
    """In UTC, to the millisecond."""
    key: str
    value: bytes


class OutboxRow(NamedTuple):
    """A row of `outbox`: an action that a channel has to carry out, and how far that is. A notification may have several."""

    tenant: str
    execution_id: BigIntColumn
    lead_key: BigIntColumn
    lead_id: str
    workflow_id: BigIntColumn
    workflow: str
    version: BigIntColumn
    trigger: str
    reason: str
    action: str
    config: JsonColumn
    hops: int
    at: datetime
    caused_by: str
    channel: str
    """The name of the channel in the settings of delivery; `lead` for actions that change the lead."""
    priority: int
    status: str
    attempts: int
    next_attempt_at: datetime
    """Of a row that is being delivered: when another worker may take it."""
    created_at: datetime
    last_attempt_at: datetime | None = None
    delivered_at: datetime | None = None
    last_error: str | None = None
    decision: JsonColumn | None = None
    """What was chosen before the first attempt, so that every attempt does the same: the owner of a lead."""
    counted: bool = False
    """Its execution has ended, and is in `execution_counts`."""


class ExecutionCountRow(NamedTuple):
    """How many executions of a quarter of an hour have ended in a status. `forgotten`: carried out or skipped, before there
    were counts.
    """

    tenant: str
    quarter: datetime
    """Its beginning: every time zone of today begins its days with one."""
    status: str
    executions: BigIntColumn


class RemovedRecordsRow(NamedTuple):
    """What retention has removed of a partition of the log."""

    topic: str
    partition: int
    """-1: of the archive of Kafka's events."""
    position: BigIntColumn
    """The first one that was not removed."""
    recorded_before: datetime
    removed_at: datetime


class RemovedRowsRow(NamedTuple):
    """What retention has removed of the rows of one kind."""

    kind: str
    """A name of `projections.retention.ROW_KINDS`."""
    removed_before: datetime
    removed_at: datetime
    removed: BigIntColumn
    """Rows, since the beginning."""


class RecalculationRow(NamedTuple):
    tenant: str
    scheduled_for: datetime
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    partition: int
    key: str
    checked: BigIntColumn
    differing: BigIntColumn
    differences: JsonColumn


class NotificationRow(NamedTuple):
    """A row of `notifications`: a message to people inside the application."""

    tenant: str
    execution_id: BigIntColumn
    lead_id: str
    workflow_id: BigIntColumn
    recipient: str | None
    """The owner it is for; None: everybody."""
    title: str
    message: str
    created_at: datetime
    read_at: datetime | None = None
    read_by: str | None = None


class Draft(NamedTuple):
    """A row of `model_drafts`; its fields are the columns."""

    id: SerialColumn
    tenant: str
    model: str
    state: str
    text: str | None
    """None: this draft retires the model. Empty in a list, which has no texts."""
    based_on: BigIntColumn | None
    """The version that the author changed. 0: there was none. None: publish it whatever the newest version is."""
    based_on_tenant: str | None
    """The tenant of that version: the draft's own, or `*`."""
    by: str | None
    note: str | None
    change: str | None
    fire: bool
    effective_from: datetime | None
    problem: str | None
    """Why it could not be published at its time."""
    created_at: datetime
    changed_at: datetime
    version: BigIntColumn | None = None
    published_at: datetime | None = None
    folding: int | None = None
    """How the published model compares texts. None: it is not published, or by a version that knew one way only."""


class ApiKeyRow(NamedTuple):
    """A key that somebody made (`leadstream keys`, `/api/keys`). Its secret is nowhere: only its digest."""

    key_id: str
    tenant: str
    name: str
    scopes: str
    """Joined by +."""
    digest: str
    """SHA-256 of the secret, which has 256 random bits."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    """From then on it is refused. None: never."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """A minute late at most."""
    replaces: str | None
    """The key that it was rotated from."""


class UserRow(NamedTuple):
    """A person who may sign in."""

    user_id: str
    tenant: str
    email: str
    """In lower case; unique among all tenants, since people sign in by it."""
    name: str
    role: str
    password_hash: str | None
    """By argon2id. None: this person signs in by OpenID Connect only."""
    oidc_issuer: str | None
    oidc_subject: str | None
    """Who it is at the provider, from the first sign-in there."""
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    last_signed_in_at: datetime | None


class UserSessionRow(NamedTuple):
    """A browser that somebody has signed in with."""

    digest: str
    """SHA-256 of the cookie."""
    user_id: str
    created_at: datetime
    last_seen_at: datetime
    """A minute late at most."""
    expires_at: datetime
    address: str


class SignInAttemptsRow(NamedTuple):
    """Attempts to sign in, of one account or from one address, since the last that succeeded."""

    subject: str
    """`account:` and a hash of the e-mail address, whether or not anybody has it; or `address:` and the network."""
    attempts: int
    last_at: datetime
    locked_until: datetime | None


class CrmRecordRow(NamedTuple):
    """A row of `crm_records`: a contact or deal of a CRM."""

    tenant: str
    crm: str
    """The name of the channel in the settings of delivery."""
    kind: str
    record_id: str
    lead_id: str | None
    status: str | None
    """Of a deal: open, won or lost."""
    state: JsonColumn
    """What the last events were made of."""
    pushed: JsonColumn
    """The values that Leadstream has written there and not read since, by the CRM's fields."""
    changed_at: datetime | None = None


class CrmCursorRow(NamedTuple):
    """A row of `crm_cursors`: how far the changes of a CRM were read, by kind of record."""

    tenant: str
    crm: str
    kind: str
    since: datetime
    page: str | None
    next_at: datetime
    failures: int
    pulled_at: datetime | None = None
    """When nothing more was to be read."""
    last_error: str | None = None


class CrmInboxRow(NamedTuple):
    """A row of `crm_inbox`: a webhook has reported that a record changed."""

    number: SerialColumn
    tenant: str
    crm: str
    kind: str
    record_id: str
    received_at: datetime
    next_at: datetime
    record: JsonColumn | None = None
    """None: the record is read from the CRM."""


class WebhookReceiptRow(NamedTuple):
    """A row of `webhook_receipts`: a webhook of a CRM that was taken."""

    digest: str
    """SHA-256 of the tenant, the channel and the id, or the signature, of the request."""
    received_at: datetime


class EnrichmentQueueRow(NamedTuple):
    """A row of `enrichment_queue`: a person whom an event may have given a new address."""

    identity_key: BigIntColumn
    tenant: str
    noticed_at: datetime
    next_at: datetime
    attempts: int


class EnrichmentCacheRow(NamedTuple):
    """A row of `enrichment_cache`: what a source has answered about a key, of which only the digest is kept."""

    key_digest: str
    tenant: str
    source: str
    fields: JsonColumn
    previous: JsonColumn
    """What it answered before that."""
    fetched_at: datetime
    expires_at: datetime


class EnrichmentUsageRow(NamedTuple):
    """A row of `enrichment_usage`: how many requests a source had on a day (UTC)."""

    tenant: str
    source: str
    day: date
    requests: int


class AuditRow(NamedTuple):
    """Who changed what, or was refused. A trigger keeps it from being changed."""

    entry_id: SerialColumn
    tenant: str
    at: datetime
    actor: str
    """`key:ID`, `user:ID`, `setting`, `cli:ACCOUNT`, `local` (without keys) or `nobody`."""
    action: str
    target: str | None
    before: str | None
    after: str | None
    address: str | None
    outcome: str
    """done, refused or failed."""


class ErasureRow(NamedTuple):
    """A person who was erased: keyed hashes of what named them, and how far the erasure is."""

    erasure_id: str
    tenant: str
    salt: str
    """The key of the tenant's hashes, in hexadecimal."""
    hashes: JsonColumn
    requested_at: datetime
    requested_by: str
    step: str
    """One of `projections.erasures.STEPS`."""
    person: JsonColumn | None
    """Who it is, until it is done: an erasure goes on after a crash."""
    removed: JsonColumn
    remains: JsonColumn
    finished_at: datetime | None


class BackfillRow(NamedTuple):
    """A row of `backfills`: a publication whose signals are new, and how far they are counted in earlier events."""

    tenant: str
    model: str
    version: BigIntColumn
    signals: Annotated[dict[str, str], JSONB()]
    """Stored name -> the name in the model."""
    text: str
    folding: int
    requested_at: datetime
    from_now: bool
    """True: its author wants earlier events not counted, or this log cannot count them."""
    partitions: Annotated[list[dict[str, int]], JSONB()] | None
    """{until, steps, done} of each partition. None: the counting has not begun."""
    completed_at: datetime | None
    """None also where nothing is counted."""

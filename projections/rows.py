"""One type of row per table. Its fields are the table's columns, in order: `projections.tables` makes them from it.

A field's type decides its column's type; the aliases below name it where the Python type does not. Nothing here can be
refused by PostgreSQL: `projections.facts` replaces what it cannot store (NUL, half surrogate pairs).
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Final, NamedTuple

import sqlalchemy
from sqlalchemy import BigInteger, Table
from sqlalchemy.dialects.postgresql import JSONB

from schemas.record import Record

BigIntColumn = Annotated[int, BigInteger()]
"""Eight bytes instead of four."""
JsonColumn = Annotated[str, JSONB()]
"""Encoded JSON text."""
SerialColumn = Annotated[int, BigInteger(), sqlalchemy.Identity(always=True)]
"""A number that PostgreSQL gives out."""


class UnreadableRecordError(ValueError):
    """A record of one of Leadstream's topics cannot be read. The log or this program is broken, or another program
    wrote the record.
    """

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(f"{record.topic}/{record.partition} at position {record.position}: {reason}")
        self.reason = reason


class IdentityRow(NamedTuple):
    identity_key: BigIntColumn
    tenant: str
    identity: str
    lead_key: BigIntColumn
    lead_id: str
    epoch: int
    home: str
    attached_at: datetime


class IdentityAttachmentRow(NamedTuple):
    identity_key: BigIntColumn
    epoch: int
    tenant: str
    lead_key: BigIntColumn
    lead_id: str
    attached_at: datetime
    partition: int
    position: BigIntColumn


class LeadRecordRow(NamedTuple):
    """A record that changed a lead's own state, as the fold reads it but without the event: `record` is encoded
    `schemas.activity.Activity`. Folding them up to a moment gives the lead as of then.
    """

    lead_key: BigIntColumn
    position: BigIntColumn
    at: datetime
    identity_key: BigIntColumn
    """0: a redirect, which has no identity."""
    leads_to: BigIntColumn
    """Of a redirect: the key of the lead that it names; else 0."""
    record: bytes


class EngagementRow(NamedTuple):
    identity_key: BigIntColumn
    occurred_at: datetime
    partition: int
    position: BigIntColumn
    tenant: str
    event_id: str
    type: str
    channel: str
    source: str
    recorded_at: datetime
    session_id: str | None
    late: bool
    imported: bool
    title: str | None
    url: str | None
    referrer: str | None
    engagement_value: int | None
    revenue_minor: BigIntColumn | None
    currency: str | None
    source_type: str | None
    source_id: str | None
    source_name: str | None
    campaign_source: str | None
    campaign_medium: str | None
    campaign_name: str | None
    campaign_term: str | None
    campaign_content: str | None
    device_type: str | None
    os: str | None
    browser: str | None
    location: str | None
    ip: str | None
    details: JsonColumn | None
    channel_group: str | None = None
    """Of the default channel grouping: Organic Search, Paid Social ... `channel` is where the lead was met."""


class SessionRow(NamedTuple):
    session_key: BigIntColumn
    identity_key: BigIntColumn
    tenant: str
    session_id: str
    producer_id: str | None
    campaign: str | None
    revision: BigIntColumn
    retracted: bool
    opened_at: datetime | None
    last_at: datetime | None
    closed: bool
    pages: int
    clicks: int
    important_clicks: int


class SessionScoreRow(NamedTuple):
    session_key: BigIntColumn
    lead_key: BigIntColumn
    model: str
    version: BigIntColumn
    score: Decimal
    lines: JsonColumn
    ended: bool
    scored_at: datetime
    position: BigIntColumn


class LeadRow(NamedTuple):
    lead_key: BigIntColumn
    tenant: str
    lead_id: str
    identified: bool
    created_at: datetime
    last_interaction_at: datetime | None
    stage: str
    redirect: str | None
    identities: int
    as_of: datetime
    name: str | None
    email: str | None
    phone: str | None
    company: str | None
    assigned_to: str | None
    counts: JsonColumn
    fields: JsonColumn
    position: BigIntColumn
    revenue: JsonColumn | None
    qualification_override: JsonColumn | None
    speed_to_lead: JsonColumn | None
    snoozed_until: datetime | None


class LeadSearchRow(NamedTuple):
    lead_key: BigIntColumn
    tenant: str
    text: str
    """Each value on a line of its own, between newlines, folded."""
    position: BigIntColumn


class LeadScoreRow(NamedTuple):
    lead_key: BigIntColumn
    model: str
    version: BigIntColumn
    total: Decimal
    rounded: int
    bands: JsonColumn
    as_of: datetime
    next_due: datetime | None
    position: BigIntColumn
    tenant: str
    """This and what follows repeats the lead's row, of the same record: an index of the lists needs it."""
    identified: bool
    listed: bool
    """The lead was not merged into another one."""
    created_at: datetime
    stage: str
    band_keys: str
    """Of `bands`, as `band_key`: an index row has no room for names of any length."""


class ScoreChangeRow(NamedTuple):
    lead_key: BigIntColumn
    model: str
    at: datetime
    position: BigIntColumn
    version: BigIntColumn
    total: Decimal
    previous: Decimal
    change: Decimal
    bands: JsonColumn
    lines: JsonColumn
    caused_by: str
    removed: bool
    """The model no longer scores the lead."""


class StageEntryRow(NamedTuple):
    lead_key: BigIntColumn
    at: datetime
    position: BigIntColumn
    stage: str
    previous: str
    reason: str
    caused_by: str


class BandChangeRow(NamedTuple):
    lead_key: BigIntColumn
    at: datetime
    position: BigIntColumn
    model: str
    version: BigIntColumn
    scale: str
    band: str | None
    previous: str | None
    crossed: JsonColumn
    silent: bool
    caused_by: str


class QualificationOverrideRow(NamedTuple):
    lead_key: BigIntColumn
    at: datetime
    position: BigIntColumn
    model: str
    scale: str
    band: str | None
    previous: str | None
    by: str | None
    until: datetime | None
    silent: bool
    caused_by: str


class AppliedEventRow(NamedTuple):
    event_key: BigIntColumn
    lead_key: BigIntColumn
    tenant: str
    event_id: str
    lead_id: str
    at: datetime
    outcome: str
    scores: JsonColumn
    position: BigIntColumn
    partition: int
    key: str


class DeadLetterRow(NamedTuple):
    topic: str
    partition: int
    position: BigIntColumn
    reason: str
    field: str | None
    key: str | None
    original: bytes
    letter: BigIntColumn


class WorkerPartRow(NamedTuple):
    stage: str
    partition: int
    key: str
    part: str
    value: bytes
    position: BigIntColumn


class WorkerTimerRow(NamedTuple):
    stage: str
    partition: int
    key: str
    due_at: BigIntColumn
    position: BigIntColumn


WORKFLOWS: Final = "#workflows"
"""The `model` of a row in `publications` and `model_drafts` that has the workflows of a tenant. No model can have it."""


class PublicationRow(NamedTuple):
    tenant: str
    model: str
    version: BigIntColumn
    text: str | None
    fire: bool
    by: str | None
    note: str | None
    change: str | None
    recorded_at: datetime
    folding: int = 1
    """How the model compares texts."""


class SettingsVersionRow(NamedTuple):
    tenant: str
    version: BigIntColumn
    recorded_at: datetime
    time_zone: str
    idle_minutes: int
    lifecycle: str
    """Its text; empty: the one that comes with Leadstream."""


class ArchivedEventRow(NamedTuple):
    partition: int
    position: BigIntColumn
    recorded_at: datetime
    """In UTC, to the millisecond."""
    key: str
    value: bytes


class StaleLeadRow(NamedTuple):
    """One of the keys is null. An identity stands for every lead that has or had it."""

    lead_key: BigIntColumn | None
    identity_key: BigIntColumn | None
    marked_at: datetime


class AnalyticsSettingsRow(NamedTuple):
    tenant: str
    settings: str
    """Encoded `scoring.analytics.settings.AnalyticsSettings`."""


class LeadJourneyRow(NamedTuple):
    """As `scoring.journeys.journey.LeadJourney`; money in minor units by currency."""

    lead_key: BigIntColumn
    tenant: str
    lead_id: str
    identified: bool
    created_at: datetime
    cohort_month: date
    stage: str
    furthest_stage: str
    stage_path: str
    entered: JsonColumn
    contacted_at: datetime | None
    """The first moment in this stage of the funnel or a later one."""
    qualified_at: datetime | None
    engaged_at: datetime | None
    opportunity_at: datetime | None
    customer_at: datetime | None
    first_contact_at: datetime | None
    first_interaction_at: datetime | None
    last_interaction_at: datetime | None
    last_interaction_day: date | None
    engagements: int
    touchpoints: int
    type_counts: JsonColumn
    channel_counts: JsonColumn
    average_gap_ms: BigIntColumn | None
    gross: JsonColumn
    net: JsonColumn
    orders: int
    score: int | None
    """None: no model scores the lead any more."""
    first_outreach_at: datetime | None
    median_gap_ms: BigIntColumn | None
    longest_gap_ms: BigIntColumn | None


class LeadDayRow(NamedTuple):
    """As `scoring.journeys.day_summary.DaySummary`; money in minor units by currency."""

    lead_key: BigIntColumn
    day: date
    tenant: str
    identified: bool
    interactions: int
    touchpoints: int
    emails_sent: int
    emails_opened: int
    emails_clicked: int
    emails_replied: int
    forms_submitted: int
    pages_viewed: int
    orders: int
    net: JsonColumn
    score_start: int
    score_end: int
    engagement: Decimal
    stage_start: str
    stage_end: str
    stage_changes: int
    last_interaction_at: datetime | None


class LeadEngagementsRow(NamedTuple):
    lead_key: BigIntColumn
    tenant: str
    identified: bool
    by_day: JsonColumn
    """[day, type, channel, engagements], as `scoring.journeys.engagement_counts`."""


class LeadStayRow(NamedTuple):
    """A stay in a stage that has ended."""

    lead_key: BigIntColumn
    number: int
    tenant: str
    identified: bool
    created_at: datetime
    """The lead."""
    stage: str
    stayed_ms: BigIntColumn


class TenantDayRow(NamedTuple):
    """The sums of `lead_days` over a tenant's leads, those with a known identity and the others apart."""

    tenant: str
    day: date
    identified: bool
    leads: BigIntColumn
    """For whom something happened."""
    active_leads: BigIntColumn
    """Who did something."""
    interactions: BigIntColumn
    touchpoints: BigIntColumn
    emails_sent: BigIntColumn
    emails_opened: BigIntColumn
    emails_clicked: BigIntColumn
    emails_replied: BigIntColumn
    forms_submitted: BigIntColumn
    pages_viewed: BigIntColumn
    orders: BigIntColumn
    stage_changes: BigIntColumn
    score_change: BigIntColumn
    engagement: Decimal


class TenantPeriodRow(NamedTuple):
    """The leads of `lead_days` in a week or month, each counted once."""

    tenant: str
    period_type: str
    first_day: date
    identified: bool
    leads: BigIntColumn
    active_leads: BigIntColumn


class TenantEngagementRow(NamedTuple):
    """The sums of `lead_engagements` over a tenant's leads."""

    tenant: str
    day: date
    identified: bool
    type: str
    channel: str
    engagements: BigIntColumn


class LeadConversionRow(NamedTuple):
    """As `scoring.attribution.conversions.AttributedConversion`. Journeys begin at the first touchpoint."""

    lead_key: BigIntColumn
    conversion_key: BigIntColumn
    """Of type and id: a key of short columns, since an index has no room for long texts."""
    conversion_type: str
    conversion_id: str
    tenant: str
    lead_id: str
    identified: bool
    converted_at: datetime
    touchpoints: int
    journey_ms: BigIntColumn
    average_gap_ms: BigIntColumn | None
    path: str
    """The channels in order, as JSON."""
    amounts: JsonColumn
    """[currency, minor units] of each value."""
    weighed: JsonColumn
    """Of each touchpoint [moment in ms, engagement type, channel, source type, source name, weights in billionths by each
    of TOUCH_MODELS].
    """


class CreditRow(NamedTuple):
    """As `scoring.attribution.credits.SourceCredit`: billionths and minor units; currency "": the conversion has no value."""

    lead_key: BigIntColumn
    conversion_key: BigIntColumn
    source_key: BigIntColumn
    conversion_type: str
    conversion_id: str
    channel: str
    source_type: str
    source_name: str
    currency: str
    tenant: str
    identified: bool
    converted_at: datetime
    first_touch: int
    last_touch: int
    linear: int
    time_decay: int
    u_shaped: int
    w_shaped: int
    first_touch_minor: BigIntColumn
    last_touch_minor: BigIntColumn
    linear_minor: BigIntColumn
    time_decay_minor: BigIntColumn
    u_shaped_minor: BigIntColumn
    w_shaped_minor: BigIntColumn


class LeadPathRow(NamedTuple):
    """The channels of a lead's last touchpoints, as JSON, and the types of the conversions that it made."""

    lead_key: BigIntColumn
    tenant: str
    identified: bool
    last_touch_at: datetime
    path: str
    converted: JsonColumn


class CreditRestatementRow(NamedTuple):
    """As `scoring.attribution.restatements.CreditRestatement`; `number` counts those of the lead in recorded order."""

    lead_key: BigIntColumn
    number: int
    tenant: str
    lead_id: str
    conversion_type: str
    conversion_id: str
    recorded_at: datetime
    reason: str
    event_id: str | None
    before: JsonColumn
    after: JsonColumn | None


class WorkflowExecutionRow(NamedTuple):
    """A workflow that was triggered for a lead, whatever became of its action: that is in the outbox."""

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
    arm: str
    silent: bool
    silenced_by: str | None
    hops: int
    priority: int
    at: datetime
    caused_by: str
    partition: int
    position: BigIntColumn


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


class SupersededRows(NamedTuple):
    """Not a row: it deletes the table's rows under this key, or under the key's first columns, that an older record
    wrote.
    """

    table: Table
    key: tuple[int | str, ...]
    position: int


Row = (
    IdentityRow
    | IdentityAttachmentRow
    | LeadRecordRow
    | EngagementRow
    | SessionRow
    | SessionScoreRow
    | LeadRow
    | LeadScoreRow
    | LeadSearchRow
    | ScoreChangeRow
    | StageEntryRow
    | BandChangeRow
    | QualificationOverrideRow
    | AppliedEventRow
    | DeadLetterRow
    | WorkerPartRow
    | WorkerTimerRow
    | PublicationRow
    | SettingsVersionRow
    | WorkflowExecutionRow
)
TableChange = Row | SupersededRows

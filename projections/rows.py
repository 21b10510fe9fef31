"""One type of row per table. Its fields are the table's columns, in order: `projections.table_definition` makes them from it.

A field's type decides its column's type; the aliases below name it where the Python type does not. Nothing here can be
refused by PostgreSQL: `projections.facts` replaces what it cannot store (NUL, half surrogate pairs).

Here: the rows that records make. `projections.analytics_rows` and `projections.public_rows` have the others.
"""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Table

from projections.column_types import BigIntColumn, JsonColumn
from schemas.record import Record


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
    other_addresses: JsonColumn | None
    """A list: the e-mails and phones of its identities that no other column shows; None: there are none."""


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

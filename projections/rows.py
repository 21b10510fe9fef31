"""One row type per table, its fields being the table's columns in order; pure data.

JSON columns hold encoded JSON text. Nothing here can be refused by PostgreSQL: what it cannot store
(NUL, half surrogate pairs) is replaced where the row is made.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from sqlalchemy import Table

from projections import tables
from schemas.record import Record


class UnreadableRecordError(ValueError):
    """A record of one of our own topics that cannot be read: the log or this program is broken, or
    somebody else wrote it.
    """

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(f"{record.topic}/{record.partition} at position {record.position}: {reason}")
        self.reason = reason


class Identity(NamedTuple):
    identity_key: int
    tenant: str
    identity: str
    lead_key: int
    lead_id: str
    epoch: int
    home: str
    attached_at: datetime


class Engagement(NamedTuple):
    identity_key: int
    occurred_at: datetime
    partition: int
    position: int
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
    revenue_minor: int | None
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
    details: str | None


class SessionRow(NamedTuple):
    session_key: int
    identity_key: int
    tenant: str
    session_id: str
    producer_id: str | None
    campaign: str | None
    revision: int
    retracted: bool
    opened_at: datetime | None
    last_at: datetime | None
    closed: bool
    pages: int
    clicks: int
    important_clicks: int


class SessionScore(NamedTuple):
    session_key: int
    lead_key: int
    model: str
    version: int
    score: Decimal
    lines: str
    ended: bool
    scored_at: datetime
    position: int


class Lead(NamedTuple):
    lead_key: int
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
    search: str
    counts: str
    fields: str
    position: int


class LeadScore(NamedTuple):
    lead_key: int
    model: str
    version: int
    total: Decimal
    rounded: int
    bands: str
    as_of: datetime
    next_due: datetime | None
    position: int


class ScoreChange(NamedTuple):
    lead_key: int
    model: str
    at: datetime
    position: int
    version: int
    total: Decimal
    previous: Decimal
    change: Decimal
    bands: str
    lines: str
    caused_by: str


class StageEntry(NamedTuple):
    lead_key: int
    at: datetime
    position: int
    stage: str
    previous: str
    reason: str
    caused_by: str


class BandChange(NamedTuple):
    lead_key: int
    at: datetime
    position: int
    model: str
    version: int
    scale: str
    band: str | None
    previous: str | None
    crossed: str
    silent: bool
    caused_by: str


class AppliedEvent(NamedTuple):
    event_key: int
    lead_key: int
    tenant: str
    event_id: str
    lead_id: str
    at: datetime
    outcome: str
    scores: str
    position: int
    partition: int


class DeadLetterRow(NamedTuple):
    topic: str
    partition: int
    position: int
    reason: str
    field: str | None
    key: str | None
    original: bytes
    letter: int


class WorkerPart(NamedTuple):
    stage: str
    partition: int
    key: str
    part: str
    value: bytes
    position: int


class WorkerTimer(NamedTuple):
    stage: str
    partition: int
    key: str
    due_at: int
    position: int


class PublicationRow(NamedTuple):
    tenant: str
    model: str
    version: int
    text: str | None
    fire: bool
    by: str | None
    note: str | None
    change: str | None
    recorded_at: datetime


class Superseded(NamedTuple):
    """Not a row: every row of the table under this key, or its first columns, that an older record
    wrote is no more.
    """

    table: Table
    key: tuple[int | str, ...]
    position: int


Row = (
    Identity
    | Engagement
    | SessionRow
    | SessionScore
    | Lead
    | LeadScore
    | ScoreChange
    | StageEntry
    | BandChange
    | AppliedEvent
    | DeadLetterRow
    | WorkerPart
    | WorkerTimer
    | PublicationRow
)
Change = Row | Superseded

TABLE_OF: Final[dict[type[Row], Table]] = {
    Identity: tables.identities,
    Engagement: tables.engagement_history,
    SessionRow: tables.sessions,
    SessionScore: tables.session_scores,
    Lead: tables.leads,
    LeadScore: tables.lead_scores,
    ScoreChange: tables.score_history,
    StageEntry: tables.stage_history,
    BandChange: tables.band_changes,
    AppliedEvent: tables.applied_events,
    DeadLetterRow: tables.dead_letters,
    WorkerPart: tables.worker_state,
    WorkerTimer: tables.worker_dues,
    PublicationRow: tables.publications,
}

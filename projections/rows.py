"""One type of row per table. Its fields are the table's columns, in order: `projections.tables` makes them from it.

A field's type decides its column's type; the aliases below name it where the Python type does not. Nothing here can be
refused by PostgreSQL: `projections.facts` replaces what it cannot store (NUL, half surrogate pairs).
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, NamedTuple

import sqlalchemy
from sqlalchemy import BigInteger, Table
from sqlalchemy.dialects.postgresql import JSONB

from schemas.record import Record

BigInt = Annotated[int, BigInteger()]
"""Eight bytes instead of four."""
Json = Annotated[str, JSONB()]
"""Encoded JSON text."""
Serial = Annotated[int, BigInteger(), sqlalchemy.Identity(always=True)]
"""A number that PostgreSQL gives out."""


class UnreadableRecordError(ValueError):
    """A record of one of Leadstream's topics cannot be read. The log or this program is broken, or another program
    wrote the record.
    """

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(f"{record.topic}/{record.partition} at position {record.position}: {reason}")
        self.reason = reason


class Identity(NamedTuple):
    identity_key: BigInt
    tenant: str
    identity: str
    lead_key: BigInt
    lead_id: str
    epoch: int
    home: str
    attached_at: datetime


class Engagement(NamedTuple):
    identity_key: BigInt
    occurred_at: datetime
    partition: int
    position: BigInt
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
    revenue_minor: BigInt | None
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
    details: Json | None
    channel_group: str | None = None
    """Of the default channel grouping: Organic Search, Paid Social ... `channel` is where the lead was met."""


class SessionRow(NamedTuple):
    session_key: BigInt
    identity_key: BigInt
    tenant: str
    session_id: str
    producer_id: str | None
    campaign: str | None
    revision: BigInt
    retracted: bool
    opened_at: datetime | None
    last_at: datetime | None
    closed: bool
    pages: int
    clicks: int
    important_clicks: int


class SessionScore(NamedTuple):
    session_key: BigInt
    lead_key: BigInt
    model: str
    version: BigInt
    score: Decimal
    lines: Json
    ended: bool
    scored_at: datetime
    position: BigInt


class Lead(NamedTuple):
    lead_key: BigInt
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
    counts: Json
    fields: Json
    position: BigInt
    revenue: Json | None


class LeadScore(NamedTuple):
    lead_key: BigInt
    model: str
    version: BigInt
    total: Decimal
    rounded: int
    bands: Json
    as_of: datetime
    next_due: datetime | None
    position: BigInt


class ScoreChange(NamedTuple):
    lead_key: BigInt
    model: str
    at: datetime
    position: BigInt
    version: BigInt
    total: Decimal
    previous: Decimal
    change: Decimal
    bands: Json
    lines: Json
    caused_by: str


class StageEntry(NamedTuple):
    lead_key: BigInt
    at: datetime
    position: BigInt
    stage: str
    previous: str
    reason: str
    caused_by: str


class BandChange(NamedTuple):
    lead_key: BigInt
    at: datetime
    position: BigInt
    model: str
    version: BigInt
    scale: str
    band: str | None
    previous: str | None
    crossed: Json
    silent: bool
    caused_by: str


class AppliedEvent(NamedTuple):
    event_key: BigInt
    lead_key: BigInt
    tenant: str
    event_id: str
    lead_id: str
    at: datetime
    outcome: str
    scores: Json
    position: BigInt
    partition: int
    key: str


class DeadLetterRow(NamedTuple):
    topic: str
    partition: int
    position: BigInt
    reason: str
    field: str | None
    key: str | None
    original: bytes
    letter: BigInt


class WorkerPart(NamedTuple):
    stage: str
    partition: int
    key: str
    part: str
    value: bytes
    position: BigInt


class WorkerTimer(NamedTuple):
    stage: str
    partition: int
    key: str
    due_at: BigInt
    position: BigInt


class PublicationRow(NamedTuple):
    tenant: str
    model: str
    version: BigInt
    text: str | None
    fire: bool
    by: str | None
    note: str | None
    change: str | None
    recorded_at: datetime
    folding: int = 1
    """How the model compares texts."""


class ArchivedEvent(NamedTuple):
    partition: int
    position: BigInt
    recorded_at: datetime
    """In UTC, to the millisecond."""
    key: str
    value: bytes


class Draft(NamedTuple):
    """A row of `model_drafts`; its fields are the columns."""

    id: Serial
    tenant: str
    model: str
    state: str
    text: str | None
    """None: this draft retires the model. Empty in a list, which has no texts."""
    based_on: BigInt | None
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
    version: BigInt | None = None
    published_at: datetime | None = None
    folding: int | None = None
    """How the published model compares texts. None: it is not published, or by a version that knew one way only."""


class Superseded(NamedTuple):
    """Not a row: it deletes the table's rows under this key, or under the key's first columns, that an older record
    wrote.
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

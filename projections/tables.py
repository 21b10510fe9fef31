"""The read models' tables: the only definition of them.

Tables without a schema stand in `live`, which a rebuild replaces as a whole by `shadow`: readers
connect with `READ_OPTIONS` and name no schema, writers name the schema they mean. What no rebuild
may touch stands in `public`. Text compares by bytes. Keys are hashes and places in the log, never
serials, so that a rebuild gives identical rows.

`newest_by` in a table's `info` makes it mutable: the row whose version is higher wins. A table
without it is append-only, and its key holds the place of the record that told the fact.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from schemas.topics import (
    DEAD_LETTERS,
    LEAD_ACTIVITY,
    LEAD_CHANGES,
    LEAD_SCORES,
    SCORE_CHANGED,
    SESSION_SCORES,
    lead_key,
)

LIVE: Final = "live"
SHADOW: Final = "shadow"
PUBLIC: Final = "public"

READ_OPTIONS: Final = f"-c search_path={LIVE} -c timezone=UTC"
"""What a reader's connection is opened with: `psycopg.connect(url, options=READ_OPTIONS)`."""

PROJECTED: Final = (LEAD_ACTIVITY, SESSION_SCORES, SCORE_CHANGED, LEAD_SCORES, LEAD_CHANGES, DEAD_LETTERS)
"""The topics that the tables are made from."""

NEWEST_BY: Final = "newest_by"

APPLIED_EVENTS_KEPT: Final = 10_000
"""`applied_events` holds those among so many last records of a partition of `lead-changes`: by place,
not by age, so that a rebuild ends with the same rows. Who waits does so for seconds.
"""

IDENTIFIED_AND_UNMERGED: Final = "identified and identities > 0"
"""Leads who may be found by an e-mail or a phone: known, and not merged into another."""

IS_EXPOSURE: Final = "type = 'experiment_exposed'"
"""Which engagements are exposures to experiments: few among very many."""

metadata: Final = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})


@lru_cache(maxsize=16_384)  # a batch names the same leads and identities again and again
def key_of(name: str) -> int:
    """The eight-byte key of a text: the same on every machine and after every rebuild."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def lead_row_key(tenant: str, lead_id: str) -> int:
    return key_of(lead_key(tenant, lead_id))


def session_row_key(identity: str, session_id: str) -> int:
    """Session ids hold no space, so no two pairs share a text."""
    return key_of(f"{identity} {session_id}")


def event_row_key(tenant: str, event_id: str) -> int:
    return key_of(f"{tenant}/{event_id}")


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=null, primary_key=key)


def _of(type_: Any, name: str, *, null: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, type_, nullable=null, primary_key=key, autoincrement=False)


def _big(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return _of(BigInteger(), name, null=null, key=key)


def _int(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return _of(Integer(), name, null=null, key=key)


def _at(name: str, *, null: bool = False, key: bool = False) -> Column[Any]:
    return _of(DateTime(timezone=True), name, null=null, key=key)


def _mutable(*newest_by: str) -> dict[str, Any]:
    """Room on each page lets an update stay on it and leave the indexes alone."""
    return {"info": {NEWEST_BY: newest_by}, "postgresql_with": {"fillfactor": 75}}


identities = Table(
    "identities",
    metadata,
    _big("identity_key", key=True),
    _text("tenant"),
    _text("identity"),
    _big("lead_key"),
    _text("lead_id"),
    _int("epoch"),
    _text("home"),
    _at("attached_at"),
    Index("identities_lead", "lead_key"),
    comment="who is behind a key, and which lead has them now: the highest epoch",
    **_mutable("epoch"),
)

engagement_history = Table(
    "engagement_history",
    metadata,
    _big("identity_key", key=True),
    _at("occurred_at", key=True),
    _int("partition", key=True),
    _big("position", key=True),
    _text("tenant"),
    _text("event_id"),
    _text("type"),
    _text("channel"),
    _text("source"),
    _at("recorded_at"),
    _text("session_id", null=True),
    _of(Boolean(), "late"),
    _of(Boolean(), "imported"),
    _text("title", null=True),
    _text("url", null=True),
    _text("referrer", null=True),
    _int("engagement_value", null=True),
    _big("revenue_minor", null=True),
    _text("currency", null=True),
    _text("source_type", null=True),
    _text("source_id", null=True),
    _text("source_name", null=True),
    _text("campaign_source", null=True),
    _text("campaign_medium", null=True),
    _text("campaign_name", null=True),
    _text("campaign_term", null=True),
    _text("campaign_content", null=True),
    _text("device_type", null=True),
    _text("os", null=True),
    _text("browser", null=True),
    _text("location", null=True),
    _text("ip", null=True),
    _of(JSONB(), "details", null=True),
    Index("engagement_history_time", "occurred_at", postgresql_using="brin"),
    Index("engagement_history_exposures", "tenant", postgresql_where=text(IS_EXPOSURE)),
    comment="every event that counted, by identity: a merge or a split moves no row",
)

sessions = Table(
    "sessions",
    metadata,
    _big("session_key", key=True),
    _big("identity_key"),
    _text("tenant"),
    _text("session_id"),
    _text("producer_id", null=True),
    _text("campaign", null=True),
    _big("revision"),
    _of(Boolean(), "retracted"),
    _at("opened_at", null=True),
    _at("last_at", null=True),
    _of(Boolean(), "closed"),
    _int("pages"),
    _int("clicks"),
    _int("important_clicks"),
    Index("sessions_identity", "identity_key", "opened_at"),
    Index("sessions_session_id", "session_id"),
    Index("sessions_producer_id", "producer_id"),
    comment="web sessions as the latest cut has them; one that no longer is one stays as retracted",
    **_mutable("revision"),
)

session_scores = Table(
    "session_scores",
    metadata,
    _big("session_key", key=True),
    _big("lead_key", key=True),
    _text("model", key=True),
    _big("version"),
    _of(Numeric(), "score"),
    _of(JSONB(), "lines"),
    _of(Boolean(), "ended"),
    _at("scored_at"),
    _big("position"),
    comment="a session's score, as the lead that had it said",
    **_mutable("position"),
)

leads = Table(
    "leads",
    metadata,
    _big("lead_key", key=True),
    _text("tenant"),
    _text("lead_id"),
    _of(Boolean(), "identified"),
    _at("created_at"),
    _at("last_interaction_at", null=True),
    _text("stage"),
    _text("redirect", null=True),
    _int("identities"),
    _at("as_of"),
    _text("name", null=True),
    _text("email", null=True),
    _text("phone", null=True),
    _text("company", null=True),
    _text("assigned_to", null=True),
    _text("search"),
    _of(JSONB(), "counts"),
    _of(JSONB(), "fields"),
    _big("position"),
    Index("leads_tenant", "tenant", "identified"),
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
    comment="every lead as it is now; `search` is what a search looks in, case folded",
    **_mutable("position"),
)

lead_scores = Table(
    "lead_scores",
    metadata,
    _big("lead_key", key=True),
    _text("model", key=True),
    _big("version"),
    _of(Numeric(), "total"),
    _int("rounded"),
    _of(JSONB(), "bands"),
    _at("as_of"),
    _at("next_due", null=True),
    _big("position"),
    comment="each lead's current scores; no index on the total, which would cost every update",
    **_mutable("position"),
)

score_history = Table(
    "score_history",
    metadata,
    _big("lead_key", key=True),
    _text("model"),
    _at("at", key=True),
    _big("position", key=True),
    _big("version"),
    _of(Numeric(), "total"),
    _of(Numeric(), "previous"),
    _of(Numeric(), "change"),
    _of(JSONB(), "bands"),
    _of(JSONB(), "lines"),
    _text("caused_by"),
    comment="the ledger: every change of a score, with the lines that changed",
)

stage_history = Table(
    "stage_history",
    metadata,
    _big("lead_key", key=True),
    _at("at", key=True),
    _big("position", key=True),
    _text("stage"),
    _text("previous"),
    _text("reason"),
    _text("caused_by"),
    comment="every stage that a lead entered",
)

band_changes = Table(
    "band_changes",
    metadata,
    _big("lead_key", key=True),
    _at("at", key=True),
    _big("position", key=True),
    _text("model"),
    _big("version"),
    _text("scale"),
    _text("band", null=True),
    _text("previous", null=True),
    _of(JSONB(), "crossed"),
    _of(Boolean(), "silent"),
    _text("caused_by"),
    comment="every band that a lead left or entered",
)

applied_events = Table(
    "applied_events",
    metadata,
    _big("event_key", key=True),
    _big("lead_key", key=True),
    _text("tenant"),
    _text("event_id"),
    _text("lead_id"),
    _at("at"),
    _text("outcome"),
    _of(JSONB(), "scores"),
    _big("position"),
    _int("partition"),
    Index("applied_events_place", "partition", "position"),
    comment="what became of the events that a caller waits for; only the latest are kept",
    **_mutable("position"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _text("topic", key=True),
    _int("partition", key=True),
    _big("position", key=True),
    _text("reason"),
    _text("field", null=True),
    _text("key", null=True),
    _of(LargeBinary(), "original"),
    _big("letter"),
    comment="records that could not be read or applied; `letter` is the position of the dead letter",
    **_mutable("letter"),
)

worker_state = Table(
    "worker_state",
    metadata,
    _text("stage", key=True),
    _int("partition", key=True),
    _text("key", key=True),
    _text("part", key=True),
    _of(LargeBinary(), "value"),
    _big("position"),
    comment="what readers need of the state that workers keep in Kafka; empty beside an embedded log",
    **_mutable("position"),
)

worker_dues = Table(
    "worker_dues",
    metadata,
    _text("stage", key=True),
    _int("partition", key=True),
    _text("key", key=True),
    _big("due_at"),
    _big("position"),
    Index("worker_dues_moment", "due_at"),
    comment="when time alone may next change a key (ms), as workers keep it in Kafka",
    **_mutable("position"),
)

publications = Table(
    "publications",
    metadata,
    _text("tenant", key=True),
    _text("model", key=True),
    _big("version", key=True),
    _text("text", null=True),
    _of(Boolean(), "fire"),
    _text("by", null=True),
    _text("note", null=True),
    _text("change", null=True),
    _at("recorded_at"),
    comment="every model that was published, whole; without a text it was retired",
    **_mutable("version"),
)
"""Mutable only so that a publication which comes again, as it may, changes nothing."""

positions = Table(
    "positions",
    metadata,
    _text("generation", key=True),
    _text("topic", key=True),
    _int("partition", key=True),
    _big("position"),
    schema=PUBLIC,
    comment="the last record that each schema's tables contain, per partition",
    postgresql_with={"fillfactor": 50},
)

event_archive = Table(
    "event_archive",
    metadata,
    _int("partition", key=True),
    _big("position", key=True),
    _at("recorded_at", key=True),
    _text("key"),
    _of(LargeBinary(), "value"),
    Index("event_archive_key", "key"),
    schema=PUBLIC,
    comment="every event that a producer sent to Kafka, which keeps them for a while only",
    postgresql_partition_by="RANGE (recorded_at)",
)
"""Partitioned by month, which `projections.archive` sees to."""

log_source = Table(
    "log_source",
    metadata,
    Column("only_row", Boolean(), primary_key=True, server_default="true"),
    _text("cluster_id"),
    _text("prefix"),
    _text("app"),
    CheckConstraint("only_row", name="log_source_one"),
    schema=PUBLIC,
    comment="the Kafka cluster whose topics this database follows; no row: none",
)

retried_dead_letters = Table(
    "retried_dead_letters",
    metadata,
    _text("topic", key=True),
    _int("partition", key=True),
    _big("position", key=True),
    _at("at"),
    schema=PUBLIC,
    comment="when an operator sent a dead letter's record in again; no fold of the log knows",
)

model_drafts = Table(
    "model_drafts",
    metadata,
    Column("id", BigInteger(), Identity(always=True), primary_key=True),
    _text("tenant"),
    _text("model"),
    _text("state"),
    _text("text", null=True),
    _big("based_on", null=True),
    _text("based_on_tenant", null=True),
    _text("by", null=True),
    _text("note", null=True),
    _text("change", null=True),
    _of(Boolean(), "fire"),
    _at("effective_from", null=True),
    _text("problem", null=True),
    _at("created_at"),
    _at("changed_at"),
    _big("version", null=True),
    _at("published_at", null=True),
    CheckConstraint(
        "state in ('draft', 'scheduled', 'publishing', 'published', 'discarded')", name="model_drafts_state"
    ),
    Index("model_drafts_version", "tenant", "model", "version", unique=True),
    Index(
        "model_drafts_waiting",
        "state",
        postgresql_where=text("state in ('scheduled', 'publishing')"),
    ),
    schema=PUBLIC,
    comment="models as authors write them, and what is published of them, on its way to the log",
)

READ_MODELS: Final = tuple(table for table in metadata.sorted_tables if table.schema is None)
FACTS: Final = tuple(table for table in READ_MODELS if NEWEST_BY not in table.info)

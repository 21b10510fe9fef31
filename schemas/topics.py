"""The topics: what each carries, its key and its retention. The only list of them."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from msgspec import Struct

from schemas.activity import ACTIVITY_TYPES
from schemas.control import CONTROL_TYPES, DERIVED_TYPES
from schemas.envelope import tag_of
from schemas.events import EVENT_TYPES
from schemas.statements import (
    BandChanged,
    DeadLetter,
    EventApplied,
    LeadScored,
    QualificationOverridden,
    ScoreChanged,
    SessionRetracted,
    SessionScored,
    StageEntered,
    Statement,
    WorkflowTriggered,
)

DAY_MS = 86_400_000
RETAIN_FOREVER = -1
"""As Kafka writes it."""

DEFAULT_PARTITIONS = 24
"""Fixed at the first start: the number decides which partition has a key's state."""


class Topic(Struct, frozen=True, kw_only=True):
    """`about` and `key` are for readers; `types` are the tags of what it may carry."""

    name: str
    about: str
    key: str
    encoding: str
    types: tuple[str, ...]
    compacted: bool = False
    retention_ms: int = 30 * DAY_MS


PARTITION_WIDE_KEY = "~"
"""The key of records, and of state, that concern a whole partition: models, settings, a sweep."""

EVENTS = "events"
LEAD_ACTIVITY = "lead-activity"
SESSION_SCORES = "session-scores"
SCORE_CHANGED = "score-changed"
LEAD_SCORES = "lead-scores"
LEAD_CHANGES = "lead-changes"
DEAD_LETTERS = "dead-letters"

STATEMENT_TOPICS: Mapping[type[Statement], str] = {
    SessionScored: SESSION_SCORES,
    SessionRetracted: SESSION_SCORES,
    ScoreChanged: SCORE_CHANGED,
    LeadScored: LEAD_SCORES,
    BandChanged: LEAD_CHANGES,
    QualificationOverridden: LEAD_CHANGES,
    StageEntered: LEAD_CHANGES,
    WorkflowTriggered: LEAD_CHANGES,
    EventApplied: LEAD_CHANGES,
}
"""The topic of each statement."""


def _tags_of(kinds: Iterable[type[Struct]]) -> tuple[str, ...]:
    return tuple(map(tag_of, kinds))


def _statements_on(topic: str) -> tuple[str, ...]:
    return _tags_of(kind for kind, statement_topic in STATEMENT_TOPICS.items() if statement_topic == topic)


JSON_MEDIA_TYPE = "application/json"
MSGPACK_MEDIA_TYPE = "application/msgpack"
LEAD_KEY_FORM = "TENANT/l/LEAD_ID"
VISITOR_KEY_FORM = "TENANT/v/VISITOR_ID, or TENANT/l/LEAD_ID for an event without visitor_id"

TOPICS: tuple[Topic, ...] = (
    Topic(
        name=EVENTS,
        about="Events as producers report them, and what changes their meaning: models, settings and workflows.",
        key=VISITOR_KEY_FORM,
        encoding=JSON_MEDIA_TYPE,
        types=_tags_of((*EVENT_TYPES, *CONTROL_TYPES, *DERIVED_TYPES)),
    ),
    Topic(
        name=LEAD_ACTIVITY,
        about="Internal: the order in which scores are made. Folding it again gives the same scores.",
        key=LEAD_KEY_FORM,
        encoding=MSGPACK_MEDIA_TYPE,
        types=_tags_of(ACTIVITY_TYPES),
    ),
    Topic(
        name=SESSION_SCORES,
        about="The score of each web session, emitted again whenever the session changes.",
        key=LEAD_KEY_FORM,
        encoding=JSON_MEDIA_TYPE,
        types=_statements_on(SESSION_SCORES),
        retention_ms=90 * DAY_MS,
    ),
    Topic(
        name=SCORE_CHANGED,
        about="The history of scores: every change with the lines that explain it.",
        key=LEAD_KEY_FORM,
        encoding=JSON_MEDIA_TYPE,
        types=_statements_on(SCORE_CHANGED),
        retention_ms=365 * DAY_MS,
    ),
    Topic(
        name=LEAD_SCORES,
        about="Each lead as it is now, the newest record of each; without a value: the lead no longer exists.",
        key=LEAD_KEY_FORM,
        encoding=JSON_MEDIA_TYPE,
        types=_statements_on(LEAD_SCORES),
        compacted=True,
        retention_ms=RETAIN_FOREVER,
    ),
    Topic(
        name=LEAD_CHANGES,
        about="Bands and stages that leads entered, workflows that they set off, and answers to producers that wait.",
        key=LEAD_KEY_FORM,
        encoding=JSON_MEDIA_TYPE,
        types=_statements_on(LEAD_CHANGES),
        retention_ms=365 * DAY_MS,
    ),
    Topic(
        name=DEAD_LETTERS,
        about="Records that could not be read or applied, with the cause and the original bytes.",
        key="the key of the original record",
        encoding=JSON_MEDIA_TYPE,
        types=_tags_of((DeadLetter,)),
        retention_ms=90 * DAY_MS,
    ),
)


def visitor_key(tenant: str, visitor_id: str) -> str:
    """The key of events of an anonymous or claimed visitor."""
    return f"{tenant}/v/{visitor_id}"


def lead_key(tenant: str, lead_id: str) -> str:
    """The key of events that name only a lead, and of all statements about a lead."""
    return f"{tenant}/l/{lead_id}"


def murmur2(data: bytes) -> int:
    """The hash by which every Kafka client partitions (Austin Appleby's MurmurHash2, seed as Kafka's)."""
    m, length = 0x5BD1E995, len(data)
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
    rest = length & 3
    if rest:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * m & 0xFFFFFFFF
    return h ^ (h >> 15)


@lru_cache(maxsize=131_072)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as Kafka's own clients choose it. Cached, since hashing takes 10 microseconds."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions

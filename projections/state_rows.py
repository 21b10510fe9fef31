"""Records of the workers' changelogs to rows: what readers need of the state that lives in Kafka.

That is what concerns every key (models, settings), a lead's head and features, and when leads are due;
nothing else of the state leaves Kafka. Pure.
"""

from collections.abc import Iterable
from typing import Final

from projections.rows import Change, Superseded, UnreadableRecordError, WorkerPart, WorkerTimer
from projections.tables import worker_dues, worker_state
from schemas.record import Record
from schemas.topics import SHARED

IDENTITY_PART: Final = "id:"
"""What a lead's parts that hold an identity's features begin with."""
HEAD_PART: Final = "head"
"""A lead's part that holds its stage and what was last said of it."""
TIMER_PART: Final = ""
"""In a changelog: the moment (ms) at which time alone may next change the key."""

TRACK_SESSIONS: Final = "track_sessions"
SCORE_LEADS: Final = "score_leads"
_CHANGELOGS: Final = {
    f"-{stage.replace('_', '-')}-changelog": stage for stage in (TRACK_SESSIONS, SCORE_LEADS)
}


def stage_of(topic: str) -> str | None:
    """The stage whose changelog this is, of whichever app; None: it is none."""
    for ending, stage in _CHANGELOGS.items():
        if topic.endswith(ending):
            return stage
    return None


def changes_of_state(stage: str, record: Record) -> Iterable[Change]:
    """Raises UnreadableRecordError."""
    key, _, part = record.key.rpartition("\0")
    if key == SHARED or (stage == SCORE_LEADS and (part == HEAD_PART or part.startswith(IDENTITY_PART))):
        return [_part(stage, record, key, part)]
    if stage == SCORE_LEADS and part == TIMER_PART and key:  # without a key: the shard's position
        return [_due(stage, record, key)]
    return ()


def _part(stage: str, record: Record, key: str, part: str) -> Change:
    if record.value is None:
        return Superseded(worker_state, (stage, record.partition, key, part), record.position)
    return WorkerPart(stage, record.partition, key, part, record.value, record.position)


def _due(stage: str, record: Record, key: str) -> Change:
    if record.value is None:
        return Superseded(worker_dues, (stage, record.partition, key), record.position)
    try:
        return WorkerTimer(stage, record.partition, key, int(record.value), record.position)
    except ValueError:
        raise UnreadableRecordError(record, "the moment is no number") from None

"""Makes rows of the workers' changelogs: the part of the state in Kafka that readers need. Pure.

Readers need what concerns every key (models, settings), the leads' heads and features, and their timers. Nothing else of
the state leaves Kafka.
"""

from collections.abc import Iterable
from typing import Final

from projections.rows import SupersededRows, TableChange, UnreadableRecordError, WorkerPartRow, WorkerTimerRow
from projections.tables import worker_dues, worker_state
from schemas.record import Record
from schemas.topics import PARTITION_WIDE_KEY

IDENTITY_PART: Final = "id:"
"""The prefix of a lead's parts with the features of an identity."""
HEAD_PART: Final = "head"
"""A lead's part with its stage and the statements that were last emitted about it."""
TIMER_PART: Final = ""
"""A record of a changelog with the moment (ms) at which time alone may next change the key."""

TRACK_SESSIONS: Final = "track_sessions"
SCORE_LEADS: Final = "score_leads"
_CHANGELOGS: Final = {
    f"-{stage.replace('_', '-')}-changelog": stage for stage in (TRACK_SESSIONS, SCORE_LEADS)
}


def stage_of(topic: str) -> str | None:
    """The stage whose changelog the topic is, for any app; None: it is not a changelog."""
    for ending, stage in _CHANGELOGS.items():
        if topic.endswith(ending):
            return stage
    return None


def changes_of_state(stage: str, record: Record) -> Iterable[TableChange]:
    """Raises UnreadableRecordError."""
    key, _, part = record.key.rpartition("\0")
    if key == PARTITION_WIDE_KEY or (
        stage == SCORE_LEADS and (part == HEAD_PART or part.startswith(IDENTITY_PART))
    ):
        return [_changes_of_part(stage, record, key, part)]
    if stage == SCORE_LEADS and part == TIMER_PART and key:  # without a key: the shard's position
        return [_changes_of_timer(stage, record, key)]
    return ()


def _changes_of_part(stage: str, record: Record, key: str, part: str) -> TableChange:
    if record.value is None:
        return SupersededRows(worker_state, (stage, record.partition, key, part), record.position)
    return WorkerPartRow(stage, record.partition, key, part, record.value, record.position)


def _changes_of_timer(stage: str, record: Record, key: str) -> TableChange:
    if record.value is None:
        return SupersededRows(worker_dues, (stage, record.partition, key), record.position)
    try:
        return WorkerTimerRow(stage, record.partition, key, int(record.value), record.position)
    except ValueError:
        raise UnreadableRecordError(record, "the moment is not a number") from None

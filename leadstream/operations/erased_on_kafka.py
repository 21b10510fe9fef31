"""What Kafka still has of an erased person, until when, and deleting it earlier.

Nobody can change a record in Kafka. In the topics with a retention, records of the person stay until it ends; `DeleteRecords`
deletes everything of a partition up to a position at once, also what others did. Compacted topics have tombstones.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

from leadstream.console import Failure
from leadstream.settings import Settings
from leadstream.wiring_kafka import kafka_errors_explained
from projections.erasures import Erasure
from projections.person import Person
from schemas.topics import DEAD_LETTERS, EVENTS, RETAIN_FOREVER, TOPICS, partition_of
from streams.kafka.scanning import Scanner
from streams.kafka.topics import delete_records

_RETENTION_MS: Final = {topic.name: topic.retention_ms for topic in TOPICS}


def remaining_on_kafka(settings: Settings, person: Person, at: datetime) -> list[dict[str, Any]]:
    """By topic: partitions and positions before which records of the person are, and when its retention has deleted them.
    None: the topic is compacted.
    """
    with kafka_errors_explained(), Scanner(settings.cluster, [topic.name for topic in TOPICS]) as scanner:
        starts, ends = scanner.starts(), scanner.ends()
    remains = []
    for topic in _RETENTION_MS:
        partitions = sum(name == topic for name, _ in ends)
        keys = [*person.source_keys, *person.shared_visitors] if topic == EVENTS else person.lead_keys
        # Dead letters have the key of the record that nobody could read, which may be any.
        chosen = (
            {partition_of(key, partitions) for key in keys} if topic != DEAD_LETTERS else range(partitions)
        )
        positions = {
            str(each): ends[topic, each] for each in sorted(chosen) if ends[topic, each] > starts[topic, each]
        }
        if positions:
            forever = _RETENTION_MS[topic] == RETAIN_FOREVER
            gone_by = None if forever else at + timedelta(milliseconds=_RETENTION_MS[topic])
            remains.append(
                {"topic": topic, "partitions": len(positions), "positions": positions, "gone_by": gone_by}
            )
    return remains


def delete_remaining(settings: Settings, erasure: Erasure) -> list[str]:
    """Deletes everything up to these positions from the topics with a retention. Leadstream's own readers were behind them
    when the erasure was recorded. Returns the names of the topics. Raises Failure.
    """
    positions = {
        (each["topic"], int(partition)): position
        for each in erasure.remains
        if each["gone_by"] is not None
        for partition, position in each["positions"].items()
    }
    if not positions:
        raise Failure("Nothing of this erasure is left in topics whose records can be deleted.")
    with kafka_errors_explained():
        asyncio.run(delete_records(settings.cluster, positions))
    return sorted({topic for topic, _ in positions})

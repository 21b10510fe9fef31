"""`leadstream skip` on Kafka: publishes which record workers and projections skip."""

import asyncio

from aiokafka import TopicPartition

from leadstream.console import Failure
from leadstream.operations.kafka_projection import followed_topics
from leadstream.operations.lag import committed_offsets, kafka_clients, partition_count
from leadstream.settings import Settings
from leadstream.stages import SOURCE_BY_STAGE, STAGES
from leadstream.wiring_kafka import kafka_errors_explained
from projections.state_rows import stage_of
from schemas.record import LogPartition, LogUnreadableError, Outgoing
from streams.engine.state_store import is_state_record
from streams.kafka import topics
from streams.kafka.cluster import Cluster
from streams.kafka.scanning import Scanner

_STAGE_BY_NAME = {stage.name: stage() for stage in STAGES}


def publish_skip(settings: Settings, topic: str, partition: int, position: int, reason: str) -> None:
    """Publishes a skip. In a topic that a stage folds, any record that is not folded yet can be skipped; in other
    topics, only a record that cannot be read. Raises Failure.
    """
    cluster = settings.cluster
    topic = cluster.name_of(topic)
    if topic not in followed_topics(cluster):
        raise Failure(f"Nothing reads {topic}: skip records of {', '.join(followed_topics(cluster))}.")
    log_partition = topic, partition
    record = Outgoing(cluster.name_of(cluster.skips), f"{topic}/{position}", reason.encode(), partition)
    with kafka_errors_explained():
        begin, folded, end = asyncio.run(_begin_folded_end(cluster, log_partition))
        if not folded <= position < end and not (
            begin <= position < end and _is_unreadable(cluster, log_partition, position)
        ):
            raise Failure(
                f"{topic}/{partition} at position {position} {_refusal_reason(position, begin, folded, end)}."
            )
        asyncio.run(topics.publish_records(cluster, [record]))


def _refusal_reason(position: int, begin: int, folded: int, end: int) -> str:
    if not begin <= position < end:
        return f"does not exist: only positions {begin} to {end - 1} do"
    left = (
        f"only positions {folded} to {end - 1} can be skipped" if folded < end else "nothing is to be skipped"
    )
    return f"was folded already, or can be read: {left}"


def _is_unreadable(cluster: Cluster, log_partition: LogPartition, position: int) -> bool:
    """Whether the record at this position cannot be read, so that it halts its readers."""
    with Scanner(cluster, [log_partition[0]], key_errors="surrogateescape") as scanner:
        try:
            records = scanner.read(log_partition, position, 1).records
        except LogUnreadableError:
            return True
    if not records or records[0].position != position:
        return False
    if records[0].unreadable is not None:  # skipped already
        return True
    stage = stage_of(log_partition[0])
    return stage is not None and not is_state_record(_STAGE_BY_NAME[stage], records[0])


async def _begin_folded_end(cluster: Cluster, log_partition: LogPartition) -> tuple[int, int, int]:
    """The first position of a partition, the first that is not folded, and its end. A topic that no stage folds
    counts as folded.
    """
    async with kafka_clients(cluster) as (consumer, admin):
        number = await partition_count(admin, cluster)
        if not log_partition[1] < number:
            raise Failure(
                f"{log_partition[0]} has {number} partitions: there is no partition {log_partition[1]}."
            )
        partition = TopicPartition(cluster.topic(log_partition[0]), log_partition[1])
        begin = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        if log_partition[0] not in SOURCE_BY_STAGE.values():
            return begin, end, end
        folded = (await committed_offsets(admin, cluster.group, [partition])).get(partition, 0)
        return begin, max(folded, begin), end

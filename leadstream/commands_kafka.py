"""What the commands for Kafka do, once their words are understood; the others are in `leadstream.commands`.

Raises Failure for what the user can mend. Loaded only when one runs: Kafka's clients take time to load.
"""

import asyncio
import socket
from collections.abc import Collection
from typing import NoReturn

from aiokafka import TopicPartition

from gateway.ports import Append
from leadstream.console import Failure, print_line, print_status, warn
from leadstream.embedded_postgres import postgres_url
from leadstream.operations.kafka_projection import followed_topics, rebuild_from_kafka
from leadstream.operations.lag import asking, committed, lag_of, partition_count
from leadstream.serving import ensure_directory, listening, run_gateway
from leadstream.settings import LOCAL_KAFKA, Settings
from leadstream.wiring import STAGES, database_server, explained, refuse_log
from leadstream.wiring_kafka import SOURCES, Projection, kafka_explained, kafka_ports, make_topics
from projections.rebuild import Progress
from projections.state_rows import stage_of
from schemas.record import LogPartition, LogUnreadableError, Outgoing
from streams.engine.state_store import is_state
from streams.kafka import topics
from streams.kafka.cluster import Cluster
from streams.kafka.scanning import Scanner

_STAGES = {stage.name: stage() for stage in STAGES}
_WATCH_SECONDS = 0.2
_STOPPING_SECONDS = 8.0


def on_kafka(settings: Settings) -> Settings:
    """The settings in Kafka mode, on this machine unless they say where."""
    return settings.model_copy(update={"kafka": settings.kafka or LOCAL_KAFKA})


def serve(settings: Settings, port: socket.socket) -> None:
    from leadstream.all_in_one import open_kafka_system  # noqa: PLC0415 - Faust takes long to load

    with open_kafka_system(settings) as system:

        async def watch(_append: Append) -> None:
            print_status(
                f"Leadstream serves {settings.address} (Kafka: {settings.kafka}; worker: port {settings.worker_port}). "
                "Ctrl-C stops it."
            )
            while True:
                system.raise_if_broken()
                await asyncio.sleep(_WATCH_SECONDS)

        run_gateway(
            settings,
            port,
            lambda: kafka_ports(settings, system.database_url, system.missing),
            watch,
            stopping=system.tell_to_stop,
        )


def worker(settings: Settings) -> NoReturn:
    from leadstream.worker import journalled, worker_app  # noqa: PLC0415 - as above
    from streams.kafka.faust_host import run_worker  # noqa: PLC0415 - as above

    app = worker_app(settings)
    app.on_failure = journalled(settings, app.on_failure)
    run_worker(app, log_level=settings.log_level)


def project(settings: Settings) -> None:
    ensure_directory(settings.data_dir)
    with database_server(settings) as database:
        with explained(settings):
            refuse_log(database())
        projection = Projection(settings, database)
        projection.start()
        try:
            projection.wait(
                lambda: print_status(
                    f"Read models are made from Kafka ({settings.kafka}). Ctrl-C stops this."
                )
            )
        finally:
            projection.stop(_STOPPING_SECONDS)


def gateway(settings: Settings) -> None:
    """Opens while Kafka and Postgres are away, too."""
    url = (
        settings.database_url.get_secret_value() if settings.database_url else postgres_url(settings.data_dir)
    )

    async def announce(_append: Append) -> None:
        print_status(f"The gateway serves {settings.address} (Kafka: {settings.kafka}). Ctrl-C stops it.")

    with listening(settings) as taken:
        run_gateway(settings, taken, lambda: kafka_ports(settings, url), announce, inlet=False)


def create_topics(settings: Settings) -> None:
    with kafka_explained():
        made = asyncio.run(make_topics(settings))
    for name in made:
        print_line(name)
    print_status(f"{len(made)} topics were made." if made else "All topics are there already.")


def check_topics(settings: Settings) -> bool:
    """False if something is wrong."""
    partitions = settings.partitions if "partitions" in settings.model_fields_set else None
    with kafka_explained():
        problems = asyncio.run(topics.check_topics(settings.cluster, partitions=partitions))
    for problem in problems:
        print_line(str(problem))
    if not problems:
        print_status("The topics are as they should be.")
    return not problems


def skip(settings: Settings, topic: str, partition: int, position: int, reason: str) -> None:
    """Of a topic that a stage folds, any record that is still to be folded; of every other place, only what
    cannot be read. Raises Failure.
    """
    cluster = settings.cluster
    topic = cluster.name_of(topic)
    if topic not in followed_topics(cluster):
        raise Failure(f"Nothing reads {topic}: skip records of {', '.join(followed_topics(cluster))}.")
    slot = topic, partition
    said = Outgoing(cluster.name_of(cluster.skips), f"{topic}/{position}", reason.encode(), partition)
    with kafka_explained():
        begin, folded, end = asyncio.run(_unfolded(cluster, slot))
        if not folded <= position < end and not (
            begin <= position < end and _broken(cluster, slot, position)
        ):
            raise Failure(
                f"{topic}/{partition} at position {position} {_refused(position, begin, folded, end)}."
            )
        asyncio.run(topics.publish(cluster, [said]))


def _refused(position: int, begin: int, folded: int, end: int) -> str:
    if not begin <= position < end:
        return f"does not exist: only positions {begin} to {end - 1} do"
    left = (
        f"only positions {folded} to {end - 1} can be skipped" if folded < end else "nothing is to be skipped"
    )
    return f"was folded already, or can be read: {left}"


def _broken(cluster: Cluster, slot: LogPartition, position: int) -> bool:
    """Whether what stands there cannot be read, so that it stops whoever comes to it."""
    with Scanner(cluster, [slot[0]], key_errors="surrogateescape") as scanner:
        try:
            records = scanner.read(slot, position, 1).records
        except LogUnreadableError:
            return True
    if not records or records[0].position != position:
        return False
    if records[0].unreadable is not None:  # it is skipped already
        return True
    stage = stage_of(slot[0])
    return stage is not None and not is_state(_STAGES[stage], records[0])


def rebuild(
    settings: Settings, database_url: str, progress: Progress, accept_loss: Collection[str]
) -> list[str]:
    with kafka_explained(), explained(settings):
        return rebuild_from_kafka(settings.cluster, database_url, progress=progress, accept_loss=accept_loss)


def tell_unarchived(settings: Settings, database_url: str) -> None:
    """Warns if the archive of events is not complete."""
    try:
        with kafka_explained():
            left = asyncio.run(_unarchived(settings.cluster, database_url))
    except Failure as cause:
        warn(f"Whether every event is archived is not known: {cause}")
        return
    if left is None:
        warn("Whether every event is archived is not known: `leadstream doctor` says more.")
    elif left:
        warn(f"{left:,} positions are not archived yet: `leadstream project` is to be there.")


async def _unarchived(cluster: Cluster, database_url: str) -> int | None:
    async with lag_of(cluster, SOURCES, database_url) as lag:
        return await lag.unarchived()


async def _unfolded(cluster: Cluster, slot: LogPartition) -> tuple[int, int, int]:
    """Where a partition begins, from where on it is not folded, and where it ends; what nobody folds counts
    as folded.
    """
    async with asking(cluster) as (consumer, admin):
        number = await partition_count(admin, cluster)
        if not slot[1] < number:
            raise Failure(f"{slot[0]} has {number} partitions: there is no partition {slot[1]}.")
        partition = TopicPartition(cluster.topic(slot[0]), slot[1])
        begin = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]
        if slot[0] not in SOURCES.values():
            return begin, end, end
        folded = (await committed(admin, cluster.group, [partition])).get(partition, 0)
        return begin, max(folded, begin), end

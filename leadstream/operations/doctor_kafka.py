"""The doctor's checks of Kafka: brokers, topics, running workers and projections, and their lag.

It only reads, and waits a few seconds at most.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from aiokafka.errors import KafkaError
from msgspec import DecodeError, Struct, json

from leadstream.operations.finding import Finding, age_finding, span_text
from leadstream.operations.lag import PROJECTION_STEP, ConsumerGroup, LagMeter, open_lag_meter
from leadstream.settings import Settings
from leadstream.stages import SOURCE_BY_STAGE
from projections.connection import connect_watched
from projections.source import KafkaSource, bound_source
from streams.kafka.batches import CODEC_NAMES, CODECS_REQUIREMENT, missing_codecs
from streams.kafka.cluster import KafkaUnavailable
from streams.kafka.journal import RECENT_STARTS_SECONDS, JournalNote
from streams.kafka.topics import check_topics

_PAGE_SECONDS = 5
MANY_RECENT_STARTS = 3
"""With more recent starts than these, a process crashes repeatedly."""
ASSUMED_REMOVED_SECONDS = 86_400
"""A longer pause belongs to a process that was removed and not started again."""


class _ProcessPage(Struct):
    """The part of a worker's or projection's page that the doctor reads."""

    reason: str | None = None


def kafka_findings(settings: Settings, database_url: str | None) -> Iterator[Finding]:
    async def collected() -> list[Finding]:
        return [finding async for finding in _cluster_findings(settings, database_url)]

    yield _codecs_finding()
    yield from asyncio.run(collected())
    yield from _worker_here(settings)
    yield from _projection_here(settings)


def _codecs_finding() -> Finding:
    if missing := missing_codecs():
        return Finding(
            "fail",
            "Codecs",
            f"{', '.join(missing)} cannot be read, and Kafka's producers use them",
            f"Run `pip install '{CODECS_REQUIREMENT}'`, and start workers and projections again.",
        )
    return Finding("ok", "Codecs", f"{', '.join(CODEC_NAMES.values())} can be read")


async def _cluster_findings(settings: Settings, database_url: str | None) -> AsyncIterator[Finding]:
    cluster = settings.cluster
    partitions = settings.partitions if "partitions" in settings.model_fields_set else None
    try:
        problems = await check_topics(cluster, partitions=partitions)
    except KafkaUnavailable as cause:
        yield Finding("fail", "Kafka", str(cause).rstrip("."))
        return
    except (KafkaError, TimeoutError) as cause:
        yield Finding(
            "fail",
            "Kafka",
            f"{cluster.brokers} refused the connection ({cause!r})",
            "Check LEADSTREAM_KAFKA_SECURITY, LEADSTREAM_KAFKA_USERNAME and LEADSTREAM_KAFKA_PASSWORD.",
        )
        return
    yield Finding("ok", "Kafka", f"answers at {cluster.brokers}")
    for problem in problems:
        yield Finding("fail", f"Topic {problem.topic}", problem.fault, f"{_capitalized(problem.remedy)}.")
    if any(problem.topic == cluster.topic("events") for problem in problems):
        return
    try:
        async with open_lag_meter(cluster, SOURCE_BY_STAGE, database_url or "") as lag:
            if not problems:
                yield Finding("ok", "Topics", f"are correct, {await lag.partitions()} partitions each")
            async for finding in _progress_findings(settings, lag, with_database=database_url is not None):
                yield finding
            if database_url is not None:
                yield _source_finding(
                    database_url, KafkaSource(await lag.cluster_id(), cluster.prefix, cluster.app)
                )
    except (KafkaError, TimeoutError) as cause:
        yield Finding(
            "fail", "Kafka", f"stopped answering ({cause!r})", "Run this again; see the broker's log."
        )


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


async def _progress_findings(
    settings: Settings, lag: LagMeter, *, with_database: bool
) -> AsyncIterator[Finding]:
    cluster = settings.cluster
    yield _group_finding(
        "Workers",
        cluster.group,
        await lag.workers(),
        "Start `leadstream worker`. If it runs: its log says why it is no member. A worker that fails ends, and its "
        "supervisor starts it again; `leadstream skip` skips a record that makes every worker fail.",
    )
    backlog = await lag.measure()
    for stage, left in backlog.stages.items():
        yield age_finding(
            f"Stage {stage}",
            left,
            backlog.ages.get(stage, 0.0),
            "positions not folded yet",
            "If it grows: start more workers, or see their logs.",
        )
    yield _group_finding(
        "Projections",
        cluster.projections_group,
        await lag.projections(),
        "Start `leadstream project`. If it runs: its log says what it waits for.",
    )
    if backlog.projection is not None:
        yield age_finding(
            "Projection",
            backlog.projection,
            backlog.ages.get(PROJECTION_STEP, 0.0),
            "positions not projected yet",
            "If it grows: see its log.",
        )
    elif with_database:
        yield Finding("fail", "Projection", backlog.unknown or "its lag is unknown")
    for stage, left in backlog.unowned.items():
        if left:
            yield Finding(
                "warn",
                f"Partitions of {stage}",
                f"{left:,} positions wait in partitions that no process owns",
                "Run this again in a moment; if it persists: start more workers (or projections).",
            )
    for finding in journal_findings(await lag.journal(), int(time.time())):
        yield finding


def journal_findings(notes: Sequence[JournalNote], now: int) -> Iterator[Finding]:
    """Processes that crash repeatedly, and processes that pause: no other check shows either."""
    by_name: defaultdict[tuple[str, str], list[JournalNote]] = defaultdict(list)
    for note in notes:
        by_name[note.process, note.name].append(note)
    for (process, name), history in sorted(by_name.items()):
        starts = sum(note.happened == "started" and note.at > now - RECENT_STARTS_SECONDS for note in history)
        ends = [note for note in history if note.happened in {"ended", "fenced"}]
        why = f"; it ended: {ends[-1].why.rstrip('.')}" if ends else ""
        last = history[-1]
        if starts > MANY_RECENT_STARTS:
            yield Finding(
                "fail",
                f"{process.capitalize()} {name}",
                f"was started {starts} times within {span_text(RECENT_STARTS_SECONDS)}, last {span_text(now - last.at)} ago{why}",
                "Its log says why. `leadstream skip` skips a record that makes every worker fail. If another worker "
                "took over, two of them have the same LEADSTREAM_WORKER_ID.",
            )
        elif last.happened == "paused" and last.at > now - ASSUMED_REMOVED_SECONDS:
            yield Finding(
                "fail",
                f"{process.capitalize()} {name}",
                f"has paused for {span_text(now - last.at)}: {last.why.rstrip('.')}",
                "It continues by itself once that is available again. If it has ended since, start it again.",
            )


def _group_finding(subject: str, name: str, group: ConsumerGroup, remedy: str) -> Finding:
    if not group.members:
        return Finding("fail", subject, f"the group {name} has no members", remedy)
    count = f"{len(group.members)} in the group {name}"
    hosts = ", ".join(sorted({member.host for member in group.members}))
    if group.state != "Stable":
        return Finding(
            "warn", subject, f"{count} ({hosts}), assigning partitions", "Run this again in a moment."
        )
    return Finding("ok", subject, f"{count} ({hosts})")


def _source_finding(database_url: str, configured: KafkaSource) -> Finding:
    with connect_watched(database_url) as connection:
        bound = bound_source(connection)
    if bound is None:
        return Finding("warn", "Read models", "follow no log yet", "`leadstream project` creates them.")
    if bound == configured:
        return Finding("ok", "Read models", f"follow this cluster ({bound.cluster_id})")
    return Finding(
        "fail",
        "Read models",
        f"follow the cluster {bound.cluster_id}, prefix {bound.prefix!r}, app {bound.app!r}; this is "
        f"{configured.cluster_id}, prefix {configured.prefix!r}, app {configured.app!r}",
        "Set LEADSTREAM_KAFKA, LEADSTREAM_KAFKA_PREFIX and LEADSTREAM_KAFKA_APP back, or LEADSTREAM_DATABASE_URL to "
        "another database.",
    )


def _worker_here(settings: Settings) -> Iterator[Finding]:
    """The status of a worker on this machine, if one runs."""
    page = f"{settings.address.rpartition(':')[0]}:{settings.worker_port}/tables.json"
    if (status := _read_page(page)) is not None:
        if status.reason is None:
            yield Finding("ok", "Worker here", f"is ready ({page})")
        else:
            yield Finding("warn", "Worker here", status.reason, f"{page} shows its progress.")


def _projection_here(settings: Settings) -> Iterator[Finding]:
    page = f"{settings.address.rpartition(':')[0]}:{settings.projection_port}/ready"
    if settings.projection_port and (status := _read_page(page)) is not None:
        if status.reason is None:
            yield Finding("ok", "Projection here", f"runs ({page})")
        else:
            yield Finding(
                "fail",
                "Projection here",
                f"is paused: {status.reason.rstrip('.')}",
                "It continues by itself once that is available again.",
            )


def _read_page(page: str) -> _ProcessPage | None:
    try:
        with urlopen(page, timeout=_PAGE_SECONDS) as answer:  # noqa: S310 - our own process, http only
            return json.decode(answer.read(), type=_ProcessPage)
    except HTTPError as unready:
        with suppress(OSError, DecodeError):
            return json.decode(unready.read(), type=_ProcessPage)
    except (URLError, OSError, DecodeError):
        pass
    return None

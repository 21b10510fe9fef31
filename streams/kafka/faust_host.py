"""Faust as the host of the engine: app, agents, timer, pages, start and end of a worker.

A member of the group reads chunks into two channels of Faust. The agents `track_sessions` and `score_leads` hand
them to the engine's worker, which alone folds, writes and knows positions. Faust itself opens no connection to Kafka.
A rebalance does not wait for a restore, no exception is swallowed (`fail` ends the process by default), and a stop
takes at most ten seconds.
"""

import asyncio
import gc
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import faust
import structlog
import uvloop
from faust.app.base import BootStrategy
from faust.types import ChannelT, StreamT
from faust.web.base import BlueprintManager
from faust.web.drivers.aiohttp import Web
from mode.threads import ServiceThread
from yarl import URL

from schemas.record import Chunk, LogPartition
from streams.engine.shard import Stage
from streams.engine.task import TaskCounts
from streams.engine.worker import ShardStatus, Worker
from streams.kafka import pages
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.failures import FAILED_EXIT_CODE, OnFailure, PortTakenError, end_process
from streams.kafka.faust_commands import add_commands
from streams.kafka.member import Member
from streams.kafka.metrics import WorkerMetrics
from streams.kafka.restoring import KafkaChangelogStorage
from streams.kafka.topics import (
    TopicProblem,
    TopicsMissing,
    TopicsRefused,
    check_topics,
    partition_count_of,
)

_log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
"""Between two log lines on the progress of a restore."""
RETRY_SECONDS = 2.0
"""Between two attempts to find a broker at the start."""
TOPICS_SECONDS = 60.0
"""How long a start waits for missing topics."""
ATTEMPTS_PER_WARNING = 15
"""Attempts between two log lines about them."""
LAST_COMMIT_SECONDS = 6.0
"""For the commits in progress, when stopping."""
STOPPING_SECONDS = 9.0
"""A process that has not stopped by then is ended; the next one does again what was not committed."""
MOST_WAITING_CHUNKS = 16
"""Chunks of a topic that its agent has not taken yet: with so many, the topic is not read on."""
NO_PAGES_PORT = 6066
"""Faust requires a port even from an app that opens none."""

SetLogs = Callable[[str], None]


class KafkalessBoot(BootStrategy):
    """Starts nothing of Faust that connects to Kafka."""

    enable_kafka = False


class OwnPages(Web):
    """Faust's web server with only our pages: its own show tables that we do not have."""

    def __init__(self, app: "LeadstreamApp") -> None:
        super().__init__(app)
        self.blueprints = BlueprintManager()
        self._fail = app.fail

    async def start_server(self) -> None:
        try:
            await super().start_server()
        except OSError as cause:
            conf = self.app.conf
            error = PortTakenError(
                f"The worker's pages cannot listen on {conf.web_bind}:{conf.web_port} ({cause.strerror}). "
                "Set LEADSTREAM_WORKER_PORT to a free port: each worker of a machine needs its own."
            )
            self._fail(error)
            raise error from cause


class LeadstreamWorker(faust.Worker):
    """Faust's worker process, which leaves the program's logging as it is."""

    def __init__(self, app: Any, *services: Any, **options: Any) -> None:
        options |= {"redirect_stdouts": False, "override_logging": False}
        super().__init__(app, *services, **options)
        self.spinner = None
        if isinstance(app, LeadstreamApp):
            app.set_logs(str(self.loglevel or "warn").lower())

    async def on_first_start(self) -> None:
        gc.set_threshold(200_000, 20, 50)  # folds make many small, long-lived objects
        await super().on_first_start()

    async def on_stop(self) -> None:
        ending = threading.Timer(STOPPING_SECONDS, _end_unstopped)
        ending.daemon = True
        ending.start()
        await super().on_stop()


def _end_unstopped() -> NoReturn:
    _log.critical("the worker did not stop in time and is ended; what was not committed is done again")
    os._exit(FAILED_EXIT_CODE)


class LeadstreamApp(faust.App):
    """`faust.App` with the engine's worker in it, not yet started.

    `worker_id`: static membership. `port` None: no pages. `fail` None: the process ends. `logs` sets the program's
    logs to a level, when a process of Faust's own starts.
    """

    BootStrategy = KafkalessBoot

    def __init__(
        self,
        cluster: Cluster,
        stages: Sequence[Stage[Any, Any]],
        *,
        buckets: int,
        worker_id: str | None = None,
        port: int | None = None,
        host: str = "127.0.0.1",
        data_dir: Path,
        now: Callable[[], int],
        fail: OnFailure | None = None,
        logs: SetLogs | None = None,
    ) -> None:
        super().__init__(
            cluster.group,
            broker=[URL(f"kafka://{broker}") for broker in cluster.brokers.split(",")],
            store="memory://",
            datadir=data_dir,
            web_enabled=port is not None,
            web_port=port or NO_PAGES_PORT,
            web_bind=host,
            web_host=host,
            worker_redirect_stdouts=False,
            Worker=LeadstreamWorker,
        )
        self.cluster = cluster
        self.stages = stages
        self.buckets = buckets
        self.worker_id = worker_id
        self.assignments = 0
        """The number of assignments so far."""
        self.on_failure: OnFailure = fail or end_process
        self.failed: BaseException | None = None
        self.metrics = WorkerMetrics(
            [stage.name for stage in stages], self.status, self.ends, self.task_counts
        )
        self._data_dir = data_dir
        self._now = now
        self._logs = logs
        self._backing: KafkaChangelogStorage | None = None
        self._worker: Worker | None = None
        self._assigned = False
        self._member: Member | None = None
        self._channels: dict[str, ChannelT[Chunk]] = {}
        self._waiting: Counter[str] = Counter()
        """Chunks that wait in each channel."""
        self._stopping = False
        self._changing = asyncio.Lock()
        self._restoring_since: float | None = None
        self._reported_at = 0.0
        self.web = OwnPages(self)
        for stage in stages:
            self._add_agent(stage)
        self._add_pages()
        add_commands(self, cluster, stages)
        self.timer(interval=TICK_SECONDS, name="tick", traced=False)(self._tick)
        self.task(self._join)

    # -- status ------------------------------------------------------------------------------------

    def status(self) -> list[ShardStatus]:
        return [] if self._worker is None else self._worker.status()

    def task_counts(self) -> Mapping[str, TaskCounts]:
        return {} if self._worker is None else self._worker.counts

    def ends(self) -> Mapping[LogPartition, int]:
        """The end of what is committed in the log, as far as it is known."""
        return {} if self._member is None else self._member.ends()

    def unready(self) -> str | None:
        """Why the worker does not fold yet; None: it folds."""
        return pages.unready_reason(self.status(), assigned=self._assigned)

    def fail(self, error: BaseException) -> None:
        """Only the first failure counts; those after it, or after a stop, are logged at most."""
        if self._stopping:
            _log.warning("failed while it stopped; what was not committed is done again", error=repr(error))
        elif self.failed is None:
            self.failed = error
            self.on_failure(error)

    def set_logs(self, level: str) -> None:
        """Sets our logs as the program does, and the libraries' by `quieten_libraries`, except for level debug."""
        if self._logs is not None:
            self._logs(level)
        if level != "debug":
            quieten_libraries()

    # -- start and stop -----------------------------------------------------------------------------

    async def on_first_start(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()

    async def on_start(self) -> None:
        await super().on_start()
        try:
            await self._open()
        except Exception as error:
            self.fail(error)
            raise

    async def _open(self) -> None:
        partitions = await self._find_topics()
        if partitions is None:
            return
        self._backing = KafkaChangelogStorage(self.cluster, partitions)
        await self._backing.start()
        self._member = Member(
            self.cluster,
            [stage.source for stage in self.stages],
            self,
            buckets=self.buckets,
            worker_id=self.worker_id,
        )
        self._worker = Worker(
            self.stages,
            self._backing,
            task_groups=self.buckets,
            now=self._now,
            seek=self._member.read_from,
            room=self._notify_room,
            fail=self.fail,
            observe=self.metrics.observe_commit,
        )
        _log.info(
            "worker started",
            stages=[stage.name for stage in self.stages],
            group=self.cluster.group,
            worker=self.worker_id,
            buckets=self.buckets,
            partitions=partitions,
            kafka=self.cluster.brokers,
            pages=f"http://{self.conf.web_bind}:{self.conf.web_port}/" if self.conf.web_enabled else None,
        )

    async def _join(self) -> None:
        """Runs when the agents listen: a chunk that is put into a channel earlier would be dropped."""
        self.flow_control.resume()
        if self._member is not None:
            self._member.start()

    async def _find_topics(self) -> int | None:
        """Waits for a broker, and for a while for topics that somebody else may be creating; the number of partitions of
        the topics. None: the app stops before.
        """
        missing_until = self.loop.time() + TOPICS_SECONDS
        for attempt in count():
            if self.should_stop:
                return None
            try:
                partitions, problems = await self._check_existing_topics()
            except (KafkaUnavailable, TopicsMissing) as cause:
                if isinstance(cause, KafkaUnavailable):
                    missing_until = self.loop.time() + TOPICS_SECONDS
                elif self.loop.time() >= missing_until:
                    raise
                if attempt % ATTEMPTS_PER_WARNING == 0:
                    _log.warning("waiting for Kafka", reason=str(cause))
                await self.sleep(RETRY_SECONDS)
                continue
            tolerable = [problem for problem in problems if problem.tolerable]
            for problem in tolerable:
                _log.warning("a topic keeps less than it should", reason=str(problem))
            if severe := [str(problem) for problem in problems if problem not in tolerable]:
                raise TopicsRefused(" ".join(severe))
            return partitions
        return None

    async def _check_existing_topics(self) -> tuple[int, list[TopicProblem]]:
        """(partitions, what is wrong). Raises KafkaUnavailable, TopicsMissing."""
        partitions = await partition_count_of(self.cluster)
        names = [stage.name for stage in self.stages]
        problems = await check_topics(self.cluster, partitions=partitions, stages=names)
        if missing := [str(problem) for problem in problems if problem.is_missing]:
            raise TopicsMissing(" ".join(missing))
        return partitions, problems

    async def on_stop(self) -> None:
        owned, self._stopping = len(self.status()), True
        await self._finish_commits()
        if self._member is not None:
            await self._member.stop()
        await super().on_stop()
        for (
            part
        ) in self.consumer.beacon.children:  # of Faust's own consumer, which is created and never started
            if isinstance(part.data, ServiceThread):
                part.data.thread_loop.close()
        if self._backing is not None:
            await self._backing.stop()
        _log.info("worker stopped", shards=owned)

    async def _finish_commits(self) -> None:
        """Waits for the commits in progress, but not for too long."""
        try:
            async with asyncio.timeout(LAST_COMMIT_SECONDS):  # it may end an assignment in progress
                if self._worker is not None:
                    await self._worker.stop()
        except TimeoutError:
            _log.warning("the commits in progress did not end in time; the next owner does them again")
        except Exception as error:  # noqa: BLE001 - a stop goes on; what was not committed is done again
            _log.warning("the commits in progress failed; the next owner does them again", error=repr(error))

    # -- MemberHost ---------------------------------------------------------------------------------

    async def revoked(self) -> None:
        async with self._changing:
            self._assigned = False
            if self._worker is not None:
                await self._worker.revoke()

    async def assigned(self, log_partitions: Collection[LogPartition]) -> None:
        """Opens what is owned now. Restoring goes on in the background: the group does not wait for it."""
        async with self._changing:
            if self._worker is None or self.should_stop:
                return
            await self._worker.assign(log_partitions)
            self._assigned = True
            self.assignments += 1
            self._restoring_since = self._reported_at = asyncio.get_running_loop().time()
            _log.info("partitions assigned", shards=len(self.status()), buckets=_task_groups(self.status()))
            if not log_partitions:
                _log.warning("this worker owns nothing: there are at least as many other workers as buckets")

    def full(self, log_partition: LogPartition) -> bool:
        """True also while its agent has many chunks to take."""
        return (
            self._worker is None
            or self._waiting[log_partition[0]] >= MOST_WAITING_CHUNKS
            or self._worker.full(log_partition)
        )

    async def hand_over(self, chunk: Chunk) -> None:
        """Puts the chunk into the channel of its stage's agent."""
        self._waiting[chunk.topic] += 1
        await self._channels[chunk.topic].put(chunk)  # type: ignore[arg-type] # a channel carries any value

    def _notify_room(self, _log_partition: LogPartition) -> None:
        """Called when a shard is restored, or a full one has folded."""
        if self._member is not None:
            self._member.notify_room()
        if self._restoring_since is not None:
            self._report_restoring(asyncio.get_running_loop().time())

    # -- the clock ----------------------------------------------------------------------------------

    async def _tick(self) -> None:
        try:
            if self._worker is not None and self._assigned:
                self._worker.tick()
                self._report_restoring(asyncio.get_running_loop().time())
        except Exception as error:  # noqa: BLE001 - Faust would end this timer and go on
            self.fail(error)

    def _report_restoring(self, now: float) -> None:
        since, shards = self._restoring_since, self.status()
        if since is None or not shards:
            return
        restoring = [shard for shard in shards if not shard.ready]
        if not restoring:
            self._restoring_since = None
            _log.info(
                "state restored",
                shards=len(shards),
                keys=sum(shard.keys for shard in shards),
                bytes=sum(shard.size for shard in shards),
                seconds=round(now - since, 1),
            )
        elif now - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = now
            whole = sum(shard.to_restore for shard in shards) or 1
            done = sum(shard.restored for shard in shards)
            _log.info(
                "restoring state", shards=len(restoring), of=len(shards), percent=min(99, done * 100 // whole)
            )

    # -- agents, pages --------------------------------------------------------------------

    def _add_agent(self, stage: Stage[Any, Any]) -> None:
        async def fold(chunks: StreamT[Chunk]) -> None:
            try:
                async for chunk in chunks:
                    self._waiting[stage.source] -= 1
                    if self._member is not None and self._waiting[stage.source] == MOST_WAITING_CHUNKS - 1:
                        self._member.notify_room()
                    if self._worker is not None:
                        self._worker.offer(chunk)
            except Exception as error:
                self.fail(error)  # Faust would log it, restart the agent and go on without the chunk
                raise

        source, changelog = self.cluster.topic(stage.source), self.cluster.changelog(stage.name)
        fold.__doc__ = f"Folds {source}; state in {changelog}."
        self._channels[stage.source] = channel = self.channel()
        self.agent(channel, name=stage.name)(fold)

    def _add_pages(self) -> None:
        def about() -> pages.WorkerSummary:
            return pages.WorkerSummary(self.cluster.group, self.worker_id, self.buckets, self.unready())

        async def tables(view: Any, _request: Any) -> Any:
            return view.html(pages.worker_html(about(), self.status(), self.ends()))

        async def tables_json(view: Any, _request: Any) -> Any:
            return view.json(pages.worker_json(about(), self.status(), self.ends()))

        async def metrics(view: Any, _request: Any) -> Any:
            return view.bytes(self.metrics.exposition(), content_type="text/plain")

        async def ready(view: Any, _request: Any) -> Any:
            why = self.unready()
            return view.json({"ready": why is None, "reason": why}, status=200 if why is None else 503)

        self.page("/", name="index")(tables)
        self.page("/tables", name="tables")(tables)
        self.page("/tables.json", name="tables_json")(tables_json)
        self.page("/metrics", name="metrics")(metrics)
        self.page("/ready", name="ready")(ready)


def quieten_libraries() -> None:
    """Libraries log from WARNING on: what aiokafka logs below it costs an idle worker a fifth of its time."""
    for library in ("aiokafka", "faust", "mode", "aiohttp"):
        logger = logging.getLogger(library)
        logger.setLevel(max(logger.level, logging.WARNING))


def run_worker(app: LeadstreamApp, *, log_level: str) -> NoReturn:
    """Runs the app as this process until SIGTERM or SIGINT; then exits."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app.finalize()
    LeadstreamWorker(app, loglevel=log_level, loop=loop).execute_from_commandline()


def _task_groups(shards: Sequence[ShardStatus]) -> list[int]:
    return sorted({shard.task_group for shard in shards})

"""Triggered workflows as the folds emit them, projected into an outbox, and workers that deliver it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from projection_records import TENANT, recorded
from psycopg.rows import dict_row

from delivery.configuration import DeliveryConfiguration, compile_configuration
from delivery.worker import DeliveryPorts, DeliveryWorker
from projections.worker import project_records
from schemas.decode import encode_statement
from schemas.record import Outgoing
from schemas.statements import LeadScored, ModelScore, WorkflowTriggered
from schemas.topics import LEAD_CHANGES, LEAD_SCORES, lead_key

LIMITS = """
[limits]
attempts = 3
first_retry_seconds = 0.01
longest_retry_seconds = 0.02
timeout_seconds = 0.5
lease_seconds = 3
circuit_seconds = 0.01
"""
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def triggered(
    action: str,
    config: dict[str, Any] | None = None,
    lead_id: str = "ada",
    arm: str = "event:e1",
    **fields: Any,
) -> Outgoing:
    fields = {"at": datetime.now(UTC), "workflow_id": 1, "tenant": TENANT, **fields}
    said = WorkflowTriggered(
        statement_id=f"w-{arm}",
        lead_id=lead_id,
        caused_by="event:e1",
        workflow="Notify on hot lead",
        version=1,
        trigger="score_threshold",
        reason="rules rose from 71 to 82, through 80",
        action=action,
        config=config or {},
        arm=arm,
        **fields,
    )
    return Outgoing(LEAD_CHANGES, lead_key(said.tenant, lead_id), encode_statement(said))


def lead(lead_id: str = "ada", tenant: str = TENANT, **fields: Any) -> Outgoing:
    moment = datetime.now(UTC)
    profile = {"email": f"{lead_id}@example.com", "name": "Ada Lovelace", **fields}
    said = LeadScored(
        statement_id=f"s-{lead_id}",
        tenant=tenant,
        lead_id=lead_id,
        at=moment,
        caused_by="event:e1",
        identified=True,
        created_at=moment - timedelta(days=1),
        stage="qualified",
        identities=1,
        fields=profile,
        scores={"rules": ModelScore(version=1, total=82.4, bands={}, as_of=moment)},
    )
    return Outgoing(LEAD_SCORES, lead_key(tenant, lead_id), encode_statement(said))


class Outbox:
    """A database with read models, into which records are projected as the live projection does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ends: dict[tuple[str, int], int] = {}

    def project(self, *outgoing: Outgoing, **options: Any) -> None:
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            project_records(connection, recorded(outgoing, self._ends), **options)

    def rows(
        self, query: str = "select * from public.outbox order by execution_id, channel"
    ) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row, options="-c timezone=UTC") as connection:
            return connection.execute(query).fetchall()

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.rows()]

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, parameters)


def configured(text: str = "", **environment: str) -> DeliveryConfiguration:
    return compile_configuration(LIMITS + text, environment)


def webhook_channel(url: str, name: str = "webhook") -> DeliveryConfiguration:
    text = f'[channels.{name}]\ntype = "webhook"\nurl = "env:URL"\nsecrets = ["env:SECRET"]\n'
    return configured(text, URL=url, SECRET=WEBHOOK_SECRET)


class EventLog:
    """An append port that remembers."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.failures = 0

    async def __call__(self, records: Sequence[Outgoing]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.records.extend(records)


def ports(
    url: str, append: Any = None, now: Callable[[], datetime] | None = None, zone: str = "UTC"
) -> DeliveryPorts:
    return DeliveryPorts(
        database=lambda: url,
        append=append or EventLog(),
        now=now or (lambda: datetime.now(UTC)),
        read_zones=lambda _: {"*": zone},
        chance=lambda: 0.0,
    )


def deliver(
    outbox: Outbox,
    configuration: DeliveryConfiguration,
    append: Any = None,
    *,
    passes: int = 100,
    **options: Any,
) -> list[dict[str, Any]]:
    """Delivers until every row has ended. With `passes=1` once: time stands still meanwhile, so that no repetition gets due,
    however long the machine takes. Returns the rows.
    """
    if passes == 1:
        begun = datetime.now(UTC)
        options.setdefault("now", lambda: begun)

    async def run() -> None:
        for _ in range(passes):
            worker = DeliveryWorker(configuration, ports(outbox.url, append, **options))
            await worker.run(threading.Event(), until_idle=True)
            if passes == 1 or not {"waiting", "failed", "delivering"} & set(outbox.statuses()):
                return

    asyncio.run(run())
    return outbox.rows()

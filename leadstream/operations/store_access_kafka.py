"""A store on Kafka for a command without a server beside it: it appends to Kafka, and
the lag shows when everything is scored.

Workers elsewhere do the scoring. If none runs, the command says so instead of waiting for ever.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from gateway.ports import LogUnavailable, ReadinessStatus
from leadstream.console import Failure
from leadstream.operations.event_loop import event_loop
from leadstream.operations.lag import LagMeter, open_lag_meter
from leadstream.operations.store_access import StoreAccess, wait_until_scored
from leadstream.settings import Settings
from leadstream.stages import SOURCE_BY_STAGE
from leadstream.wiring_kafka import append_port_on_kafka, kafka_errors_explained
from schemas.record import Outgoing
from streams.kafka.append import KafkaAppend

_APPEND_SECONDS = 60.0
"""How long Kafka may be unavailable, and how long scoring may make no progress."""


@contextmanager
def kafka_store(settings: Settings, database_url: str) -> Iterator[StoreAccess]:
    """Raises Failure if Kafka cannot be reached, or has no topics."""
    cluster = settings.cluster
    with kafka_errors_explained(), event_loop() as loop:
        stack, appending = AsyncExitStack(), KafkaAppend(cluster)
        port = append_port_on_kafka(appending, cluster)
        try:
            loop.run(appending.start())
            if appending.unavailable is not None:
                raise Failure(f"{appending.unavailable}.")
            lag = loop.run(stack.enter_async_context(open_lag_meter(cluster, SOURCE_BY_STAGE, database_url)))

            def append(records: Sequence[Outgoing]) -> None:
                deadline = time.monotonic() + _APPEND_SECONDS
                while True:
                    try:
                        loop.run(port(records))
                    except LogUnavailable as unavailable:
                        if time.monotonic() > deadline:
                            raise Failure(
                                f"{unavailable.reason}. Fix that and repeat the command: what was stored already is "
                                "not counted twice."
                            ) from unavailable
                        time.sleep(0.5)
                    else:
                        return

            def settle(report: Callable[[int], None]) -> None:
                wait_until_scored(
                    lambda: loop.run(_scoring_status(lag)), database_url, report, patience=_APPEND_SECONDS
                )

            yield StoreAccess(append, settle, database_url, None)
        finally:
            loop.run(stack.aclose())
            loop.run(appending.stop())


async def _scoring_status(lag: LagMeter) -> ReadinessStatus:
    """Ready if workers run for what is left."""
    backlog = await lag.measure()
    reason = await lag.halt_reason(backlog)
    return {"ready": reason is None, "reason": reason, "backlog": backlog.total}

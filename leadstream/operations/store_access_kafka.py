"""A store on Kafka for a command without a server beside it: it appends to Kafka, and
the lag shows when everything is scored.

Workers elsewhere do the scoring. If none runs, the command says so instead of waiting for ever.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from gateway.ports import Status, Unavailable
from leadstream.console import Failure
from leadstream.operations.event_loop import event_loop
from leadstream.operations.lag import Lag, lag_of
from leadstream.operations.store_access import StoreAccess, wait_until_scored
from leadstream.settings import Settings
from leadstream.wiring_kafka import SOURCES, append_port, kafka_explained
from schemas.record import Outgoing
from streams.kafka.append import KafkaAppend

_PATIENCE = 60.0
"""How long Kafka may be unavailable, and how long scoring may make no progress."""


@contextmanager
def kafka_store(settings: Settings, database_url: str) -> Iterator[StoreAccess]:
    """Raises Failure if Kafka cannot be reached, or has no topics."""
    cluster = settings.cluster
    with kafka_explained(), event_loop() as loop:
        stack, appending = AsyncExitStack(), KafkaAppend(cluster)
        port = append_port(appending, cluster)
        try:
            loop.run(appending.start())
            if appending.unavailable is not None:
                raise Failure(f"{appending.unavailable}.")
            lag = loop.run(stack.enter_async_context(lag_of(cluster, SOURCES, database_url)))

            def append(records: Sequence[Outgoing]) -> None:
                deadline = time.monotonic() + _PATIENCE
                while True:
                    try:
                        loop.run(port(records))
                    except Unavailable as unavailable:
                        if time.monotonic() > deadline:
                            raise Failure(
                                f"{unavailable.reason}. Fix that and repeat the command: what was stored already is "
                                "not counted twice."
                            ) from unavailable
                        time.sleep(0.5)
                    else:
                        return

            def settle(report: Callable[[int], None]) -> None:
                wait_until_scored(lambda: loop.run(_status(lag)), database_url, report, patience=_PATIENCE)

            yield StoreAccess(append, settle, database_url, None)
        finally:
            loop.run(stack.aclose())
            loop.run(appending.stop())


async def _status(lag: Lag) -> Status:
    """Ready if workers run for what is left."""
    backlog = await lag.measure()
    reason = await lag.halt_reason(backlog)
    return {"ready": reason is None, "reason": reason, "backlog": backlog.total}

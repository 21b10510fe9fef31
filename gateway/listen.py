"""One LISTEN connection per process, which hands each notification of PostgreSQL to the receiver of its channel.

Notifications are lost while the connection is down: receivers learn when it is there again.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import psycopg
import stamina
from psycopg import sql

from gateway import metrics
from projections.connection import BoundedAsyncConnection, connection_parameters

LONGEST_PAUSE_SECONDS: Final = 5.0
QUIET_SECONDS: Final = 10.0
"""Without a notification, until the connection is checked."""


class NotificationReceiver(Protocol):
    def notified(self, payload: str) -> None: ...

    def reconnected(self) -> None:
        """Notifications may have been lost until now."""


async def listen(database_url: str, receivers: Mapping[str, NotificationReceiver]) -> None:
    """Listens until cancelled, and again whenever the connection breaks. `receivers` by channel."""
    while True:
        async for attempt in stamina.retry_context(
            on=psycopg.OperationalError, attempts=None, timeout=None, wait_max=LONGEST_PAUSE_SECONDS
        ):
            with attempt:
                await _listen_once(database_url, receivers)


async def _listen_once(database_url: str, receivers: Mapping[str, NotificationReceiver]) -> None:
    options = connection_parameters(database_url, autocommit=True, application_name="leadstream listen")
    async with await BoundedAsyncConnection.connect(database_url, **options) as connection:
        for channel in receivers:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        for receiver in receivers.values():
            receiver.reconnected()
        metrics.LISTENING.set(1)
        try:
            while True:
                async for notification in connection.notifies(timeout=QUIET_SECONDS):
                    receivers[notification.channel].notified(notification.payload)
                await connection.execute("")
        finally:
            metrics.LISTENING.set(0)

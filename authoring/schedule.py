"""What was scheduled is published when its moment comes, and what a crash left on its way is appended.

Runs beside every gateway; however many there are, each publication is made once. The clock is the
authoring's, so that folds compare no dates. While the database or the log is away, it waits.
"""

import asyncio

import psycopg
import structlog

from authoring.authoring import Authoring, Publication
from gateway.answers import RequestProblem

SECONDS = 5.0
"""Between two looks at what is due."""

_log = structlog.get_logger(__name__)


async def keep_schedule(authoring: Authoring, *, seconds: float = SECONDS) -> None:
    """For ever."""
    while True:
        try:
            await publish_scheduled(authoring)
        except RequestProblem as away:
            _log.debug("publications wait", reason=away.reason)
        except psycopg.Error as cause:
            _log.error("publications that are due cannot be looked for", cause=str(cause))
        await asyncio.sleep(seconds)


async def publish_scheduled(authoring: Authoring) -> list[Publication]:
    """What is due by now. One model whose turn it cannot be just now holds up no other."""
    published = []
    for tenant, model in await authoring.due():
        try:
            said = await authoring.tend(tenant, model)
        except RequestProblem as away:
            _log.warning("a publication waits", tenant=tenant, model=model, reason=away.reason)
            continue
        except psycopg.Error as cause:
            _log.error("a publication cannot be made", tenant=tenant, model=model, cause=str(cause))
            continue
        if said is not None:
            _log.info("published as scheduled", tenant=tenant, model=model, version=said.version)
            published.append(said)
    return published

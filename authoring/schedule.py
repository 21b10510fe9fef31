"""Publishes scheduled drafts when their moment comes, appends publications that a crash left unsent, and records the
moments of workflows' schedules.

Runs beside every gateway; with any number of gateways, each draft is published once, and each moment counts once. It
reads authoring's clock, so that no fold compares dates. While the database or the log is unavailable, it waits.
"""

import asyncio

import psycopg
import structlog

from authoring.authoring import Authoring, Publication
from authoring.problem import Problem
from authoring.workflow_moments import RecordedMoments

SCHEDULE_SECONDS = 5.0
"""Between two checks."""

_log = structlog.get_logger(__name__)


async def keep_schedule(authoring: Authoring, *, seconds: float = SCHEDULE_SECONDS) -> None:
    """Never returns."""
    recorded: RecordedMoments = {}
    while True:
        try:
            await publish_scheduled(authoring)
            for due in await authoring.record_due_moments(recorded):
                _log.info(
                    "a schedule came",
                    tenant=due.tenant,
                    workflow=due.workflow_id,
                    scheduled_for=due.scheduled_for,
                )
        except Problem as problem:
            _log.debug("publications wait", reason=problem.reason)
        except psycopg.Error as cause:
            _log.error("what is due cannot be looked for", cause=str(cause))
        await asyncio.sleep(seconds)


async def publish_scheduled(authoring: Authoring) -> list[Publication]:
    """Publishes what is due by now. A model that cannot be published now does not delay the others."""
    published = []
    for tenant, model in await authoring.models_to_publish():
        try:
            publication = await authoring.publish_due(tenant, model)
        except Problem as problem:
            _log.warning("a publication waits", tenant=tenant, model=model, reason=problem.reason)
            continue
        except psycopg.Error as cause:
            _log.error("a publication cannot be made", tenant=tenant, model=model, cause=str(cause))
            continue
        if publication is not None:
            _log.info("published as scheduled", tenant=tenant, model=model, version=publication.version)
            published.append(publication)
    return published

"""/health says that the process lives, /ready whether to send work here, /metrics what it does.

/health always answers 200 and tells the rest in its body; only /ready turns work away. All of them answer within
two seconds, whatever hangs.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from gateway.access import operator_caller
from gateway.answers import Json
from gateway.metrics import exposition
from gateway.ports import Ports, Status
from gateway.store import ReadStore

STATUS_SECONDS = 1.6
"""Until the status is said to be unknown."""


_UNKNOWN: Status = {
    "ready": False,
    "reason": "how far scoring is cannot be found out in time",
    "backlog": None,
}


async def _status(ports: Ports) -> Status:
    """As it is after the question."""
    asking = asyncio.ensure_future(ports.status())
    done, _ = await asyncio.wait({asking}, timeout=STATUS_SECONDS)
    if not done:
        asking.cancel()  # what it waits for may be deaf to that, so nobody waits for its end
        return _UNKNOWN
    return asking.result()


def probes(ports: Ports, store: ReadStore) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/health", summary="Whether the process lives")
    async def health() -> Json:
        connected = await store.answers()
        return Json(
            {
                "status": "healthy" if connected else "degraded",
                "database": "connected" if connected else "disconnected",
                "timestamp": ports.now(),
            }
        )

    @router.get("/ready", summary="Whether events are taken and scores follow")
    async def ready() -> Json:
        status, answers = await asyncio.gather(_status(ports), store.answers())
        reasons = [str(status["reason"])] if status.get("reason") else []
        away = "the database does not answer"
        if not answers and not any(away in reason for reason in reasons):
            reasons.append(away)
        is_ready = bool(status.get("ready")) and not reasons
        said: dict[str, Any] = {**status, "ready": is_ready, "reason": "; ".join(reasons) or None}
        return Json(said, 200 if is_ready else 503)

    @router.get("/metrics", summary="Prometheus metrics (scope metrics, or read where there is one tenant)")
    async def metrics(request: Request) -> Response:
        operator_caller(request, ports.access)
        return Response(exposition(await _status(ports)), media_type=CONTENT_TYPE_LATEST)

    return router

"""/health: the process lives. /ready: whether to send work here. /metrics: what the process does.

/health always answers 200 and reports problems in its body; only /ready refuses work. All of them answer within
two seconds, whatever hangs.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from delivery.metrics import delivery_exposition
from gateway.answers import JsonAnswer
from gateway.api.services import services_of
from gateway.documented import answer_docs, example_bodies
from gateway.metrics import exposition
from gateway.ports import Ports, ReadinessStatus
from projections.metrics import analytics_exposition

STATUS_SECONDS = 1.6
"""After these the status is reported as unknown."""


_UNKNOWN_STATUS: ReadinessStatus = {
    "ready": False,
    "reason": "how far scoring is cannot be found out in time",
    "backlog": None,
}


async def status_in_time(ports: Ports) -> ReadinessStatus:
    """As it is after the question."""
    asking = asyncio.ensure_future(ports.status())
    done, _ = await asyncio.wait({asking}, timeout=STATUS_SECONDS)
    if not done:
        asking.cancel()  # it may not react, so its end is not awaited
        return _UNKNOWN_STATUS
    return asking.result()


EXAMPLES = example_bodies("probes")
router = APIRouter(tags=["operation"])


@router.get(
    "/health", summary="Whether the process lives", responses=answer_docs(EXAMPLES["health"], "It lives.")
)
async def health(request: Request) -> JsonAnswer:
    services = services_of(request)
    connected = await services.store.answers()
    return JsonAnswer(
        {
            "status": "healthy" if connected else "degraded",
            "database": "connected" if connected else "disconnected",
            "timestamp": services.ports.now(),
        }
    )


@router.get(
    "/ready",
    summary="Whether events are taken and scores follow",
    responses=answer_docs(EXAMPLES["ready"], "Send work here.")
    | answer_docs(EXAMPLES["not_ready"], "Send no work here; `reason` says why.", status=503),
)
async def ready(request: Request) -> JsonAnswer:
    services = services_of(request)
    status, answers = await asyncio.gather(status_in_time(services.ports), services.store.answers())
    reasons = [str(status["reason"])] if status.get("reason") else []
    unavailable = "the database does not answer"
    if not answers and not any(unavailable in reason for reason in reasons):
        reasons.append(unavailable)
    is_ready = bool(status.get("ready")) and not reasons
    report: dict[str, Any] = {**status, "ready": is_ready, "reason": "; ".join(reasons) or None}
    return JsonAnswer(report, 200 if is_ready else 503)


@router.get(
    "/metrics",
    summary="Prometheus metrics (scope metrics, or read where there is one tenant)",
    response_class=Response,
    responses={
        200: {
            "description": "In the text format of Prometheus.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLES["metrics"]}},
        }
    },
)
async def metrics(request: Request) -> Response:
    ports = services_of(request).ports
    page = exposition(await status_in_time(ports)) + analytics_exposition() + delivery_exposition()
    return Response(page, media_type=CONTENT_TYPE_LATEST)

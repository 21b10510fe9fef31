"""The gateway as one ASGI application, assembled from its ports.

It starts, takes events and answers /health while Postgres is away; what needs Postgres is answered
503 until it is back. Every wrong request gets the one error shape, and no stack trace leaves.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from authoring.authoring import Authoring
from dashboard.pages import pages
from gateway.answers import RequestProblem, answer_to
from gateway.api.ab_test import ab_test_api
from gateway.api.experiments import experiments_api
from gateway.api.lead_score import lead_score_api
from gateway.api.leads import leads_api, outcomes_from
from gateway.api.lifecycle import lifecycle_api
from gateway.api.models import models_api
from gateway.api.probes import probes
from gateway.api.qualification import qualification_api
from gateway.api.whatif import whatif_api
from gateway.door.collect import collector
from gateway.observe import observed
from gateway.ports import Ports
from gateway.store import ReadStore
from gateway.wait import Applied

ABOUT = (
    "Send events to /v1/events; read leads, their scores and the reason for every point from /api/leads. "
    'Answers to wrong requests look like {"error": {"field": ..., "reason": ...}}.'
)


def create_app(ports: Ports) -> FastAPI:
    """`app.state.end_waiting()` lets go of callers that wait, so that the server can stop;
    `app.state.authoring` publishes models.
    """
    store = ReadStore(ports.database_url)
    authoring = Authoring(ports.database_url, ports.append, ports.shards, ports.now)
    applied = Applied(ports.database_url, outcomes_from(store))

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await store.open()
        listening = asyncio.create_task(applied.run(), name="listen for applied events")
        try:
            yield
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
            await store.close()

    app = FastAPI(
        title="Leadstream",
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": ports.public_url}],
    )
    app.state.end_waiting = applied.end
    app.state.authoring = authoring
    app.include_router(collector(ports, applied.wait))
    app.include_router(ab_test_api(ports))
    app.include_router(experiments_api(ports, store))
    app.include_router(leads_api(ports, store))
    app.include_router(lead_score_api(ports, store, applied.wait))
    app.include_router(lifecycle_api(ports, store, applied.wait))
    app.include_router(models_api(ports, authoring))
    app.include_router(whatif_api(ports))
    app.include_router(probes(ports, store))
    app.include_router(qualification_api(ports, store, authoring))
    app.include_router(pages())
    app.add_middleware(observed)
    app.add_exception_handler(RequestProblem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


def _problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestProblem):
        raise error
    return answer_to(error)


def _http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    match error.status_code:
        case 404:
            reason = "nothing is here: /docs lists every address"
        case 405:
            allowed = Headers(error.headers or {}).get("allow")
            reason = f"only {allowed} here: see /docs" if allowed else "not by this method: see /docs"
        case _:
            reason = str(error.detail)
    return answer_to(RequestProblem(error.status_code, reason), error.headers)


def _invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    return answer_to(RequestProblem(422, first["msg"], field=str(first["loc"][-1]) if first["loc"] else None))

"""The gateway as one ASGI application, assembled from its ports.

It starts, takes events and answers /health while Postgres is unavailable; requests that need Postgres get
503 until it is back. Every wrong request gets the one error shape, and no response has a stack trace.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute

from authoring.authoring import Authoring
from authoring.problem import Problem
from dashboard import pages
from gateway.accounts.services import make_account_services, running_accounts
from gateway.answers import RequestProblem, answer_to_problem
from gateway.api import (
    ab_test,
    access_keys,
    analytics,
    attribution,
    attribution_summary,
    audit,
    call_list,
    capture_bot,
    changes,
    chat_leads,
    composite_scoring,
    crm_reports,
    engagement,
    engagement_summary,
    erasures,
    experiment_texts,
    experiments,
    flows,
    inspector,
    journeys,
    lead_quality,
    lead_score,
    lead_scores,
    leads,
    lifecycle,
    links,
    model_editor,
    models,
    notifications,
    operations,
    outside_sources,
    probes,
    qualification,
    sign_in,
    telegram_files,
    tenant_leads,
    users,
    whatif,
    workflow_executions,
    workflow_texts,
    workflows,
)
from gateway.api.services import ApiServices
from gateway.api.telegram_replies import TelegramReplies
from gateway.api_cors import with_api_cors
from gateway.audited import with_audit
from gateway.authorize import authorize_request
from gateway.door import chats, collect, followed_links, telegram, whatsapp
from gateway.door.cors import cors_headers
from gateway.door.crawlers import load_crawlers
from gateway.door.devices import load_devices
from gateway.door.recent_events import remembered_append
from gateway.door.services import open_door
from gateway.door.traffic_origins import load_channels
from gateway.listen import NotificationReceiver, listen
from gateway.live_changes import LiveChanges
from gateway.masked_answers import MaskedAnswers
from gateway.observe import with_observation
from gateway.openapi import completed
from gateway.ports import Ports
from gateway.producers import page_scripts
from gateway.query_parameters import QueryRefused, query_names_of, refuse_unknown_parameters
from gateway.specific_addresses import refuse_method_of_another_address, specific_addresses_of
from gateway.store import ReadStore
from gateway.wait import OutcomeWaiters
from projections.worker import CHANGES_CHANNEL, NOTIFY_CHANNEL

API_DESCRIPTION = (
    "Send events to /v1/events; read leads, their scores and the reason for every point from /api/leads. "
    "An answer to a change comes once it shows in the scores; after some seconds it comes with status 202, and `location` "
    "is where to look. Parameters and fields that an address does not take are refused. "
    'Answers to wrong requests look like {"error": {"field": ..., "reason": ...}}.'
)

ROUTED_MODULES = (
    collect,
    ab_test,
    analytics,
    lead_quality,
    engagement_summary,
    attribution_summary,
    attribution,
    capture_bot,
    chat_leads,
    composite_scoring,
    engagement,
    erasures,
    experiment_texts,
    experiments,
    flows,
    inspector,
    journeys,
    changes,
    call_list,
    leads,
    lead_score,
    lead_scores,
    lifecycle,
    links,
    followed_links,
    models,
    model_editor,
    whatif,
    probes,
    qualification,
    workflows,
    workflow_executions,
    workflow_texts,
    notifications,
    outside_sources,
    crm_reports,
    page_scripts,
    telegram,
    telegram_files,
    tenant_leads,
    whatsapp,
    chats,
    access_keys,
    users,
    audit,
    operations,
    sign_in,
    pages,
)
"""Modules with a router, in the order in which addresses are matched."""


API = APIRouter(
    dependencies=[
        Depends(refuse_method_of_another_address),
        Depends(refuse_unknown_parameters),
        Depends(authorize_request),
    ]
)
"""All routes. Every app of a process shares them, since FastAPI takes a quarter of a second to analyse them."""
for module in ROUTED_MODULES:
    API.include_router(module.router)


LAST_RECORDINGS_SECONDS = 5.0
"""So long a stop waits for the log, for people who have followed a link and gone on."""


class DescribedApi(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi(), _all_routes())
        return self.openapi_schema


def create_app(ports: Ports) -> FastAPI:
    """`app.state.end_waiting()` releases waiting callers, so that the server can stop;
    `app.state.authoring` publishes models. Handlers use `app.state.door`, `app.state.api` and `app.state.changes`.
    """
    ports = replace(ports, append=remembered_append(ports.append, ports.recent))
    store = ReadStore(ports.database_url)
    authoring = Authoring(ports.database_url, ports.append, ports.shards, ports.now)
    applied = OutcomeWaiters(leads.outcomes_from(store))
    live = LiveChanges(store, ports.now)
    receivers: dict[str, NotificationReceiver] = {NOTIFY_CHANNEL: applied, CHANGES_CHANNEL: live}
    accounts = contextlib.AsyncExitStack()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await store.open()
        await accounts.enter_async_context(running_accounts(app.state.accounts))
        # The first event does not wait until the lists are compiled, nor does anybody beside it.
        loading = asyncio.create_task(
            asyncio.to_thread(_load_recognition_lists), name="load lists of crawlers, devices and channels"
        )
        listening = asyncio.create_task(
            listen(ports.database_url, receivers), name="listen for applied events and changes"
        )
        watching = asyncio.create_task(live.run(), name="read changes for those who watch")
        try:
            yield
        finally:
            live.end()
            for task in (listening, watching):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await app.state.telegram_replies.end()
            await app.state.api.recalculations.end()
            if app.state.door.recordings:
                await asyncio.wait(app.state.door.recordings, timeout=LAST_RECORDINGS_SECONDS)
            await loading
            await accounts.aclose()
            await store.close()

    app = DescribedApi(
        title="Leadstream",
        description=API_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": ports.public_url}],
        routes=API.routes,
    )

    def end_waiting() -> None:
        applied.end()
        live.end()

    app.state.end_waiting = end_waiting
    app.state.changes = live
    app.state.authoring = authoring
    app.state.accounts = make_account_services(ports)
    open_door(app, ports, applied.wait)
    app.state.api = ApiServices(ports, store, authoring, applied.wait)
    app.state.telegram_replies = TelegramReplies(app.state.api)
    app.state.has_shop = ports.has_shop
    app.state.query_names = query_names_of(_all_routes())
    app.state.specific_addresses = specific_addresses_of(_all_routes())
    if ports.mask_for_viewers:
        app.add_middleware(MaskedAnswers)
    app.add_middleware(with_audit)
    app.add_middleware(with_api_cors, origins=ports.cors_origins, credentials=ports.cors_credentials)
    app.add_middleware(with_observation)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    return app


def _all_routes() -> list[BaseRoute]:
    return [route for module in ROUTED_MODULES for route in module.router.routes]


def _load_recognition_lists() -> None:
    load_crawlers()
    load_devices()
    load_channels()


def _answer_problem(request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem):
        raise error
    return answer_to_problem(error, cors_headers(request) if isinstance(error, QueryRefused) else None)


def _answer_http_error(_request: Request, error: Exception) -> Response:
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
    return answer_to_problem(RequestProblem(error.status_code, reason), error.headers)


def _answer_validation_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    field = str(first["loc"][-1]) if first["loc"] else None
    return answer_to_problem(RequestProblem(422, _reason_of(first, field), field=field))


def _reason_of(error: Mapping[str, Any], field: str | None) -> str:
    """In words for callers. Patterns are for machines, and so is a cursor."""
    limits = error.get("ctx", {})
    if field in {"after", "cursor"}:
        return "must be the cursor that the page before gave"
    match error["type"]:
        case "missing":
            return "missing"
        case "int_parsing" | "int_from_float" | "int_type":
            return "must be a whole number"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "literal_error":
            return f"must be one of {str(limits['expected']).replace(' or ', ', ').replace(chr(39), '')}"
        case "greater_than_equal":
            return f"must be at least {limits['ge']}"
        case "less_than_equal":
            return f"must be at most {limits['le']}"
        case "less_than":
            return f"must be below {limits['lt']}"
        case "string_too_long":
            return f"must have at most {limits['max_length']} characters"
        case "too_long":
            return f"must be there at most {limits['max_length']} times"
        case "string_pattern_mismatch":
            return f"has a character or a form that {field} cannot have: see /docs"
    return str(error["msg"])

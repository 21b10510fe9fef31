"""/api/models/{name}/what-if: what publishing a draft would change, without publishing it.

Reads only. The work is done in small steps away from the event loop, a few drafts at once; whoever asks
for NDJSON hears how far it is.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import psycopg
from fastapi import APIRouter, Request
from msgspec import DecodeError, Struct, ValidationError, json
from starlette.responses import Response, StreamingResponse

from gateway.access import READ, api_caller
from gateway.answers import Json, RequestProblem
from gateway.api.models import LARGEST_BODY, Name
from gateway.door.body import NDJSON, read_body
from gateway.ports import Ports, Progress
from gateway.store import UNAVAILABLE_ERRORS, Missing
from schemas.control import WholeText
from schemas.envelope import DEFAULT_TENANT
from scoring.models.model import ModelError

AT_ONCE = 2
"""Drafts that are tried at the same time; each keeps a core busy."""

Step = Progress | Mapping[str, object]
_encode = json.Encoder(decimal_format="number").encode


class WhatIfRequest(Struct, forbid_unknown_fields=True):
    text: WholeText


def whatif_api(ports: Ports) -> APIRouter:
    router = APIRouter(tags=["models"])
    desks = asyncio.Semaphore(AT_ONCE)

    @router.post(
        "/api/models/{name}/what-if",
        summary="What publishing a draft would change: bands, thresholds, who moves most",
        responses=EXAMPLE,
        openapi_extra=BODY,
    )
    async def what_if(request: Request, name: Name) -> Response:
        tenant = api_caller(request, ports.access, READ).tenant or DEFAULT_TENANT
        draft = await _draft(request)
        steps = _steps(desks, ports.what_if(tenant, name, draft.text))
        # The first step reads the text: what is wrong with it is answered before anything is streamed.
        first = await anext(steps)
        wanted = request.headers.get("accept", "").partition(";")[0].strip().lower()
        if wanted in NDJSON:
            return StreamingResponse(_lines(first, steps), media_type="application/x-ndjson")
        last = first
        async with aclosing(steps):
            async for step in steps:
                last = step
                if await request.is_disconnected():
                    break
        return Json(last)

    return router


async def _draft(request: Request) -> WhatIfRequest:
    body = await read_body(request, LARGEST_BODY)
    try:
        return json.decode(body, type=WhatIfRequest)
    except ValidationError as wrong:
        raise RequestProblem(422, str(wrong), field="text") from None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestProblem(400, 'a JSON object is needed: {"text": ...}', field="body") from None


async def _steps(desks: asyncio.Semaphore, steps: Iterator[Step]) -> AsyncGenerator[Step, None]:
    """Each step in a thread; between two of them the event loop serves others."""
    async with desks:
        try:
            while (step := await _in_thread(steps)) is not None:
                yield step
        finally:
            if isinstance(steps, Generator):
                steps.close()


async def _in_thread(steps: Iterator[Step]) -> Step | None:
    """Also a cancelled call waits for its step: what is under way cannot be closed."""
    step = asyncio.ensure_future(asyncio.to_thread(_next, steps))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step])
        raise


def _next(steps: Iterator[Step]) -> Step | None:
    try:
        return next(steps, None)
    except ModelError as refusal:
        raise RequestProblem(422, str(refusal), field="text") from refusal
    except psycopg.errors.UndefinedTable as error:
        raise Missing from error
    except UNAVAILABLE_ERRORS as error:
        raise RequestProblem(
            503, "the database does not answer; events are still taken", retry_after_s=2
        ) from error


async def _lines(first: Step, steps: AsyncGenerator[Step, None]) -> AsyncIterator[bytes]:
    """Progress and the result, a line each; should it fail on the way, a last line says so."""
    try:
        async with aclosing(steps):
            yield _line(first)
            async for step in steps:
                yield _line(step)
    except RequestProblem as problem:
        yield _encode({"error": {"field": problem.field, "reason": problem.reason}}) + b"\n"


def _line(step: Step) -> bytes:
    return _encode(step._asdict() if isinstance(step, Progress) else step) + b"\n"


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"text": {"type": "string", "maxLength": 200_000}},
                    "required": ["text"],
                    "additionalProperties": False,
                },
                "example": {
                    "text": 'model = "rules"\n[groups.all]\nrules = [{ name = "Base", base = 10 }]\n'
                },
            }
        },
    }
}
EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Before and after, over all of the tenant's leads. With `Accept: application/x-ndjson` lines of "
        'progress come first: {"done": 500, "of": 12000}.',
        "content": {
            "application/json": {
                "example": {
                    "model": "temperature",
                    "tenant": "default",
                    "version_in_force": 1,
                    "tenants_own": False,
                    "replayed": False,
                    "needs_replay": None,
                    "leads": {
                        "leads": 400,
                        "up": 21,
                        "down": 0,
                        "same": 379,
                        "change_band": 6,
                        "bands": [{"scale": "temperature", "from": "warm", "to": "hot", "leads": 6}],
                        "fires": [{"scale": "temperature", "band": "hot", "leads": 5}],
                        "leads_firing": 5,
                        "stages": [],
                        "distribution": {
                            "before": {"0-20": 210, "20-40": 110, "40-60": 60, "60-80": 20, "80-100": 0},
                            "after": {"0-20": 200, "20-40": 115, "40-60": 60, "60-80": 25, "80-100": 0},
                        },
                        "histogram": [{"from": 45, "before": 12, "after": 9}],
                        "movers": [
                            {
                                "tenant": "default",
                                "lead_id": "ahmad",
                                "name": "Ahmad Rezaei",
                                "before": 46,
                                "after": 61,
                                "change": 15,
                                "bands": [{"scale": "temperature", "from": "warm", "to": "hot"}],
                                "lines": [
                                    {
                                        "group": "engagement",
                                        "rule": "QR scans",
                                        "kind": "points",
                                        "points": 15,
                                    }
                                ],
                            }
                        ],
                    },
                    "anonymous": {"leads": 2100, "up": 0, "down": 0, "same": 2100},
                    "not_readable_yet": 0,
                    "seconds": 0.06,
                    "leads_per_second": 41_000,
                }
            }
        },
    }
}

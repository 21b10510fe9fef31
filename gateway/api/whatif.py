"""/api/models/{name}/what-if: what publishing a draft would change, without publishing it.

Reads only. The work is done in small steps away from the event loop, a few drafts at once; a caller
that accepts NDJSON gets progress lines.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing

import psycopg
from fastapi import APIRouter, Request
from msgspec import DecodeError, Struct, ValidationError, json
from starlette.responses import Response, StreamingResponse

from gateway.answers import Json, RequestProblem
from gateway.api.models import LARGEST_BODY, Name
from gateway.api.services import services_of, tenant_of
from gateway.documented import answers, examples, schema_of, takes
from gateway.door.body import NDJSON, read_body
from gateway.ports import Progress
from gateway.store import UNAVAILABLE_ERRORS, Missing
from schemas.control import WholeText
from scoring.models.model import ModelError

EXAMPLES = examples("what_if")
Step = Progress | Mapping[str, object]
_encode = json.Encoder(decimal_format="number").encode


class WhatIfRequest(Struct, forbid_unknown_fields=True):
    text: WholeText


SCHEMA = {name: value for name, value in schema_of(WhatIfRequest).items() if name != "title"}


router = APIRouter(tags=["models"])


@router.post(
    "/api/models/{name}/what-if",
    summary="What publishing a draft would change: bands, thresholds, who moves most",
    responses=answers(
        EXAMPLES["response"],
        "Before and after, over all of the tenant's leads. With `Accept: application/x-ndjson` lines of "
        'progress come first: {"done": 500, "of": 12000}.',
    ),
    openapi_extra=takes(EXAMPLES["request"], SCHEMA),
)
async def what_if(request: Request, name: Name) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    draft = await _draft(request)
    steps = _steps(services.what_if_turns, services.ports.what_if(tenant, name, draft.text))
    # The first step reads the text: what is wrong with it is answered before anything is streamed.
    first = await anext(steps)
    media_type = request.headers.get("accept", "").partition(";")[0].strip().lower()
    if media_type in NDJSON:
        return StreamingResponse(_lines(first, steps), media_type="application/x-ndjson")
    last = first
    async with aclosing(steps):
        async for step in steps:
            last = step
            if await request.is_disconnected():
                break
    return Json(last)


async def _draft(request: Request) -> WhatIfRequest:
    body = await read_body(request, LARGEST_BODY)
    try:
        return json.decode(body, type=WhatIfRequest)
    except ValidationError as wrong:
        raise RequestProblem(422, str(wrong), field="text") from None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestProblem(400, 'a JSON object is needed: {"text": ...}', field="body") from None


async def _steps(turns: asyncio.Semaphore, steps: Iterator[Step]) -> AsyncGenerator[Step, None]:
    """Each step in a thread; between two of them the event loop serves others."""
    async with turns:
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

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

from authoring.problem import Problem
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.models import LARGEST_BODY_BYTES, ModelNameInPath
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import NDJSON_MEDIA_TYPES, read_body
from gateway.masked_answers import refuse_drafts_of_viewers
from gateway.ports import StepsDone
from gateway.store import UNAVAILABLE_ERRORS, TableMissing
from schemas.control import LongText
from scoring.models.model import ModelError
from scoring.workflows.workflow_text import WorkflowsError

EXAMPLES = example_bodies("what_if")
WhatIfStep = StepsDone | Mapping[str, object]
_encode = json.Encoder(decimal_format="number").encode


class WhatIfRequest(Struct, forbid_unknown_fields=True):
    text: LongText


WHAT_IF_SCHEMA = {name: value for name, value in body_schema_of(WhatIfRequest).items() if name != "title"}


router = APIRouter(tags=["models"])


@router.post(
    "/api/models/{name}/what-if",
    summary="What publishing a draft would change: bands, thresholds, who moves most",
    responses=answer_docs(
        EXAMPLES["response"],
        "Before and after, over all of the tenant's leads. With `Accept: application/x-ndjson` lines of "
        'progress come first: {"done": 500, "of": 12000}.',
    ),
    openapi_extra=request_docs(EXAMPLES["request"], WHAT_IF_SCHEMA),
)
async def what_if(request: Request, name: ModelNameInPath) -> Response:
    refuse_drafts_of_viewers(request, masks=services_of(request).ports.mask_for_viewers)
    services, tenant = services_of(request), tenant_of(request)
    draft = await _decoded_request(request)
    return await answer_of_steps(request, services.ports.what_if(tenant, name, draft.text))


@router.post(
    "/api/models/{name}/preview",
    summary="Which workflows a publication with `fire` would set off, and for whom",
    responses=answer_docs(
        EXAMPLES["preview"],
        "The workflows that would act now. Without `fire`, a publication sets off none. With "
        "`Accept: application/x-ndjson` lines of progress come first.",
    ),
    openapi_extra=request_docs(EXAMPLES["request"], WHAT_IF_SCHEMA),
)
@router.post("/api/models/{name}/preview/", include_in_schema=False)
async def preview_of_publication(request: Request, name: ModelNameInPath) -> Response:
    refuse_drafts_of_viewers(request, masks=services_of(request).ports.mask_for_viewers)
    services, tenant = services_of(request), tenant_of(request)
    draft = await _decoded_request(request)
    return await answer_of_steps(request, services.ports.fire_preview(tenant, name, draft.text))


async def answer_of_steps(
    request: Request, work: Iterator[WhatIfStep], turns: asyncio.Semaphore | None = None
) -> Response:
    """The result of long work in small steps, a few at once; with progress for a caller that accepts NDJSON. `turns`: those
    of what-ifs, if none are named.
    """
    steps = _steps_in_threads(turns or services_of(request).what_if_turns, work)
    # The first step reads the text: what is wrong with it is answered before anything is streamed.
    first = await anext(steps)
    media_type = request.headers.get("accept", "").partition(";")[0].strip().lower()
    if media_type in NDJSON_MEDIA_TYPES:
        return StreamingResponse(_ndjson_lines(first, steps), media_type="application/x-ndjson")
    last = first
    async with aclosing(steps):
        async for step in steps:
            last = step
            if await request.is_disconnected():
                break
    return JsonAnswer(last)


async def _decoded_request(request: Request) -> WhatIfRequest:
    body = await read_body(request, LARGEST_BODY_BYTES)
    try:
        return json.decode(body, type=WhatIfRequest)
    except ValidationError as wrong:
        raise RequestProblem(422, str(wrong), field="text") from None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestProblem(400, 'a JSON object is needed: {"text": ...}', field="body") from None


async def _steps_in_threads(
    turns: asyncio.Semaphore, steps: Iterator[WhatIfStep]
) -> AsyncGenerator[WhatIfStep, None]:
    """Each step in a thread; between two of them the event loop serves others."""
    async with turns:
        try:
            while (step := await _next_in_thread(steps)) is not None:
                yield step
        finally:
            if isinstance(steps, Generator):
                steps.close()


async def _next_in_thread(steps: Iterator[WhatIfStep]) -> WhatIfStep | None:
    """Also a cancelled call waits for its step: what is under way cannot be closed."""
    step = asyncio.ensure_future(asyncio.to_thread(_next_or_none, steps))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step])
        raise


def _next_or_none(steps: Iterator[WhatIfStep]) -> WhatIfStep | None:
    try:
        return next(steps, None)
    except (ModelError, WorkflowsError) as refusal:
        raise RequestProblem(422, str(refusal), field="text") from refusal
    except psycopg.errors.UndefinedTable as error:
        raise TableMissing from error
    except UNAVAILABLE_ERRORS as error:
        raise RequestProblem(
            503, "the database does not answer; events are still taken", retry_after_s=2
        ) from error


async def _ndjson_lines(first: WhatIfStep, steps: AsyncGenerator[WhatIfStep, None]) -> AsyncIterator[bytes]:
    """Progress and the result, a line each; should it fail on the way, a last line says so."""
    try:
        async with aclosing(steps):
            yield _ndjson_line(first)
            async for step in steps:
                yield _ndjson_line(step)
    except Problem as problem:
        yield _encode({"error": {"field": problem.field, "reason": problem.reason}}) + b"\n"


def _ndjson_line(step: WhatIfStep) -> bytes:
    return _encode(step._asdict() if isinstance(step, StepsDone) else step) + b"\n"

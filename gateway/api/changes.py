"""/api/changes: what changes in the scores, bands and stages of leads, and new messages of workflows, as it happens.

The same address streams (server-sent events) and answers at once, as the caller accepts it. A stream ends after ten minutes;
its reader comes back with the last position that it has read.
"""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from gateway.answers import JsonAnswer
from gateway.api.services import tenant_of
from gateway.documented import answer_docs, example_bodies
from gateway.live_changes import LiveChanges

EVENT_STREAM = "text/event-stream"
POSITION = r"^[\w.~-]{1,100}$"
EXAMPLES = example_bodies("changes")

router = APIRouter(prefix="/api/changes", tags=["changes"])


def _changes_docs() -> dict[int | str, dict[str, Any]]:
    docs = answer_docs(
        EXAMPLES["changes"], "The changes after `after`, or with `Accept: text/event-stream` a stream."
    )
    docs[200]["content"][EVENT_STREAM] = {"schema": {"type": "string"}, "example": EXAMPLES["stream"]}
    return docs


@router.get(
    "",
    summary="Changes of scores, bands and stages, and new messages, as they happen",
    description="With `Accept: text/event-stream`, which `EventSource` sends, the answer is a stream: the event `changes` has an "
    "object as in `changes`, and `reset` means that changes are missing: read the leads again.",
    responses=_changes_docs(),
)
@router.get("/", include_in_schema=False)
async def changes(
    request: Request,
    after: Annotated[
        str | None, Query(pattern=POSITION, description="The `position` that the caller has read last.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(pattern=POSITION, description="The same, as `EventSource` sends it.")
    ] = None,
) -> Response:
    live: LiveChanges = request.app.state.changes
    read = last_event_id or after
    if EVENT_STREAM in request.headers.get("accept", ""):
        # Without this header nginx keeps what is sent, until its buffer is full.
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        return StreamingResponse(
            live.stream(tenant_of(request), read), media_type=EVENT_STREAM, headers=headers
        )
    page = live.page(tenant_of(request), read)
    content = {
        "position": page.position,
        "reset": page.is_reset,
        "changes": [msgspec.Raw(frame.content) for frame in page.frames],
    }
    return JsonAnswer(content)

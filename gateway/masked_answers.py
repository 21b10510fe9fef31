"""Answers for people who may look at leads and need not know who they are: names, e-mail addresses and phone numbers are masked.

It works on the answer as it is sent, so no endpoint can forget it. Ids of leads stay: without them, nobody could ask for one.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import json
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import Caller
from gateway.answers import RequestProblem
from gateway.masking import MASK, mask_text
from gateway.scopes import ROLE_SCOPES

VIEWER_SCOPES: Final = ROLE_SCOPES["viewer"]
CONTACT_FIELDS: Final = frozenset(
    {
        "email",
        "phone",
        "first_name",
        "last_name",
        "lead_name",
        "full_name",
        "contact_info",
        "stated_phone",
        "ip",
        "ip_address",
    }
)
"""Fields that say who somebody is, wherever they are."""
_SIGNS_OF_PERSON: Final = frozenset(
    {"lead_id", "user_id", "email", "phone", "contact_info", "first_name", "last_name"}
)
"""Beside one of these, `name` is a person's; elsewhere a model's, a rule's, a channel's."""
_JSON: Final = b"application/json"
_LINES: Final = (b"text/event-stream", b"application/x-ndjson")
"""Streams, of which each part has whole lines."""
_MESSAGE: Final = frozenset({"title", "message"})
"""Beside a recipient: written about a person, with the name."""
_FIELDS: Final = frozenset({"profile", "fields"})


class MaskedAnswers:
    """ASGI middleware. It keeps an answer of JSON back until it is whole; others pass."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        is_lines = False
        body = bytearray()

        async def send_masked(message: Message) -> None:
            nonlocal start, is_lines
            if message["type"] == "http.response.start" and _is_masked(scope, message, _LINES):
                is_lines = True
            elif message["type"] == "http.response.start" and _is_masked(scope, message, (_JSON,)):
                start = message
                return
            if is_lines and message["type"] == "http.response.body":
                message = {**message, "body": masked_lines(message.get("body", b""))}
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                masked = json.encode(masked_answer(json.decode(bytes(body)))) if body else b""
                start["headers"] = [
                    (name, str(len(masked)).encode() if name == b"content-length" else value)
                    for name, value in start["headers"]
                ]
                await send(start)
                await send({"type": "http.response.body", "body": masked})

        await self._app(scope, receive, send_masked)


def refuse_drafts_of_viewers(request: Request, *, masks: bool) -> None:
    """A text of one's own could ask for what is masked: whose name begins with A? Raises RequestProblem."""
    if masks and is_viewer(getattr(request.state, "caller", None)):
        raise RequestProblem(
            403, "names are masked for you, and a draft could ask for them: a marketer may try it"
        )


def is_viewer(caller: object) -> bool:
    return isinstance(caller, Caller) and caller.actor.startswith("user:") and caller.scopes == VIEWER_SCOPES


def _is_masked(scope: Scope, start: Message, kinds: tuple[bytes, ...]) -> bool:
    if not is_viewer(scope.get("state", {}).get("caller")):
        return False
    kind = next((value for name, value in start["headers"] if name == b"content-type"), b"")
    return bool(kind.startswith(kinds))


def masked_lines(part: bytes) -> bytes:
    return b"\n".join(map(_masked_line, part.split(b"\n")))


def _masked_line(line: bytes) -> bytes:
    head = b"data: " if line.startswith(b"data: ") else b""
    content = line.removeprefix(head)
    return head + json.encode(masked_answer(json.decode(content))) if content.startswith(b"{") else line


def masked_answer(value: Any, *, of_person: bool = False) -> Any:
    """The value without what says who somebody is. Linear in its size."""
    match value:
        case Mapping():
            named = of_person or not _SIGNS_OF_PERSON.isdisjoint(value)
            if "recipient" in value:
                value = {key: MASK if key in _MESSAGE and each else each for key, each in value.items()}
            if "lead_id" in value and isinstance(value.get("lead"), str):
                value = {**value, "lead": MASK}
            if value.get("profile_field") in {"name", *CONTACT_FIELDS} and "text" in value:
                value = {**value, "text": MASK}
            return {key: _masked_field(str(key), each, named=named) for key, each in value.items()}
        case list():
            return [masked_answer(each) for each in value]
        case str():
            return mask_text(value)
        case _:
            return value


def _masked_field(key: str, value: Any, *, named: bool) -> Any:
    says_who = key in CONTACT_FIELDS or (named and key == "name")
    if says_who and isinstance(value, str | int | float) and not isinstance(value, bool):
        return MASK
    if isinstance(value, str) and (key == "id" or key.endswith(("_id", "_at", "_of"))):
        return value
    return masked_answer(value, of_person=key in _FIELDS)

"""Answers for people who may look at leads and need not know who they are: names, e-mail addresses and phone numbers are masked.

It works on the answer as it is sent, so no endpoint can forget it. Ids of leads stay: without them, nobody could ask for one.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import Caller
from gateway.masking import MASK, mask_text
from gateway.scopes import ROLE_SCOPES

VIEWER_SCOPES: Final = ROLE_SCOPES["viewer"]
CONTACT_FIELDS: Final = frozenset(
    {"email", "phone", "first_name", "last_name", "lead_name", "contact_info", "ip", "ip_address"}
)
"""Fields that say who somebody is, wherever they are."""
_SIGNS_OF_PERSON: Final = frozenset(
    {"lead_id", "user_id", "email", "phone", "contact_info", "first_name", "last_name"}
)
"""Beside one of these, `name` is a person's; elsewhere a model's, a rule's, a channel's."""
_JSON: Final = b"application/json"
_EVENT_STREAM: Final = b"text/event-stream"
_DATA: Final = b"data: "


class MaskedAnswers:
    """ASGI middleware. It keeps an answer of JSON back until it is whole, and masks whole events of a stream; others pass."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = bytearray()
        streams = False

        async def send_masked(message: Message) -> None:
            nonlocal start, streams
            if message["type"] == "http.response.start" and _is_masked(scope):
                kind = _kind_of(message)
                streams = kind.startswith(_EVENT_STREAM)
                if kind.startswith(_JSON):
                    start = message
                    return
            if streams and message["type"] == "http.response.body":
                await send({**message, "body": masked_events(message.get("body", b""))})
                return
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


def _is_masked(scope: Scope) -> bool:
    caller = scope.get("state", {}).get("caller")
    return isinstance(caller, Caller) and caller.actor.startswith("user:") and caller.scopes == VIEWER_SCOPES


def _kind_of(start: Message) -> bytes:
    return next((bytes(value) for name, value in start["headers"] if name == b"content-type"), b"")


def masked_events(events: bytes) -> bytes:
    """Whole server-sent events, whose data is JSON on one line."""
    return b"\n".join(
        _DATA + json.encode(masked_answer(json.decode(line[len(_DATA) :])))
        if line.startswith(_DATA)
        else line
        for line in events.split(b"\n")
    )


def masked_answer(value: Any) -> Any:
    """The value without what says who somebody is. Linear in its size."""
    match value:
        case Mapping():
            named = not _SIGNS_OF_PERSON.isdisjoint(value)
            return {key: _masked_field(str(key), each, named=named) for key, each in value.items()}
        case list():
            return [masked_answer(each) for each in value]
        case str():
            return mask_text(value)
        case _:
            return value


def _masked_field(key: str, value: Any, *, named: bool) -> Any:
    if isinstance(value, str):
        if key in CONTACT_FIELDS or (named and key == "name"):
            return MASK
        if key == "id" or key.endswith(("_id", "_at", "_of")):
            return value
    return masked_answer(value)

"""What a provider's request means by its mapping: events, as the body of POST /v1/events has them.

Pure. It reads leniently, and nothing here raises because of what a stranger has sent: an expression that does not fit
finds nothing. `messenger_content` says what links and buttons mean.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from jmespath.exceptions import JMESPathError
from msgspec import json

from gateway.door.chat_mapping import ChatMapping, Expression, Expressions
from gateway.door.messenger_content import (
    LATEST,
    LONGEST_LINE,
    LONGEST_TEXT,
    LONGEST_VALUE,
    button_event,
    link_event,
)
from gateway.door.pace import PacedSteps
from schemas.moment import moment

CHAT: Final = "chat"
"""The source type of its events; the chat's name is their source id."""
OTHER_MESSAGE: Final = "chat_message"
"""The name of the custom event of a message that is neither text nor voice."""
MOST_MESSAGES: Final = 1_000
WHOLE: Final = "_body"
"""The name by which an expression of a message finds the whole body."""
LONGEST_DURATION: Final = 86_400
_SCHEME = re.compile(r"(?:tel|sms|whatsapp|rcs|mailto):", re.IGNORECASE)
_NO_NAME = re.compile(r"[^a-z0-9]+")
_MILLIS_FROM: Final = 10**11
"""A number from here on counts milliseconds, since it would be the year 5138 in seconds."""


class MessageEvents(NamedTuple):
    events: list[dict[str, Any]]
    messages: int
    ignored: int
    """Those that the mapping ignores."""
    skipped: int
    """Those without a sender, or that mean nothing."""


def events_of(name: str, mapping: ChatMapping, body: object) -> PacedSteps[MessageEvents]:
    """The events of a request to the chat called `name`; at most MOST_MESSAGES of its messages are read."""
    events: list[dict[str, Any]] = []
    messages = ignored = skipped = 0
    for message in _messages(mapping, body):
        yield
        messages += 1
        if messages > MOST_MESSAGES:
            break
        if any(_is_true(found_at(each, message)) for each in mapping.ignore):
            ignored += 1
            continue
        read = _message_events(name, mapping, message)
        skipped += not read
        events += read
    return MessageEvents(events, messages, ignored, skipped)


def _messages(mapping: ChatMapping, body: object) -> Iterator[Mapping[str, Any]]:
    listed = body if mapping.each is None else found_at(mapping.each, body)
    for message in listed if isinstance(listed, list) else [listed]:
        if isinstance(message, dict):
            yield {**message, WHOLE: body}


def _message_events(name: str, mapping: ChatMapping, message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The event of a message after what is known of its sender, which counts once as long as it stays the same."""
    sender = _text(found_at(mapping.sender["id"], message))
    if sender is None:
        return []
    profile = {
        field: value
        for field, expression in mapping.sender.items()
        if field != "id" and (value := _value(field, found_at(expression, message))) is not None
    }
    contact = {
        field: value[:LONGEST_LINE]
        for field, expression in mapping.contact.items()
        if isinstance(value := _value(field, found_at(expression, message)), str)
    }
    event = _event(mapping.message, message)
    if event is None and not contact:
        return []
    envelope: dict[str, Any] = {
        "visitor_id": f"{CHAT}-{name}-{_digest(sender)}",
        "source": mapping.source,
        "context": {"source_type": CHAT, "source_id": name},
    }
    if (at := _time(_lookup(mapping.message, "time", message))) is not None:
        envelope["occurred_at"] = at
    own = {field: value for field, value in message.items() if field != WHOLE}
    message_id = _text(_lookup(mapping.message, "id", message)) or _encoded(own)
    listed = [
        ({"type": "profile_updated", "fields": profile}, _digest("profile", sender, _encoded(profile)))
        if profile
        else None,
        (event, _digest("message", message_id)) if event else None,
        ({"type": "contact_shared", **contact}, _digest("contact", message_id)) if contact else None,
    ]
    return [{**fields, **envelope, "event_id": f"{CHAT}-{digest}"} for fields, digest in filter(None, listed)]


def _event(expressions: Expressions, message: Mapping[str, Any]) -> dict[str, Any] | None:
    def at(key: str) -> str | None:
        return _text(_lookup(expressions, key, message))

    if (link := at("link")) is not None:
        return link_event(link) or {"type": "link_clicked", "text": link[:LONGEST_LINE]}
    text = at("text")
    if (data := at("button")) is not None:
        return button_event(data[:LONGEST_LINE], (at("label") or text or data)[:LONGEST_LINE])
    if (voice := at("voice")) is not None:
        return _voice(voice, text, _lookup(expressions, "duration", message))
    if text is not None:
        return link_event(text.strip()) or {
            "type": "message_received",
            "kind": "text",
            "text": text[:LONGEST_TEXT],
        }
    if _is_true(_lookup(expressions, "opened", message)):
        return {"type": "session_started"}
    if (kind := at("kind")) is not None:
        name = _NO_NAME.sub("_", kind.lower()).strip("_")[:64]
        return {"type": "custom", "name": OTHER_MESSAGE, "properties": {"kind": name or "other"}}
    return None


def _voice(recording: str, transcript: str | None, duration: object) -> dict[str, Any]:
    """The name of a recording that is longer than a line would name nothing, cut."""
    event: dict[str, Any] = {"type": "message_received", "kind": "voice"}
    if len(recording) <= LONGEST_LINE:
        event["file_id"] = recording
    if transcript is not None:
        event["text"] = transcript[:LONGEST_TEXT]
    seconds = _number(duration)
    if seconds is not None and 0 <= seconds <= LONGEST_DURATION:
        event["duration_s"] = seconds
    return event


# Values


def _lookup(expressions: Expressions, key: str, message: Mapping[str, Any]) -> object:
    expression = expressions.get(key)
    return None if expression is None else found_at(expression, message)


def found_at(expression: Expression, content: object) -> object:
    """None also where a function of the expression does not fit what the stranger has sent."""
    try:
        return expression.search(content)
    except (JMESPathError, RecursionError, ValueError, TypeError, ArithmeticError):
        return None


def _is_true(value: object) -> bool:
    """As JMESPath has it: 0 is true, and what is empty is not."""
    return value is not None and value is not False and value not in ("", [], {})


def _text(value: object) -> str | None:
    """A text or a number as a text; None for anything else, and for what is blank."""
    match value:
        case bool():
            return None
        case str() if value.strip():
            return value
        case int() if abs(value) < 10**30:
            return str(value)
        case float():
            return f"{value:g}"
        case _:
            return None


def _value(field: str, value: object) -> str | int | float | bool | list[str] | None:
    """Of a profile field. A phone or an e-mail address may be written as tel:, whatsapp: or mailto:."""
    match value:
        case str() if value.strip():
            plain = _SCHEME.sub("", value, count=1) if field in {"phone", "email"} else value
            return plain[:LONGEST_VALUE]
        case int() if field == "phone" and not isinstance(value, bool):
            return str(value)[:LONGEST_VALUE]
        case bool() | int() | float():
            return value
        case list() if value and all(isinstance(each, str) for each in value):
            return [each[:256] for each in value[:64]]
        case _:
            return None


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def _time(value: object) -> str | None:
    """Seconds or milliseconds since 1970, or a date as ISO 8601 has it (UTC, if it names no zone)."""
    seconds = _number(value)
    if seconds is not None:
        if seconds >= _MILLIS_FROM:
            seconds /= 1_000
        return moment(int(seconds * 1_000)).isoformat() if 0 <= seconds <= LATEST else None
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _encoded(value: object) -> str:
    return json.encode(value, order="sorted").decode()


def _digest(*parts: str) -> str:
    """Ids of providers may be longer than those of events, and a number is no id that everybody should see."""
    return blake2b("\n".join(parts).encode(errors="replace"), digest_size=16).hexdigest()

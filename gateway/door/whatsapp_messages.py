"""What a notification of the WhatsApp Business Platform means: a pure function from its body to events, as producers
send them.

WhatsApp itself vouches for the sender's number, so every message identifies. Statuses of our own messages are counted
and mean no event. It reads as leniently as `telegram_updates` and never raises.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from gateway.door.messenger_content import (
    LATEST,
    button_event,
    form_event,
    line_of,
    link_event,
    object_of,
    objects_of,
    text_of,
)
from schemas.moment import moment

SOURCE: Final = "whatsapp"
WHATSAPP_NUMBER: Final = "whatsapp_number"
"""The source type of its events; the number's name is their source id."""
OTHER_MESSAGE: Final = "whatsapp_message"
"""The name of the custom event of a message that is neither text nor voice."""
NO_MESSAGES: Final = frozenset({"system", "unsupported", "unknown"})
OTHER_KINDS: Final = frozenset(
    {"audio", "image", "video", "document", "sticker", "location", "contacts", "reaction", "order"}
)


class NotificationEvents(NamedTuple):
    events: list[dict[str, Any]]
    statuses: int
    """Of messages to people: sent, delivered, read, failed."""
    skipped: int
    """Messages that mean nothing."""


def events_of(name: str, notification: object) -> NotificationEvents:
    """The events of a notification to the number called `name`, as the body of POST /v1/events has them."""
    events: list[dict[str, Any]] = []
    statuses = skipped = 0
    for value in _values(notification):
        statuses += len(objects_of(value, "statuses"))
        names = {line_of(each, "wa_id"): _profile_name(each) for each in objects_of(value, "contacts")}
        for message in objects_of(value, "messages"):
            read = _message_events(name, message, names)
            skipped += not read
            events += read
    return NotificationEvents(events, statuses, skipped)


def _values(notification: object) -> Iterator[Mapping[str, Any]]:
    for entry in objects_of(notification, "entry"):
        for change in objects_of(entry, "changes"):
            if (value := object_of(change, "value")) is not None:
                yield value


def _message_events(
    number_name: str, message: Mapping[str, Any], names: Mapping[str | None, str | None]
) -> list[dict[str, Any]]:
    """The event of a message after what is known of its sender, which counts once as long as it stays the same."""
    sender, message_id = line_of(message, "from"), line_of(message, "id")
    event = _event(message)
    if sender is None or message_id is None or event is None:
        return []
    envelope = {
        "visitor_id": f"{SOURCE}-{number_name}-{_digest(sender)}",
        "source": SOURCE,
        "context": {"source_type": WHATSAPP_NUMBER, "source_id": number_name},
    }
    seconds = text_of(message, "timestamp") or ""
    if seconds.isascii() and seconds.isdigit() and len(seconds) <= 10 and int(seconds) <= LATEST:
        envelope["occurred_at"] = moment(int(seconds) * 1_000).isoformat()
    fields = {"phone": sender, "name": names.get(sender)}
    profile = {field: value for field, value in fields.items() if value is not None}
    profile_id = f"{SOURCE}-profile-{_digest(sender, profile.get('name', ''))}"
    return [
        {"type": "profile_updated", "fields": profile, **envelope, "event_id": profile_id},
        {**event, **envelope, "event_id": f"{SOURCE}-{_digest(message_id)}"},
    ]


def _event(message: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = line_of(message, "type")
    audio, interactive = object_of(message, "audio"), object_of(message, "interactive")
    if (text := text_of(object_of(message, "text"), "body")) is not None:
        return link_event(text.strip()) or {"type": "message_received", "kind": "text", "text": text}
    if audio is not None and audio.get("voice") is True:
        voice = {"type": "message_received", "kind": "voice", "file_id": line_of(audio, "id")}
        return {field: value for field, value in voice.items() if value is not None}
    for reply in (object_of(interactive, "button_reply"), object_of(interactive, "list_reply")):
        if reply is not None:
            return button_event(line_of(reply, "id"), line_of(reply, "title"))
    if (button := object_of(message, "button")) is not None:
        return button_event(line_of(button, "payload"), line_of(button, "text"))
    flow = object_of(interactive, "nfm_reply")
    if (form := form_event(text_of(flow, "response_json"), line_of(flow, "name"))) is not None:
        return form
    if kind is None or kind in NO_MESSAGES:
        return None
    return {
        "type": "custom",
        "name": OTHER_MESSAGE,
        "properties": {"kind": kind if kind in OTHER_KINDS else "other"},
    }


def _profile_name(contact: Mapping[str, Any]) -> str | None:
    return line_of(object_of(contact, "profile"), "name")


def _digest(*parts: str) -> str:
    """Ids of WhatsApp are longer than event ids may be, and a number is no id that everybody should see."""
    return blake2b("\n".join(parts).encode(errors="replace"), digest_size=16).hexdigest()

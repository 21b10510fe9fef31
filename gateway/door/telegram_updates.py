"""What an update of Telegram's Bot API means: a pure function from the update to events, as producers send them.

It reads leniently: an update of another kind, of a group or without a person is skipped with a reason, and fields of
other types than Telegram documents are as good as missing. It never raises. Only a contact that the sender shares of
themselves identifies; nothing that is typed or pressed does. `messenger_content` says what links and buttons mean.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.door.messenger_content import (
    LATEST,
    button_event,
    form_event,
    integer_of,
    line_of,
    link_event,
    object_of,
    text_of,
)
from schemas.moment import moment

SOURCE: Final = "telegram"
TELEGRAM_BOT: Final = "telegram_bot"
"""The source type of its events; the bot's name is their source id."""
READ_KINDS: Final = ("message", "callback_query")
"""The kinds of updates that mean something; ask Telegram for these."""
OTHER_MESSAGE: Final = "telegram_message"
"""The name of the custom event of a message that is neither text nor voice."""
OTHER_KINDS: Final = (
    "audio",
    "photo",
    "video",
    "video_note",
    "document",
    "sticker",
    "location",
    "venue",
    "contact",
    "web_app_data",
)
LONGEST_VOICE = 86_400
"""Seconds."""

_START = re.compile(r"/start(?:@\w{1,64})?(?:\s+([A-Za-z0-9_-]{1,64}))?\s*")


class UpdateEvents(NamedTuple):
    """The events of an update, or the reason for which it has none."""

    events: list[dict[str, Any]]
    skipped: str | None = None
    """`unreadable`, `other_kind`, `not_private` (a group or channel) or `no_person`."""
    callback_query_id: str | None = None
    """The press of a button, which Telegram wants answered."""


def events_of(bot: str, update: object) -> UpdateEvents:
    """The events of one update of the bot, as the body of POST /v1/events has them."""
    update_id = integer_of(update, "update_id")
    if update_id is None:
        return UpdateEvents([], "unreadable")
    query, sent = object_of(update, "callback_query"), object_of(update, "message")
    subject = sent if query is None else query
    if subject is None:
        return UpdateEvents([], "other_kind")
    query_id = None if query is None else line_of(query, "id")
    message = sent if query is None else object_of(query, "message")
    sender = object_of(subject, "from")
    user_id = integer_of(sender, "id")
    if sender is None or user_id is None or user_id <= 0 or sender.get("is_bot") is True:
        return UpdateEvents([], "no_person", query_id)
    if message is not None and not _is_private(message):
        return UpdateEvents([], "not_private", query_id)
    envelope = {
        "visitor_id": visitor_id_of(bot, user_id),
        "source": SOURCE,
        "context": {"source_type": TELEGRAM_BOT, "source_id": bot},
    }
    at = None if query is not None else integer_of(message, "date")
    if at is not None and 0 <= at <= LATEST:
        envelope["occurred_at"] = moment(at * 1_000).isoformat()
    read = _sent(subject, sender) if query is None else [_pressed(query)]
    events = [
        {**event, **envelope, "event_id": f"{SOURCE}-{update_id}{'-profile' if number else ''}"}
        for number, event in enumerate(read)
    ]
    return UpdateEvents(events, None, query_id)


def visitor_id_of(bot: str, user_id: int) -> str:
    """A person's id: the same bot meets the same person under it."""
    return f"{SOURCE}-{bot}-{user_id}"


# Messages


def _sent(message: Mapping[str, Any], sender: Mapping[str, Any]) -> list[dict[str, Any]]:
    forwarded = any(name.startswith("forward_") for name in message)
    text = text_of(message, "text")
    if text is not None and not forwarded and (start := _START.fullmatch(text.strip())) is not None:
        return [_started(start[1]), *_profile(sender)]
    if (voice := object_of(message, "voice")) is not None:
        return [_voice(voice)]
    if (text := text or text_of(message, "caption")) is not None:
        return [{"type": "message_received", "kind": "text", "text": text}]
    contact = object_of(message, "contact")
    if contact is not None and not forwarded and integer_of(contact, "user_id") == integer_of(sender, "id"):
        return [_contact(contact)]
    sent = object_of(message, "web_app_data")
    if (form := form_event(text_of(sent, "data"), line_of(sent, "button_text"))) is not None:
        return [form]
    kind = next((name for name in OTHER_KINDS if name in message), "other")
    return [{"type": "custom", "name": OTHER_MESSAGE, "properties": {"kind": kind}}]


def _started(payload: str | None) -> dict[str, Any]:
    """The chat was opened: plainly, or by a link. A payload without a mark is the id of a code, whole."""
    if payload is None:
        return {"type": "session_started"}
    whole = {"type": "qr_scanned", "qr_id": payload}
    return link_event(payload) or link_event(_decoded(payload)) or whole


def _decoded(payload: str) -> str:
    """The text of a payload in base64url; empty, if it is none."""
    try:
        text = urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    except ValueError:  # no base64, or no text
        return ""
    return text if text.isprintable() else ""


def _profile(sender: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The name that Telegram shows. Nobody can write to a bot before they have started it, so this comes once."""
    shown = {
        "first_name": line_of(sender, "first_name"),
        "last_name": line_of(sender, "last_name"),
        "telegram_username": line_of(sender, "username"),
    }
    fields = {name: value for name, value in shown.items() if value is not None}
    return [{"type": "profile_updated", "fields": fields}] if fields else []


def _voice(voice: Mapping[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "message_received", "kind": "voice"}
    duration = integer_of(voice, "duration")
    if (file_id := line_of(voice, "file_id")) is not None:
        event["file_id"] = file_id
    if duration is not None and 0 <= duration <= LONGEST_VOICE:
        event["duration_s"] = duration
    return event


def _contact(contact: Mapping[str, Any]) -> dict[str, Any]:
    shared = {
        "phone": line_of(contact, "phone_number"),
        "first_name": line_of(contact, "first_name"),
        "last_name": line_of(contact, "last_name"),
    }
    return {"type": "contact_shared", **{name: value for name, value in shared.items() if value is not None}}


# Buttons


def _pressed(query: Mapping[str, Any]) -> dict[str, Any]:
    """A press has no time of its own: it happens now."""
    message, data = object_of(query, "message"), line_of(query, "data")
    return button_event(data, button_label(message, data), line_of(message, "text"))


def button_label(message: Mapping[str, Any] | None, data: str | None) -> str | None:
    """What the button of the message shows that has this data."""
    rows = (object_of(message, "reply_markup") or {}).get("inline_keyboard")
    for row in rows if isinstance(rows, list) else ():
        for button in row if isinstance(row, list) else ():
            if data is not None and isinstance(button, dict) and button.get("callback_data") == data:
                return line_of(button, "text")
    return None


def _is_private(message: Mapping[str, Any]) -> bool:
    """A chat with one person. Its id is the person's; those of groups and channels are negative."""
    chat = object_of(message, "chat")
    kind = (chat or {}).get("type")
    return kind == "private" if isinstance(kind, str) else (integer_of(chat, "id") or 0) > 0

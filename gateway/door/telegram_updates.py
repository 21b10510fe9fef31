"""What an update of Telegram's Bot API means: a pure function from the update to events, as producers send them.

It reads leniently: an update of another kind, of a group or without a person is skipped with a reason, and fields of
other types than Telegram documents are as good as missing. It never raises. Only a contact that the sender shares of
themselves identifies; nothing that is typed or pressed does.

A deep link, and the data of a button, say what they mean by their beginning: `qr`, `catalog` or `link` in a link
(`qr_stand-7`, also in base64url: `qr:stand-7`), `catalog:ID` or `FIELD:VALUE` in a button.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import DecodeError, json

from schemas.moment import moment

SOURCE: Final = "telegram"
READ_KINDS: Final = ("message", "callback_query")
"""The kinds of updates that mean something; ask Telegram for these."""
ANSWER_FIELDS: Final = frozenset(
    {
        "transaction_type",
        "property_type",
        "location",
        "payment_method",
        "budget",
        "budget_min",
        "budget_max",
        "bedrooms",
    }
)
"""The profile fields that buttons and the forms of Mini Apps fill. No address is among them, since everybody can
send any data in the name of a button."""
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
LONGEST_TEXT = 8_192
LONGEST_LINE = 512
LONGEST_VALUE = 1_024
LONGEST_VOICE = 86_400
"""Seconds."""
LATEST = 2**32
"""Seconds since 1970: a message of a later date happened now."""

_START = re.compile(r"/start(?:@\w{1,64})?(?:\s+([A-Za-z0-9_-]{1,64}))?\s*")
_MARKED = re.compile(r"(qr|catalog|link)[_:-](.+)", re.DOTALL)
_BUTTON = re.compile(r"([a-z][a-z0-9_]{0,63}):(.+)", re.DOTALL)


class UpdateEvents(NamedTuple):
    """The events of an update, or the reason for which it has none."""

    events: list[dict[str, Any]]
    skipped: str | None = None
    """`unreadable`, `other_kind`, `not_private` (a group or channel) or `no_person`."""
    callback_query_id: str | None = None
    """The press of a button, which Telegram wants answered."""


def events_of(bot: str, update: object) -> UpdateEvents:
    """The events of one update of the bot, as the body of POST /v1/events has them."""
    update_id = _integer(update, "update_id")
    if update_id is None:
        return UpdateEvents([], "unreadable")
    query, sent = _object(update, "callback_query"), _object(update, "message")
    subject = query or sent
    if subject is None:
        return UpdateEvents([], "other_kind")
    query_id = None if query is None else _line(query, "id")
    message = sent if query is None else _object(query, "message")
    sender = _object(subject, "from")
    user_id = _integer(sender, "id")
    if sender is None or user_id is None or user_id <= 0 or sender.get("is_bot") is True:
        return UpdateEvents([], "no_person", query_id)
    if message is not None and not _is_private(message):
        return UpdateEvents([], "not_private", query_id)
    envelope = {
        "visitor_id": visitor_id_of(bot, user_id),
        "source": SOURCE,
        "context": {"source_type": "telegram_bot", "source_id": bot},
    }
    at = None if query is not None else _integer(message, "date")
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
    text = _text(message, "text")
    if text is not None and not forwarded and (start := _START.fullmatch(text.strip())) is not None:
        return [_started(start[1]), *_profile(sender)]
    if (voice := _object(message, "voice")) is not None:
        return [_voice(voice)]
    if (text := text or _text(message, "caption")) is not None:
        return [{"type": "message_received", "kind": "text", "text": text}]
    contact = _object(message, "contact")
    if contact is not None and not forwarded and _integer(contact, "user_id") == _integer(sender, "id"):
        return [_contact(contact)]
    if (form := _form(message)) is not None:
        return [form]
    kind = next((name for name in OTHER_KINDS if name in message), "other")
    return [{"type": "custom", "name": OTHER_MESSAGE, "properties": {"kind": kind}}]


def _started(payload: str | None) -> dict[str, Any]:
    """The chat was opened: plainly, or by a link whose payload names a code, a catalogue or a link."""
    if payload is None:
        return {"type": "session_started"}
    match _marked(payload):
        case "catalog", name:
            return {"type": "catalog_viewed", "catalog_id": name}
        case "link", name:
            return {"type": "link_clicked", "text": name}
        case _, name:
            return {"type": "qr_scanned", "qr_id": name}


def _marked(payload: str) -> tuple[str, str]:
    """What the payload names, and its name; one that names nothing is a code's, whole."""
    for text in (payload, _decoded(payload)):
        if (marked := _MARKED.fullmatch(text)) is not None:
            return marked[1], marked[2][:LONGEST_LINE]
    return "qr", payload


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
        "first_name": _line(sender, "first_name"),
        "last_name": _line(sender, "last_name"),
        "telegram_username": _line(sender, "username"),
    }
    fields = {name: value for name, value in shown.items() if value is not None}
    return [{"type": "profile_updated", "fields": fields}] if fields else []


def _voice(voice: Mapping[str, Any]) -> dict[str, Any]:
    event: dict[str, Any] = {"type": "message_received", "kind": "voice"}
    duration = _integer(voice, "duration")
    if (file_id := _line(voice, "file_id")) is not None:
        event["file_id"] = file_id
    if duration is not None and 0 <= duration <= LONGEST_VOICE:
        event["duration_s"] = duration
    return event


def _contact(contact: Mapping[str, Any]) -> dict[str, Any]:
    shared = {
        "phone": _line(contact, "phone_number"),
        "first_name": _line(contact, "first_name"),
        "last_name": _line(contact, "last_name"),
    }
    return {"type": "contact_shared", **{name: value for name, value in shared.items() if value is not None}}


def _form(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """The form that a Mini App has sent: an object whose entries are profile fields."""
    sent = _object(message, "web_app_data")
    try:
        data = json.decode(_text(sent, "data") or "null")
    except (DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    fields = {
        name: value[:LONGEST_VALUE] if isinstance(value, str) else value
        for name, value in data.items()
        if name in ANSWER_FIELDS and isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    return {"type": "form_submitted", "form_name": _line(sent, "button_text"), "fields": fields}


# Buttons


def _pressed(query: Mapping[str, Any]) -> dict[str, Any]:
    """An answer, the opening of a catalogue, or a click. A press has no time of its own: it happens now."""
    message, data = _object(query, "message"), _line(query, "data")
    label = _label(message, data) or data
    field, name = button.groups() if (button := _BUTTON.fullmatch(data or "")) else (None, None)
    if field in ANSWER_FIELDS:
        answer = {"type": "question_answered", "question_id": field, "text": name, "profile_field": field}
        question = _line(message, "text")
        return answer if question is None else {**answer, "question": question}
    if field == "catalog":
        return {"type": "catalog_viewed", "catalog_id": name, "title": label}
    return {"type": "element_clicked", "element_id": data, "text": label}


def _label(message: Mapping[str, Any] | None, data: str | None) -> str | None:
    """What the button with this data shows."""
    rows = (_object(message, "reply_markup") or {}).get("inline_keyboard")
    for row in rows if isinstance(rows, list) else ():
        for button in row if isinstance(row, list) else ():
            if data is not None and isinstance(button, dict) and button.get("callback_data") == data:
                return _line(button, "text")
    return None


# Fields


def _is_private(message: Mapping[str, Any]) -> bool:
    """A chat with one person. Its id is the person's; those of groups and channels are negative."""
    chat = _object(message, "chat")
    kind = (chat or {}).get("type")
    return kind == "private" if isinstance(kind, str) else (_integer(chat, "id") or 0) > 0


def _object(owner: object, name: str) -> Mapping[str, Any] | None:
    value = owner.get(name) if isinstance(owner, dict) else None
    return value if isinstance(value, dict) else None


def _integer(owner: object, name: str) -> int | None:
    value = owner.get(name) if isinstance(owner, dict) else None
    fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return value if fits else None


def _text(owner: object, name: str) -> str | None:
    value = owner.get(name) if isinstance(owner, dict) else None
    return value[:LONGEST_TEXT] if isinstance(value, str) and value else None


def _line(owner: object, name: str) -> str | None:
    value = _text(owner, name)
    return None if value is None else value[:LONGEST_LINE]

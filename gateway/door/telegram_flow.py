"""The flow of a chat in Telegram: what a person's update says in it, and how the Bot API shows a reply. Pure.

A bot whose replies are on is a client of the chat as any other: the session's id is the visitor's, its events have the
source `chatbot`, and the model `chatbot` scores them. An event's id follows from the update's, so an update that comes
twice counts once, also where the second gateway takes it for the answer to another question.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.door.messenger_content import LATEST, integer_of, line_of, object_of, text_of
from gateway.door.telegram_updates import SOURCE, button_label
from schemas.envelope import Event, tag_of
from schemas.events import ContactShared, GreetingReplied, SessionStarted
from scoring.chat import conversation as chats
from scoring.chat.conversation import Conversation
from scoring.chat.flow import ChatFlow, FlowOffer, parts_of, question_numbered
from scoring.chat.replies import ChatReply, next_reply, reply_to_offer

OLDEST_SECONDS: Final = 300
"""An update that is older was waiting somewhere: it is recorded, and nobody answers it any more."""
LONGEST_DATA: Final = 64
"""Bytes of a button's data, as the Bot API takes them."""
SHORT_LABEL: Final = 16
"""Buttons that show no more characters stand side by side."""
_START = re.compile(r"/start(?:@\w+)?(?:\s.*)?", re.DOTALL)
_OPTION = re.compile(r"flow:q:([0-9]{1,10}):([0-9]{1,3})", re.ASCII)
_OFFER = re.compile(r"flow:([pc]):([a-z0-9_-]{1,64})", re.ASCII)
Fields = dict[str, Any]
ENVELOPE: Final = ("visitor_id", "context", "occurred_at")
BESIDES: Final = frozenset({tag_of(GreetingReplied), tag_of(ContactShared)})
"""Events that come with an answer."""


class FlowTurn(NamedTuple):
    """What a person does in the chat of a bot."""

    update_id: int
    user_id: int
    language: str | None
    """The code of the person's app, such as pt-BR."""
    sent_at: int | None
    """Seconds since 1970; the press of a button has no time of its own."""
    started: bool = False
    text: str | None = None
    contact: Mapping[str, str] | None = None
    """Of the sender."""
    data: str | None = None
    """Of the button that was pressed; `label` is what it shows."""
    label: str | None = None
    callback_query_id: str | None = None

    @property
    def event_id(self) -> str:
        """That of the update's own event."""
        return f"{SOURCE}-{self.update_id}"


@dataclass
class TelegramTalk:
    """An update on its way through the door: what to record, and what was recorded."""

    raws: list[Fields]
    replies: bool = False
    """A reply follows, which waits for the events and answers the press of a button itself."""
    recorded: list[Event] = field(default_factory=list)

    def take(self, turn: FlowTurn, events: Sequence[Fields]) -> None:
        """Adds the turn's events. The press of one of the flow's buttons is the answer, and nothing beside it."""
        envelope = {name: self.raws[0][name] for name in ENVELOPE if name in self.raws[0]}
        pressed = turn.data is not None and bool(events)
        self.raws = [*([] if pressed else self.raws), *({**each, **envelope} for each in events)]
        self.replies = True


class TurnEvents(NamedTuple):
    """The events of a turn in the flow, and what has been pressed, if that was an offer."""

    events: list[Fields]
    offer: FlowOffer | None = None
    restates: bool = False
    """The question was answered before, so the next one has been asked already."""


def turn_of(update: object) -> FlowTurn | None:
    """The turn of an update that `telegram_updates` does not skip; None: it is nothing that the flow reads."""
    update_id = integer_of(update, "update_id")
    query, message = object_of(update, "callback_query"), object_of(update, "message")
    sender = object_of(query or message, "from")
    user_id = integer_of(sender, "id")
    if update_id is None or user_id is None:
        return None
    turn = FlowTurn(update_id, user_id, line_of(sender, "language_code"), integer_of(message, "date"))
    if query is not None:
        data = line_of(query, "data")
        if data is None or not data.startswith("flow:"):
            return None
        return turn._replace(
            sent_at=None,
            data=data,
            label=button_label(object_of(query, "message"), data),
            callback_query_id=line_of(query, "id"),
        )
    if message is None or any(name.startswith("forward_") for name in message):
        return None
    if (text := text_of(message, "text")) is not None:
        if _START.fullmatch(text.strip()):
            return turn._replace(started=True)
        return None if text.startswith("/") or not text.strip() else turn._replace(text=text)
    contact = object_of(message, "contact")
    if contact is not None and integer_of(contact, "user_id") == user_id:
        shared = {
            "phone": line_of(contact, "phone_number"),
            "name": " ".join(filter(None, (line_of(contact, "first_name"), line_of(contact, "last_name")))),
        }
        return turn._replace(contact={name: value for name, value in shared.items() if value})
    return None


def is_old(turn: FlowTurn, now: float) -> bool:
    """`now` in seconds since 1970. Telegram itself refuses to answer an old press of a button."""
    return turn.sent_at is not None and 0 <= turn.sent_at <= LATEST and now - turn.sent_at > OLDEST_SECONDS


def turn_events(
    turn: FlowTurn,
    flow: ChatFlow,
    before: Conversation,
    answers: Mapping[str, str],
    seconds: float | None,
) -> TurnEvents:
    """The events of the turn, as `conversation` makes them, under ids of the update. `answers`: the recorded ones, by the
    question's id; `seconds` since the chat has asked.
    """
    read = _read(turn, flow, before, answers, seconds)
    return read._replace(events=[_named(turn, event) for event in read.events])


def _read(
    turn: FlowTurn,
    flow: ChatFlow,
    before: Conversation,
    answers: Mapping[str, str],
    seconds: float | None,
) -> TurnEvents:
    if turn.data is not None:
        return _pressed(turn, flow, before, answers, seconds)
    opened = [] if before.has(tag_of(SessionStarted)) else [chats.started({})]
    if turn.started or (opened and turn.contact is None):
        return TurnEvents(opened)  # a text before the first question answers none
    if turn.contact is not None:
        return TurnEvents([*opened, *chats.contact_shared(before, turn.contact)])
    open_reply = next_reply(flow, before, before.answered(), flow.language)
    text = turn.text or ""
    if open_reply.question is not None:
        events = chats.answered(before, flow, open_reply.question, text, seconds)
        return TurnEvents([*events, *_greeting(before, text)])
    return TurnEvents(chats.contact_answered(before, text) if open_reply.asks_contact else [])


def _pressed(
    turn: FlowTurn,
    flow: ChatFlow,
    before: Conversation,
    answers: Mapping[str, str],
    seconds: float | None,
) -> TurnEvents:
    data = turn.data or ""
    if (option := _OPTION.fullmatch(data)) is not None:
        question = question_numbered(flow, int(option[1]))
        if question is None:
            return TurnEvents([])
        options = question.options[flow.language]
        number = int(option[2])
        label = turn.label or (options[number] if number < len(options) else None)
        if label is None:
            return TurnEvents([])
        earlier = parts_of(answers.get(option[1])) if question.several else []
        restates = question.id in before.answered()
        text = [*earlier, label] if question.several else label
        events = chats.answered(before, flow, question, text, None if restates else seconds)
        return TurnEvents([*events, *_greeting(before, label)], restates=restates)
    pressed = _OFFER.fullmatch(data)
    offers = flow.products if pressed and pressed[1] == "p" else flow.ctas
    offer = next((each for each in offers if pressed and _data_of(flow, each) == data), None)
    if offer is None:
        return TurnEvents([])
    name = offer.text[flow.language]
    product = {"product_id": offer.id, "product_name": name}
    metadata = product if offer in flow.products else {"cta_id": offer.id, "text": name}
    return TurnEvents([chats.behaved(before, offer.action, metadata)], offer)


def _greeting(before: Conversation, text: str) -> list[Fields]:
    """The first answer is also the reply to the greeting, which came with the first question."""
    return [] if before.has(tag_of(GreetingReplied)) else [chats.greeting_replied(before, text)]


def _named(turn: FlowTurn, event: Fields) -> Fields:
    """The press of a button has no event but this one, so it has the update's id."""
    if event["type"] == tag_of(SessionStarted):
        return event
    first = turn.data is not None and event["type"] not in BESIDES
    ending = "" if first else f"-{event['type'].replace('_', '-')}"
    return {**event, "event_id": f"{turn.event_id}{ending}"}


# Replies


def reply_of(
    turn: FlowTurn, flow: ChatFlow, before: Conversation, after: Conversation, done: TurnEvents, language: str
) -> ChatReply | None:
    """What the bot writes after a turn; None: nothing."""
    if done.offer is not None:
        return reply_to_offer(flow, done.offer, language)
    if done.restates:
        return None
    opened = turn.started or not before.has(tag_of(SessionStarted))
    reply = next_reply(flow, after, after.answered(), language, greets=opened)
    if reply.offers or not (reply.question or reply.asks_contact):
        was_open = next_reply(flow, before, before.answered(), language)
        if not opened and not (was_open.question or was_open.asks_contact):
            return None  # the flow is over: from here on people talk
    return reply


def message_of(reply: ChatReply, flow: ChatFlow, chat_id: int, language: str) -> dict[str, Any]:
    """The parameters of sendMessage."""
    message: dict[str, Any] = {"chat_id": chat_id, "text": reply.text}
    if reply.asks_contact:
        label = "📱" if flow.contact_button is None else flow.contact_button[language]
        button = {"text": label, "request_contact": True}
        keyboard = {"keyboard": [[button]], "resize_keyboard": True, "one_time_keyboard": True}
        return {**message, "reply_markup": keyboard}
    buttons = [{"text": each.text[language], "callback_data": _data_of(flow, each)} for each in reply.offers]
    if reply.question is not None:
        options = reply.question.options.get(language, ())
        buttons = [
            {"text": option, "callback_data": f"flow:q:{reply.question.id}:{number}"}
            for number, option in enumerate(options)
        ]
    return {**message, "reply_markup": {"inline_keyboard": _rows(buttons)}} if buttons else message


def _data_of(flow: ChatFlow, offer: FlowOffer) -> str:
    return f"flow:{'p' if offer in flow.products else 'c'}:{offer.id}"[:LONGEST_DATA]


def _rows(buttons: Sequence[dict[str, str]]) -> list[list[dict[str, str]]]:
    if any(len(each["text"]) > SHORT_LABEL for each in buttons):
        return [[each] for each in buttons]
    return [list(buttons[at : at + 2]) for at in range(0, len(buttons), 2)]

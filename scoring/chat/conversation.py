"""What a chat's session has come to, and the events that its requests become.

An event's id follows from what it is about and what it contains, so that a request that is sent again counts once,
while a changed answer is another event. Pure: the caller passes in what is recorded already.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from msgspec import json

from schemas.blank import is_blank_text
from schemas.envelope import tag_of
from schemas.events import (
    ContactShared,
    CtaClicked,
    Custom,
    DemoRequested,
    GreetingReplied,
    ProductClicked,
    ProfileUpdated,
    QuestionAnswered,
    QuestionsCompleted,
    SessionEnded,
    SessionStarted,
)
from scoring.chat.flow import ChatFlow, FlowQuestion, answer_of, contact_of
from scoring.features.signals import CONTACT_FIELDS

SOURCE: Final = "chatbot"
Fields = dict[str, Any]
"""An event in the fields of the log, without the session's own."""

ACTIONS: Final[Mapping[str, str]] = {
    "session_opened": tag_of(SessionStarted),
    "replied_to_greeting": tag_of(GreetingReplied),
    "answered_all_questions": tag_of(QuestionsCompleted),
    "shared_contact": tag_of(ContactShared),
    "contact_shared": tag_of(ContactShared),
    "clicked_product": tag_of(ProductClicked),
    "product_clicked": tag_of(ProductClicked),
    "clicked_demo": tag_of(DemoRequested),
    "demo_requested": tag_of(DemoRequested),
    "cta_clicked": tag_of(CtaClicked),
    "clicked_cta": tag_of(CtaClicked),
    "session_closed": tag_of(SessionEnded),
}
"""What POST /api/behavior takes, and the event that it becomes. Any other action is an event of the bot's own."""
METADATA: Final[Mapping[str, Mapping[str, str]]] = {
    tag_of(GreetingReplied): {"text": "text"},
    tag_of(ContactShared): {name: name for name in CONTACT_FIELDS},
    tag_of(ProductClicked): {
        "product_id": "product_id",
        "product_name": "product_name",
        "product": "product_name",
    },
    tag_of(DemoRequested): {"text": "text"},
    tag_of(CtaClicked): {"cta_id": "cta_id", "cta": "cta_id", "text": "text"},
}
"""What of an action's metadata fills which fields of its event; what else it has is kept beside them."""
ONCE: Final = frozenset({tag_of(SessionStarted), tag_of(QuestionsCompleted)})
"""Of these a session has one each, whatever they contain."""
LONGEST_NUMBER: Final = 12
"""Digits of a question's id, or of the count in an event's."""
SHOWN: Final[Mapping[str, str]] = {
    tag_of(SessionStarted): "session_opened",
    tag_of(GreetingReplied): "replied_to_greeting",
    tag_of(QuestionAnswered): "answered_question",
    tag_of(QuestionsCompleted): "answered_all_questions",
    tag_of(ContactShared): "shared_contact",
    tag_of(ProductClicked): "clicked_product",
    tag_of(DemoRequested): "demo_requested",
    tag_of(CtaClicked): "cta_clicked",
    tag_of(SessionEnded): "session_closed",
}
"""How a summary names the events of a session."""


class ChatEvent(NamedTuple):
    """An event of the session that is recorded: `about` is the question's id, or the name of a bot's own event."""

    event_id: str
    type: str
    about: str | None


class Conversation(NamedTuple):
    """The events of a session, the oldest first."""

    events: tuple[ChatEvent, ...] = ()

    def answered(self) -> frozenset[int]:
        named = (each.about for each in self.events if each.type == tag_of(QuestionAnswered))
        return frozenset(
            int(each) for each in named if each and each.isdecimal() and len(each) < LONGEST_NUMBER
        )

    def actions(self) -> list[str]:
        """What the person did, each once."""
        named = (
            SHOWN.get(each.type) or (each.about if each.type == tag_of(Custom) else None)
            for each in self.events
        )
        return list(dict.fromkeys(action for action in named if action is not None))

    def has(self, event_type: str) -> bool:
        return any(each.type == event_type for each in self.events)

    def has_contact(self) -> bool:
        """Whether the person has a way to be reached, or has answered the question for it otherwise."""
        types = [each.type for each in self.events]
        if tag_of(ContactShared) in types:
            return True
        completed = tag_of(QuestionsCompleted)
        return completed in types and tag_of(ProfileUpdated) in types[types.index(completed) :]


NO_EVENTS: Final = Conversation()


def started(utm: Mapping[str, str | None]) -> Fields:
    """`utm` in the fields of a campaign: source, medium ..."""
    campaign = {name: value for name, value in utm.items() if value}
    event = _event(SessionStarted, "", {})
    return {**event, "context": {"campaign": campaign}} if campaign else event


def completed() -> Fields:
    return _event(QuestionsCompleted, "", {})


def answered(
    before: Conversation,
    flow: ChatFlow,
    question: FlowQuestion,
    text: str | Sequence[str],
    time_taken: float | None = None,
) -> list[Fields]:
    """The answer, and the contact if that is what the question asks for."""
    answer = answer_of(flow, question, text)
    fields: Fields = {
        "question_id": str(question.id),
        "question": question.text[flow.language],
        "text": answer.text,
        "time_taken_s": time_taken,
        "profile_field": question.profile_field,
        "other": answer.other or None,
    }
    about = str(question.id)
    events = [_event(QuestionAnswered, about, fields, before, content=answer.text)]
    if question.profile_field in {"email", "phone"}:
        events += contact_shared(before, {question.profile_field: answer.text})
    return events


def greeting_replied(before: Conversation, text: str) -> Fields:
    return _event(GreetingReplied, "", {"text": text}, before)


def contact_answered(before: Conversation, text: str) -> list[Fields]:
    """The contact that a free text contains; none, if nothing in it reaches anybody: then it is a name."""
    contact = contact_of(text)._asdict()
    return contact_shared(before, {name: value for name, value in contact.items() if value is not None})


def contact_shared(before: Conversation, profile: Mapping[str, Any]) -> list[Fields]:
    """The profile's fields as events: its contact, if it has a way to reach the person, and all the rest."""
    profile = dict(profile)
    if isinstance(either := profile.pop("contact_info", None), str | int):
        profile.setdefault("email" if "@" in str(either) else "phone", str(either))
    contact = {name: str(profile[name]) for name in CONTACT_FIELDS if _is_stated(profile.get(name))}
    if not contact.keys() & {"email", "phone"}:
        contact = {}
    rest = {name: value for name, value in profile.items() if name not in contact}
    events = [_event(ContactShared, "", contact, before)] if contact else []
    if rest:
        events.append(_event(ProfileUpdated, "", {"fields": rest}, before))
    return events


def behaved(before: Conversation, action: str, metadata: Mapping[str, Any]) -> Fields:
    """The event of an action."""
    event_type = ACTIONS.get(action)
    if event_type is None:
        return _event(Custom, action, {"name": action, "properties": dict(metadata) or None}, before)
    own = METADATA.get(event_type, {})
    fields = {own[name]: value for name, value in metadata.items() if name in own}
    rest = {name: value for name, value in metadata.items() if name not in own}
    return _named(event_type, "", {**fields, "metadata": rest or None}, before)


def _event(
    kind: type[Any], about: str, fields: Fields, before: Conversation = NO_EVENTS, content: object = None
) -> Fields:
    return _named(tag_of(kind), about, fields, before, content)


def _named(
    event_type: str, about: str, fields: Fields, before: Conversation, content: object = None
) -> Fields:
    """The event under its id. `content` is what makes it another event than the last one; by default its fields."""
    present = {name: value for name, value in fields.items() if value is not None}
    event_id = f"chat-{event_type.replace('_', '-')}"
    if event_type not in ONCE:
        event_id = _event_id(before.events, event_type, about, present if content is None else content)
    return {"type": event_type, "event_id": event_id, "source": SOURCE, **present}


def _event_id(events: Iterable[ChatEvent], event_type: str, about: str, content: object) -> str:
    """That of the last event about the same, if it has the same content; else the next one."""
    prefix, digest = f"chat-{_digest([event_type, about])}-", _digest(content)
    last = next((each.event_id for each in reversed(tuple(events)) if each.event_id.startswith(prefix)), None)
    if last is None:
        return f"{prefix}0-{digest}"
    count, _, last_digest = last.removeprefix(prefix).partition("-")
    if last_digest == digest or not count.isdecimal() or len(count) > LONGEST_NUMBER:
        return last if last_digest == digest else f"{prefix}0-{digest}"
    return f"{prefix}{int(count) + 1}-{digest}"


def _digest(content: object) -> str:
    return blake2b(json.encode(content, order="sorted"), digest_size=8).hexdigest()


def _is_stated(value: object) -> bool:
    match value:
        case str():
            return not is_blank_text(value)
        case int() | float():
            return not isinstance(value, bool)
        case _:
            return False

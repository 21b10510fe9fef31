"""The flow of a chat: greeting, questions, contact, products, calls to action; and what an answer to a question is.

It is a part of a model's text, so that it is published with the points that it can give; `scoring.chat.flow_text`
compiles it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from scoring.features.texts import fold_text

Wording = Mapping[str, str]
"""A text in every language of the flow."""
BETWEEN_OPTIONS: Final = re.compile(r"[,;\n]")
"""What separates the answers to a question that takes several."""
_PHONE: Final = re.compile(r"[+(]?[\d(][\d\s().\-/]{5,}", re.ASCII)


class FlowQuestion(NamedTuple):
    id: int
    text: Wording
    step: str
    options: Mapping[str, tuple[str, ...]]
    """In every language, in one order; empty: any text is as good as another."""
    profile_field: str | None
    """The field of the profile that an answer fills."""
    several: bool
    """Whether an answer may have several options."""


class FlowOffer(NamedTuple):
    """Something to click: a product, or a call to action. `action` is what POST /api/behavior takes for it."""

    id: str
    text: Wording
    about: Wording
    action: str


class ChatFlow(NamedTuple):
    """The first language is the default. The questions are in the order in which they are put."""

    languages: tuple[str, ...]
    greeting: int
    """The id by which the greeting is answered; `contact` likewise."""
    greeting_text: Wording
    greeting_variants: Mapping[str, Wording]
    questions: tuple[FlowQuestion, ...]
    contact: int
    contact_text: Wording
    contact_button: Wording | None
    """What the button shows by which a messenger shares the person's phone number."""
    thanks: Wording
    products: tuple[FlowOffer, ...]
    ctas: tuple[FlowOffer, ...]
    assigned_to: str | None
    """The owner that an export names for leads without one."""

    @property
    def language(self) -> str:
        return self.languages[0]


class FlowAnswer(NamedTuple):
    """An answer as it is recorded: options in the flow's first language, anything else as it was typed."""

    text: str
    other: bool
    """Whether a part of it is none of the options."""


class SharedContact(NamedTuple):
    name: str | None = None
    email: str | None = None
    phone: str | None = None


def question_numbered(flow: ChatFlow, number: int) -> FlowQuestion | None:
    return next((each for each in flow.questions if each.id == number), None)


def next_question(flow: ChatFlow, answered: Collection[int]) -> FlowQuestion | None:
    """The first question that is still open; None: all are answered."""
    return next((each for each in flow.questions if each.id not in answered), None)


def answer_of(flow: ChatFlow, question: FlowQuestion, answer: str | Sequence[str]) -> FlowAnswer:
    """The answer to a question. Any text answers any question. Options are recognised in every language, in
    capital or small letters.
    """
    options = _recognised(flow, question)
    parts = [part.strip() for part in ([answer] if isinstance(answer, str) else answer)]
    if question.several and isinstance(answer, str):
        parts = [part for each in BETWEEN_OPTIONS.split(answer) if (part := each.strip())]
    recognised = [options.get(fold_text(part), part) for part in parts]
    unique = list(dict.fromkeys(recognised))
    return FlowAnswer(", ".join(unique), bool(options) and not set(unique) <= set(options.values()))


def parts_of(value: object) -> list[str]:
    """The options of a recorded answer to a question that takes several."""
    match value:
        case str():
            return [part for each in BETWEEN_OPTIONS.split(value) if (part := each.strip())]
        case list():
            return [str(each) for each in value]
        case _:
            return []


def contact_of(text: str) -> SharedContact:
    """The contact in a free text such as `Ada Obi, ada@example.com, +971 50 123 4567`."""
    name = email = phone = None
    for part in (each.strip() for each in BETWEEN_OPTIONS.split(text)):
        if "@" in part:
            email = email or part
        elif _PHONE.fullmatch(part):
            phone = phone or part
        elif part:
            name = name or part
    return SharedContact(name, email, phone)


def _recognised(flow: ChatFlow, question: FlowQuestion) -> dict[str, str]:
    """Each option in each language, folded -> the option in the first language."""
    first = question.options.get(flow.language, ())
    return {
        fold_text(option): named
        for language in reversed(flow.languages)
        for option, named in zip(question.options.get(language, ()), first, strict=True)
    }

"""Reads, checks and compiles the table [flow] of a model's text. Refuses everything that it does not fully understand.

A refusal names the line, the part and the reason, so that the author can fix the file.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

from scoring.chat.flow import BETWEEN_OPTIONS, ChatFlow, FlowOffer, FlowQuestion, Wording
from scoring.features.texts import fold_text
from scoring.models.text_refusals import (
    ModelError,
    TomlTable,
    is_whole_number,
    line_of,
    shorten_value,
)

FLOW: Final = "flow"
"""The key of a model's text."""
LONGEST_LINE: Final = 512
MOST_LANGUAGES: Final = 20
MOST_QUESTIONS: Final = 100
MOST_OPTIONS: Final = 100
MOST_CHOICES: Final = 100
LARGEST_ID: Final = 2**31

_KEYS: Final = frozenset(
    {"languages", "greeting", "questions", "contact", "thanks", "products", "ctas", "assigned_to"}
)
_LISTS: Final = frozenset({"questions", "products", "ctas"})
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_HEADER: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?", re.ASCII)
_VARIANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


class FlowError(ModelError):
    """The flow is refused. `field` is the place in the flow as data: `questions.1.options`, counted from 0."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class _KeyRefusal(Exception):
    """Why the value of a key is refused, until its line is known."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(reason)


def compile_flow(text: str, table: Any) -> ChatFlow:
    """The flow of the table in the model's text. Raises FlowError, or ModelError where it is no table."""
    if not isinstance(table, dict):
        raise ModelError(f"line {line_of(text, r'^[ ]*flow')}, flow: wants a table, begun with [flow]")
    with _part(text, FLOW):
        _only(table, _KEYS)
        languages = _languages(table)
        thanks = _wording(table, "thanks", languages)
        assigned_to = _line(table, "assigned_to") if "assigned_to" in table else None
    with _part(text, f"{FLOW}.greeting"):
        greeting = _table(table, "greeting", {"id", "text", "variants"})
        greeting_id, greeting_text = _id(greeting), _wording(greeting, "text", languages)
        variants = _variants(greeting, languages)
    with _part(text, f"{FLOW}.contact"):
        contact = _table(table, "contact", {"id", "text", "button"})
        contact_id, contact_text = _id(contact), _wording(contact, "text", languages)
        contact_button = _wording(contact, "button", languages) if "button" in contact else None
    flow = ChatFlow(
        languages=languages,
        greeting=greeting_id,
        greeting_text=greeting_text,
        greeting_variants=variants,
        questions=_questions(text, table, languages),
        contact=contact_id,
        contact_text=contact_text,
        contact_button=contact_button,
        thanks=thanks,
        products=_choices(text, table, "products", languages, "clicked_product"),
        ctas=_choices(text, table, "ctas", languages, "cta_clicked"),
        assigned_to=assigned_to,
    )
    _refuse_repeated(text, flow)
    return flow


@contextmanager
def _part(text: str, part: str, number: int = 0) -> Iterator[None]:
    """A refusal within gets the line of its key in the n-th table of this name."""
    try:
        yield
    except _KeyRefusal as refusal:
        line = _line_in(text, part, number, refusal.key)
        where = part if part.endswith(f".{refusal.key}") else f"{part}.{refusal.key}"
        _, _, within = part.partition(".")
        listed = f"{within}.{number}" if within in _LISTS else within
        field = f"{listed}.{refusal.key}" if within else refusal.key
        raise FlowError(f"line {line}, {where}: {refusal.reason}", field) from None


def _line_in(text: str, part: str, number: int, key: str) -> int:
    """The line of the key in the n-th table of this name; of the table, or of the flow, if it has none of its own."""
    headers = [match.start() for match in _header(part).finditer(text)]
    if number >= len(headers):
        flow = _header(FLOW).search(text)
        return 1 if flow is None else text.count("\n", 0, flow.start()) + 1
    start = headers[number]
    following = _HEADER.search(text, text.find("\n", start) + 1 or len(text))
    end = following.start() if following else len(text)
    match = re.compile(rf"^[ \t]*[\"']?{re.escape(key)}\b", re.MULTILINE).search(text, start, end)
    return text.count("\n", 0, match.end() if match else start) + 1


def _header(part: str) -> re.Pattern[str]:
    return re.compile(rf"^[ \t]*\[\[?[ \t]*{re.escape(part)}[ \t]*\]", re.MULTILINE)


def _question(table: TomlTable, languages: tuple[str, ...]) -> FlowQuestion:
    _only(table, {"id", "text", "step", "options", "profile_field", "several"})
    several = table.get("several", False)
    if not isinstance(several, bool):
        raise _KeyRefusal("several", f"is true or false, not {shorten_value(several)}")
    options = _options(table, languages)
    if several and any(BETWEEN_OPTIONS.search(each) for each in chain(*options.values())):
        raise _KeyRefusal("options", "contain no comma and no semicolon where an answer may have several")
    return FlowQuestion(
        id=_id(table),
        text=_wording(table, "text", languages),
        step=_line(table, "step") if "step" in table else "profile",
        options=options,
        profile_field=_matching(table, "profile_field", _FIELD) if "profile_field" in table else None,
        several=several,
    )


def _options(table: TomlTable, languages: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    options = table.get("options", [])
    worded: TomlTable = options if isinstance(options, dict) else dict.fromkeys(languages, options)
    _refuse_other_languages("options", worded, languages)
    for listed in worded.values():
        if not isinstance(listed, list) or len(listed) > MOST_OPTIONS or not all(map(_is_line, listed)):
            raise _KeyRefusal("options", f"is a list of at most {MOST_OPTIONS} texts of one line each")
        if len({fold_text(each) for each in listed}) < len(listed):
            raise _KeyRefusal("options", "has one of them twice")
    if len({len(each) for each in worded.values()}) > 1:
        raise _KeyRefusal("options", "has more of them in one language than in another")
    return {language: tuple(listed) for language, listed in worded.items()}


def _questions(text: str, document: TomlTable, languages: tuple[str, ...]) -> tuple[FlowQuestion, ...]:
    questions = []
    for number, table in enumerate(_tables(text, document, "questions", MOST_QUESTIONS)):
        with _part(text, f"{FLOW}.questions", number):
            questions.append(_question(table, languages))
    return tuple(questions)


def _choices(
    text: str, document: TomlTable, key: str, languages: tuple[str, ...], action: str
) -> tuple[FlowOffer, ...]:
    choices = []
    for number, table in enumerate(_tables(text, document, key, MOST_CHOICES)):
        with _part(text, f"{FLOW}.{key}", number):
            choices.append(_choice(table, languages, action))
    return tuple(choices)


def _choice(table: TomlTable, languages: tuple[str, ...], action: str) -> FlowOffer:
    _only(table, {"id", "text", "about", "action"})
    return FlowOffer(
        id=_matching(table, "id", _NAME),
        text=_wording(table, "text", languages),
        about=_wording(table, "about", languages) if "about" in table else dict.fromkeys(languages, ""),
        action=_matching(table, "action", _FIELD) if "action" in table else action,
    )


def _variants(greeting: TomlTable, languages: tuple[str, ...]) -> Mapping[str, Wording]:
    variants = greeting.get("variants", {})
    if not isinstance(variants, dict) or not all(_VARIANT.fullmatch(name) for name in variants):
        raise _KeyRefusal("variants", 'is a table of texts by name: { A = "Hello!", B = "Welcome!" }')
    return {name: _worded("variants", wording, languages) for name, wording in variants.items()}


def _languages(document: TomlTable) -> tuple[str, ...]:
    languages = document.get("languages", ["en"])
    if (
        not isinstance(languages, list)
        or not 1 <= len(languages) <= MOST_LANGUAGES
        or not all(isinstance(each, str) and _LANGUAGE.fullmatch(each) for each in languages)
        or len(set(languages)) < len(languages)
    ):
        raise _KeyRefusal(
            "languages", f'is a list of 1 to {MOST_LANGUAGES} languages, such as ["en", "hi"], none twice'
        )
    return tuple(languages)


def _wording(table: TomlTable, key: str, languages: tuple[str, ...]) -> Wording:
    if key not in table:
        raise _KeyRefusal(key, "missing")
    return _worded(key, table[key], languages)


def _worded(key: str, value: Any, languages: tuple[str, ...]) -> Wording:
    worded = value if isinstance(value, dict) else dict.fromkeys(languages, value)
    _refuse_other_languages(key, worded, languages)
    if not all(map(_is_line, worded.values())):
        raise _KeyRefusal(
            key, f"is a text of one line, at most {LONGEST_LINE} characters, or one in each language"
        )
    return worded


def _refuse_other_languages(key: str, worded: Mapping[str, Any], languages: tuple[str, ...]) -> None:
    for language in languages:
        if language not in worded:
            raise _KeyRefusal(key, f"is missing in the language {language}")
    for language in worded:
        if language not in languages:
            raise _KeyRefusal(key, f"{shorten_value(language)} is none of the flow's languages")


def _tables(text: str, document: TomlTable, key: str, most: int) -> list[TomlTable]:
    tables = document.get(key, [])
    with _part(text, FLOW):
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            raise _KeyRefusal(key, f"begin each with [[{FLOW}.{key}]]")
        if len(tables) > most:
            raise _KeyRefusal(key, f"has at most {most}, not {len(tables)}")
        if key == "questions" and not tables:
            raise _KeyRefusal(key, f"missing: a flow has at least one; begin each with [[{FLOW}.{key}]]")
    return tables


def _table(document: TomlTable, key: str, keys: set[str]) -> TomlTable:
    table = document.get(key)
    if not isinstance(table, dict):
        raise _KeyRefusal(
            key, f"missing; below [{FLOW}.{key}], write {' and '.join(sorted(keys & {'id', 'text'}))}"
        )
    _only(table, keys)
    return table


def _only(table: TomlTable, keys: set[str] | frozenset[str]) -> None:
    for key in table:
        if key not in keys:
            raise _KeyRefusal(key, f"unknown; possible are {', '.join(sorted(keys))}")


def _id(table: TomlTable) -> int:
    number = table.get("id")
    if not is_whole_number(number, 0, LARGEST_ID):
        raise _KeyRefusal(
            "id", "missing" if number is None else f"is a whole number, not {shorten_value(number)}"
        )
    return int(str(number))


def _line(table: TomlTable, key: str) -> str:
    value = table.get(key)
    if not _is_line(value):
        raise _KeyRefusal(key, f"is a text of one line, at most {LONGEST_LINE} characters")
    return str(value)


def _matching(table: TomlTable, key: str, form: re.Pattern[str]) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _KeyRefusal(
            key,
            "missing"
            if value is None
            else f"{shorten_value(value)} is no name: use small letters, digits and _, beginning with a letter",
        )
    return value


def _is_line(value: Any) -> bool:
    return (
        isinstance(value, str)
        and bool(value.strip())
        and len(value) <= LONGEST_LINE
        and not any(character in value for character in "\n\r\0")
    )


def _refuse_repeated(text: str, flow: ChatFlow) -> None:
    """Ids name one thing each; a field of the profile is filled by one question."""
    with _part(text, f"{FLOW}.contact"):
        if flow.contact == flow.greeting:
            raise _KeyRefusal("id", f"{flow.contact} is the greeting's")
    ids, filled = {flow.greeting: "the greeting's", flow.contact: "the contact's"}, set[str | None]()
    for number, question in enumerate(flow.questions):
        with _part(text, f"{FLOW}.questions", number):
            if question.id in ids:
                raise _KeyRefusal("id", f"{question.id} is {ids[question.id]} already")
            if question.profile_field is not None and question.profile_field in filled:
                raise _KeyRefusal("profile_field", "another question fills it")
        ids[question.id] = "another question's"
        filled.add(question.profile_field)
    for key, choices in (("products", flow.products), ("ctas", flow.ctas)):
        seen: set[str] = set()
        for number, choice in enumerate(choices):
            with _part(text, f"{FLOW}.{key}", number):
                if choice.id in seen:
                    raise _KeyRefusal("id", f"{choice.id} is another one's already")
            seen.add(choice.id)

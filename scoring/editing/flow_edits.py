"""The flow of a model's text as data for a form, and the text with a changed flow.

Only what differs is written anew: other lines keep their places and their comments.
"""

import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import AoT, Table

from scoring.chat.flow import ChatFlow, FlowOffer, FlowQuestion, Wording
from scoring.chat.flow_text import FLOW
from scoring.editing.rule_json import Json
from scoring.editing.text_edits import Document, change_table, edit_document, plain_value, toml_value

LISTS: Final = ("questions", "products", "ctas")
DEFAULT_STEP: Final = "profile"
DEFAULT_ACTIONS: Final[Mapping[str, str]] = {"products": "clicked_product", "ctas": "cta_clicked"}


def flow_json(flow: ChatFlow) -> Json:
    """Every text in every language: {"en": "Hello!", "hi": "..."}."""
    return {
        "languages": list(flow.languages),
        "thanks": dict(flow.thanks),
        "assigned_to": flow.assigned_to,
        "greeting": {
            "id": flow.greeting,
            "text": dict(flow.greeting_text),
            "variants": {name: dict(wording) for name, wording in flow.greeting_variants.items()},
        },
        "questions": [_question_json(each) for each in flow.questions],
        "contact": {
            "id": flow.contact,
            "text": dict(flow.contact_text),
            "button": None if flow.contact_button is None else dict(flow.contact_button),
        },
        "products": [_offer_json(each) for each in flow.products],
        "ctas": [_offer_json(each) for each in flow.ctas],
    }


def text_with_flow(text: str, flow: Json) -> str:
    """The text with this flow, which is not checked here. Raises UneditableText."""
    meant = flow_table(flow)
    if FLOW not in tomllib.loads(text, parse_float=Decimal):
        return f"{text.rstrip()}\n\n{flow_text(meant)}" if text.strip() else flow_text(meant)

    def edit(document: TOMLDocument) -> None:
        table: Any = document[FLOW]
        change_table(
            table, {key: value for key, value in meant.items() if key not in LISTS} | _kept_lists(table)
        )
        for key in LISTS:
            _change_list(table, key, meant.get(key, []))

    return edit_document(text, edit)


def flow_table(flow: Json) -> dict[str, Any]:
    """The flow as the values of its table: a text that is the same in every language is written once, and what is as by
    default is left out.
    """
    table: dict[str, Any] = {"languages": flow["languages"], "thanks": _written(flow["thanks"])}
    if flow["assigned_to"] is not None:
        table["assigned_to"] = flow["assigned_to"]
    greeting, contact = flow["greeting"], flow["contact"]
    table["greeting"] = {"id": greeting["id"], "text": _written(greeting["text"])}
    if greeting["variants"]:
        table["greeting"]["variants"] = {name: _written(each) for name, each in greeting["variants"].items()}
    table["questions"] = [_question_table(each) for each in flow["questions"]]
    table["contact"] = {"id": contact["id"], "text": _written(contact["text"])}
    if contact["button"] is not None:
        table["contact"]["button"] = _written(contact["button"])
    for key, action in DEFAULT_ACTIONS.items():
        if flow[key]:
            table[key] = [_offer_table(each, action) for each in flow[key]]
    return table


def flow_text(table: Mapping[str, Any]) -> str:
    """The whole table [flow] as text."""
    parts = [
        _section(
            f"[{FLOW}]",
            {key: each for key, each in table.items() if not isinstance(each, dict) and key not in LISTS},
        )
    ]
    for key, value in table.items():
        if key in LISTS:
            parts += [_section(f"[[{FLOW}.{key}]]", each) for each in value]
        elif isinstance(value, dict) and key in {"greeting", "contact"}:
            parts.append(_section(f"[{FLOW}.{key}]", value))
    if isinstance(table["thanks"], dict):
        parts[0] += f"thanks = {toml_value(table['thanks'])}\n"
    return "\n".join(parts)


def _section(header: str, values: Mapping[str, Any]) -> str:
    return f"{header}\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items())


def _question_json(question: FlowQuestion) -> Json:
    return {
        "id": question.id,
        "text": dict(question.text),
        "options": {language: list(options) for language, options in question.options.items()},
        "several": question.several,
        "step": question.step,
        "profile_field": question.profile_field,
    }


def _offer_json(offer: FlowOffer) -> Json:
    return {"id": offer.id, "text": dict(offer.text), "about": dict(offer.about), "action": offer.action}


def _question_table(question: Json) -> dict[str, Any]:
    table: dict[str, Any] = {"id": question["id"], "text": _written(question["text"])}
    if any(question["options"].values()):
        table["options"] = _written(question["options"])
    if question["several"]:
        table["several"] = True
    if question["step"] != DEFAULT_STEP:
        table["step"] = question["step"]
    if question["profile_field"] is not None:
        table["profile_field"] = question["profile_field"]
    return table


def _offer_table(offer: Json, default_action: str) -> dict[str, Any]:
    table: dict[str, Any] = {"id": offer["id"], "text": _written(offer["text"])}
    if any(offer["about"].values()):
        table["about"] = _written(offer["about"])
    if offer["action"] != default_action:
        table["action"] = offer["action"]
    return table


def _written(worded: Wording | Mapping[str, Sequence[str]]) -> Any:
    """A text, or a list of options, as the author would write it."""
    values = [list(each) if isinstance(each, list | tuple) else each for each in worded.values()]
    return values[0] if values and all(each == values[0] for each in values) else dict(worded)


def _kept_lists(table: Document) -> dict[str, Any]:
    return {key: plain_value(table[key]) for key in LISTS if key in table}


def _change_list(table: Document, key: str, meant: Sequence[Mapping[str, Any]]) -> None:
    """Entries that stay keep their comments, as long as no two change places."""
    current: Any = table.get(key)
    if not meant:
        table.pop(key, None)
        return
    if not isinstance(current, AoT):
        current = tomlkit.aot()
        table.pop(key, None)
        table[key] = current
    ids = [each["id"] for each in meant]
    for index in reversed([n for n, each in enumerate(current) if each.get("id") not in ids]):
        del current[index]
    kept = len(current) if [each.get("id") for each in current] == ids[: len(current)] else 0
    for entry, changed in zip(current[:kept], meant, strict=False):
        change_table(entry, _with_defaults_written(entry, changed, key))
    outdated = len(current) - kept
    for added in meant[kept:]:
        current.append(_new_table(added))
    for _ in range(outdated):
        del current[kept]


def _with_defaults_written(entry: Mapping[str, Any], meant: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A default that the author has written stays."""
    default = {"step": DEFAULT_STEP} if key == "questions" else {"action": DEFAULT_ACTIONS[key]}
    return {**{name: value for name, value in default.items() if name in entry}, **meant}


def _new_table(entry: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for name, value in entry.items():
        table[name] = tomlkit.value(toml_value(value))
    table.add(tomlkit.nl())
    return table

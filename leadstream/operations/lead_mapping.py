"""Mappings: which column of a file of leads fills what. A mapping is a short TOML text.

    [lead]      id, created, last_date: columns; prefix: put before ids; date_format: as strptime reads it
    [fields]    profile field = columns
    [counters]  event type = columns with the number of such events

Of several columns the first one that is not blank counts. Names of columns are compared without capital letters and
signs, and a mapping may name columns that a file lacks.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

from leadstream.console import Failure

BUILT_IN: Final = ("hubspot", "mautic", "odoo", "pipedrive")
GUESS: Final = "any"
COUNTED: Final = (
    "qr_scanned",
    "catalog_viewed",
    "message_received",
    "email_opened",
    "email_clicked",
    "email_replied",
    "form_submitted",
    "page_viewed",
)
"""Events that a counter may stand for: those that need nothing beside who, what and when."""
LARGEST = 100_000
LEAD_COLUMNS: Final = ("id", "created", "last_date")
LEAD_TEXTS: Final = ("prefix", "date_format")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SIGNS = re.compile(r"[\W_]+")

Columns = tuple[str, ...]


class LeadMapping(NamedTuple):
    lead: Mapping[str, Columns]
    """Columns of the id and the dates."""
    prefix: str
    date_format: str | None
    fields: Mapping[str, Columns]
    counters: Mapping[str, Columns]

    @property
    def columns(self) -> set[str]:
        parts = (self.lead, self.fields, self.counters)
        return {column for part in parts for columns in part.values() for column in columns}


def load_mapping(name: str | None) -> LeadMapping:
    """The mapping of a file, a built-in one by its name, or the guess. Raises Failure."""
    if name is None or name in BUILT_IN:
        text = (
            files("leadstream.operations.lead_mappings").joinpath(f"{name or GUESS}.toml").read_text("utf-8")
        )
        return read_mapping(text, name or GUESS)
    try:
        with Path(name).open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise Failure(f"{name} is no mapping: it is longer than {LARGEST:,} bytes.")
        return read_mapping(content.decode("utf-8-sig"), name)
    except OSError as cause:
        raise Failure(
            f"The mapping {name} cannot be read ({cause.strerror}): pass the path of a file, or one of "
            f"{', '.join(BUILT_IN)}."
        ) from None
    except UnicodeDecodeError:
        raise Failure(f"The mapping {name} is not in UTF-8: save it as that.") from None


def read_mapping(text: str, name: str) -> LeadMapping:
    """Raises Failure, which names the key."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Failure(f"The mapping {name} is no TOML: {error}.") from None
    for key in content:
        if key not in {"lead", "fields", "counters"}:
            raise Failure(f"The mapping {name} has {key}: only [lead], [fields] and [counters] are read.")
    tables = {key: _table(content, key, name) for key in ("lead", "fields", "counters")}
    lead = tables["lead"]
    for key in lead:
        if key not in {*LEAD_COLUMNS, *LEAD_TEXTS}:
            raise Failure(
                f"The mapping {name} has lead.{key}: use {', '.join((*LEAD_COLUMNS, *LEAD_TEXTS))}."
            )
    for field in tables["fields"]:
        if _FIELD.fullmatch(field) is None:
            raise Failure(
                f"The mapping {name} has fields.{field}: use a-z, 0-9 and _, beginning with a letter."
            )
    for event in tables["counters"]:
        if event not in COUNTED:
            raise Failure(f"The mapping {name} has counters.{event}: use {', '.join(COUNTED)}.")
    for key in LEAD_TEXTS:
        if not isinstance(lead.get(key, ""), str):
            raise Failure(f"The mapping {name}: lead.{key} must be a text.")
    return LeadMapping(
        {key: _columns(lead[key], f"lead.{key}", name) for key in LEAD_COLUMNS if key in lead},
        lead.get("prefix", ""),
        lead.get("date_format"),
        {key: _columns(value, f"fields.{key}", name) for key, value in tables["fields"].items()},
        {key: _columns(value, f"counters.{key}", name) for key, value in tables["counters"].items()},
    )


def _table(content: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise Failure(f"The mapping {name}: {key} must be a table, [{key}].")
    return table


def _columns(value: Any, key: str, name: str) -> Columns:
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list) or not all(isinstance(each, str) for each in columns):
        raise Failure(f"The mapping {name}: {key} must be the name of a column, or a list of such.")
    return tuple(columns)


def fitted(mapping: LeadMapping, columns: Sequence[str]) -> LeadMapping:
    """The mapping with only the columns that the file has, as it writes them."""
    own: dict[str, str] = {}
    for column in columns:
        own.setdefault(_folded(column), column)

    def present(part: Mapping[str, Columns]) -> dict[str, Columns]:
        matches = {
            key: tuple(dict.fromkeys(own[_folded(each)] for each in named if _folded(each) in own))
            for key, named in part.items()
        }
        return {key: each for key, each in matches.items() if each}

    return mapping._replace(
        lead=present(mapping.lead), fields=present(mapping.fields), counters=present(mapping.counters)
    )


def _folded(column: str) -> str:
    return _SIGNS.sub(" ", column).strip().casefold()


def mapping_text(mapping: LeadMapping, columns: Sequence[str]) -> str:
    """The mapping as a text that `read_mapping` reads; the columns that nothing uses are in a comment."""
    lines = ["[lead]"]
    lines += [f"{key} = {_list(value)}" for key, value in mapping.lead.items()]
    lines += [f"prefix = {_quoted(mapping.prefix)}"] if mapping.prefix else []
    lines += [f"date_format = {_quoted(mapping.date_format)}"] if mapping.date_format else []
    for name, part in (("fields", mapping.fields), ("counters", mapping.counters)):
        lines += ["", f"[{name}]", *(f"{key} = {_list(value)}" for key, value in part.items())]
    unused = [column for column in columns if column not in mapping.columns]
    if unused:
        lines += ["", "# Not imported:", *(f"#   {_quoted(column)}" for column in unused)]
    return "\n".join(lines)


def _list(columns: Columns) -> str:
    return f"[{', '.join(map(_quoted, columns))}]"


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    escaped = "".join(
        f"\\u{ord(each):04x}" if each < " " or each == "\x7f" else f"\\{each}" if each in '"\\' else each
        for each in text
    )
    return f'"{escaped}"'

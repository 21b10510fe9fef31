"""Edits a model's text and keeps its comments and order. Every rule and criterion has a number.

A number is never used twice: the text remembers the highest. Entries without one (in a text written by hand) get
the next numbers in the order of the text, and the same numbers on every reading. Every edited text is read again:
if it does not match the edit, the edit is refused.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from scoring.features.sequence_signals import define_signals
from scoring.features.signals import SignalDefinition

Document = MutableMapping[str, Any]
EntryTable = Mapping[str, Any]

STAGE_BANDS = "stage"
"""The set of bands that criteria qualify for."""

UNSAFE_EDIT_REASON = "the layout of this text does not allow the edit: publish the whole text with the change"


class UneditableText(ValueError):
    """The edit is refused; the message gives the reason and what to do instead."""


class UnknownId(LookupError):
    """No rule or criterion has this number."""


class SectionEntry(NamedTuple):
    """A rule or a criterion, and the section that contains it."""

    section: str
    """Its group, or its stage."""
    entry: Any


class EntryKind(NamedTuple):
    """How rules, or criteria, are written in a text."""

    name: str
    highest: str
    """The key under which the text remembers the highest number."""
    sections: str
    """The key of the table that contains their sections."""
    list_key: str | None
    """The key of the list in a section; None: the section is the list."""
    order: tuple[str, ...]
    """The keys that begin a new line; others follow."""


RULES = EntryKind("rule", "highest_rule_id", "groups", "rules", ("id", "name", "value"))
CRITERIA = EntryKind("criterion", "highest_criterion_id", "needs", None, ("id", "name"))
LAST_KEYS = ("points", "priority", "active")
"""Keys that end a line."""


def read_numbered(text: str) -> Document:
    """The text as plain values, with numbers for all entries."""
    document: Document = tomllib.loads(text, parse_float=Decimal)
    _number_all(document)
    return document


def edit_text(text: str, edit: Callable[[Document], object]) -> str:
    """The model's text after an edit, with numbers for all entries."""

    def numbered(document: Document) -> None:
        _number_all(document)
        edit(document)

    return edit_document(text, numbered)


def edit_document(text: str, edit: Callable[[TOMLDocument], object]) -> str:
    """Any TOML text after an edit."""
    try:
        document = tomlkit.parse(text)
        edit(document)
        result = document.as_string()
        as_meant = tomllib.loads(result) == document.unwrap()
    except (TOMLKitError, tomllib.TOMLDecodeError) as cause:
        raise UneditableText(UNSAFE_EDIT_REASON) from cause
    if not as_meant:
        raise UneditableText(UNSAFE_EDIT_REASON)
    return result


def all_entries(kind: EntryKind, document: Mapping[str, Any]) -> Iterator[SectionEntry]:
    for section in document.get(kind.sections, {}):
        for entry in _entries(kind, document, section):
            yield SectionEntry(section, entry)


def entry_numbered(kind: EntryKind, document: Mapping[str, Any], number: int) -> SectionEntry:
    for placed in all_entries(kind, document):
        if placed.entry["id"] == number:
            return placed
    raise UnknownId(f"no {kind.name} has the id {number}")


def signals_defined_in(document: Mapping[str, Any]) -> dict[str, SignalDefinition]:
    """The signals that the model defines."""
    return define_signals({name: dict(table) for name, table in document.get("signals", {}).items()})


def next_number(kind: EntryKind, document: Mapping[str, Any]) -> int:
    return _highest_number(kind, document) + 1


def stage_thresholds(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where each stage begins."""
    bands: Mapping[str, Any] = document.get("bands", {}).get(STAGE_BANDS, {})
    return bands


# Steps of an edit


def add_entry(kind: EntryKind, document: Document, section: str, entry: EntryTable) -> int:
    """Append the entry to its section; returns its number."""
    number = next_number(kind, document)
    document[kind.highest] = number
    _append_entry(kind, document, section, {"id": number, **entry})
    return number


def remove_entry(kind: EntryKind, document: Document, number: int) -> None:
    """Remove the entry. An empty list of criteria is removed, too; an empty list of rules keeps its comments."""
    section, _ = entry_numbered(kind, document, number)
    table, key = _list_location(kind, document, section)
    entries = table[key]
    if isinstance(entries, list):
        del entries[_index_of_entry(entries, number)]
    emptied = isinstance(entries, list) and not entries and (kind is CRITERIA or isinstance(entries, AoT))
    if emptied or not isinstance(entries, list):
        del table[key]
    if kind is CRITERIA and not document[kind.sections]:
        del document[kind.sections]


def change_entry(kind: EntryKind, document: Document, number: int, section: str, entry: EntryTable) -> None:
    """Replace the entry of this number, and move it to this section."""
    old = entry_numbered(kind, document, number)
    if old.section != section:
        remove_entry(kind, document, number)
        _append_entry(kind, document, section, {"id": number, **entry})
        return
    _replace_entry(kind, document, section, {"id": number, **entry})


def set_stage_threshold(document: Document, stage: str, threshold: int | Decimal | None) -> None:
    """Where the stage begins; None: there is no such stage."""
    bands = _child_table(
        _child_table(document, "bands", tomlkit.inline_table()), STAGE_BANDS, tomlkit.inline_table()
    )
    if threshold is None:
        bands.pop(stage, None)
    elif stage not in bands or Decimal(str(bands[stage])) != threshold:
        bands[stage] = tomlkit.value(toml_value(threshold))


def toml_value(value: Any) -> str:
    """A value as TOML, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return tomlkit.string(str(value)).as_string()
        case list():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            return (
                f"{{ {', '.join(f'{_toml_key(key)} = {toml_value(each)}' for key, each in value.items())} }}"
            )
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _toml_key(key: str) -> str:
    return tomlkit.key(key).as_string()


# Sections and lists, in every spelling of TOML


def _list_location(kind: EntryKind, document: Document, section: str) -> tuple[Any, str]:
    """The table and the key that contain the section's entries."""
    sections = document[kind.sections]
    return (sections, section) if kind.list_key is None else (sections[section], kind.list_key)


def _entries(kind: EntryKind, document: Mapping[str, Any], section: str) -> list[Any]:
    table = document[kind.sections][section]
    entries = table if kind.list_key is None else table.get(kind.list_key, [])
    return list(entries) if isinstance(entries, list) else [entries]


def _append_entry(kind: EntryKind, document: Document, section: str, entry: EntryTable) -> None:
    sections = _child_table(document, kind.sections, _header_table())
    if kind.list_key is not None and section not in sections:
        sections[section] = tomlkit.inline_table() if isinstance(sections, InlineTable) else tomlkit.table()
    table, key = _list_location(kind, document, section)
    entries = table.get(key)
    if entries is None or (
        isinstance(entries, Array) and not len(entries) and "#" not in entries.as_string()
    ):
        table[key] = (
            _new_table(table, kind, entry) if kind.list_key is None else _inline_table_array(kind, entry)
        )
        if kind.list_key is not None and len(table) == 1 and isinstance(table, Table):
            table.add(tomlkit.nl())
    elif isinstance(entries, AoT):
        entries.append(_block_table(entry))
    elif isinstance(entries, Array):
        entries.add_line(_inline_table(kind, entry), indent="  ")
    elif isinstance(entries, InlineTable):
        table[key] = tomlkit.value(f"[{entries.as_string()}, {_inline_table(kind, entry).as_string()}]")
    else:
        table[key] = tomlkit.aot()
        table[key].append(entries)
        table[key].append(_block_table(entry))


def _replace_entry(kind: EntryKind, document: Document, section: str, entry: EntryTable) -> None:
    table, key = _list_location(kind, document, section)
    entries = table[key]
    if isinstance(entries, Array):
        entries[_index_of_entry(entries, entry["id"])] = _inline_table(kind, entry)
    elif isinstance(entries, InlineTable):
        table[key] = _inline_table(kind, entry)
    else:
        current = entries[_index_of_entry(entries, entry["id"])] if isinstance(entries, AoT) else entries
        change_table(current, entry)


def change_table(current: Any, entry: EntryTable) -> None:
    """Give the table the keys and values of the entry. What does not change keeps its place and its comments."""
    for removed in [name for name in current if name not in entry]:
        del current[removed]
    for name, value in entry.items():
        if name in current and isinstance(current[name], Table) and isinstance(value, Mapping):
            change_table(current[name], value)
        elif name not in current or plain_value(current[name]) != value:
            if isinstance(current.get(name), AoT | Table):
                del current[name]  # a value in one line goes before all tables
            current[name] = tomlkit.value(toml_value(value))


def _index_of_entry(entries: list[Any], number: int) -> int:
    return next(index for index, entry in enumerate(entries) if entry.get("id") == number)


def _inline_table(kind: EntryKind, entry: EntryTable) -> InlineTable:
    """The entry as an inline table."""
    names = [name for name in kind.order if name in entry]
    names += [name for name in entry if name not in {*kind.order, *LAST_KEYS}]
    names += [name for name in LAST_KEYS if name in entry]
    return cast(InlineTable, tomlkit.value(toml_value({name: entry[name] for name in names})))


def _inline_table_array(kind: EntryKind, entry: EntryTable) -> Array:
    return cast(Array, tomlkit.value(f"[\n  {_inline_table(kind, entry).as_string()},\n]"))


def _block_table(entry: EntryTable) -> Table:
    """The entry as a table with a line per key."""
    block = tomlkit.table()
    for name, value in entry.items():
        block[name] = tomlkit.value(toml_value(value))
    block.add(tomlkit.nl())
    return block


def _new_table(table: Any, kind: EntryKind, entry: EntryTable) -> Table | InlineTable:
    """The entry in a form that the table can contain."""
    return _inline_table(kind, entry) if isinstance(table, InlineTable) else _block_table(entry)


def _header_table() -> Table:
    """A table of tables, which needs no line of its own."""
    return tomlkit.table(is_super_table=True)


def _child_table(table: Document, key: str, new: Table | InlineTable) -> Any:
    """The table under the key; a new one if there is none."""
    if key not in table:
        table[key] = new if isinstance(table, TOMLDocument | Table | InlineTable) else {}
    return table[key]


def plain_value(value: Any) -> Any:
    """A value of the edited text, as `read_numbered` returns it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, AoT | Table):
        return value.unwrap()
    return tomllib.loads(f"value = {value.as_string()}", parse_float=Decimal)["value"]


# Numbers


def _number_all(document: Document) -> None:
    """Give every entry without a number the next one. A band that needs only points is a criterion, too, unless it
    begins at 0 and so contains every lead.
    """
    for band, threshold in stage_thresholds(document).items():
        if threshold > 0 and band not in document.get(CRITERIA.sections, {}):
            needs = _child_table(document, CRITERIA.sections, _header_table())
            entry = {"name": band}
            needs[band] = _new_table(needs, CRITERIA, entry) if isinstance(document, TOMLDocument) else entry
    for kind in (RULES, CRITERIA):
        highest = _highest_number(kind, document)
        for placed in all_entries(kind, document):
            if "id" not in placed.entry:
                highest += 1
                placed.entry["id"] = highest
        if highest != document.get(kind.highest, 0):
            document[kind.highest] = highest


def _highest_number(kind: EntryKind, document: Mapping[str, Any]) -> int:
    ids = [int(placed.entry["id"]) for placed in all_entries(kind, document) if "id" in placed.entry]
    return max([int(document.get(kind.highest, 0)), *ids])

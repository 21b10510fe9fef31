"""Edits of a model's text that keep its comments and its order; what stands in it has a number.

A number is given once: the text remembers the highest. What has none yet (a text written by hand) gets the
next ones in the order of the text, the same ones whenever that text is read. Every edited text is read
again: it says what was meant, or nothing was edited.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from decimal import Decimal
from typing import Any, NamedTuple, cast

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from scoring.features.signals import SignalDefinition, define_signal

Document = MutableMapping[str, Any]
Entry = Mapping[str, Any]

SCALE = "stage"
"""The set of bands that criteria are about."""

UNSAFE = "the way this text is laid out cannot be edited in place: publish the whole text with the change"


class Uneditable(ValueError):
    """The edit cannot be; the message says why, and what can be done instead."""


class UnknownId(LookupError):
    """Nothing has this number."""


class PlacedEntry(NamedTuple):
    """A rule or a criterion, and where it stands."""

    place: str
    """Its group, or its stage."""
    entry: Any


class Kind(NamedTuple):
    """Rules, or criteria: how they stand in a text."""

    name: str
    highest: str
    """The key under which the text remembers the highest number."""
    places: str
    """The table of their places."""
    within: str | None
    """The key of the list in its place; None: the place is the list."""
    order: tuple[str, ...]
    """Of an entry's keys on a new line; others follow."""


RULES = Kind("rule", "highest_rule_id", "groups", "rules", ("id", "name", "value"))
CRITERIA = Kind("criterion", "highest_criterion_id", "needs", None, ("id", "name"))
LAST = ("points", "priority", "active")
"""Keys that end a line."""


def read_numbered(text: str) -> Document:
    """The text as plain values, everything numbered."""
    document: Document = tomllib.loads(text, parse_float=Decimal)
    _complete(document)
    return document


def edit_text(text: str, edit: Callable[[Document], object]) -> str:
    """The text after an edit, everything numbered."""
    try:
        document = tomlkit.parse(text)
        _complete(document)
        edit(document)
        said = document.as_string()
        kept = tomllib.loads(said) == document.unwrap()
    except (TOMLKitError, tomllib.TOMLDecodeError) as cause:
        raise Uneditable(UNSAFE) from cause
    if not kept:
        raise Uneditable(UNSAFE)
    return said


def all_of(kind: Kind, document: Mapping[str, Any]) -> Iterator[PlacedEntry]:
    for place in document.get(kind.places, {}):
        for entry in _entries(kind, document, place):
            yield PlacedEntry(place, entry)


def entry_numbered(kind: Kind, document: Mapping[str, Any], number: int) -> PlacedEntry:
    for placed in all_of(kind, document):
        if placed.entry["id"] == number:
            return placed
    raise UnknownId(f"no {kind.name} has the id {number}")


def defined_in(document: Mapping[str, Any]) -> dict[str, SignalDefinition]:
    """The signals that the model defines."""
    return {name: define_signal(name, dict(table)) for name, table in document.get("signals", {}).items()}


def next_number(kind: Kind, document: Mapping[str, Any]) -> int:
    return _highest(kind, document) + 1


def thresholds(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where each stage begins."""
    bands: Mapping[str, Any] = document.get("bands", {}).get(SCALE, {})
    return bands


# What an edit is made of


def add(kind: Kind, document: Document, place: str, entry: Entry) -> int:
    """Put it last in its place; returns its number."""
    number = next_number(kind, document)
    document[kind.highest] = number
    _append(kind, document, place, {"id": number, **entry})
    return number


def remove(kind: Kind, document: Document, number: int) -> None:
    """Take it out of its place; an emptied list of needs goes with it, one of rules keeps its comments."""
    place, _ = entry_numbered(kind, document, number)
    table, key = _home(kind, document, place)
    several = table[key]
    if isinstance(several, list):
        del several[_index(several, number)]
    emptied = isinstance(several, list) and not several and (kind is CRITERIA or isinstance(several, AoT))
    if emptied or not isinstance(several, list):
        del table[key]
    if kind is CRITERIA and not document[kind.places]:
        del document[kind.places]


def change(kind: Kind, document: Document, number: int, place: str, entry: Entry) -> None:
    """Let it be this entry, in this place, under its number."""
    old = entry_numbered(kind, document, number)
    if old.place != place:
        remove(kind, document, number)
        _append(kind, document, place, {"id": number, **entry})
        return
    _renew(kind, document, place, {"id": number, **entry})


def set_threshold(document: Document, stage: str, threshold: int | Decimal | None) -> None:
    """Where the stage begins; None: there is no such stage."""
    bands = _child(_child(document, "bands", tomlkit.inline_table()), SCALE, tomlkit.inline_table())
    if threshold is None:
        bands.pop(stage, None)
    elif stage not in bands or Decimal(str(bands[stage])) != threshold:
        bands[stage] = tomlkit.value(written(threshold))


def written(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return tomlkit.string(str(value)).as_string()
        case list():
            return f"[{', '.join(map(written, value))}]"
        case dict():
            return f"{{ {', '.join(f'{_key(key)} = {written(each)}' for key, each in value.items())} }}"
        case Decimal():
            return f"{value:f}"
    return str(value)


def _key(key: str) -> str:
    return tomlkit.key(key).as_string()


# Places and lists, however the text spells them


def _home(kind: Kind, document: Document, place: str) -> tuple[Any, str]:
    """The table and the key that hold the place's entries."""
    places = document[kind.places]
    return (places, place) if kind.within is None else (places[place], kind.within)


def _entries(kind: Kind, document: Mapping[str, Any], place: str) -> list[Any]:
    held = document[kind.places][place]
    several = held if kind.within is None else held.get(kind.within, [])
    return list(several) if isinstance(several, list) else [several]


def _append(kind: Kind, document: Document, place: str, entry: Entry) -> None:
    places = _child(document, kind.places, _header())
    if kind.within is not None and place not in places:
        places[place] = tomlkit.inline_table() if isinstance(places, InlineTable) else tomlkit.table()
    table, key = _home(kind, document, place)
    several = table.get(key)
    if several is None or (
        isinstance(several, Array) and not len(several) and "#" not in several.as_string()
    ):
        table[key] = _new(table, kind, entry) if kind.within is None else _lines(kind, entry)
        if kind.within is not None and len(table) == 1 and isinstance(table, Table):
            table.add(tomlkit.nl())
    elif isinstance(several, AoT):
        several.append(_block(entry))
    elif isinstance(several, Array):
        several.add_line(_line(kind, entry), indent="  ")
    elif isinstance(several, InlineTable):
        table[key] = tomlkit.value(f"[{several.as_string()}, {_line(kind, entry).as_string()}]")
    else:
        table[key] = tomlkit.aot()
        table[key].append(several)
        table[key].append(_block(entry))


def _renew(kind: Kind, document: Document, place: str, entry: Entry) -> None:
    table, key = _home(kind, document, place)
    several = table[key]
    if isinstance(several, Array):
        several[_index(several, entry["id"])] = _line(kind, entry)
    elif isinstance(several, InlineTable):
        table[key] = _line(kind, entry)
    else:
        held = several[_index(several, entry["id"])] if isinstance(several, AoT) else several
        for gone in [name for name in held if name not in entry]:
            del held[gone]
        for name, value in entry.items():
            if name not in held or _plain(held[name]) != value:
                held[name] = tomlkit.value(written(value))


def _index(several: list[Any], number: int) -> int:
    return next(index for index, entry in enumerate(several) if entry.get("id") == number)


def _line(kind: Kind, entry: Entry) -> InlineTable:
    """The entry as an inline table."""
    names = [name for name in kind.order if name in entry]
    names += [name for name in entry if name not in {*kind.order, *LAST}]
    names += [name for name in LAST if name in entry]
    return cast(InlineTable, tomlkit.value(written({name: entry[name] for name in names})))


def _lines(kind: Kind, entry: Entry) -> Array:
    return cast(Array, tomlkit.value(f"[\n  {_line(kind, entry).as_string()},\n]"))


def _block(entry: Entry) -> Table:
    """The entry as a table with a line per key."""
    block = tomlkit.table()
    for name, value in entry.items():
        block[name] = tomlkit.value(written(value))
    block.add(tomlkit.nl())
    return block


def _new(table: Any, kind: Kind, entry: Entry) -> Table | InlineTable:
    """The entry as the table can hold it."""
    return _line(kind, entry) if isinstance(table, InlineTable) else _block(entry)


def _header() -> Table:
    """A table of tables, which needs no line of its own."""
    return tomlkit.table(is_super_table=True)


def _child(table: Document, key: str, new: Table | InlineTable) -> Any:
    """The table under the key; a new one if there is none."""
    if key not in table:
        table[key] = new if isinstance(table, TOMLDocument | Table | InlineTable) else {}
    return table[key]


def _plain(value: Any) -> Any:
    """A value of a text that is being edited, as `read_numbered` tells it."""
    if isinstance(value, bool):
        return value
    return tomllib.loads(f"value = {value.as_string()}", parse_float=Decimal)["value"]


# Numbers


def _complete(document: Document) -> None:
    """Give everything that has none its number. A band that asks for points alone is a criterion, too,
    save the one that begins at 0 and so takes everybody.
    """
    for band, threshold in thresholds(document).items():
        if threshold > 0 and band not in document.get(CRITERIA.places, {}):
            needs = _child(document, CRITERIA.places, _header())
            entry = {"name": band}
            needs[band] = _new(needs, CRITERIA, entry) if isinstance(document, TOMLDocument) else entry
    for kind in (RULES, CRITERIA):
        highest = _highest(kind, document)
        for placed in all_of(kind, document):
            if "id" not in placed.entry:
                highest += 1
                placed.entry["id"] = highest
        if highest != document.get(kind.highest, 0):
            document[kind.highest] = highest


def _highest(kind: Kind, document: Mapping[str, Any]) -> int:
    given = [int(placed.entry["id"]) for placed in all_of(kind, document) if "id" in placed.entry]
    return max([int(document.get(kind.highest, 0)), *given])

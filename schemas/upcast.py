"""Upgrades an event of an older shape to the newest one, before it is read.

A published type only gains optional fields, so this is for the rare change that is none. The table has one pure
function per (type, version). It takes the fields of that version, any of which may be missing, and returns those
of the next. The log is never rewritten: an old record is upgraded each time it is read.
"""

from collections.abc import Callable, Mapping
from typing import Any

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
Upcasts = Mapping[tuple[str, int], Upcast]

UPCASTS: Upcasts = {}
"""None so far: every published shape is still the newest."""


def newest_event_version(type_: str, table: Upcasts = UPCASTS) -> int:
    """The version that events of this type are written in."""
    return 1 + max((version for name, version in table if name == type_), default=0)


def upcast(fields: dict[str, Any], table: Upcasts = UPCASTS) -> dict[str, Any]:
    """The event's fields in the newest version; the same object if there is nothing to upgrade."""
    type_, version = fields.get("type"), fields.get("v", 1)
    if not isinstance(type_, str) or type(version) is not int:
        return fields
    while upgrade := table.get((type_, version)):
        version += 1
        fields = {**upgrade(fields), "type": type_, "v": version}
    return fields

"""An erasure empties activity of other leads that names the erased one: every kind of it is either known to name leads, and
found by each field that can, or known to have no such field.
"""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from leadstream.operations.erased_records import NAMES_NO_OTHER_LEAD, events_in, names_lead
from schemas.activity import (
    ACTIVITY_TYPES,
    Activity,
    Carried,
    IdentityAttached,
    IdentityDelta,
    RedirectChanged,
    SessionPut,
)

NAMES_LEADS: dict[type[Activity], dict[str, Any]] = {
    RedirectChanged: {"to": "zq"},
    IdentityAttached: {"home": "zq"},
}
"""Kind of activity -> the fields that can have a lead's id, with one."""
NAMELESS_FIELDS = frozenset(
    [
        "path",
        "tenant",
        "lead_id",
        "recorded_at",
        "identity",
        "epoch",
        "features",
        "final",
        "carried",
        "identified",
        "event",
        "event_id",
        "sessions",
        "silent",
        "reply",
        "gone",
        "lift",
        "retracted",
        "late",
        "forgotten",
        "revision",
        "outcome",
        "key",
        "model",
        "version",
        "text",
        "fire",
        "by",
        "note",
        "change",
        "folding",
        "time_zone",
        "idle_minutes",
        "lifecycle",
        "profile_fields",
        "attribution",
        "consent_required_since",
        "workflow_id",
        "scheduled_for",
        "salt",
        "hashes",
        "unique_fields",
        "experiment",
        "publication",
        "counted",
    ]
)
"""Fields without the id of another lead: keys and ids of events, texts of publications, numbers, and what is decoded apart."""


def made(kind: type[Activity], **given: Any) -> Activity:
    hints = get_type_hints(kind)
    required = {
        field.name: _blank(hints[field.name]) for field in msgspec.structs.fields(kind) if field.required
    }
    return kind(**(required | given))


def _blank(hint: Any) -> Any:
    if hint in {str, int, bytes, bool}:
        return hint()
    kinds = get_args(hint)
    return None if type(None) in kinds else _blank(kinds[0]) if kinds and kinds[0] in {str, int} else []


@pytest.mark.parametrize("kind", ACTIVITY_TYPES)
def test_every_kind_of_activity_is_known_to_name_a_lead_or_none(kind: type[Activity]):
    assert (kind in NAMES_LEADS) != (kind in NAMES_NO_OTHER_LEAD)
    assert set(kind.__struct_fields__) - NAMES_LEADS.get(kind, {}).keys() <= NAMELESS_FIELDS, (
        "a new field: can it name a lead?"
    )
    assert not names_lead(made(kind), {"zq"})


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, fields in NAMES_LEADS.items() for field in fields]
)
def test_a_lead_is_found_by_each_field_that_names_it(kind: type[Activity], field: str):
    assert names_lead(made(kind, **{field: NAMES_LEADS[kind][field]}), {"zq"})


def test_a_kind_that_nobody_has_thought_of_is_no_silent_no():
    class Unheard(Activity, tag="unheard", frozen=True):
        other_lead: str

    with pytest.raises(AssertionError, match="Unheard is not known to name a lead"):
        names_lead(Unheard("t", "l", 0, "zq"), {"zq"})


def test_events_inside_of_activity_are_read_too():
    assert events_in(made(IdentityDelta, event=b"{}")) == [b"{}"]
    assert events_in(made(IdentityAttached, event=b"{}")) == [b"{}"]
    assert events_in(made(IdentityAttached)) == []
    assert {"lead_id", "home"}.isdisjoint({*SessionPut.__struct_fields__, *Carried.__struct_fields__})

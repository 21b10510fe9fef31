"""A qualification that a person or a workflow sets by hand: instead of the computed band, until a moment or until it is removed.

It is three profile fields that one event writes. So it merges, is corrected and is cleared as profile fields are: the last
writer wins, and null in `qualification_override` removes it. Total: what is no moment in `_until` is none.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from schemas.moment import millis_in_text
from scoring.features.features import WrittenField
from scoring.features.profile_fields import (
    QUALIFICATION_FIELD,
    QUALIFICATION_FIELD_BY,
    QUALIFICATION_FIELD_UNTIL,
)

QUALIFICATION_MODEL: Final = "rules"
QUALIFICATION_SET: Final = "stage"
"""The set of bands of QUALIFICATION_MODEL that is overridden: mql, sql, hot."""


class QualificationOverride(Struct, array_like=True, frozen=True):
    band: str
    since: int
    """When it was set (ms)."""
    by: str | None = None
    until: int | None = None
    """It ends then (ms); None: when somebody removes it."""


def override_in(
    fields: Mapping[str, WrittenField], bands: tuple[str, ...], at: int
) -> QualificationOverride | None:
    """The override that is active at the moment; None if there is none, or its band is none of `bands`."""
    written = fields.get(QUALIFICATION_FIELD)
    if written is None or not isinstance(written[2], str) or written[2] not in bands:
        return None
    since, event_id, band = written
    by = _of_same_event(fields, QUALIFICATION_FIELD_BY, (since, event_id))
    until = millis_in_text(_of_same_event(fields, QUALIFICATION_FIELD_UNTIL, (since, event_id)))
    if until is not None and until <= at:
        return None
    return QualificationOverride(str(band), since, by, until)


def _of_same_event(fields: Mapping[str, WrittenField], name: str, event: tuple[int, str]) -> str | None:
    """The field as the event wrote it that set the override: another event's says nothing about this override."""
    written = fields.get(name)
    return (
        written[2] if written is not None and written[:2] == event and isinstance(written[2], str) else None
    )


def bands_that_count(
    model: str, computed: Mapping[str, str | None], override: QualificationOverride | None
) -> Mapping[str, str | None]:
    """The bands that the lifecycle and workflows read: what was set by hand instead of what was computed."""
    if override is None or model != QUALIFICATION_MODEL or QUALIFICATION_SET not in computed:
        return computed
    return {**computed, QUALIFICATION_SET: override.band}

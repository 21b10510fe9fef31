"""The qualification that somebody set by hand, as answers show it beside the computed band."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.store import Row


def override_in_row(lead: Row, at: datetime) -> dict[str, Any] | None:
    """Of a lead's row, now or at a later moment; None if there is none, or it has ended by then."""
    return _unless_ended(lead["qualification_override"], at)


def override_in_history(entries: Sequence[Row], at: datetime) -> dict[str, Any] | None:
    """As it was recorded at a past moment. `entries`: of the lead, in order."""
    past = [entry for entry in entries if entry["at"] <= at]
    if not past or past[-1]["band"] is None:
        return None
    return {
        "band": past[-1]["band"],
        "since": past[-1]["at"],
        "by": past[-1]["by"],
        "until": past[-1]["until"],
    }


def _unless_ended(override: Mapping[str, Any] | None, at: datetime) -> dict[str, Any] | None:
    """It may have ended before a timer says so."""
    if override is None:
        return None
    until = override["until"]
    return None if until is not None and datetime.fromisoformat(until) <= at else dict(override)

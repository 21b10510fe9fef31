"""Speed to lead, as answers show it: since when a lead has been qualified, and how soon somebody contacted it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.store import Row

MINUTE_SECONDS = 60


def contact_times_in_row(lead: Row, at: datetime) -> dict[str, Any] | None:
    """Of a lead's row, as far as it was true at the moment; None: its latest qualification came later, or there is none."""
    stored = lead["speed_to_lead"]
    times = {} if stored is None else {name: _moment_until(stored, name, at) for name in stored}
    qualified_at = times.get("qualified_at")
    if stored is None or qualified_at is None:
        return None
    contacted_at = times["contacted_at"]
    limit_at = None if stored["limit_at"] is None else datetime.fromisoformat(stored["limit_at"])
    waited_until = min(each for each in (contacted_at, times["ended_at"], at) if each is not None)
    waited = None if contacted_at is None else (contacted_at - qualified_at).total_seconds()
    return {
        "qualified_at": qualified_at,
        "limit_at": limit_at,
        "first_contacted_at": contacted_at,
        "minutes_to_contact": None if waited is None else round(waited / MINUTE_SECONDS, 1),
        "breached": limit_at is not None and waited_until >= limit_at,
    }


def _moment_until(times: Mapping[str, str | None], name: str, at: datetime) -> datetime | None:
    text = times[name]
    read = None if text is None else datetime.fromisoformat(text)
    return read if read is not None and read <= at else None

"""A page of a lead's ledger as answers show it: each change with the event that caused it."""

from collections.abc import Sequence
from typing import Any

from gateway.api import statements
from gateway.api.causes import EventsById, by_id, cause_of
from gateway.api.lead_flags import bands_and_flags
from gateway.api.points import plain
from gateway.store import Row, StoreSnapshot
from schemas.moment import millis


async def ledger_page(
    ask: StoreSnapshot,
    tenant: str,
    lead_id: str,
    rows: Sequence[Row],
    identity_keys: Sequence[int] | None = None,
    *,
    limit: int,
) -> dict[str, Any]:
    """A page of the ledger, from one entry more than it has if there are more. `identity_keys`: those that the lead had, if it is
    as of a moment.
    """
    entries = rows[:limit]
    ids = sorted({cause for entry in entries if (cause := _event_of(entry["caused_by"])) is not None})
    events = by_id(
        await ask(statements.select_events_named(tenant, lead_id, ids, identity_keys)) if ids else ()
    )
    last = entries[-1] if len(rows) > limit else None
    return {
        "ledger": [_entry(entry, events) for entry in entries],
        "next_cursor": None if last is None else f"{millis(last['at'])}_{last['position']}",
    }


def _entry(row: Row, events: EventsById) -> dict[str, Any]:
    event = cause_of(events, _event_of(row["caused_by"]), row["at"])
    return {
        "at": row["at"],
        "model": row["model"],
        "version": row["version"],
        "change": plain(row["change"]),
        "previous": plain(row["previous"]),
        "total": plain(row["total"]),
        "removed": row["removed"],
        **bands_and_flags(row["bands"]),
        "lines": [
            {"group": group, "rule": rule, "kind": kind, "points": line_points}
            for group, rule, kind, line_points in row["lines"]
        ],
        "caused_by": row["caused_by"],
        "event": None
        if event is None
        else {
            "event_id": event["event_id"],
            "type": event["type"],
            "occurred_at": event["occurred_at"],
            "source": event["source"],
            "name": (event["details"] or {}).get("name") if event["type"] == "custom" else None,
            "about": event["title"] or (event["details"] or {}).get("text") or event["url"],
        },
    }


def _event_of(caused_by: str) -> str | None:
    kind, _, event_id = caused_by.partition(":")
    return event_id if kind == "event" else None

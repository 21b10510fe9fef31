"""How answers show an execution of a workflow: whole, among the facts of its lead, and what became of it in words."""

from collections.abc import Mapping
from typing import Any

from gateway.api.found_leads import lead_id_as_sent
from gateway.store import Row

_SILENCED: Mapping[str, str] = {
    "import": "it was imported",
    "late": "the event came more than 24 hours late",
    "consent": "the lead may not be profiled",
    "hops": "too many actions of workflows led here",
    "publication": "a publication caused it",
    "age": "it was concluded more than a day before it could be carried out",
}


def outcome_text(row: Row) -> str:
    """What became of an execution, in words: `given up after 16 attempts: the receiver answers with status 500`."""
    reason = f": {row['last_error']}" if row["last_error"] else ""
    attempts = row["attempts"]
    tried = f" after {attempts} attempt{'' if attempts == 1 else 's'}" if attempts else ""
    match row["status"]:
        case "delivered":
            return "carried out"
        case "dead":
            return f"given up{tried}{reason}"
        case "failed":
            return f"failed{tried}, and is tried again{reason}"
        case "skipped":
            return f"skipped{reason}"
        case "waiting":
            return f"waits{reason}"
        case "delivering":
            return "is being carried out"
        case "forgotten":
            return "ended so long ago that the outbox no longer has how"
        case "silent":
            return f"nothing is done: {_SILENCED[row['silenced_by']]}"
        case other:
            raise AssertionError(other)


def short_execution_json(row: Row) -> dict[str, Any]:
    """An execution among the other facts of its lead."""
    whole = execution_json(row)
    return {name: whole[name] for name in _SHORT}


_SHORT = (
    "id",
    "workflow",
    "workflow_name",
    "trigger_type",
    "reason",
    "action_type",
    "status",
    "silenced_by",
    "executed_at",
    "caused_by",
    "outcome",
)


def execution_json(row: Row) -> dict[str, Any]:
    return {
        "id": row["execution_id"],
        "workflow": row["workflow_id"],
        "workflow_name": row["workflow"],
        "version": row["version"],
        "lead": lead_id_as_sent(row["lead_id"]),
        "lead_name": row["lead_name"],
        "trigger_type": row["trigger"],
        "reason": row["reason"],
        "action_type": row["action"],
        "action_config": row["config"],
        "status": row["status"],
        "silenced_by": row["silenced_by"],
        "executed_at": row["at"],
        "caused_by": row["caused_by"],
        "hops": row["hops"],
        "channel": row["channel"],
        "attempts": row["attempts"],
        "last_attempt_at": row["last_attempt_at"],
        "next_attempt_at": row["next_attempt_at"] if row["status"] in {"waiting", "failed"} else None,
        "delivered_at": row["delivered_at"],
        "error": row["last_error"],
        "outcome": outcome_text(row),
    }

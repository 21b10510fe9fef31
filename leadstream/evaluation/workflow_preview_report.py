"""Runs a preview of workflows for the command line, and prints it."""

from collections.abc import Mapping
from typing import Any

from msgspec import json

from gateway.ports import StepsDone
from leadstream.clock import now_ms, utc_now
from leadstream.console import Failure, print_facts, print_status, print_table, print_text, progress_bar
from leadstream.evaluation.workflow_preview import preview_workflows
from schemas.refusal import Refusal
from scoring.editing.workflow_edits import finished_workflows
from scoring.workflows.workflow_text import WorkflowsError

_encode = json.Encoder(decimal_format="number").encode


def run_preview(database_url: str, tenant: str, text: str, newest: str, days: int) -> Mapping[str, Any]:
    """The preview of a text as it would be published on top of the newest one. Raises Failure."""
    try:
        finished = finished_workflows(text, newest, utc_now())
    except (WorkflowsError, Refusal) as refusal:
        raise Failure(f"The text is refused: {refusal}.") from refusal
    result: Mapping[str, Any] = {}
    with progress_bar("Folding events", 1.0) as report:
        for step in preview_workflows(database_url, tenant, finished, days, now_ms()):
            if isinstance(step, StepsDone):
                report(step.done / max(step.of, 1))
            else:
                result = step
    return result


def print_preview(preview: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_text(json.format(_encode(preview), indent=2).decode() + "\n")
        return
    print_facts(
        "Preview",
        {
            "Days": preview["days"],
            "Events": preview["events"],
            "Would have fired": preview["fired"],
            "Leads": preview["leads"],
        },
    )
    print_table(
        "Workflows",
        ("id", "name", "trigger", "action", "fired", "leads", "silent"),
        [
            (
                str(each["id"]),
                each["name"] if each["is_active"] else f"{each['name']} (switched off)",
                each["trigger_type"],
                each["action_type"],
                f"{each['fired']:,}",
                f"{each['leads']:,}",
                f"{each['silent']:,}",
            )
            for each in preview["workflows"]
        ],
        "rlllrrr",
    )
    print_status("Silent: concluded of imported or late events, so that nothing is done. Nothing was sent.")

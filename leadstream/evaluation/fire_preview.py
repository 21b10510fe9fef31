"""Which workflows a publication of a model with `fire` would set off now, and for which leads.

Every stored lead is evaluated by the fold itself, as the sweep of the publication evaluates it, and its statements are
collected instead of sent. It reads a snapshot beside a running server, in steps of bounded work, and writes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import psycopg

from gateway.ports import RunWhatIf, StepsDone
from leadstream.evaluation.model_sets import ModelSet, compile_draft, model_set_for
from leadstream.evaluation.stored_leads import LEADS_PER_PROGRESS, stored_leads
from projections.connection import Connection, connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.decode import decode_statement
from schemas.statements import WorkflowTriggered
from scoring.features.identity import is_anonymous
from scoring.models.model import Model
from streams.replay import lead_as_of
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState
from streams.score_leads.lead_step import LeadStep
from streams.score_leads.scores import evaluate_lead

LEADS_NAMED = 10
"""Leads that are named of each workflow."""
MOST_LEADS_BEFORE_PUBLISHING = 50_000
"""Of more leads, the answer of a publication does not say how many workflows it sets off: that would take too long."""

FirePreviewStep = StepsDone | dict[str, Any]


class SetOff(NamedTuple):
    """A workflow that the publication would set off."""

    workflow_id: int
    workflow: str
    trigger: str
    action: str
    leads: int
    anonymous: int
    """Anonymous visitors; `leads` counts the others."""
    first: list[dict[str, str]]
    """Some of the leads, each with the reason."""


def preview_of_fire(
    database_url: str, tenant: str, model: str, text: str, now: int, *, most_leads: int | None = None
) -> Iterator[FirePreviewStep]:
    """Yields progress, and at last the result; `workflows` is None if there are more leads than `most_leads`. Raises ModelError."""
    draft = compile_draft(text, model)
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield from fire_result(
            connection, tenant, draft, model_set_for(database_url, tenant), text, now, most_leads=most_leads
        )


def fire_result(
    connection: Connection,
    tenant: str,
    draft: Model,
    current: ModelSet,
    text: str,
    now: int,
    *,
    most_leads: int | None = None,
) -> Iterator[FirePreviewStep]:
    rules, draft_rules = current.rules, current.with_draft(text).rules
    row = connection.execute(
        "select count(*) from leads where tenant = %s and identities > 0", (tenant,)
    ).fetchone()
    count = row[0] if row else 0
    head = {"model": draft.name, "tenant": tenant, "compared": count}
    if most_leads is not None and count > most_leads:
        yield {**head, "workflows": None}
        return
    fired: list[WorkflowTriggered] = []
    if rules.workflows is not None:
        for done, lead in enumerate(stored_leads(connection, tenant), 1):
            fired += workflows_set_off(lead, rules, draft_rules, draft.name, now)
            if done % LEADS_PER_PROGRESS == 0:
                yield StepsDone(done, max(done, count))
    yield {**head, "workflows": [each._asdict() for each in by_workflow(fired)]}


def workflows_set_off(
    lead: LeadState, rules: LeadRules, draft_rules: LeadRules, model: str, now: int
) -> list[WorkflowTriggered]:
    """What the publication would set off for the lead, which this changes. What may not act is left out."""
    if not lead.exists or not lead.identities:
        return []
    written: list[bytes] = []
    step = LeadStep(rules, lead_as_of(lead, rules, now), "", partial(_collect, written))
    step.use_rules(draft_rules)
    evaluate_lead(step, f"model:{model}", reassigned=False, silent=False, affects=partial(_is_named, model))
    statements = [decode_statement(value) for value in written]
    return [each for each in statements if isinstance(each, WorkflowTriggered) and not each.silent]


def by_workflow(fired: Iterable[WorkflowTriggered]) -> list[SetOff]:
    """The workflows in the order of their ids."""
    of_workflow: dict[int, list[WorkflowTriggered]] = {}
    for each in fired:
        of_workflow.setdefault(each.workflow_id, []).append(each)
    return [
        SetOff(
            number,
            some[0].workflow,
            some[0].trigger,
            some[0].action,
            sum(not is_anonymous(each.lead_id) for each in some),
            sum(is_anonymous(each.lead_id) for each in some),
            [{"lead_id": each.lead_id, "reason": each.reason} for each in some[:LEADS_NAMED]],
        )
        for number, some in sorted(of_workflow.items())
    ]


def fire_preview_port(
    database_url: str, now: Callable[[], int], *, most_leads: int | None = None
) -> RunWhatIf:
    """The preview as the gateway calls it."""

    def run_fire_preview(tenant: str, model: str, text: str) -> Iterator[FirePreviewStep]:
        return preview_of_fire(database_url, tenant, model, text, now(), most_leads=most_leads)

    return run_fire_preview


def _is_named(name: str, model: Model) -> bool:
    return model.name == name


def _collect(written: list[bytes], _topic: str, _key: str, value: bytes | None) -> None:
    if value is not None and b'"workflow_triggered"' in value:
        written.append(value)

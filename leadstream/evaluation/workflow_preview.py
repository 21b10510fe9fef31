"""Which workflows of a text would have fired, and for whom: folds every recorded event of a tenant with them, as if they
had been active from the first event on, and counts what was concluded in the last days.

It reads a snapshot of the archive beside a running server, in steps of bounded work. It writes and sends nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import psycopg

from gateway.answers import RequestProblem
from gateway.api.found_leads import lead_id_as_sent
from gateway.ports import PreviewWorkflows, StepsDone
from leadstream.evaluation.model_sets import ModelSet, model_set_for
from leadstream.evaluation.recorded_events import RecordedEvent, count_events, recorded_events
from projections.connection import connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.control import WorkflowsDue, WorkflowsPublished
from schemas.decode import decode_statement
from schemas.moment import millis, moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.statements import WorkflowTriggered
from schemas.topics import EVENTS, LEAD_CHANGES
from scoring.features.calendar import Calendar
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.workflows.schedule import next_moment
from scoring.workflows.workflow import ScheduleTrigger, Workflow
from scoring.workflows.workflow_text import compile_workflows
from streams.replay import CHUNK_RECORDS, Replay

MOST_EVENTS = 100_000
"""Of a preview over the API: about half a minute of a core."""
MOST_MOMENTS = 400
"""Moments of one schedule that are previewed: the latest ones."""
LATEST_SHOWN = 20
_MARK = b'"workflow_triggered"'

PreviewStep = StepsDone | dict[str, Any]


def preview_workflows(
    database_url: str, tenant: str, text: str, days: int, now: int, *, most_events: int | None = None
) -> Iterator[PreviewStep]:
    """Yields progress, and at last the result. Raises WorkflowsError, and RequestProblem if there are more events than
    `most_events`.
    """
    workflows = compile_workflows(text)
    current = model_set_for(database_url, tenant)
    zone = current.settings.zone
    begin = zone.start_of(zone.day_of(now) + 1 - days)
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        count = count_events(connection, tenant)
        if most_events is not None and count > most_events:
            raise RequestProblem(
                422,
                f"the archive has {count:,} events, and a preview here folds at most {most_events:,}: run `leadstream workflows "
                f"preview --tenant {tenant}` on the server",
            )
        fired = FiredWorkflows(begin)
        replay = Replay(_genesis(current, tenant, text), on_output=fired.receive)
        yield StepsDone(0, count)
        events = _with_moments(recorded_events(connection, tenant), workflows, tenant, zone, begin, now)
        done = 0
        while chunk := list(islice(events, CHUNK_RECORDS)):
            for records in chunk:
                replay.append(records)
            replay.fold_all()
            done += len(chunk)
            yield StepsDone(min(done, count), count)
        replay.advance_to(now)
    yield {
        "days": days,
        "from": moment(begin),
        "as_of": moment(now),
        "events": count,
        **fired.summary(workflows),
    }


def preview_port(database_url: str, now: Callable[[], int]) -> PreviewWorkflows:
    """The preview as the gateway calls it."""

    def run(tenant: str, text: str, days: int) -> Iterator[PreviewStep]:
        return preview_workflows(database_url, tenant, text, days, now(), most_events=MOST_EVENTS)

    return run


def _genesis(current: ModelSet, tenant: str, text: str) -> list[Outgoing]:
    return [
        *current.genesis(),
        *publication_records(
            WorkflowsPublished(
                tenant=tenant,
                recorded_at=moment(0),
                version=1,
                text=text,
                folding=NEWEST_COMPARISON.folding,
            )
        ),
    ]


def _with_moments(
    events: Iterator[RecordedEvent],
    workflows: tuple[Workflow, ...],
    tenant: str,
    zone: Calendar,
    begin: int,
    now: int,
) -> Iterator[list[Outgoing]]:
    """The records of each event, and of each moment of a schedule between them, in the order of time."""
    moments = iter(_scheduled_moments(workflows, zone, begin, now))
    following = next(moments, None)
    for event in events:
        while following is not None and following[0] <= event.at:
            yield _due_records(tenant, *following)
            following = next(moments, None)
        yield [Outgoing(EVENTS, event.key, event.value)]
    while following is not None:
        yield _due_records(tenant, *following)
        following = next(moments, None)


def _scheduled_moments(
    workflows: tuple[Workflow, ...], zone: Calendar, begin: int, now: int
) -> list[tuple[int, int]]:
    """(moment, workflow), in order."""
    scheduled = list[tuple[int, int]]()
    for workflow in workflows:
        if not isinstance(workflow.trigger, ScheduleTrigger) or not workflow.active:
            continue
        moments, at = list[int](), begin - 1
        while (following := next_moment(workflow.trigger.schedule, zone, at)) is not None:
            if following > now:
                break
            moments.append(following)
            at = following
        scheduled += [(each, workflow.id) for each in moments[-MOST_MOMENTS:]]
    return sorted(scheduled)


def _due_records(tenant: str, at: int, workflow: int) -> list[Outgoing]:
    due = WorkflowsDue(tenant=tenant, recorded_at=moment(at), workflow_id=workflow, scheduled_for=moment(at))
    return publication_records(due)


class FiredWorkflows:
    """Counts what workflows did since a moment, among the records that a replay writes."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._fired = Counter[int]()
        self._silent = Counter[int]()
        self._leads: dict[int, set[str]] = {}
        self._latest: dict[int, list[WorkflowTriggered]] = {}

    def receive(self, record: Outgoing) -> None:
        if record.topic != LEAD_CHANGES or record.value is None or _MARK not in record.value:
            return
        statement = decode_statement(record.value)
        if not isinstance(statement, WorkflowTriggered) or millis(statement.at) < self._begin:
            return
        number = statement.workflow_id
        if statement.silent:
            self._silent[number] += 1
            return
        self._fired[number] += 1
        self._leads.setdefault(number, set()).add(statement.lead_id)
        latest = self._latest.setdefault(number, [])
        latest.append(statement)
        if len(latest) > 2 * LATEST_SHOWN:
            self._latest[number] = _newest(latest)

    def summary(self, workflows: tuple[Workflow, ...]) -> dict[str, Any]:
        return {
            "fired": self._fired.total(),
            "leads": len(set().union(*self._leads.values())) if self._leads else 0,
            "workflows": [
                {
                    "id": each.id,
                    "name": each.name,
                    "trigger_type": each.trigger_type,
                    "action_type": each.action,
                    "is_active": each.active,
                    "fired": self._fired[each.id],
                    "silent": self._silent[each.id],
                    "leads": len(self._leads.get(each.id, ())),
                    "latest": [
                        {"lead": lead_id_as_sent(one.lead_id), "at": one.at, "reason": one.reason}
                        for one in _newest(self._latest.get(each.id, []))
                    ],
                }
                for each in workflows
            ],
        }


def _newest(statements: list[WorkflowTriggered]) -> list[WorkflowTriggered]:
    return sorted(statements, key=lambda each: (each.at, each.lead_id), reverse=True)[:LATEST_SHOWN]

"""/api/inspector: the last events at the door of this process: taken or refused and why, and what each did."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.leads import NO_NUL
from gateway.api.points import plain
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, example_bodies
from gateway.door.recent_events import MOST_EVENTS, DoorOutcome, RecentEvent
from gateway.ports import EventKey, event_key
from gateway.store import ReadStore, Row
from projections import inspector_queries as queries
from schemas.envelope import Event, tag_of
from schemas.moment import millis, moment

MOST_LISTED: Final = 100
PAGE: Final = 50
LONGEST_USUAL_WAIT: Final = timedelta(minutes=1)
"""Until an event counts."""
NO_EFFECT: Final[Mapping[str, Any]] = MappingProxyType(
    {"lead_id": None, "late": False, "scores": (), "stages": ()}
)
EXAMPLES = example_bodies("inspector")
Text = Annotated[str | None, Query(max_length=200, pattern=NO_NUL)]

router = APIRouter(prefix="/api/inspector", tags=["inspector"])


@router.get(
    "/events",
    summary="The last events at the door: taken or refused, why, and what each did",
    description=f"The last {MOST_EVENTS:,} of the tenant, newest first, of the process that answers. They are in its memory only: a "
    "restart forgets them, and each of several gateways has those that came to it.",
    responses=answer_docs(EXAMPLES["events"], "The events, newest first."),
)
@router.get("/events/", include_in_schema=False)
async def recent_events(
    request: Request,
    outcome: Annotated[str | None, Query(description="Only taken, refused or not_stored ones.")] = None,
    event_type: Annotated[
        Text, Query(alias="type", description="Only of this type, such as `page_viewed`.")
    ] = None,
    source: Annotated[Text, Query(description="Only of this source, such as `web`.")] = None,
    identifier: Annotated[
        Text, Query(alias="id", description="Only of the visitor or lead with this id.")
    ] = None,
    before: Annotated[
        int | None, Query(ge=1, description="Only events that came before the one with this number.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="The most events of an answer.")] = PAGE,
) -> Response:
    if outcome is not None and outcome not in get_args(DoorOutcome):
        raise RequestProblem(422, f"one of {', '.join(get_args(DoorOutcome))}", field="outcome")
    services, tenant = services_of(request), tenant_of(request)
    recent = services.ports.recent
    kept = [(each, each.event()) for each in recent.of(tenant, services.ports.erased)]
    repeated = _repeated_numbers(kept)
    exact = {"outcome": outcome, "type": event_type, "source": source}
    chosen: list[tuple[RecentEvent, Event | None, dict[str, Any]]] = []
    for each, event in kept:
        facts = _facts(each, event)
        if (
            (before is None or each.number < before)
            and all(value is None or facts[name] == value for name, value in exact.items())
            and (identifier is None or identifier in (facts["visitor_id"], facts["lead_id"]))
        ):
            chosen.append((each, event, facts))
    shown = chosen[:limit]
    effects = await _effects(services.store, [event for _, event, _ in shown if event is not None])
    now = services.ports.now()
    return JsonAnswer(
        {
            "since": recent.since,
            "kept": len(kept),
            "counts": {name: sum(each.outcome == name for each, _ in kept) for name in get_args(DoorOutcome)},
            "events": [
                facts
                | {
                    "effect": None
                    if event is None
                    else {**NO_EFFECT, "state": "repeated"}
                    if each.number in repeated
                    else effects.get(event_key(event))
                    or {**NO_EFFECT, "state": _state_without_row(each, event, now)}
                }
                for each, event, facts in shown
            ],
            "before": shown[-1][0].number if len(chosen) > limit else None,
        }
    )


def _repeated_numbers(kept: Sequence[tuple[RecentEvent, Event | None]]) -> set[int]:
    """Of the events that came before under the same id: they counted then."""
    first: dict[EventKey, int] = {}
    for each, event in reversed(kept):
        if event is not None:
            first.setdefault(event_key(event), each.number)
    return {each.number for each, event in kept if event is not None} - set(first.values())


def _state_without_row(kept: RecentEvent, event: Event, now: datetime) -> str:
    if event.bot is not None:
        return "bot"
    return "waiting" if now - kept.at < LONGEST_USUAL_WAIT else "not_counted"


def _facts(kept: RecentEvent, event: Event | None) -> dict[str, Any]:
    """Of a refused event what it said, if it was text; nothing is known of whether that was right."""
    sent = kept.sent or {}
    stated = {
        name: value if isinstance(value := sent.get(name), str) else None
        for name in ("type", "event_id", "visitor_id", "lead_id", "source")
    }
    if event is not None:
        stated = {
            "type": tag_of(type(event)),
            "event_id": event.event_id,
            "visitor_id": event.visitor_id,
            "lead_id": event.lead_id,
            "source": event.source,
        }
    return {
        "number": kept.number,
        "at": kept.at,
        "outcome": kept.outcome,
        **stated,
        "bot": None if event is None else event.bot,
        "field": kept.field,
        "reason": kept.reason,
        "sent": kept.sent,
    }


async def _effects(store: ReadStore, events: Sequence[Event]) -> Mapping[EventKey, dict[str, Any]]:
    """What each of the events that count did."""
    if not events:
        return {}
    async with store.snapshot() as ask:
        probes = [(event_key(each).key, moment(millis(each.occurred_at)), each.event_id) for each in events]
        counted = {
            (row["identity"].rpartition("#")[0], row["event_id"]): row
            for row in await ask(queries.select_counted(probes))
        }
        causes = [(row["lead_key"], _cause(row["event_id"]), row["recorded_at"]) for row in counted.values()]
        scores, stages = await ask.all(
            queries.select_score_changes(causes), queries.select_stage_changes(causes)
        )
    return {
        key: _effect(row, scores, stages)
        for each in events
        if (row := counted.get(((key := event_key(each)).key, each.event_id))) is not None
    }


def _cause(event_id: str) -> str:
    """As changes of scores and stages name the event."""
    return f"event:{event_id}"


def _effect(row: Row, scores: Sequence[Row], stages: Sequence[Row]) -> dict[str, Any]:
    mine = (row["lead_key"], _cause(row["event_id"]))
    return {
        "state": "counted",
        "lead_id": row["lead_id"],
        "late": row["late"],
        "scores": [
            {"model": each["model"], "change": plain(each["change"]), "total": plain(each["total"])}
            for each in scores
            if (each["lead_key"], each["caused_by"]) == mine
        ],
        "stages": [
            {"stage": each["stage"], "previous": each["previous"]}
            for each in stages
            if (each["lead_key"], each["caused_by"]) == mine
        ],
    }

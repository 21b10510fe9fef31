"""/api/call-list: why to call which lead, beside the list of /api/leads: what it did last, what its score lacks for the next
band, how the score went, and how many leads are in each band.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api import statements
from gateway.api.lead_as_of import SESSION_MODEL
from gateway.api.lead_counts import LeadCounts
from gateway.api.lead_moment import PastMoment, past_moment
from gateway.api.leads import BOARD_MODEL, NO_NUL, ModelName
from gateway.api.past_list import leads_then
from gateway.api.points import plain, points
from gateway.api.published_rules import rules_then
from gateway.api.services import ApiServices, services_of, take_report_turn, tenant_of
from gateway.api.tenant_leads import decimal_or_given, voice_url
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row
from projections import call_list_queries as queries
from projections.past_leads import select_publications_until, select_settings_until
from projections.queries import refuses_profiling
from projections.row_keys import band_key, lead_row_key
from schemas.moment import moment
from scoring.features.features import Session
from scoring.features.profile_fields import BUDGET_FIELDS, PROPERTY_FIELDS
from scoring.models.model import ONE_POINT, Model, score_session

MOST_LEADS: Final = 100
POINTS_OF_LINE: Final = 24
"""Changes of a score that make its line."""
NOT_SCORED: Final = MappingProxyType({"gain": None, "missing": None, "totals": ()})
"""Of a lead that objects to profiling: the past of its score is no reason to call."""
EXAMPLES = example_bodies("call_list")

router = APIRouter(prefix="/api/call-list", tags=["call list"])


@router.get(
    "/reasons",
    summary="Why to call these leads",
    responses=answer_docs(
        EXAMPLES["reasons"], "Of each lead that exists: what happened, and what is missing."
    ),
)
@router.get("/reasons/", include_in_schema=False)
async def reasons(
    request: Request,
    lead_id: Annotated[
        list[Annotated[str, Query(max_length=128, pattern=NO_NUL)]],
        Query(min_length=1, max_length=MOST_LEADS, description="A lead's id; up to 100 of them."),
    ],
    model: ModelName = BOARD_MODEL,
    as_of: PastMoment = None,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    scored_by = _model(active, model)
    ids = {lead_row_key(tenant, each): each for each in lead_id}
    keys = list(ids)
    if as_of is not None:
        at = past_moment(as_of, services.ports.now())
        return JsonAnswer(
            {"reasons": await _reasons_then(services, active, tenant, ids, model, at), "as_of": at}
        )
    async with services.store.snapshot() as ask:
        scores, totals, events, voices, profiles, visits = await ask.all(
            statements.select_scores_of(keys),
            queries.latest_totals(keys, model, limit=POINTS_OF_LINE),
            queries.latest_events(keys),
            statements.latest_voices(keys),
            queries.profile_fields(keys),
            queries.latest_sessions(keys),
        )
    score_of = {row["lead_key"]: row for row in scores if row["model"] == model}
    changes_of: dict[int, list[Row]] = {}
    for row in totals:
        changes_of.setdefault(row["lead_key"], []).append(row)
    event_of = {row["lead_key"]: row for row in events}
    fields_of = {row["lead_key"]: row["fields"] for row in profiles}
    session_of = {row["lead_key"]: row for row in visits}
    voice_of = {row["lead_key"]: row for row in voices}
    return JsonAnswer(
        {
            "reasons": {
                ids[key]: {
                    **(
                        NOT_SCORED
                        if refuses_profiling({"fields": fields_of[key]})
                        else _score(scored_by, score_of.get(key), changes_of.get(key, ()))
                    ),
                    **_wishes(fields_of[key]),
                    "event": _event(event_of.get(key)),
                    "session": _session(session_of.get(key)),
                    "voice_seconds": _seconds(voice_of.get(key)),
                    "voice_url": voice_url(voice_of.get(key, {})),
                }
                for key in keys
                if key in fields_of
            },
            "as_of": services.ports.now(),
        }
    )


async def _reasons_then(
    services: ApiServices,
    active: ActiveRules,
    tenant: str,
    ids: Mapping[int, str],
    model: str,
    at: datetime,
) -> dict[str, dict[str, Any]]:
    """As `reasons`, of the leads that the list of that moment has: profile and visit are folded as it does."""
    keys = list(ids)
    async with services.store.snapshot() as ask:
        rows, totals, events, voices, published, settings = await ask.all(
            queries.whole_leads(keys),
            queries.latest_totals(keys, model, limit=POINTS_OF_LINE, until=at),
            queries.latest_events(keys, at),
            statements.latest_voices(keys, at),
            select_publications_until(tenant, at),
            select_settings_until(tenant, at),
        )
        listed = await leads_then(ask, services.ports.past_leads, active, tenant, rows, at)
    rules, _ = rules_then(active, published, settings)
    scored_by = rules.models.get(model)
    changes_of: dict[int, list[Row]] = {}
    for row in totals:
        changes_of.setdefault(row["lead_key"], []).append(row)
    event_of = {row["lead_key"]: row for row in events}
    voice_of = {row["lead_key"]: row for row in voices}
    shown = {}
    for today, lead in zip(rows, listed, strict=True):
        if lead.history == "not_yet_recorded":
            continue
        key = today["lead_key"]
        scorable = scored_by is not None and not refuses_profiling(today) and not refuses_profiling(lead.row)
        visit = lead.last_visit
        shown[ids[key]] = {
            **(
                _score(scored_by, lead.scores.get(model), changes_of.get(key, ()))
                if scored_by is not None and scorable
                else NOT_SCORED
            ),
            **_wishes(lead.row["fields"]),
            "event": _event(event_of.get(key)),
            "session": None
            if visit is None
            else _visit(rules.models.get(SESSION_MODEL), visit, scorable=scorable),
            "voice_seconds": _seconds(voice_of.get(key)),
            "voice_url": voice_url(voice_of.get(key, {})),
        }
    return shown


def _visit(model: Model | None, visit: Session, *, scorable: bool) -> dict[str, Any]:
    scored = scorable and model is not None and model.mean is not None
    return {
        "started_at": moment(visit.opened_at),
        "duration_seconds": visit.seconds,
        "pages": visit.pages,
        "clicks": visit.clicks + visit.important_clicks,
        "score": points(score_session(model, visit).total) if scored and model is not None else None,
    }


@router.get(
    "/counts",
    summary="How many leads are in each band and stage",
    description="Leads that somebody has put off are counted in `snoozed` alone. Counting takes at most a tenth of the time: of very "
    "many leads, an answer is some seconds old (`as_of`).",
    responses=answer_docs(EXAMPLES["counts"], "All leads of the tenant, by band of the model's first scale."),
    dependencies=[Depends(take_report_turn)],
)
@router.get("/counts/", include_in_schema=False, dependencies=[Depends(take_report_turn)])
async def counts(request: Request, model: ModelName = BOARD_MODEL) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    scored_by = _model(await services.ports.published(tenant), model)
    scale = next(iter(scored_by.band_sets), "")
    counted = await services.counts.of(tenant, model, services.store, services.ports.now())
    bands = {band_key(scale, band): band for band in scored_by.band_sets.get(scale, ())}
    return JsonAnswer(
        {
            "scale": scale or None,
            "identified": _counts_json(counted.identified, bands),
            "anonymous": _counts_json(counted.anonymous, bands),
            "snoozed": counted.snoozed,
            "as_of": counted.as_of,
        }
    )


def _model(active: ActiveRules, name: str) -> Model:
    if name not in active.models:
        raise RequestProblem(
            422, f"no such model; active are {', '.join(sorted(active.models))}", field="model"
        )
    return active.models[name]


def _counts_json(counts: LeadCounts, bands: Mapping[str, str]) -> dict[str, Any]:
    """`bands`: key -> band of the scale."""
    in_band = {
        band: sum(n for keys, n in counts.band_keys.items() if key in keys) for key, band in bands.items()
    }
    return {
        "leads": counts.stages.total(),
        "bands": {band: n for band, n in in_band.items() if n},
        "stages": {stage: n for stage, n in sorted(counts.stages.items()) if n},
    }


def _score(model: Model, score: Mapping[str, Any] | None, changes: Sequence[Row]) -> dict[str, Any]:
    """`changes`: the newest first."""
    return {
        "gain": next((_gain(row) for row in changes if row["change"] > 0), None),
        "missing": _missing(model, score),
        "totals": [{"at": row["at"], "total": plain(row["total"])} for row in reversed(changes)],
    }


def _wishes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The highest budget, and the property in words."""
    budgets = [
        each for name in BUDGET_FIELDS if isinstance(each := decimal_or_given(fields.get(name)), int | float)
    ]
    facts = [str(fields[name]) for name in PROPERTY_FIELDS if fields.get(name)]
    return {"budget": max(budgets, default=None), "property": ", ".join(facts) or None}


def _event(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    details: Mapping[str, Any] = row["details"] or {}
    return {
        "type": row["type"],
        "name": details.get("name") if row["type"] == "custom" else None,
        "about": row["title"] or details.get("text") or row["url"],
        "occurred_at": row["occurred_at"],
    }


def _session(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "started_at": row["opened_at"],
        "duration_seconds": int((row["last_at"] - row["opened_at"]).total_seconds()),
        "pages": row["pages"],
        "clicks": row["clicks"] + row["important_clicks"],
        "score": None if row["score"] is None else plain(row["score"]),
    }


def _gain(row: Row) -> dict[str, Any]:
    """A change, and the rule that gave most of it."""
    _, rule, _, _ = max(row["lines"], key=lambda line: line[3], default=("", "", "", 0))
    return {"change": plain(row["change"]), "rule": rule, "at": row["at"]}


def _missing(model: Model, score: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The next better band of the model's first scale, and the points up to it from the rounded total, which is always current."""
    thresholds = next(iter(model.scales.values()), [])
    total, rounded = (0, 0) if score is None else (int(score["total"] * ONE_POINT), score["rounded"])
    shown = rounded * ONE_POINT
    above = [(threshold, band) for threshold, band in thresholds if threshold > min(total, shown)]
    if not above:
        return None
    threshold, band = above[-1]
    return {"band": band, "points": points(max(threshold - shown, ONE_POINT))}


def _seconds(voice: Row | None) -> float | None:
    """What producers send as a duration is no number in every case."""
    try:
        return None if voice is None or voice["duration_s"] is None else float(voice["duration_s"])
    except ValueError:
        return None

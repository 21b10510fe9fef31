"""/api/lead-score/*: the session and user scores of web analytics, in the shapes its callers know.

`lead_score` here is the model `web_session`. A session is looked up by the producer's id or by the
canonical one; a user is a lead, or a visitor by the visitor's id. "Calculate" evaluates now and
changes nothing; "update" sends the lead's clock forward through the log and answers with what is stored
then (or, 202, with what was stored before and where to look, if the folds have not come to it in time).
"""

import asyncio
from collections.abc import Awaitable
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.access import READ_SCOPE, Caller
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api import statements
from gateway.api.found_leads import REFUSED_REASON
from gateway.api.lead_as_of import SESSION_MODEL
from gateway.api.reevaluation import advance_lead
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.documented import (
    PROBLEM_EXAMPLE,
    Responses,
    answer_docs,
    body_schema_of,
    example_bodies,
    request_docs,
)
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.store import Row
from gateway.subject import subject_of
from projections import queries
from schemas.envelope import Identifier
from schemas.moment import millis
from scoring.features.features import Session
from scoring.features.identity import anonymous_lead_id
from scoring.models.model import Conclusion, Model, rounded_points, score_lead, score_session
from scoring.models.points import points_text

T = TypeVar("T", bound=Struct)
LARGEST_BODY = 10_000
UPDATE_SECONDS = 5.0
CLAIM_LOOKS = 20
"""So often a lead that a visitor is becoming is looked up, ..."""
CLAIM_PAUSE = 0.1
"""... after so many seconds each."""
Id = Identifier | Annotated[int, Meta(ge=0, le=2**63 - 1)]
PARTS = {"duration_score": "duration", "page_score": "pages", "click_score": "clicks"}
"""The breakdown's fields, and the groups of the model that they show."""


class OfSession(Struct, rename={"session_id": "sessionId"}):
    session_id: Id


class OfUser(Struct, rename={"user_id": "userId"}):
    user_id: Id


class Unanswerable(Exception):
    """Answered as `{"success": false, "error": ...}`, the shape of every error of this API."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


EXAMPLES = example_bodies("lead_score")
SESSION_REQUEST = request_docs(EXAMPLES["session_request"], body_schema_of(OfSession))
USER_REQUEST = request_docs(EXAMPLES["user_request"], body_schema_of(OfUser))
PROBLEMS = answer_docs(EXAMPLES["problem"], "The session or user is not there.", status=404) | answer_docs(
    EXAMPLES["problem"], "No score is there yet: try again.", status=503
)
BODY_PROBLEMS = answer_docs(EXAMPLES["problem"], "The body is not JSON.", status=400) | answer_docs(
    EXAMPLES["problem"],
    "The body has a wrong field; or a parameter is wrong (then `error` is an object).",
    status=422,
    others={"a parameter": PROBLEM_EXAMPLE},
)
LATER: Responses = {202: {"description": "The new score does not show yet: the one before, and `location`."}}
SESSION_ANSWER = answer_docs(EXAMPLES["session"], "The score of the session.") | PROBLEMS | BODY_PROBLEMS
USER_ANSWER = (
    answer_docs(EXAMPLES["user"], "The mean score of the user's ended sessions.") | PROBLEMS | BODY_PROBLEMS
)
router = APIRouter(prefix="/api/lead-score", tags=["lead score"])


async def _model(services: ApiServices, tenant: str) -> Model:
    models = (await services.ports.published(tenant)).models
    if SESSION_MODEL not in models:  # without any, scoring has not begun yet
        raise Unanswerable(404 if models else 503, f"no model {SESSION_MODEL} is active")
    return models[SESSION_MODEL]


async def _session(services: ApiServices, tenant: str, session_id: str) -> Row:
    rows = await services.store.rows(queries.session(tenant, session_id, model=SESSION_MODEL))
    if not rows:
        raise Unanswerable(404, "Session not found")
    return rows[0]


async def _lead(services: ApiServices, tenant: str, user_id: str) -> Row:
    """While a visitor is being claimed, its identity may show already and the lead that it has come to
    not yet; then it is looked up again.
    """
    for _ in range(CLAIM_LOOKS):
        async with services.store.snapshot() as ask:
            for lead_id in (user_id, anonymous_lead_id(user_id)):
                if rows := await ask(queries.lead(tenant, lead_id)):
                    return rows[0]
            visitor_rows = await ask(statements.select_lead_of_visitor(tenant, user_id))
            if not visitor_rows:
                raise Unanswerable(404, "User not found")
            if rows := await ask(queries.lead(tenant, visitor_rows[0]["lead_id"])):
                return rows[0]
        await asyncio.sleep(CLAIM_PAUSE)
    raise Unanswerable(503, "the user is being assigned to a lead: try again")


async def _session_score(request: Request, *, update: bool) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    session_id = str((await _decoded(request, OfSession)).session_id)
    model = await _model(services, tenant)
    session, status = await _session(services, tenant, session_id), 200
    await _refuse_unscored(services, tenant, session["lead_id"])
    if update:
        status = 200 if await advance_lead(services, tenant, session["lead_id"], UPDATE_SECONDS) else 202
        session = await _session(services, tenant, session_id)
    score = rounded_points(_concluded(model, session).total)
    shown = {"success": True, "session_id": session_id, **_shown(score, caller)}
    return _current_or_later(shown, status, f"/api/lead-score/session/{quote(session_id, safe='')}")


async def _user_score(request: Request, *, update: bool) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    user_id = str((await _decoded(request, OfUser)).user_id)
    await _model(services, tenant)
    lead, status = await _lead(services, tenant, user_id), 200
    if queries.refuses_profiling(lead):
        raise Unanswerable(409, REFUSED_REASON)
    if update:
        status = 200 if await advance_lead(services, tenant, lead["lead_id"], UPDATE_SECONDS) else 202
        score = await _stored_mean(services, tenant, lead["lead_id"])
    else:
        score = await _current_mean(services, tenant, lead)
    shown = {"success": True, "user_id": user_id, **_shown(score, caller)}
    return _current_or_later(shown, status, f"/api/leads/{quote(lead['lead_id'], safe='')}")


async def _refuse_unscored(services: ApiServices, tenant: str, lead_id: str) -> None:
    if any(map(queries.refuses_profiling, await services.store.rows(queries.lead(tenant, lead_id)))):
        raise Unanswerable(409, REFUSED_REASON)


def _current_or_later(shown: dict[str, Any], status: int, location: str) -> Response:
    """202 says where to look for the new score."""
    return JsonAnswer(shown | {"location": location} if status == 202 else shown, status)


async def _stored_mean(services: ApiServices, tenant: str, lead_id: str) -> int:
    stored = await services.store.rows(queries.scores(tenant, lead_id))
    return next((row["rounded"] for row in stored if row["model"] == SESSION_MODEL), 0)


async def _current_mean(services: ApiServices, tenant: str, lead: Row) -> int:
    """The mean of the ended sessions now; the stored one where the features are unavailable."""
    lead_id = lead["lead_id"]
    subject = await subject_of(services.store, tenant, lead_id, lead["stage"])
    if subject is None:
        return await _stored_mean(services, tenant, lead_id)
    active = await services.ports.published(tenant)
    now = millis(services.ports.now())
    model = await _model(services, tenant)
    return rounded_points(score_lead(model, subject, now, active.zone, active.idle_ms).total)


@router.post(
    "/session", summary="Calculate a session's score", openapi_extra=SESSION_REQUEST, responses=SESSION_ANSWER
)
@router.post("/session/", include_in_schema=False)
async def calculate_session(request: Request) -> Response:
    return await _answer(_session_score(request, update=False))


@router.post(
    "/session/update",
    summary="Update a session's score",
    openapi_extra=SESSION_REQUEST,
    responses=SESSION_ANSWER | LATER,
)
@router.post("/session/update/", include_in_schema=False)
async def update_session(request: Request) -> Response:
    return await _answer(_session_score(request, update=True))


@router.post("/user", summary="Calculate a user's score", openapi_extra=USER_REQUEST, responses=USER_ANSWER)
@router.post("/user/", include_in_schema=False)
async def calculate_user(request: Request) -> Response:
    return await _answer(_user_score(request, update=False))


@router.post(
    "/user/update", summary="Update a user's score", openapi_extra=USER_REQUEST, responses=USER_ANSWER | LATER
)
@router.post("/user/update/", include_in_schema=False)
async def update_user(request: Request) -> Response:
    return await _answer(_user_score(request, update=True))


@router.get(
    "/session/{session_id:path}",
    summary="A session's analytics and score breakdown",
    responses=answer_docs(EXAMPLES["analytics"], "What the session had, and the points of each part.")
    | PROBLEMS,
)
async def session_analytics(request: Request, session_id: str) -> Response:
    return await _answer(_session_analytics(request, session_id))


async def _session_analytics(request: Request, session_id: str) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    if "\0" in session_id:
        raise Unanswerable(404, "Session not found")
    try:
        session = await _session(services, tenant, session_id)
    except Unanswerable:
        if not session_id.endswith("/"):
            raise
        session_id = session_id.removesuffix("/")  # the other form of the address
        session = await _session(services, tenant, session_id)
    return JsonAnswer(_analytics(session_id, session, await _model(services, tenant)))


async def _answer(response: Awaitable[Response]) -> Response:
    try:
        return await response
    except Unanswerable as problem:
        return JsonAnswer({"success": False, "error": problem.error}, problem.status)


async def _decoded(request: Request, kind: type[T]) -> T:
    body = await read_body(request, LARGEST_BODY)
    try:
        return struct_of(json_object(body), kind)
    except RequestProblem as problem:
        text = problem.reason if problem.field is None else f"{problem.field}: {problem.reason}"
        raise Unanswerable(problem.status, text) from None


def _shown(score: int, caller: Caller) -> dict[str, int]:
    """Nothing for a token that may only write."""
    return {"lead_score": score} if READ_SCOPE in caller.scopes else {}


def _analytics(session_id: str, session: Row, model: Model) -> dict[str, Any]:
    concluded, most = _concluded(model, session), _most(model)
    groups = _by_group(model, concluded)
    return {
        "success": True,
        "session_id": session_id,
        "analytics": {
            "duration_seconds": _shape(session).seconds,
            "page_views_count": session["pages"],
            "regular_clicks": session["clicks"],
            "important_clicks": session["important_clicks"],
        },
        "score_breakdown": {
            **{part: _of(groups.get(group, 0), most.get(group)) for part, group in PARTS.items()},
            "total_score": _of(concluded.total, most.get("")),
        },
    }


def _of(points: int, most: int | None) -> str:
    """35/40; only 35 where there is no most."""
    return points_text(points) if most is None else f"{points_text(points)}/{points_text(most)}"


def _concluded(model: Model, session: Row) -> Conclusion:
    return score_session(model, _shape(session))


def _shape(session: Row) -> Session:
    return Session(
        revision=session["revision"],
        opened_at=millis(session["opened_at"]),
        last_at=millis(session["last_at"]),
        closed=session["closed"],
        pages=session["pages"],
        clicks=session["clicks"],
        important_clicks=session["important_clicks"],
    )


def _by_group(model: Model, concluded: Conclusion) -> dict[str, int]:
    """Points per group, its caps taken off."""
    groups: dict[str, int] = {}
    for line, points in zip(model.line_labels, concluded.vector, strict=True):
        if line.group:
            groups[line.group] = groups.get(line.group, 0) + points
    return groups


@lru_cache(maxsize=64)
def _most(model: Model) -> dict[str, int | None]:
    """The most that each group, and "" for all together, can give, found by trying visits of every
    length; None where more pages or clicks always give more.
    """
    tried = [
        [
            score_session(
                model, Session(0, 0, seconds * 1000, closed=True, pages=n, clicks=n, important_clicks=n)
            )
            for seconds in (*range(0, 7_200, 5), 86_400)
        ]
        for n in (10_000, 20_000)
    ]
    some, more = ([{**_by_group(model, one), "": one.total} for one in each] for each in tried)
    most = {group: max(each[group] for each in some) for group in some[0]}
    return {
        group: points if max(each[group] for each in more) == points else None
        for group, points in most.items()
    }

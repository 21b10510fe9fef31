"""Sessions of chats as the capture bot's API knows them: what is recorded of one, the flow that it follows, and its score.

A session is a visitor, and its id the visitor's id.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from fastapi import Request

from gateway.access import Caller
from gateway.answers import RequestProblem
from gateway.api.services import ApiServices, services_of
from gateway.store import Row
from projections import chat, queries
from schemas.envelope import DEFAULT_TENANT, tag_of
from schemas.events import SessionStarted
from scoring.chat.conversation import ChatEvent, Conversation
from scoring.chat.flow import ChatFlow
from scoring.models.model import built_in_models, compile_model

UNQUALIFIED = "Unqualified"


class ChatSession(NamedTuple):
    """What is recorded of a session. `lead_id` None: nothing yet."""

    conversation: Conversation
    lead_id: str | None
    started: Row | None
    """Its `session_started`."""


NO_SESSION = ChatSession(Conversation(), None, None)


async def session_of(services: ApiServices, caller: Caller, session_id: str) -> ChatSession:
    if "\0" in session_id:
        return NO_SESSION
    rows = await services.store.rows(chat.chat_events(caller.tenant or DEFAULT_TENANT, session_id))
    if not rows:
        return NO_SESSION
    return ChatSession(
        Conversation(tuple(ChatEvent(row["event_id"], row["type"], row["about"]) for row in rows)),
        max(rows, key=lambda row: row["attached_at"])["lead_id"],
        next((row for row in rows if row["type"] == tag_of(SessionStarted)), None),
    )


async def session_or_none(request: Request, caller: Caller, session_id: str) -> ChatSession:
    """The door takes events while the read models are unavailable."""
    try:
        return await session_of(services_of(request), caller, session_id)
    except RequestProblem:
        return NO_SESSION


async def chat_score(services: ApiServices, tenant: str, lead_id: str) -> Row | None:
    rows = await services.store.rows(queries.scores(tenant, lead_id))
    return next((row for row in rows if row["model"] == chat.MODEL), None)


def score_json(score: Row | None, lead: Row, name_of_band: str = "classification") -> dict[str, Any]:
    """Nulls, if the lead objects to profiling."""
    if queries.refuses_profiling(lead):
        return {"lead_score": None, name_of_band: None}
    if score is None:
        return {"lead_score": 0, name_of_band: UNQUALIFIED}
    return {
        "lead_score": int(score["rounded"]),
        name_of_band: str(score["bands"].get(chat.SCALE, UNQUALIFIED)),
    }


def whole_second(at: datetime) -> datetime:
    """Without its fraction, as the bot's clients know times."""
    return at.replace(microsecond=0)


# The flow


async def flow_of_caller(request: Request, caller: Caller) -> ChatFlow:
    return await flow_of(services_of(request), caller.tenant or DEFAULT_TENANT)


async def flow_of(services: ApiServices, tenant: str) -> ChatFlow:
    """That of the tenant's model; the built-in one, if the model has none."""
    model = (await services.ports.published(tenant)).models.get(chat.MODEL)
    return (model and model.flow) or _built_in_flow()


@lru_cache(maxsize=1)
def _built_in_flow() -> ChatFlow:
    flow = compile_model(built_in_models()[chat.MODEL]).flow
    if flow is None:
        raise LookupError(f"the built-in model {chat.MODEL} has no flow")
    return flow

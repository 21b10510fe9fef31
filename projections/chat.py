"""Statements that read the sessions of a chat. No I/O.

A session is a visitor: the id of one is the id of the other. What it contains is what its identities did in the chat.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Float, Select, and_, any_, case, cast, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from projections.queries import REFUSES_PROFILING
from projections.row_keys import hashed_key
from projections.tables import engagement_history, identities, lead_scores, leads
from schemas.envelope import tag_of
from schemas.events import QuestionAnswered, QuestionsCompleted, SessionStarted
from schemas.topics import visitor_key
from scoring.chat.conversation import SOURCE
from scoring.features.identity import MOST_SEGMENTS, identity_id

MOST_EVENTS: Final = 1_000
"""The latest events of an identity, of which those of the chat are read."""
MODEL: Final = "chatbot"
SCALE: Final = "category"


def chat_events(tenant: str, visitor_id: str) -> Select[Any]:
    """The latest events of the session, the oldest first, each with the lead that has them now."""
    key = visitor_key(tenant, visitor_id)
    mine = [hashed_key(identity_id(key, segment)) for segment in range(MOST_SEGMENTS)]
    events = engagement_history
    latest = (
        select(events)
        .where(events.c.identity_key == identities.c.identity_key)
        .order_by(events.c.occurred_at.desc(), events.c.partition.desc(), events.c.position.desc())
        .limit(MOST_EVENTS)
        .lateral("latest")
    )
    return (
        select(
            identities.c.lead_id,
            identities.c.attached_at,
            latest.c.event_id,
            latest.c.type,
            latest.c.occurred_at,
            latest.c.campaign_source,
            func.coalesce(latest.c.details["question_id"].astext, latest.c.details["name"].astext).label(
                "about"
            ),
            latest.c.details["text"].astext.label("text"),
        )
        .select_from(identities.join(latest, true()))
        .where(_among(identities.c.identity_key, mine), latest.c.source == SOURCE)
        .order_by(latest.c.occurred_at, latest.c.partition, latest.c.position)
    )


def recorded_event(tenant: str, visitor_id: str, event_id: str) -> Select[Any]:
    """When the event of this visitor was recorded that counts under this id; no row: none is."""
    key = visitor_key(tenant, visitor_id)
    mine = [hashed_key(identity_id(key, segment)) for segment in range(MOST_SEGMENTS)]
    events = engagement_history.c
    return select(events.recorded_at).where(
        _among(events.identity_key, mine), events.event_id == event_id, events.tenant == tenant
    )


def chat_totals(tenant: str, since: datetime) -> Select[Any]:
    """One row: the sessions opened since then, what they became, and how long their answers took."""
    events = engagement_history.c
    session = func.regexp_replace(identities.c.identity, "#[0-9]+$", "")
    seconds = cast(events.details["time_taken_s"].astext, Float)
    sessions = (
        select(
            session.label("session"),
            func.max(identities.c.lead_key).label("lead_key"),
            func.bool_or(events.type == tag_of(SessionStarted)).label("started"),
            func.bool_or(events.type == tag_of(QuestionsCompleted)).label("completed"),
            func.sum(case((events.type == tag_of(QuestionAnswered), seconds))).label("seconds"),
            func.count(case((events.type == tag_of(QuestionAnswered), seconds))).label("timed"),
        )
        .select_from(engagement_history.join(identities, identities.c.identity_key == events.identity_key))
        .where(events.tenant == tenant, events.source == SOURCE, events.occurred_at >= since)
        .group_by(session)
        .subquery("sessions")
    )
    score = and_(lead_scores.c.lead_key == sessions.c.lead_key, lead_scores.c.model == MODEL)
    band = lead_scores.c.bands[SCALE].astext
    lead_key = sessions.c.lead_key
    return (
        select(
            func.count().label("sessions"),
            func.count().filter(sessions.c.completed).label("completed"),
            func.count(func.distinct(case((band == "SQL", lead_key)))).label("sql"),
            func.count(func.distinct(case((band == "MQL", lead_key)))).label("mql"),
            func.count(func.distinct(case((func.coalesce(band, "") == "Unqualified", lead_key)))).label(
                "unqualified"
            ),
            func.count(func.distinct(lead_key)).label("leads"),
            func.avg(func.coalesce(lead_scores.c.rounded, 0)).filter(~REFUSES_PROFILING).label("average"),
            (func.sum(sessions.c.seconds) / func.nullif(func.sum(sessions.c.timed), 0)).label("response"),
        )
        .select_from(
            sessions.outerjoin(lead_scores, score).outerjoin(leads, leads.c.lead_key == sessions.c.lead_key)
        )
        .where(sessions.c.started)
    )


def _among(column: Any, values: Sequence[int]) -> Any:
    return column == any_(literal(list(values), ARRAY(column.type)))

"""Statements for lists of whom to call: what happened last to several leads, and how many are in each band. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Select, Text, all_, any_, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from projections.past_lists import owned_then
from projections.tables import (
    engagement_history,
    identities,
    lead_scores,
    leads,
    score_history,
    session_scores,
    sessions,
)
from scoring.features.signals import BOOKKEEPING_TAGS


def latest_totals(
    lead_keys: Sequence[int], model: str, *, limit: int, until: datetime | None = None
) -> Select[Any]:
    """The latest changes of several leads' scores by one model up to a moment, of each the newest first."""
    keys = func.unnest(literal(list(lead_keys), ARRAY(BigInteger())))
    requested = keys.table_valued(column("lead_key", BigInteger()), name="requested").render_derived()
    changes = score_history.c
    latest = (
        select(changes.at, changes.position, changes.total, changes.change, changes.lines)
        .where(
            changes.lead_key == requested.c.lead_key,
            changes.model == model,
            changes.change != 0,
            true() if until is None else changes.at <= until,
        )
        .order_by(changes.at.desc(), changes.position.desc())
        .limit(limit)
        .lateral("latest")
    )
    return (
        select(requested.c.lead_key, latest)
        .select_from(requested.join(latest, true()))
        .order_by(requested.c.lead_key, latest.c.at.desc(), latest.c.position.desc())
    )


def latest_events(lead_keys: Sequence[int], until: datetime | None = None) -> Select[Any]:
    """The last event of several leads that is a reason to call, or not to. `until`: as it was recorded by then."""
    event = engagement_history.c
    owned: Any = identities if until is None else owned_then(lead_keys, until)
    latest = (
        select(event.type, event.occurred_at, event.title, event.url, event.details, event.position)
        .where(
            event.identity_key == owned.c.identity_key,
            event.type != all_(literal(sorted(BOOKKEEPING_TAGS), ARRAY(Text()))),
            true() if until is None else event.recorded_at <= until,
        )
        .order_by(event.occurred_at.desc(), event.partition.desc(), event.position.desc())
        .limit(1)
        .lateral("latest")
    )
    return (
        select(owned.c.lead_key, latest)
        .ext(distinct_on(owned.c.lead_key))
        .select_from(owned.join(latest, true()))
        .where(owned.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger()))))
        .order_by(owned.c.lead_key, latest.c.occurred_at.desc(), latest.c.position.desc())
    )


def latest_sessions(lead_keys: Sequence[int]) -> Select[Any]:
    """The last web session of several leads, with its score by the model that scores sessions."""
    visit = sessions.c
    latest = (
        select(
            visit.session_key,
            visit.opened_at,
            visit.last_at,
            visit.pages,
            visit.clicks,
            visit.important_clicks,
        )
        .where(
            visit.identity_key == identities.c.identity_key, ~visit.retracted, visit.opened_at.is_not(None)
        )
        .order_by(visit.opened_at.desc(), visit.session_key)
        .limit(1)
        .lateral("latest")
    )
    score = (
        select(session_scores.c.score)
        .where(
            session_scores.c.session_key == latest.c.session_key,
            session_scores.c.lead_key == identities.c.lead_key,
        )
        .order_by(session_scores.c.position.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(identities.c.lead_key, latest, score.label("score"))
        .ext(distinct_on(identities.c.lead_key))
        .select_from(identities.join(latest, true()))
        .where(identities.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger()))))
        .order_by(identities.c.lead_key, latest.c.opened_at.desc())
    )


def whole_leads(lead_keys: Sequence[int]) -> Select[Any]:
    """Their rows of now."""
    return select(leads).where(leads.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger()))))


def profile_fields(lead_keys: Sequence[int]) -> Select[Any]:
    return select(leads.c.lead_key, leads.c.fields).where(
        leads.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger())))
    )


def leads_by_band(tenant: str, model: str) -> Select[Any]:
    """(identified, band_keys, leads) of everybody whom the model scores and who was not merged. It reads only an index."""
    score = lead_scores.c
    return (
        select(score.identified, score.band_keys, func.count().label("leads"))
        .where(score.tenant == tenant, score.model == model, score.listed)
        .group_by(score.identified, score.band_keys)
    )


def leads_by_stage(tenant: str) -> Select[Any]:
    """(identified, stage, leads) of everybody who was not merged into another lead. It reads only an index."""
    return (
        select(leads.c.identified, leads.c.stage, func.count().label("leads"))
        .where(leads.c.tenant == tenant, leads.c.identities > 0)
        .group_by(leads.c.identified, leads.c.stage)
    )

"""Statements that read an experiment's exposures and conversions. No I/O.

Facts are stored by identity, and a lead is a join: after a merge, the remaining lead has the facts of both. The
statements select only what decides a result, so that the rows are few; `scoring.experiments.results` defines that.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, Select, Text, and_, any_, case, func, literal, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from projections.queries import REFUSES_PROFILING
from projections.tables import IS_EXPOSURE_CONDITION, engagement_history, identities, leads
from schemas.envelope import tag_of
from schemas.events import ConversionRecorded, Custom
from scoring.experiments.assignment import Experiment
from scoring.experiments.results import EARLY_CONVERSION_ALLOWANCE

_events: Final = engagement_history.c
_of_identities: Final = engagement_history.join(
    identities, identities.c.identity_key == engagement_history.c.identity_key
)


def select_exposures(tenant: str, experiment: str) -> Select[Any]:
    """(lead, variant, at, event_id): each lead's first exposure to each variant that it saw."""
    variant = _events.details["variant"].astext
    return (
        select(
            identities.c.lead_key.label("lead"),
            variant.label("variant"),
            _events.occurred_at.label("at"),
            _events.event_id,
        )
        .ext(distinct_on(identities.c.lead_key, variant))
        .select_from(_of_identities)
        .where(*_exposure_events(tenant, experiment))
        .order_by(identities.c.lead_key, variant, _events.occurred_at, _events.event_id)
    )


def select_conversions(tenant: str, experiment: Experiment) -> Select[Any]:
    """(lead, event, named, at): each exposed lead's first event of each kind that a goal may count. The window of a lead
    begins a little before its first exposure.
    """
    first = (
        select(identities.c.lead_key, func.min(_events.occurred_at).label("at"))
        .select_from(_of_identities)
        .where(*_exposure_events(tenant, experiment.name))
        .group_by(identities.c.lead_key)
        .cte("first")
    )
    named = case(
        (_events.type == tag_of(ConversionRecorded), _events.details["conversion_type"].astext),
        (_events.type == tag_of(Custom), _events.details["name"].astext),
    )
    mine = first.join(identities, identities.c.lead_key == first.c.lead_key)
    then = and_(
        _events.identity_key == identities.c.identity_key,
        _events.occurred_at.between(
            first.c.at - literal(EARLY_CONVERSION_ALLOWANCE),
            first.c.at + literal(timedelta(days=experiment.window_days)),
        ),
    )
    return (
        select(
            first.c.lead_key.label("lead"),
            _events.type.label("event"),
            named.label("named"),
            func.min(_events.occurred_at).label("at"),
        )
        .select_from(mine.join(engagement_history, then))
        .where(_among(sign.event for goal in experiment.goals for sign in goal.goal_events))
        .group_by(first.c.lead_key, _events.type, named)
    )


def select_named_leads(lead_keys: Collection[Any]) -> Select[Any]:
    """(lead_key, lead_id, name, company, identified) of these leads."""
    return (
        select(
            identities.c.lead_key,
            identities.c.lead_id,
            leads.c.name,
            leads.c.company,
            func.coalesce(leads.c.identified, False).label("identified"),
        )
        .ext(distinct_on(identities.c.lead_key))
        .select_from(identities.outerjoin(leads, leads.c.lead_key == identities.c.lead_key))
        .where(identities.c.lead_key == any_(literal(sorted(lead_keys), ARRAY(BigInteger()))))
        .order_by(identities.c.lead_key)
    )


def _exposure_events(tenant: str, experiment: str) -> Iterable[Any]:
    """Without leads that object to profiling."""
    refusing = select(leads.c.lead_key).where(leads.c.lead_key == identities.c.lead_key, REFUSES_PROFILING)
    return (
        ~refusing.exists(),
        _events.tenant == tenant,
        text(IS_EXPOSURE_CONDITION),  # as in the index, so that a prepared statement finds it, too
        _events.details["experiment"].astext == experiment,
        _events.details["variant"].astext.is_not(None),
    )


def _among(events: Iterable[str]) -> Any:
    """Passes an array, so that the statement's text is the same for any number of events."""
    return _events.type == any_(literal(sorted(set(events)), ARRAY(Text())))

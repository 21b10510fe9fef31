"""What the read models know of an experiment: who was exposed, and what they did then. No I/O.

Facts stand by identity, and a lead is a join: after a merge, the facts of both are the one lead's. Only
what decides a result is asked for, so that the rows are few: `scoring.experiments.results` says what it is.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ARRAY, Select, Text, and_, any_, case, func, literal, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from projections.tables import IS_EXPOSURE, engagement_history, identities
from schemas.envelope import tag_of
from schemas.events import ConversionRecorded, Custom
from scoring.experiments.assignment import Experiment
from scoring.experiments.results import EARLY

_told: Final = engagement_history.c
_of_identities: Final = engagement_history.join(
    identities, identities.c.identity_key == engagement_history.c.identity_key
)


def exposures(tenant: str, experiment: str) -> Select[Any]:
    """(lead, variant, at, event_id): of each lead the first exposure to each variant that it saw."""
    variant = _told.details["variant"].astext
    return (
        select(
            identities.c.lead_key.label("lead"),
            variant.label("variant"),
            _told.occurred_at.label("at"),
            _told.event_id,
        )
        .ext(distinct_on(identities.c.lead_key, variant))
        .select_from(_of_identities)
        .where(*_exposed(tenant, experiment))
        .order_by(identities.c.lead_key, variant, _told.occurred_at, _told.event_id)
    )


def conversions(tenant: str, experiment: Experiment) -> Select[Any]:
    """(lead, event, named, at): of each exposed lead the first event of each kind that a goal may count, in
    the window of its first exposure, which begins a little before it.
    """
    first = (
        select(identities.c.lead_key, func.min(_told.occurred_at).label("at"))
        .select_from(_of_identities)
        .where(*_exposed(tenant, experiment.name))
        .group_by(identities.c.lead_key)
        .cte("first")
    )
    named = case(
        (_told.type == tag_of(ConversionRecorded), _told.details["conversion_type"].astext),
        (_told.type == tag_of(Custom), _told.details["name"].astext),
    )
    mine = first.join(identities, identities.c.lead_key == first.c.lead_key)
    then = and_(
        _told.identity_key == identities.c.identity_key,
        _told.occurred_at.between(
            first.c.at - literal(EARLY), first.c.at + literal(timedelta(days=experiment.window_days))
        ),
    )
    return (
        select(
            first.c.lead_key.label("lead"),
            _told.type.label("event"),
            named.label("named"),
            func.min(_told.occurred_at).label("at"),
        )
        .select_from(mine.join(engagement_history, then))
        .where(_among(sign.event for goal in experiment.goals for sign in goal.signs))
        .group_by(first.c.lead_key, _told.type, named)
    )


def _exposed(tenant: str, experiment: str) -> Iterable[Any]:
    return (
        _told.tenant == tenant,
        text(IS_EXPOSURE),  # word for word, so that a prepared statement finds the index, too
        _told.details["experiment"].astext == experiment,
        _told.details["variant"].astext.is_not(None),
    )


def _among(events: Iterable[str]) -> Any:
    """As an array, so that the statement's text is the same for any number of events."""
    return _told.type == any_(literal(sorted(set(events)), ARRAY(Text())))

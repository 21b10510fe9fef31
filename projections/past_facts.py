"""Reads the facts of one lead as of a moment (`scoring.analytics.facts`): what was recorded by then, or what today is known of
then. No I/O.

The identities that the lead had then, and the stages that it had entered, come from whoever knows the lead of then.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Select, all_, and_, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from projections.lead_facts import (
    events_of_identities,
    facts_of_rows,
    owner_columns,
    requested_leads,
    scores_of_leads,
)
from projections.row_keys import lead_row_key
from projections.tables import engagement_history, identity_history, score_history
from schemas.moment import millis
from scoring.analytics.facts import LeadFacts

Row = Mapping[str, Any]


class PastFactStatements(NamedTuple):
    """Each gives rows with the column `lead_key`."""

    events: Select[Any]
    scores: Select[Any]
    owners: Select[Any]
    former_events: Select[Any]


def select_past_facts(
    tenant: str, lead_id: str, identity_keys: Sequence[int], until: datetime, *, known_today: bool
) -> PastFactStatements:
    """`identity_keys`: those that the lead had then. `known_today`: events count from when they happened, else from when they were
    recorded.
    """
    keys = requested_leads([lead_row_key(tenant, lead_id)])
    event, change = engagement_history.c, score_history.c
    identities = func.unnest(literal(list(identity_keys), ARRAY(BigInteger())))
    owned = identities.table_valued(column("identity_key", BigInteger()), name="owned").render_derived()
    happened = event.occurred_at if known_today else event.recorded_at
    return PastFactStatements(
        events_of_identities(keys, owned, happened <= until),
        scores_of_leads(keys, change.at <= until),
        _owners(keys, None if known_today else until),
        _former_events(keys, identity_keys, until, known_today=known_today),
    )


def past_facts(
    lead: Row,
    stages: Sequence[Row],
    events: Sequence[Row],
    scores: Sequence[Row],
    owners: Sequence[Row],
    former_events: Sequence[Row],
) -> LeadFacts:
    """`lead`: its row of then, as of `live.leads`. `stages`: those that it had entered. The others are the rows of
    `select_past_facts`.
    """
    key = lead_row_key(lead["tenant"], lead["lead_id"])
    created = {**lead, "lead_key": key, "created_at": millis(lead["created_at"])}
    entered = [{**each, "lead_key": key, "at": millis(each["at"])} for each in stages]
    return facts_of_rows([created], events, entered, scores, owners, former_events)[key]


def _owners(keys: Any, until: datetime | None) -> Select[Any]:
    """Every epoch that had begun of every identity that the lead had by then."""
    had, every = identity_history.alias("had"), identity_history.alias("every")
    mine = select(had.c.identity_key).where(had.c.lead_key == keys.c.lead_key)
    if until is not None:
        mine = mine.where(had.c.attached_at <= until)
    theirs = mine.distinct().lateral("mine")
    return select(keys.c.lead_key, *owner_columns(every)).select_from(
        keys.join(theirs, true()).join(
            every,
            and_(
                every.c.identity_key == theirs.c.identity_key,
                true() if until is None else every.c.attached_at <= until,
            ),
        )
    )


def _former_events(
    keys: Any, identity_keys: Sequence[int], until: datetime, *, known_today: bool
) -> Select[Any]:
    """Events of identities that had left the lead by then, recorded before their next owner's epoch began."""
    had, after = identity_history.alias("had"), identity_history.alias("after")
    left = (
        select(had.c.identity_key, func.max(after.c.attached_at).label("left_at"))
        .join_from(
            had, after, and_(after.c.identity_key == had.c.identity_key, after.c.epoch == had.c.epoch + 1)
        )
        .where(
            had.c.lead_key == keys.c.lead_key,
            had.c.identity_key != all_(literal(list(identity_keys), ARRAY(BigInteger()))),
            true() if known_today else after.c.attached_at <= until,
        )
        .group_by(had.c.identity_key)
        .lateral("detached")
    )
    event = engagement_history.c
    happened = event.occurred_at if known_today else event.recorded_at
    return events_of_identities(keys, left, event.recorded_at <= left.c.left_at, happened <= until)

"""Statements for lists of whom to call: what happened last to several leads, and how many are in each band. No I/O."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, any_, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from projections.tables import engagement_history, identities, lead_scores, leads, score_history


def latest_totals(lead_keys: Sequence[int], model: str, *, limit: int) -> Select[Any]:
    """The latest changes of several leads' scores by one model, of each the newest first."""
    keys = func.unnest(literal(list(lead_keys), ARRAY(BigInteger())))
    requested = keys.table_valued(column("lead_key", BigInteger()), name="requested").render_derived()
    changes = score_history.c
    latest = (
        select(changes.at, changes.position, changes.total, changes.change, changes.lines)
        .where(changes.lead_key == requested.c.lead_key, changes.model == model, changes.change != 0)
        .order_by(changes.at.desc(), changes.position.desc())
        .limit(limit)
        .lateral("latest")
    )
    return (
        select(requested.c.lead_key, latest)
        .select_from(requested.join(latest, true()))
        .order_by(requested.c.lead_key, latest.c.at.desc(), latest.c.position.desc())
    )


def latest_events(lead_keys: Sequence[int]) -> Select[Any]:
    """The last event of several leads."""
    event = engagement_history.c
    latest = (
        select(event.type, event.occurred_at, event.title, event.url, event.details, event.position)
        .where(event.identity_key == identities.c.identity_key)
        .order_by(event.occurred_at.desc(), event.partition.desc(), event.position.desc())
        .limit(1)
        .lateral("latest")
    )
    return (
        select(identities.c.lead_key, latest)
        .ext(distinct_on(identities.c.lead_key))
        .select_from(identities.join(latest, true()))
        .where(identities.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger()))))
        .order_by(identities.c.lead_key, latest.c.occurred_at.desc(), latest.c.position.desc())
    )


def profile_fields(lead_keys: Sequence[int]) -> Select[Any]:
    return select(leads.c.lead_key, leads.c.fields).where(
        leads.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger())))
    )


def leads_by_band_and_stage(tenant: str, model: str, scale: str) -> Select[Any]:
    """(identified, band, stage, leads) of everybody who has not been merged into another lead."""
    band = lead_scores.c.bands[scale].astext.label("band")
    own = (lead_scores.c.lead_key == leads.c.lead_key) & (lead_scores.c.model == model)
    return (
        select(leads.c.identified, band, leads.c.stage, func.count().label("leads"))
        .select_from(leads.outerjoin(lead_scores, own))
        .where(leads.c.tenant == tenant, leads.c.identities > 0)
        .group_by(leads.c.identified, band, leads.c.stage)
    )

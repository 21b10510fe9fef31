"""Reads the facts of leads (`scoring.analytics.facts`) from the read models. Nothing here does I/O.

    statements = select_facts([lead_row_key("default", "L1")])
    facts = facts_of_rows(*[ask(each) for each in statements])

Of a lead with very many events the latest EVENTS_READ count, so no lead costs more than that.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    Select,
    and_,
    cast,
    column,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from projections.lifecycle import ENGAGEMENT_MODEL_AND_GROUP
from projections.tables import engagement_history, identities, identity_history, score_history, stage_history
from projections.tables import leads as lead_rows
from schemas.moment import moment
from scoring.analytics.facts import (
    EventDetails,
    EventFact,
    LeadFacts,
    OwnerFact,
    ScoreFact,
    StageFact,
    is_high_intent,
    is_interaction,
    key_of,
)
from scoring.analytics.orders import PURCHASE
from scoring.features.signals import NO_CURRENCY, minor_units, real_id
from scoring.journeys.timeline import ORDER_WITHIN_A_MOMENT, TimelineKey, TimelineKind
from scoring.models.points import ONE_POINT

EVENTS_READ: Final = 20_000
"""Events of one lead, the latest, and as many score changes."""

Row = Mapping[str, Any]


class FactStatements(NamedTuple):
    """Each gives rows of several leads, with the column `lead_key`."""

    leads: Select[Any]
    events: Select[Any]
    stages: Select[Any]
    scores: Select[Any]
    owners: Select[Any]
    former_events: Select[Any]


def select_facts(lead_keys: Sequence[int]) -> FactStatements:
    """The statements that read everything about these leads. A key without a lead gives no row."""
    keys = requested_leads(lead_keys)
    return FactStatements(
        _leads(keys), _events(keys), _stages(keys), scores_of_leads(keys), _owners(keys), _former_events(keys)
    )


def count_facts(lead_keys: Sequence[int]) -> Select[Any]:
    """(lead_key, facts): how many events each lead has, EVENTS_READ at most. It reads only an index."""
    keys = requested_leads(lead_keys)
    owned = (
        select(literal(1).label("one"))
        .select_from(
            identities.join(
                engagement_history, engagement_history.c.identity_key == identities.c.identity_key
            )
        )
        .where(identities.c.lead_key == keys.c.lead_key)
        .limit(EVENTS_READ)
        .lateral("owned")
    )
    return select(keys.c.lead_key, func.count().label("facts")).join(owned, true()).group_by(keys.c.lead_key)


def has_many_facts(lead_key: int, most: int) -> Select[Any]:
    """(many): whether the lead has more events, or more changes of its score, than `most`."""
    events = identities.join(
        engagement_history, engagement_history.c.identity_key == identities.c.identity_key
    )
    change, (model, _) = score_history.c, ENGAGEMENT_MODEL_AND_GROUP
    one = select(literal(1)).offset(most).limit(1)
    more_events = one.select_from(events).where(identities.c.lead_key == lead_key)
    more_changes = one.select_from(score_history).where(change.lead_key == lead_key, change.model == model)
    return select(or_(more_events.exists(), more_changes.exists()).label("many"))


def select_latest_facts(lead_key: int, limit: int, before: TimelineKey | None) -> tuple[Select[Any], ...]:
    """The statements that read what a page of a lead's timeline may contain: of each kind the latest `limit` facts before
    the key, and every owner. As `select_facts`, without the former events.
    """
    keys = requested_leads([lead_key])
    event, entry, change = engagement_history.c, stage_history.c, score_history.c
    return (
        _leads(keys),
        _events(
            keys, *_before(before, "event", (event.occurred_at, event.partition, event.position)), limit=limit
        ),
        _stages(keys)
        .where(*_before(before, "stage", (entry.at, entry.position)))
        .order_by(entry.at.desc(), entry.position.desc())
        .limit(limit),
        scores_of_leads(keys, *_before(before, "score", (change.at, change.position)), limit=limit),
        _owners(keys),
    )


def _before(
    before: TimelineKey | None, kind: TimelineKind, columns: Sequence[ColumnElement[Any]]
) -> Sequence[ColumnElement[bool]]:
    """What comes before the key of a timeline. The columns are those of the kind's own keys; the first is the moment."""
    if before is None:
        return ()
    at, order, *own = before
    if order > ORDER_WITHIN_A_MOMENT[kind]:
        return (columns[0] <= moment(at),)
    if order < ORDER_WITHIN_A_MOMENT[kind]:
        return (columns[0] < moment(at),)
    values = [literal(number, BigInteger()) for number in own[: len(columns) - 1]]
    return (tuple_(*columns) < tuple_(literal(moment(at)), *values),)


def facts_of_rows(
    leads: Iterable[Row],
    events: Iterable[Row],
    stages: Iterable[Row],
    scores: Iterable[Row],
    owners: Iterable[Row],
    former_events: Iterable[Row] = (),
) -> dict[int, LeadFacts]:
    """The facts of each lead, by its key, from the rows of `select_facts` in its order, or of
    `select_latest_facts`.
    """
    events_of = _by_lead(events, _event_fact)
    stages_of = _by_lead(stages, _stage_fact)
    scores_of = _by_lead(scores, _score_fact)
    owners_of = _by_lead(owners, _owner_fact)
    former_of = _by_lead(former_events, _event_fact)
    return {
        key: LeadFacts(
            tenant=lead["tenant"],
            lead_id=lead["lead_id"],
            identified=lead["identified"],
            created_at=lead["created_at"],
            stage=lead["stage"],
            events=sorted(events_of[key], key=_by_occurrence),
            stages=sorted(stages_of[key]),
            scores=sorted(scores_of[key]),
            owners=sorted(owners_of[key], key=lambda owner: owner.recorded_order),
            former_events=sorted(former_of[key], key=_by_occurrence),
        )
        for lead in leads
        for key in [lead["lead_key"]]
    }


def _by_lead(rows: Iterable[Row], fact_of: Any) -> defaultdict[int, list[Any]]:
    facts: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        facts[row["lead_key"]].append(fact_of(row))
    return facts


def _by_occurrence(event: EventFact) -> tuple[int, ...]:
    return event.occurred_at, *event.recorded_order


# Statements


def requested_leads(lead_keys: Sequence[int]) -> Any:
    """The keys as a table, so that the statement's text is the same for any number of them."""
    keys = func.unnest(literal(list(lead_keys), ARRAY(BigInteger())))
    return keys.table_valued(column("lead_key", BigInteger()), name="requested").render_derived()


def _millis(at: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.extract("epoch", at) * 1000, BigInteger)


def _leads(keys: Any) -> Select[Any]:
    """Leads that exist. A lead that was merged into another has no identities, and no facts of its own."""
    lead = lead_rows.c
    return (
        select(
            lead.lead_key,
            lead.tenant,
            lead.lead_id,
            lead.identified,
            lead.stage,
            _millis(lead.created_at).label("created_at"),
        )
        .join_from(keys, lead_rows, lead.lead_key == keys.c.lead_key)
        .where(lead.identities > 0)
    )


@cache  # making them costs more than reading fifty events
def _event_columns() -> Sequence[ColumnElement[Any]]:
    event = engagement_history.c
    details = {name: event.details[name].astext.label(name) for name in _DETAIL_NAMES}
    return [
        event.event_id,
        event.identity_key,
        event.type,
        _millis(event.occurred_at).label("occurred_at"),
        _millis(event.recorded_at).label("recorded_at"),
        event.partition,
        event.position,
        event.channel,
        event.source,
        event.channel_group,
        event.source_type,
        event.source_id,
        func.coalesce(event.source_name, event.details["form_name"].astext).label("source_name"),
        event.campaign_source,
        event.campaign_medium,
        func.coalesce(event.campaign_name, event.details["campaign_name"].astext).label("campaign_name"),
        event.title,
        event.revenue_minor,
        event.currency.label("purchase_currency"),
        event.late,
        event.imported,
        *details.values(),
    ]


_DETAIL_NAMES: Final = (*EventDetails._fields, "campaign_id", "value", "currency")


def _latest_events(
    identity_key: ColumnElement[int], *conditions: ColumnElement[bool], limit: int = EVENTS_READ
) -> Any:
    event = engagement_history.c
    return (
        select(*_event_columns())
        .where(event.identity_key == identity_key, *conditions)
        .order_by(event.occurred_at.desc(), event.partition.desc(), event.position.desc())
        .limit(limit)
        .lateral("latest")
    )


def _events(keys: Any, *conditions: ColumnElement[bool], limit: int = EVENTS_READ) -> Select[Any]:
    mine = _latest_events(identities.c.identity_key, *conditions, limit=limit)
    of_lead = (
        select(*mine.c)
        .select_from(identities.join(mine, true()))
        .where(identities.c.lead_key == keys.c.lead_key)
        .order_by(mine.c.occurred_at.desc(), mine.c.partition.desc(), mine.c.position.desc())
        .limit(limit)
        .lateral("of_lead")
    )
    return select(keys.c.lead_key, *of_lead.c).select_from(keys.join(of_lead, true()))


def events_of_identities(keys: Any, owned: Any, *conditions: ColumnElement[bool]) -> Select[Any]:
    """The events of one lead that are those of the identities `owned`, a table with the column `identity_key`."""
    mine = _latest_events(owned.c.identity_key, *conditions)
    return (
        select(keys.c.lead_key, *mine.c)
        .select_from(keys.join(owned, true()).join(mine, true()))
        .order_by(mine.c.occurred_at.desc(), mine.c.partition.desc(), mine.c.position.desc())
        .limit(EVENTS_READ)
    )


def _former_events(keys: Any) -> Select[Any]:
    """Events of identities that have left the lead, recorded before their next owner's epoch began."""
    had, now = identity_history.alias("had"), identities.alias("now")
    after = identity_history.alias("after")
    left_at = (
        select(func.max(after.c.attached_at))
        .where(after.c.identity_key == had.c.identity_key, after.c.epoch == had.c.epoch + 1)
        .scalar_subquery()
    )
    detached = (
        select(had.c.identity_key, func.max(left_at).label("left_at"))
        .join_from(had, now, and_(now.c.identity_key == had.c.identity_key, now.c.lead_key != had.c.lead_key))
        .where(had.c.lead_key == keys.c.lead_key)
        .group_by(had.c.identity_key)
        .lateral("detached")
    )
    theirs = _latest_events(detached.c.identity_key, engagement_history.c.recorded_at <= detached.c.left_at)
    return (
        select(keys.c.lead_key, *theirs.c)
        .select_from(keys.join(detached, true()).join(theirs, true()))
        .where(exists().where(lead_rows.c.lead_key == keys.c.lead_key, lead_rows.c.identities > 0))
    )


def _stages(keys: Any) -> Select[Any]:
    entry = stage_history.c
    return select(
        entry.lead_key,
        _millis(entry.at).label("at"),
        entry.position,
        entry.stage,
        entry.previous,
        entry.reason,
        entry.caused_by,
    ).join_from(keys, stage_history, entry.lead_key == keys.c.lead_key)


def scores_of_leads(keys: Any, *conditions: ColumnElement[bool], limit: int = EVENTS_READ) -> Select[Any]:
    """Of each lead the latest changes of the score that its analytics read."""
    change, (model, group) = score_history.c, ENGAGEMENT_MODEL_AND_GROUP
    line = func.jsonb_array_elements(change.lines, type_=JSONB).column_valued("line")
    engagement = (
        select(func.coalesce(func.sum(cast(line[3].astext, Numeric)), 0))
        .where(line[0].astext == group)
        .scalar_subquery()
    )
    latest = (
        select(
            _millis(change.at).label("at"),
            change.position,
            change.model,
            change.total,
            change.previous,
            engagement.label("engagement"),
            change.caused_by,
            change.removed,
        )
        .where(change.lead_key == keys.c.lead_key, change.model == model, *conditions)
        .order_by(change.at.desc(), change.position.desc())
        .limit(limit)
        .lateral("latest")
    )
    return select(keys.c.lead_key, *latest.c).select_from(keys.join(latest, true()))


def _owners(keys: Any) -> Select[Any]:
    """Every epoch of every identity that the lead ever had."""
    had, every = identity_history.alias("had"), identity_history.alias("every")
    mine = select(had.c.identity_key).where(had.c.lead_key == keys.c.lead_key).distinct().lateral("mine")
    return select(keys.c.lead_key, *owner_columns(every)).select_from(
        keys.join(mine, true()).join(every, every.c.identity_key == mine.c.identity_key)
    )


def owner_columns(epochs: Any) -> Sequence[ColumnElement[Any]]:
    """What an `OwnerFact` is made of; `epochs`: `identity_history`, by whatever name."""
    return [
        epochs.c.identity_key,
        epochs.c.epoch,
        epochs.c.lead_id,
        _millis(epochs.c.attached_at).label("recorded_at"),
        epochs.c.partition,
        epochs.c.position,
    ]


# Facts of rows


def _event_fact(row: Row) -> EventFact:
    kind = row["type"]
    details = EventDetails(
        answered=row["answered"] == "true",
        submission_id=row["submission_id"],
        message_id=row["message_id"],
        order_id=row["order_id"],
        refund_id=row["refund_id"],
        conversion_type=row["conversion_type"],
        conversion_id=row["conversion_id"] or "",
    )
    amount, currency = None, None
    if kind == PURCHASE:
        amount, currency = row["revenue_minor"], row["purchase_currency"]
    elif row["value"] is not None:
        currency = row["currency"] or NO_CURRENCY
        amount = minor_units(Decimal(row["value"]), currency)
    return EventFact(
        event_id=row["event_id"],
        identity_key=row["identity_key"],
        type=kind,
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        partition=row["partition"],
        position=row["position"],
        channel=row["channel"],
        source=row["source"],
        channel_group=row["channel_group"],
        source_type=row["source_type"],
        source_id=row["source_id"],
        source_name=row["source_name"],
        campaign_source=row["campaign_source"],
        campaign_medium=row["campaign_medium"],
        campaign_name=row["campaign_name"],
        campaign_id=row["campaign_id"],
        title=row["title"],
        amount_minor=amount,
        currency=currency,
        key=key_of(kind, details),
        order_id=real_id(details.order_id),
        refund_id=real_id(details.refund_id),
        conversion_type=details.conversion_type,
        conversion_id=details.conversion_id,
        interaction=is_interaction(kind, details),
        high_intent=is_high_intent(kind),
        late=row["late"],
        imported=row["imported"],
    )


def _stage_fact(row: Row) -> StageFact:
    return StageFact(*(row[name] for name in StageFact._fields))


def _score_fact(row: Row) -> ScoreFact:
    return ScoreFact(
        at=row["at"],
        position=row["position"],
        model=row["model"],
        total=int(row["total"] * ONE_POINT),
        previous=int(row["previous"] * ONE_POINT),
        engagement=int(row["engagement"] * ONE_POINT),
        caused_by=row["caused_by"],
        removed=row["removed"],
    )


def _owner_fact(row: Row) -> OwnerFact:
    return OwnerFact(*(row[name] for name in OwnerFact._fields))

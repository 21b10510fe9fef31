"""Which events a change in a CRM means: who owns the lead, where the deal is, whether it was won, with what value. Pure.

A record is compared with what is known of it; only differences become events. Their ids are hashes of the change, so a change
that is read again has the same id. A deal that is won is an order; won again, another one. A deal that is won no longer
is refunded.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from delivery.crm.inbound import CrmInbound
from delivery.crm.reading import FIELD_PREFIX
from delivery.crm.records import CrmRecord, amount_of, currency_of
from schemas.envelope import Context, Event
from schemas.events import (
    LeadAssigned,
    NoteAdded,
    ProfileUpdated,
    PurchaseMade,
    PurchaseRefunded,
    StageChanged,
)

CRM_SOURCE: Final = "crm"
CUSTOMER: Final = "customer"


class KnownRecord(Struct, frozen=True, kw_only=True):
    """What is known of a record of a CRM: what the last events were made of, and what we have written there ourselves."""

    lead_id: str | None = None
    values: dict[str, str | None] = {}
    pushed: dict[str, str] = {}
    """The CRM's field -> the value that we wrote and have not read since."""
    changed_at: datetime | None = None
    wins: int = 0
    """How often the deal was won; the number of its last order."""
    is_open: bool = False
    """The last order may be on record, and is not to be refunded."""
    amounts: dict[str, str] = {}
    """Of an open order: currency -> the highest amount that may be on record."""
    closing: dict[int, dict[str, str]] = {}
    """The amounts of orders whose refunds may not be on record yet, by their numbers."""


class LeadSituation(NamedTuple):
    """What else decides where a deal moves its lead."""

    stage: str | None = None
    other_deals: frozenset[str] = frozenset()
    """The states of the lead's other deals: open, won, lost."""


NO_OTHER_DEALS: Final = LeadSituation()


class CrmPlan(NamedTuple):
    """`announced` is on record before the events are in the log, `after` afterwards."""

    events: list[Event]
    announced: KnownRecord
    after: KnownRecord
    own: int
    """Changes that we have made ourselves; they are no events."""
    consumed: frozenset[str] = frozenset()
    """The CRM's fields of which the value that we pushed was read now."""


class _Orders(NamedTuple):
    """As in KnownRecord."""

    wins: int
    is_open: bool
    amounts: dict[str, str]
    closing: dict[int, dict[str, str]]


class _Origin(NamedTuple):
    tenant: str
    crm: str
    record: CrmRecord
    lead_id: str
    now: datetime

    @property
    def by(self) -> str:
        return f"crm {self.crm}"[:512]

    def envelope(self, what: str, at: datetime, *parts: object) -> dict[str, Any]:
        """`parts` tell this change from others of the record."""
        record = self.record
        named = "\n".join(
            map(str, (self.tenant, self.crm, record.kind, record.record_id, what, *parts, record.changed_at))
        )
        values = {name: record.values.get(name) for name in ("status", "value", "currency", "stage")}
        return {
            "event_id": f"crm-{blake2b(named.encode(errors='replace'), digest_size=20).hexdigest()}",
            "occurred_at": min(at, self.now),
            "recorded_at": self.now,
            "tenant": self.tenant,
            "lead_id": self.lead_id,
            "source": CRM_SOURCE,
            "context": Context(source_type=CRM_SOURCE, source_id=self.crm),
            "extra": {
                "crm": {
                    "kind": record.kind,
                    "id": record.record_id,
                    **{name: value for name, value in values.items() if value is not None},
                }
            },
        }


def plan_changes(
    record: CrmRecord,
    current: KnownRecord,
    rules: CrmInbound,
    *,
    crm: str,
    lead_id: str,
    now: datetime,
    situation: LeadSituation = NO_OTHER_DEALS,
) -> CrmPlan:
    """The events of a record of a lead. An older state of the record than the known one means nothing."""
    if current.changed_at is not None and record.changed_at < current.changed_at:
        return CrmPlan([], current, current, 0)
    changed = {name for name, value in record.values.items() if current.values.get(name) != value}
    echoed = {
        name
        for name, theirs in record.names.items()
        if theirs in current.pushed and current.pushed[theirs] == record.values.get(name)
    }
    news = changed - echoed
    origin = _Origin(rules.tenant, crm, record, lead_id, now)
    orders = _Orders(current.wins, current.is_open, current.amounts, current.closing)
    events: list[Event] = []
    announced = orders
    if record.kind == "deal":
        events, announced, orders = _deal_events(origin, current, rules, news, situation)
    elif "stage" in news and (stage := rules.stage_of(record.values["stage"])) is not None:
        envelope = origin.envelope("stage", record.changed_at, stage)
        reason = f"{crm} has the contact as {record.values['stage']}"
        events.append(StageChanged(**envelope, stage=stage, reason=reason[:512], by=origin.by))
    events += _owner_events(origin, rules, news)
    events += _field_events(origin, news)
    after = KnownRecord(
        lead_id=lead_id,
        values={**current.values, **record.values},
        changed_at=record.changed_at,
        **orders._asdict(),
    )
    consumed = frozenset(record.names[name] for name in echoed)
    # What the log may say of these fields is not known until `after` is stored: they are news then, whatever they are.
    unannounced = {
        name: value for name, value in current.values.items() if name == "status" or name not in news
    }
    return CrmPlan(
        events,
        replace(current, lead_id=lead_id, values=unannounced, **announced._asdict()),
        after,
        len(changed & echoed),
        consumed,
    )


def _owner_events(origin: _Origin, rules: CrmInbound, news: set[str]) -> Iterator[Event]:
    if "owner" in news:
        raw = origin.record.values["owner"]
        owner = None if raw is None else rules.owner_of(raw, origin.crm)
        envelope = origin.envelope("owner", origin.record.changed_at, raw)
        yield LeadAssigned(**envelope, assigned_to=owner, by=origin.by)


def _field_events(origin: _Origin, news: set[str]) -> Iterator[Event]:
    names = sorted(name for name in news if name.startswith(FIELD_PREFIX))
    if names:
        values = origin.record.values
        parts = [f"{name}={values[name]!r}" for name in names]
        envelope = origin.envelope("fields", origin.record.changed_at, *parts)
        yield ProfileUpdated(
            **envelope, fields={name.removeprefix(FIELD_PREFIX): values[name] for name in names}
        )


def _deal_events(
    origin: _Origin, current: KnownRecord, rules: CrmInbound, news: set[str], situation: LeadSituation
) -> tuple[list[Event], _Orders, _Orders]:
    """The events, and the deal's orders as they are on record before them and after them."""
    record = origin.record
    orders = _Orders(current.wins, current.is_open, current.amounts, current.closing)
    is_won = record.values.get("status") == "won"
    was_open = orders.is_open
    if was_open and not is_won:
        closing = {**orders.closing, orders.wins: orders.amounts}
        orders = _Orders(orders.wins, is_open=False, amounts={}, closing=closing)
    events: list[Event] = list(_refunds(origin, orders.closing))
    if is_won:
        is_new = current.values.get("status") != "won"
        if not was_open:
            orders = _Orders(orders.wins + 1, is_open=True, amounts={}, closing=orders.closing)
        if is_new or not was_open or news & {"value", "currency"}:
            at = min((record.closed_at if is_new else None) or record.changed_at, record.changed_at)
            event, orders = _win(origin, rules, orders, at)
            events.append(event)
    else:
        events += _moves(origin, current, rules, news, situation, was_won=was_open or bool(current.closing))
    return events, orders, orders._replace(closing={})


def order_id(crm: str, record_id: str, wins: int) -> str:
    """The order of a deal; each time that it is won again is another one."""
    return f"{crm}-deal-{record_id}" + (f"-{wins}" if wins > 1 else "")


def _win(origin: _Origin, rules: CrmInbound, orders: _Orders, at: datetime) -> tuple[Event, _Orders]:
    """A purchase; without any currency the lead becomes a customer whose revenue is unknown."""
    values = origin.record.values
    currency = currency_of(values.get("currency")) or rules.currency
    amount = amount_of(values.get("value")) or Decimal(0)
    envelope = origin.envelope("won", at, orders.wins, amount, currency)
    if currency is None:
        reason = f"deal {origin.record.record_id} of {origin.crm} was won; it names no currency"
        return StageChanged(**envelope, stage=CUSTOMER, reason=reason[:512], by=origin.by), orders
    highest = max(amount, Decimal(orders.amounts.get(currency, "0")))
    purchase = PurchaseMade(
        **envelope,
        value=amount,
        currency=currency,
        order_id=order_id(origin.crm, origin.record.record_id, orders.wins),
    )
    return purchase, orders._replace(amounts={**orders.amounts, currency: str(highest)})


def _refunds(origin: _Origin, closing: Mapping[int, Mapping[str, str]]) -> Iterator[Event]:
    """All that may be on record of the orders; a refund lowers an order to zero at most."""
    for wins, amounts in sorted(closing.items()):
        number = order_id(origin.crm, origin.record.record_id, wins)
        for currency, amount in sorted(amounts.items()):
            yield PurchaseRefunded(
                **origin.envelope("reopened", origin.record.changed_at, wins, currency, amount),
                order_id=number,
                value=Decimal(amount),
                currency=currency,
                refund_id=f"{number}-reopened-{currency}",
            )


def _moves(
    origin: _Origin,
    current: KnownRecord,
    rules: CrmInbound,
    news: set[str],
    situation: LeadSituation,
    *,
    was_won: bool,
) -> Iterator[Event]:
    """Where a deal that is open or lost moves its lead. A customer by something else stays one."""
    values = origin.record.values
    status = values.get("status")
    is_customer = "won" in situation.other_deals or (situation.stage == CUSTOMER and not was_won)
    if status == "lost" and "status" in news:
        text = _lost_text(origin)
        envelope = origin.envelope("lost", origin.record.closed_at or origin.record.changed_at, text)
        if rules.lost_stage and not is_customer and "open" not in situation.other_deals:
            yield StageChanged(**envelope, stage=rules.lost_stage, reason=text, by=origin.by)
        else:
            yield NoteAdded(**envelope, text=text, by=origin.by)
    elif status == "open" and news & {"status", "stage"}:
        own_stage = rules.deal_stages.get(values.get("stage") or "")
        if own_stage is None and "status" not in news:
            return
        stage = own_stage or rules.open_stage
        if stage and not is_customer:
            envelope = origin.envelope("open", origin.record.changed_at, current.values.get("stage"), stage)
            reason = f"deal {origin.record.record_id} of {origin.crm} is open"
            if values.get("stage"):
                reason += f", in stage {values['stage']}"
            yield StageChanged(**envelope, stage=stage, reason=reason[:512], by=origin.by)


def _lost_text(origin: _Origin) -> str:
    record = origin.record
    amount, currency = amount_of(record.values.get("value")), record.values.get("currency")
    value = f" of {amount} {currency or ''}".rstrip() if amount else ""
    because = f": {record.reason}" if record.reason else ""
    return f"deal {record.record_id}{value} was lost in {origin.crm}{because}"[:512]

"""What a change in a CRM means: hand-written cases, and any history of a deal with a worker that is killed at any step."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.crm.inbound import CrmInbound
from delivery.crm.outcome_events import KnownRecord, LeadSituation, plan_changes
from delivery.crm.records import CrmRecord, amount_of, moment_of
from schemas.decode import decode_source, encode_source
from schemas.envelope import tag_of
from schemas.events import PurchaseMade, PurchaseRefunded
from scoring.analytics.orders import OrderReport, orders_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RULES = CrmInbound(owners={"71": "5"}, deal_stages={"demo": "engaged"}, fields={"industry": "industry"})


def deal(minutes=0, number="9", **values):
    values = {"owner": None, "stage": None, "status": "open", "value": "1200.50", "currency": "EUR", **values}
    return CrmRecord("deal", number, NOON + timedelta(minutes=minutes), values)


def contact(minutes=0, **values):
    names = {"owner": "hubspot_owner_id", "stage": "lifecyclestage"}
    return CrmRecord("contact", "512", NOON + timedelta(minutes=minutes), values, names=names)


def planned(record, current=None, rules=RULES, **situation):
    plan = plan_changes(
        record,
        current or KnownRecord(),
        rules,
        crm="hub",
        lead_id="ada",
        now=NOON + timedelta(days=1),
        situation=LeadSituation(**situation),
    )
    for event in plan.events:
        assert decode_source(encode_source(event)).lead_id == "ada"
    return plan


def shown(plan):
    """(type, what it says) of each event."""
    fields = ("stage", "value", "currency", "order_id", "refund_id", "assigned_to", "fields", "text")
    return [
        (tag_of(type(event)), *(getattr(event, name) for name in fields if hasattr(event, name)))
        for event in plan.events
    ]


def test_a_deal_opens_is_won_changes_its_value_is_reopened_and_won_again():
    opened = planned(deal())
    assert shown(opened) == [("stage_changed", "opportunity")]
    won = planned(deal(1, status="won"), opened.after)
    assert shown(won) == [("purchase_made", Decimal("1200.50"), "EUR", "hub-deal-9")]
    dearer = planned(deal(2, status="won", value="1500"), won.after)
    assert shown(dearer) == [("purchase_made", Decimal(1500), "EUR", "hub-deal-9")]
    reopened = planned(deal(3, value="1500"), dearer.after, stage="customer")
    assert shown(reopened) == [
        ("purchase_refunded", Decimal(1500), "EUR", "hub-deal-9", "hub-deal-9-reopened-EUR"),
        ("stage_changed", "opportunity"),
    ]
    again = planned(deal(4, status="won", value="900"), reopened.after)
    assert shown(again) == [("purchase_made", Decimal(900), "EUR", "hub-deal-9-2")]
    assert shown(planned(deal(4, status="won", value="900"), again.after)) == []


def test_the_stage_of_an_open_deal_and_its_owner_come_back():
    plan = planned(deal(stage="demo", owner="71"))
    assert shown(plan) == [("stage_changed", "engaged"), ("lead_assigned", "5")]
    plan = planned(deal(1, stage="offer", owner="72"), plan.after)
    assert shown(plan) == [("lead_assigned", "hub:72")]
    assert shown(planned(deal(2, stage="offer"), plan.after)) == [("lead_assigned", None)]


def test_a_lost_deal_loses_its_lead_unless_another_one_is_alive_or_won():
    lost = deal(1, status="lost")._replace(reason="too expensive")
    text = "deal 9 of 1200.5 EUR was lost in hub: too expensive"
    current = planned(deal()).after
    assert shown(planned(lost, current)) == [("stage_changed", "lost")]
    assert planned(lost, current).events[0].reason == text
    assert shown(planned(lost, current, other_deals=frozenset({"open"}))) == [("note_added", text)]
    assert shown(planned(lost, current, other_deals=frozenset({"won"}))) == [("note_added", text)]
    assert shown(planned(lost, current, stage="customer")) == [("note_added", text)]


def test_a_second_deal_moves_no_customer_back():
    assert shown(planned(deal(number="10"), stage="customer")) == []
    assert shown(planned(deal(number="10"), other_deals=frozenset({"won"}))) == []


def test_a_deal_without_a_currency_makes_a_customer_of_unknown_revenue():
    plan = planned(deal(status="won", currency=None))
    assert shown(plan) == [("stage_changed", "customer")]
    with_default = planned(deal(status="won", currency=None), rules=CrmInbound(currency="AED"))
    assert shown(with_default) == [("purchase_made", Decimal("1200.50"), "AED", "hub-deal-9")]


def test_a_win_counts_when_the_deal_was_closed():
    closed = NOON - timedelta(days=3)
    (event,) = planned(deal(status="won")._replace(closed_at=closed)).events
    assert event.occurred_at == closed
    (event,) = planned(deal(status="won")._replace(closed_at=NOON + timedelta(days=90))).events
    assert event.occurred_at == NOON  # a date of the plan, and not of the win


def test_a_contact_moves_by_the_vendors_stages_or_by_those_of_the_configuration():
    assert shown(planned(contact(stage="salesqualifiedlead"))) == [("stage_changed", "qualified")]
    assert shown(planned(contact(stage="subscriber"))) == []
    own = CrmInbound(stages={"17": "engaged"})
    assert shown(planned(contact(stage="17"), rules=own)) == [("stage_changed", "engaged")]
    assert shown(planned(contact(stage="customer"), rules=own)) == []


def test_what_we_have_written_ourselves_does_not_come_back_and_a_later_return_to_it_does():
    current = planned(contact(owner="70")).after
    pushed = KnownRecord(
        **{
            **{n: getattr(current, n) for n in current.__struct_fields__},
            "pushed": {"hubspot_owner_id": "71"},
        }
    )
    echo = planned(contact(1, owner="71"), pushed)
    assert shown(echo) == []
    assert echo.own == 1
    assert echo.consumed == {"hubspot_owner_id"}
    away = planned(contact(2, owner="70"), echo.after)
    assert shown(away) == [("lead_assigned", "hub:70")]
    assert shown(planned(contact(3, owner="71"), away.after)) == [("lead_assigned", "5")]


def test_fields_come_back_and_an_emptied_one_is_cleared():
    record = contact(**{"field:industry": "Retail"})
    plan = planned(record)
    assert shown(plan) == [("profile_updated", {"industry": "Retail"})]
    plan = planned(contact(1, **{"field:industry": None}), plan.after)
    assert shown(plan) == [("profile_updated", {"industry": None})]


@pytest.mark.parametrize("field", ["owner", "stage", "field:industry"])
def test_what_a_crm_takes_back_after_a_kill_becomes_an_event(field):
    """The log has the change to b, and the worker was killed before it knew that; then the CRM has a again."""
    first = planned(contact(**{field: "opportunity"})).after
    killed = planned(contact(1, **{field: "customer"}), first).announced
    plan = planned(contact(2, **{field: "opportunity"}), killed)
    assert len(plan.events) == 1
    again = planned(contact(2, **{field: "opportunity"}), plan.announced)
    assert [event.event_id for event in again.events] == [event.event_id for event in plan.events]
    assert planned(contact(2, **{field: "opportunity"}), plan.after).events == []


def test_an_older_state_means_nothing():
    current = planned(deal(5, status="won")).after
    plan = planned(deal(4), current)
    assert (plan.events, plan.after) == ([], current)


def test_amounts_and_moments_are_read_as_vendors_write_them():
    assert [amount_of(text) for text in ("1200.5", "1E+3", "0.1234567", "-1", "1e13", "nan", "x", None)] == [
        Decimal("1200.5"), Decimal(1000), Decimal("0.123457"), None, None, None, None, None
    ]  # fmt: skip
    assert (
        moment_of("1772452800000")
        == moment_of("2026-03-02T12:00:00Z")
        == moment_of("2026-03-02 12:00:00")
        == NOON
    )
    assert moment_of("9" * 40) is None


class DealState(NamedTuple):
    status: str
    value: int
    currency: str
    killed: str
    """When the worker that reads this state is killed; empty: it is not."""


STATES = st.builds(
    DealState,
    st.sampled_from(["open", "won", "lost"]),
    st.integers(1, 3),
    st.sampled_from(["EUR", "USD"]),
    st.sampled_from(["", "before the log", "after the log"]),
)


@given(st.lists(STATES, min_size=1, max_size=8))
def test_whenever_a_worker_is_killed_the_revenue_is_that_of_the_deals_last_state(states):
    log, stored = {}, KnownRecord()
    for minutes, state in enumerate([*states, states[-1]._replace(killed="")]):
        record = deal(
            min(minutes, len(states) - 1),
            status=state.status,
            value=str(state.value),
            currency=state.currency,
        )
        plan = planned(record, stored)
        stored = plan.announced
        if state.killed != "before the log":
            log.update({event.event_id: event for event in plan.events})
            if not state.killed:
                stored = plan.after
    reports = [
        OrderReport(
            0, event.event_id, tag_of(type(event)), "crm", int(event.occurred_at.timestamp() * 1_000), event.order_id,
            getattr(event, "refund_id", None), event.currency, int(event.value * 100),
        )
        for event in log.values()
        if isinstance(event, PurchaseMade | PurchaseRefunded)
    ]  # fmt: skip
    last = states[-1]
    revenue = {currency: minor for currency, minor in orders_of(reports).revenue.items() if minor}
    assert revenue == ({last.currency: last.value * 100} if last.status == "won" else {})

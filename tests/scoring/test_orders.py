"""Orders: their net revenue in reports equals what the fold counts for the lead, whoever adds it up."""

from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leads_given import DAY_MS, T0, UTC, at_of, happened

from schemas.envelope import tag_of
from scoring.analytics.facts import EventFact, LeadFacts
from scoring.analytics.orders import Orders, order_reports, orders_of, revenue_of
from scoring.attribution.attribution_text import compiled_attribution
from scoring.attribution.conversions import conversions_of
from scoring.features.features import Features, evolve, merge_features, with_keyed_events_counted
from scoring.features.keyed_events import REFUNDS_KEPT
from scoring.features.signals import SignalCatalogue, major_units, minor_units, real_id, revenue
from scoring.journeys.day_summary import day_summaries
from scoring.journeys.journey import journey_of

IDENTITIES = (1, 2, 3)
ORDER_IDS = st.sampled_from(["A", " A\u200b", "B", "B ", "N/A"])
AMOUNTS = st.sampled_from(["0", "0.005", "0.015", "12.5", "99.99", "1000"])
CURRENCIES = st.sampled_from(["EUR", "EUR", "JPY", "KWD"])
MOMENTS = st.integers(-4, 4).map(lambda hours: T0 + hours * DAY_MS // 3)

REPORTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["purchase_made", "purchase_made", "purchase_refunded"]),
        "identity": st.sampled_from(IDENTITIES),
        "at": MOMENTS,
        "order_id": ORDER_IDS,
        "value": AMOUNTS,
        "currency": CURRENCIES,
        "refund_id": st.sampled_from([None, "R1", " R1", "R2", "null"]),
    }
)


def history(reports):
    """(identity, event) of each report; each event has an id of its own."""
    numbers = count()
    events = []
    for report in reports:
        fields = {
            "event_id": f"e{next(numbers)}",
            "visitor_id": f"v{report['identity']}",
            "order_id": report["order_id"],
            "value": Decimal(report["value"]),
            "currency": report["currency"],
        }
        if report["type"] == "purchase_refunded":
            fields["refund_id"] = report["refund_id"]
        events.append((report["identity"], happened(report["type"], report["at"], **fields)))
    return events


def folded_revenue(events):
    """As the fold counts it: each identity by itself, then all as one lead."""
    by_identity = {identity: Features() for identity in IDENTITIES}
    catalogue = SignalCatalogue.of([])
    for identity, event in events:
        at = at_of(event)
        evolve(by_identity[identity], catalogue.feature_delta_of(event, at, UTC.day_of(at)))
    whole = with_keyed_events_counted(merge_features(list(by_identity.values())))
    return revenue(whole.sums)


def fact_of(position, identity, event):
    return EventFact(
        event_id=event.event_id,
        identity_key=identity,
        type=tag_of(type(event)),
        occurred_at=at_of(event),
        recorded_at=at_of(event),
        partition=0,
        position=position,
        channel="sales",
        source="crm",
        amount_minor=minor_units(event.value, event.currency),
        currency=event.currency,
        order_id=real_id(event.order_id),
        refund_id=real_id(getattr(event, "refund_id", None)),
    )


def facts_of(events):
    return [fact_of(number, identity, event) for number, (identity, event) in enumerate(events)]


def in_major_units(money):
    return {currency: major_units(minor, currency) for currency, minor in money.items()}


def lead_of(facts):
    by_time = sorted(facts, key=lambda fact: (fact.occurred_at, fact.recorded_order))
    return LeadFacts("default", "L", True, T0 - 2 * DAY_MS, "customer", by_time)


@given(st.lists(REPORTS, max_size=14), st.randoms(use_true_random=False))
def test_the_net_of_all_orders_is_the_leads_revenue_of_the_fold(reports, rnd):
    events = history(reports)
    facts = facts_of(events)
    expected = folded_revenue(events)
    shuffled = rnd.sample(facts, len(facts))
    assert in_major_units(orders_of(order_reports(shuffled)).revenue) == expected
    assert in_major_units(revenue_of(orders_of(order_reports(facts)))) == expected


@given(st.lists(REPORTS, max_size=14))
def test_journeys_and_their_days_and_attribution_have_the_same_net(reports):
    events = history(reports)
    lead = lead_of(facts_of(events))
    expected = folded_revenue(events)
    assert in_major_units(journey_of(lead, UTC).net) == expected
    by_day = [day.net for day in day_summaries(lead, UTC)]
    total = {}
    for net in by_day:
        for currency, minor in net.items():
            total[currency] = total.get(currency, 0) + minor
    assert in_major_units(total) == expected
    recorded = EventFact(
        "c", 1, "conversion_recorded", T0, T0, 0, 10_000, "sales", "crm", conversion_type="customer"
    )
    (customer,) = [
        made
        for made in conversions_of(lead._replace(events=[*lead.events, recorded]), compiled_attribution(""))
        if made.conversion_type == "customer"
    ]
    assert in_major_units(dict(customer.values)) == expected


@given(st.lists(REPORTS, max_size=10))
def test_at_every_moment_the_running_revenue_is_that_of_the_reports_so_far(reports):
    """Attribution asks after each report."""
    events = history(reports)
    orders = Orders()
    for number, report in enumerate(order_reports(facts_of(events)), 1):
        orders.add(report)
        assert in_major_units(orders.revenue) == folded_revenue(events[:number])


@given(st.lists(st.integers(1, 5), min_size=REFUNDS_KEPT + 1, max_size=2 * REFUNDS_KEPT))
def test_of_too_many_refunds_the_same_count_as_in_the_fold(amounts):
    purchase = {
        "type": "purchase_made",
        "identity": 1,
        "at": T0,
        "order_id": "A",
        "value": "1000",
        "currency": "EUR",
    }
    refunds = [
        purchase | {"type": "purchase_refunded", "value": str(amount), "refund_id": f"R{number}"}
        for number, amount in enumerate(amounts)
    ]
    events = history([purchase, *refunds])
    assert in_major_units(orders_of(order_reports(facts_of(events))).revenue) == folded_revenue(events)


def test_an_order_counts_at_its_first_report_in_its_channel_and_with_the_value_of_the_last():
    def bought(number, at, channel, minor):
        return EventFact(
            f"e{number}", 1, "purchase_made", at, at, 0, number, channel, "crm", order_id="A"
        )._replace(amount_minor=minor, currency="EUR")

    (order,) = orders_of(order_reports([bought(1, T0 + 5, "email", 3_550), bought(2, T0, "web", 4_000)]))
    assert order == (T0, "web", "EUR", 3_550)


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (500_000, "EUR", "5000.00"),
        (1, "EUR", "0.01"),
        (5_000, "JPY", "5000"),
        (1, "KWD", "0.001"),
        (Decimal("2.5"), "EUR", "0.02"),
        (Decimal("3.5"), "EUR", "0.04"),
        (Decimal("0.5"), "JPY", "0"),
        (2**53, "EUR", "90071992547409.92"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(minor, currency, shown):
    assert str(major_units(minor, currency)) == shown

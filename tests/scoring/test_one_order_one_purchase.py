"""Ruling: one order, one purchase. And a form's submission and an e-mail that was sent are one, too."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leads_given import DAY_MS, HOUR_MS, T0, UTC, at_of, features_of, happened

from scoring.features.features import (
    Features,
    encode_features,
    evolve,
    merge_features,
    with_keyed_events_counted,
)
from scoring.features.keyed_events import KEYED_EVENTS_KEPT, REFUNDS_KEPT
from scoring.features.signals import SignalCatalogue
from scoring.models.model import compile_model

BIG = compile_model(
    """
model = "big"
[signals]
big_order = { event = "purchase_made", field = "value", greater_or_equal = 100 }
pricing_form = { event = "form_submitted", field = "form_id", equals = "pricing" }
[groups.g]
rules = [{ name = "Orders", each = "big_order", points = 1 }, { name = "Forms", each = "pricing_form", points = 1 }]
"""
)


def bought(order=None, value="39.95", at=T0, currency="EUR", **fields):
    return happened("purchase_made", at, value=Decimal(value), currency=currency, order_id=order, **fields)


def refunded(order, value, at=T0, currency="EUR", refund_id=None, **fields):
    return happened(
        "purchase_refunded",
        at,
        order_id=order,
        value=Decimal(value),
        currency=currency,
        refund_id=refund_id,
        **fields,
    )


def count(features, name):
    signal = features.signals.get(name)
    return 0 if signal is None else signal.count


def cents(*events):
    return features_of(events).sums.get("purchase:EUR", 0)


def test_a_reloaded_thank_you_page_is_no_second_purchase():
    """39.95 once and 10.00: 49.95."""
    features = features_of(
        [bought("A-1001", at=T0), bought("A-1001", at=T0 + 60_000), bought("A-1002", "10.00", T0 + 240_000)]
    )
    assert [count(features, name) for name in ("purchase_made", "interaction", "high_intent")] == [2, 2, 2]
    assert features.sums == {"purchase:EUR": 4995}


def test_an_order_counts_at_its_first_report_with_the_value_of_the_last():
    """Whichever of them arrives first: a bookmark opened a month later is no purchase of that day."""
    reports = [bought("A", "40", T0 - 30 * DAY_MS), bought("A", "35.50", T0)]
    for order in (reports, reports[::-1]):
        features = features_of(order)
        assert features.sums == {"purchase:EUR": 3550}
        signal = features.signals["purchase_made"]
        assert (signal.count, signal.first, signal.last, signal.days) == (
            1,
            T0 - 30 * DAY_MS,
            T0 - 30 * DAY_MS,
            b"\x01",
        )


def test_of_two_reports_at_one_moment_the_greater_value_counts():
    for order in ([bought("A", "40"), bought("A", "100")], [bought("A", "100"), bought("A", "40")]):
        assert features_of(order, [BIG]).sums == {"purchase:EUR": 10_000}


def test_a_signal_that_tests_the_value_follows_the_update():
    (stored,) = [signal.stored for signal in BIG.signals if signal.name == "big_order"]
    assert count(features_of([bought("A", "100"), bought("A", "100", T0 + 1)], [BIG]), stored) == 1
    assert count(features_of([bought("A", "100"), bought("A", "99", T0 + 1)], [BIG]), stored) == 0


def test_an_update_may_change_the_currency():
    assert features_of([bought("A", "40"), bought("A", "5000", T0 + 1, "JPY")]).sums == {"purchase:JPY": 5000}


@pytest.mark.parametrize(
    "order",
    [
        None,
        "",
        "  ",
        "null",
        "undefined",
        "None",
        "0",
        "N/A",
        "(not set)",
        "{{order_id}}",
        "\\N",
        "<NA>",
        "...",
        "\u200b",
    ],
)
def test_purchases_without_an_order_stay_each(order):
    features = features_of([bought(order), bought(order)])
    assert (count(features, "purchase_made"), features.sums) == (2, {"purchase:EUR": 7990})


def test_space_around_an_order_says_nothing_and_long_orders_are_not_cut():
    assert cents(bought("A-1"), bought(" A-1 ", at=T0 + 1)) == 3995
    assert cents(bought("A-1"), bought("\ufeffA-1\u200b", at=T0 + 1)) == 3995
    assert cents(bought("x" * 500 + "1"), bought("x" * 500 + "2")) == 7990
    assert cents(bought("A-1"), bought("a-1")) == 7990


def test_a_refund_lowers_its_order_to_the_cent_whether_it_comes_before_or_after():
    order, back = bought("A", "39.95"), refunded("A", "9.96", T0 + HOUR_MS)
    assert cents(order, back) == cents(back, order) == 2999
    assert cents(back) == 0


def test_refunds_never_take_an_order_below_zero_nor_touch_another():
    assert (
        cents(bought("A", "20"), bought("B", "30"), refunded("A", "15"), refunded("A", "15", T0 + 1)) == 3000
    )


def test_a_refund_that_is_sent_again_counts_once_by_its_id():
    again = [refunded("A", "5", T0 + n, refund_id="R-1") for n in range(3)]
    features = features_of([bought("A", "20"), *again, refunded("A", "5", refund_id="R-2")])
    assert (features.sums["purchase:EUR"], count(features, "purchase_refunded")) == (1000, 2)


def test_two_refunds_without_an_id_are_two():
    features = features_of([bought("A", "20"), refunded("A", "5"), refunded("A", "5")])
    assert (features.sums["purchase:EUR"], count(features, "purchase_refunded")) == (1000, 2)


def test_equal_event_ids_of_two_producers_are_two_refunds():
    refunds = [
        refunded("A", "5", event_id="1", visitor_id=who, lead_id=lead)
        for who, lead in (("v", None), (None, "L"))
    ]
    assert cents(bought("A", "20"), *refunds) == 1000


def test_a_refund_in_another_currency_lowers_nothing():
    assert cents(bought("A", "20"), refunded("A", "5", currency="USD")) == 2000


def test_a_refunded_order_was_a_purchase_all_the_same():
    features = features_of([bought("A", "20"), refunded("A", "20")])
    assert (count(features, "purchase_made"), features.sums) == (1, {"purchase:EUR": 0})
    assert "interaction" not in features_of([refunded("A", "20")]).signals


@pytest.mark.parametrize(
    ("currency", "value", "minor"), [("JPY", "500", 400), ("KWD", "0.500", 400), ("EUR", "5", 400)]
)
def test_refunds_count_in_the_currencys_smallest_unit(currency, value, minor):
    back = {"JPY": "100", "KWD": "0.1", "EUR": "1"}[currency]
    sums = features_of([bought("A", value, currency=currency), refunded("A", back, currency=currency)]).sums
    assert sums == {f"purchase:{currency}": minor}


def test_a_submission_counts_once_and_two_submissions_of_a_form_are_two():
    def form(submission, at=T0):
        return happened("form_submitted", at, form_id="pricing", submission_id=submission, fields={})

    (stored,) = [signal.stored for signal in BIG.signals if signal.name == "pricing_form"]
    features = features_of([form("s1"), form("s1", T0 + 1), form("s2"), form(None), form(None)], [BIG])
    assert [count(features, name) for name in ("form_submitted", stored)] == [4, 4]


def test_the_fields_of_every_report_of_a_submission_count():
    reports = [
        happened("form_submitted", T0 + n, submission_id="s", fields=fields)
        for n, fields in enumerate([{"name": "Ann"}, {"phone": "1"}])
    ]
    assert {name: value for name, (_, _, value) in features_of(reports).fields.items()} == {
        "name": "Ann",
        "phone": "1",
    }


def test_a_message_is_sent_once_and_opened_and_clicked_each_time():
    features = features_of(
        happened(kind, T0 + n, message_id="m1")
        for kind in ("email_sent", "email_opened", "email_clicked")
        for n in range(3)
    )
    assert [count(features, kind) for kind in ("email_sent", "email_opened", "email_clicked")] == [1, 3, 3]


def test_a_conversion_is_one_by_type_and_id():
    """Without an id, it is the one of its type."""
    goals = [("order", "1"), ("order", "1"), ("order", "2"), ("trial", "1"), ("trial", ""), ("trial", "")]
    events = [happened("conversion_recorded", conversion_type=kind, conversion_id=id_) for kind, id_ in goals]
    assert count(features_of(events), "conversion_recorded") == 4


def folded(events):
    features, catalogue = Features(), SignalCatalogue.of([BIG])
    for event in events:
        evolve(features, catalogue.feature_delta_of(event, at_of(event), UTC.day_of(at_of(event))))
    return features


ORDERS = st.sampled_from(["A", "B", "C"])
MONEY = st.sampled_from(["0", "0.01", "99.99", "100"])
WHEN = st.integers(0, 5).map(lambda days: T0 - days * DAY_MS)
REPORTS = st.one_of(
    st.builds(bought, ORDERS | st.none(), MONEY, WHEN, st.sampled_from(["EUR", "USD"])),
    st.builds(
        refunded, ORDERS, MONEY, WHEN, st.sampled_from(["EUR", "USD"]), st.sampled_from([None, "R1", "R2"])
    ),
)


@given(st.lists(REPORTS, max_size=15), st.randoms(use_true_random=False), st.integers(1, 4))
def test_one_order_under_several_identities_is_one_purchase_in_any_order_and_grouping(
    reports, rnd, identities
):
    whole = folded(reports)
    dealt = [[] for _ in range(identities)]
    for report in rnd.sample(reports, len(reports)):
        rnd.choice(dealt).append(report)
    rnd.shuffle(dealt)
    assert encode_features(
        with_keyed_events_counted(merge_features([folded(hand) for hand in dealt]))
    ) == encode_features(with_keyed_events_counted(whole))


@given(st.permutations(range(2 * KEYED_EVENTS_KEPT)))
def test_beyond_the_bound_every_order_still_counts_whatever_the_order(numbers):
    features = folded([bought(f"o{n}", "1", T0 + n) for n in numbers])
    assert len(features.keyed["purchase_made"]) == KEYED_EVENTS_KEPT
    whole = with_keyed_events_counted(features)
    assert (count(whole, "purchase_made"), whole.sums) == (
        2 * KEYED_EVENTS_KEPT,
        {"purchase:EUR": 200 * KEYED_EVENTS_KEPT},
    )


def test_a_repetition_of_an_order_that_is_no_longer_remembered_counts_again():
    orders = [bought(f"o{n}", "1", T0 + n) for n in range(KEYED_EVENTS_KEPT + 1)]
    assert (
        count(features_of([*orders, bought("o1", "1", T0 + KEYED_EVENTS_KEPT)]), "purchase_made")
        == KEYED_EVENTS_KEPT + 1
    )
    assert (
        count(features_of([*orders, bought("o0", "1", T0 + KEYED_EVENTS_KEPT)]), "purchase_made")
        == KEYED_EVENTS_KEPT + 2
    )


def test_an_order_that_falls_out_keeps_what_its_refunds_left():
    orders = [bought(f"o{n}", "1", T0 + 9 + n) for n in range(KEYED_EVENTS_KEPT)]
    assert cents(bought("first", "20"), refunded("first", "5"), *orders) == 1500 + 100 * KEYED_EVENTS_KEPT


def test_an_order_remembers_a_bounded_number_of_refunds():
    refunds = [refunded("A", "1", refund_id=f"R{n}") for n in range(2 * REFUNDS_KEPT)]
    assert cents(bought("A", "100"), *refunds) == 10_000 - 100 * REFUNDS_KEPT

"""Events in an order in time, and rules of one site: what completes a sequence, whatever the order of arrival."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leads_given import MINUTE, T0, UTC, features_of, happened, lines, scored

from schemas.envelope import Context
from scoring.features.features import (
    Features,
    decode_features,
    encode_features,
    evolve,
    merge_features,
    with_keyed_events_counted,
)
from scoring.features.sequences import EVENTS_KEPT
from scoring.features.signals import SignalCatalogue
from scoring.models.model import ModelError, Subject, compile_model, explain_score
from scoring.models.plan import may_change_score

HOUR = 60 * MINUTE
TEXT = """model = "m"
[signals]
urgent = { event = "demo_requested", site = "shop.example" }
asked  = { sequence = ["page_viewed:/pricing", "demo_requested"], within = "1 h" }
[groups.g]
rules = [
  { name = "Pricing, then a demo", sequence = ["page_viewed:/pricing", "demo_requested"], within = "1 h", points = 10 },
  { name = "Lately", each = "asked in 7 days", points = 1 },
  { name = "Pages of the shop", each = "page_viewed", site = "www.Shop.example", points = 2 },
]
"""
MODEL = compile_model(TEXT)


def page(at, url="https://shop.example/pricing"):
    return happened("page_viewed", at, url=url)


def demo(at):
    return happened("demo_requested", at)


def points(*events, as_of=T0 + 3 * HOUR):
    return lines(MODEL, scored(MODEL, events, as_of))


def test_a_sequence_counts_when_its_steps_happen_in_order_within_the_time():
    sequence = "Pricing, then a demo"
    assert points(page(T0), demo(T0 + HOUR))[sequence] == 10_000_000
    assert sequence not in points(page(T0), demo(T0 + HOUR + 1))
    assert sequence not in points(demo(T0), page(T0 + 1))
    assert sequence not in points(page(T0, "https://shop.example/about"), demo(T0 + 1))


@pytest.mark.parametrize("step", ["/preise/%C3%BCber", "/preise/über", "/preise/%C3%BC*", "/preise/ü*"])
@pytest.mark.parametrize("seen", ["/preise/%C3%BCber", "/preise/über"])
def test_a_step_on_a_page_reads_its_address_in_both_spellings(step, seen):
    model = compile_model(TEXT.replace("page_viewed:/pricing", f"page_viewed:{step}"))
    events = [page(T0, f"https://shop.example{seen}"), demo(T0 + 1)]
    assert lines(model, scored(model, events, T0 + HOUR))["Pricing, then a demo"] == 10_000_000


def test_occurrences_do_not_overlap_and_each_begins_as_late_as_it_can():
    # The first view is too long ago for the demo; the second is not. The second demo has no view of its own.
    events = [page(T0), page(T0 + 50 * MINUTE), demo(T0 + 70 * MINUTE), demo(T0 + 71 * MINUTE)]
    assert points(*events)["Pricing, then a demo"] == 10_000_000
    assert (
        points(*events, page(T0 + 72 * MINUTE), demo(T0 + 73 * MINUTE))["Pricing, then a demo"] == 20_000_000
    )


def test_the_order_of_arrival_does_not_matter_also_for_events_that_come_days_late():
    events = [page(T0), demo(T0 + HOUR), page(T0 + 2 * HOUR), demo(T0 + 2 * HOUR + 1), demo(T0 + 90 * MINUTE)]
    whole = encode_features(features_of(events, [MODEL]))
    for seed in range(20):
        shuffled = random.Random(seed).sample(events, len(events))
        assert encode_features(features_of(shuffled, [MODEL])) == whole


def test_steps_of_two_identities_of_one_lead_complete_a_sequence_together():
    browser, crm = Features(), Features()
    features_of([page(T0)], [MODEL], into=browser)
    features_of([demo(T0 + 1)], [MODEL], into=crm)
    whole = with_keyed_events_counted(merge_features([browser, crm]))
    [sequence] = [signal for signal in MODEL.signals if signal.name.startswith("page_viewed:/pricing")]
    assert whole.signals[sequence.stored].count == 1


def test_what_falls_out_of_the_kept_events_stays_counted_and_the_state_stays_small():
    features, minute = Features(), iter(range(10_000))
    for _ in range(500):
        features_of(
            [page(T0 + next(minute) * MINUTE), demo(T0 + next(minute) * MINUTE)], [MODEL], into=features
        )
    sizes = {len(kept.events) for kept in features.sequences.values()}
    assert max(sizes) <= EVENTS_KEPT
    read = with_keyed_events_counted(decode_features(encode_features(features)))
    assert {read.signals[stored].count for stored in features.sequences} == {500}


def test_two_reports_of_one_order_are_one_step():
    model = compile_model(
        'model = "m"\n[groups.g]\nrules = [{ name = "Twice", sequence = ["purchase_made", "purchase_made"], within = "1 day", points = 1 }]'
    )
    order = {"value": Decimal(5), "currency": "EUR"}
    first, again = (happened("purchase_made", T0 + n, order_id="7", **order) for n in (0, 1))
    other = happened("purchase_made", T0 + 2, order_id="8", **order)
    assert lines(model, scored(model, [first, again])) == {}
    assert lines(model, scored(model, [again, other, first])) == {"Twice": 1_000_000}


def test_the_evidence_names_the_events():
    events = [page(T0), demo(T0 + 5 * MINUTE)]
    subject = Subject(features_of(events, [MODEL]))
    [text] = [
        line.text
        for line in explain_score(MODEL, subject, T0 + HOUR, UTC, 1)
        if line.rule.startswith("Pricing")
    ]
    assert text == (
        "Pricing, then a demo: 1 x 10 points, last by page viewed /pricing at 2025-10-09 10:00:00 UTC, "
        "then demo requested at 2025-10-09 10:05:00 UTC"
    )
    [none, *_] = explain_score(MODEL, Subject(Features()), T0, UTC, 1)
    assert none.text == "Pricing, then a demo: not yet page viewed /pricing, then demo requested"


def test_a_sequence_of_signals_can_be_read_with_a_window():
    events = [page(T0), demo(T0 + 1)]
    assert points(*events)["Lately"] == 1_000_000
    assert "Lately" not in points(*events, as_of=T0 + 7 * 24 * HOUR)


def test_rules_of_a_site_count_what_happened_there():
    shop, blog = "https://www.shop.example:8443/", "https://blog.shop.example/"
    assert (
        points(page(T0, shop), page(T0, blog), happened("page_viewed", T0))["Pages of the shop"] == 2_000_000
    )
    demos = [happened("demo_requested", T0, context=Context(url=url)) for url in (shop, blog, "http://[bad")]
    features = features_of(demos, [MODEL])
    [urgent] = [signal for signal in MODEL.signals if signal.name == "urgent"]
    assert features.signals[urgent.stored].count == 1


def test_an_event_that_is_a_step_reaches_the_model():
    delta = SignalCatalogue.of([MODEL]).feature_delta_of(page(T0), T0, 0)
    assert may_change_score(MODEL, delta, False, False)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20), st.randoms())
def test_merging_identities_and_adding_events_commute(history, chance):
    events = [(page if is_page else demo)(T0 + 10 * minute * MINUTE) for minute, is_page in history]
    catalogue, parts = SignalCatalogue.of([MODEL]), [Features(), Features(), Features()]
    for event in chance.sample(events, len(events)):
        at = round(event.occurred_at.timestamp() * 1000)
        evolve(chance.choice(parts), catalogue.feature_delta_of(event, at, UTC.day_of(at)))
    merged = with_keyed_events_counted(merge_features(parts))
    assert encode_features(merged) == encode_features(features_of(events, [MODEL]))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ('sequence = ["page_viewed"], within = "1 h"', "2 to 8 steps"),
        ('sequence = ["page_viewed", "demo_requested"]', "within is missing"),
        ('sequence = ["page_viewed", "demo_requested"], within = "soon"', "no time such as"),
        ('sequence = ["page_viewed", "demo_requested"], within = "91 days"', "at most 90 days"),
        (
            'sequence = ["page_viewed", "interaction"], within = "1 h"',
            "the step 'interaction' is no event type",
        ),
        ('sequence = ["page_viewed", "asked"], within = "1 h"', "is a sequence"),
        ('each = "page_viewed", site = "not a host"', "is no host such as"),
        ('each = "interaction", site = "shop.example"', "site is for types of events"),
        ('has = "phone", site = "shop.example"', "site is for each, once and sequence rules"),
    ],
)
def test_mistakes_are_refused_with_rule_and_reason(rule, reason):
    wrong = TEXT.replace("rules = [\n", f'rules = [\n  {{ name = "New", {rule}, points = 1 }},\n')
    with pytest.raises(ModelError, match=r"rule 'New'.*") as refusal:
        compile_model(wrong)
    assert reason in str(refusal.value)

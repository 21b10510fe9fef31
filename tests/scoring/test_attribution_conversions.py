"""Conversions, their credits and restatements of whole leads, beside a naive reading of the rulings."""

from collections import defaultdict
from fractions import Fraction
from time import process_time

import pytest
from attribution_leads import DAY, T0, LeadStory
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.attribution.attribution_text import compiled_attribution
from scoring.attribution.conversions import conversions_of
from scoring.attribution.credits import (
    NO_TOUCHPOINT,
    channel_path,
    credits_by_model,
    journey_ms,
    mean_gap_ms,
    source_credits,
)
from scoring.attribution.restatements import MOST_COMPARISONS, restatements_of
from scoring.attribution.rules import TOUCH_MODELS
from scoring.attribution.touchpoints import MOST_TOUCHPOINTS
from scoring.attribution.weights import WEIGHT_UNITS
from tests.example_counts import scaled

RULES = compiled_attribution("")


def conversion(story, kind, conversion_id=""):
    (found,) = [
        each for each in conversions_of(story.facts_now(), RULES) if each.key == (kind, conversion_id)
    ]
    return found


def days(found):
    return [round((touchpoint.at - T0) / DAY, 6) for touchpoint in found.touchpoints]


def test_entering_a_stage_makes_its_conversion_once():
    story = LeadStory().event("form_submitted", 1).stage("contacted", 2).stage("qualified", 3)
    story.event("email_clicked", 4).stage("recycled", 5).stage("qualified", 6).stage("opportunity", 7)
    made = [(each.conversion_type, (each.at - T0) / DAY) for each in conversions_of(story.facts_now(), RULES)]
    assert made == [("lead_created", 1), ("qualified", 3), ("opportunity", 7)]


def test_what_sales_sent_and_page_views_inside_the_site_are_no_touchpoints():
    story = LeadStory().event("email_sent", 1).event("page_viewed", 2, channel_group="Internal")
    story.event("page_viewed", 3, channel_group="Organic Search").event(
        "page_viewed", 4, channel_group="Direct"
    )
    story.event("call_made", 5, answered=False).event("form_submitted", 6).event("purchase_made", 7)
    assert days(conversion(story.stage("customer", 8), "customer")) == [3, 6]


def test_touchpoints_count_within_the_lookback_and_at_the_moment_of_the_conversion():
    story = LeadStory().event("ad_clicked", 9.99).event("ad_clicked", 10).event("form_submitted", 100)
    story.stage("qualified", 100).event("email_clicked", 100.01)
    assert days(conversion(story, "qualified")) == [10, 100]


def test_a_recorded_conversion_counts_under_its_id_and_is_updated_by_its_next_record():
    story = LeadStory().event("ad_clicked", 1)
    recorded = {"conversion_type": "contract", "conversion_id": "c-1", "currency": "EUR"}
    story.event("conversion_recorded", 2, amount_minor=100, **recorded)
    story.event("conversion_recorded", 5, amount_minor=300, **recorded)
    found = conversion(story, "contract", "c-1")
    assert (found.at, found.values, days(found)) == (T0 + 2 * DAY, (("EUR", 300),), [1])


def test_a_customer_is_worth_the_net_revenue_unless_a_value_was_recorded():
    story = LeadStory().event("ad_clicked", 1)
    story.event("purchase_made", 2, amount_minor=1000, currency="EUR", order_id="o1").stage("customer", 2)
    story.event("purchase_made", 3, amount_minor=1200, currency="EUR", order_id="o1")  # an update
    story.event("purchase_made", 4, amount_minor=500, currency="USD")
    story.event("purchase_refunded", 5, amount_minor=700, currency="EUR", order_id="o1", refund_id="r1")
    story.event("purchase_refunded", 6, amount_minor=700, currency="EUR", order_id="o1", refund_id="r1")
    assert conversion(story, "customer").values == (("EUR", 500), ("USD", 500))
    story.event("purchase_refunded", 7, amount_minor=900, currency="EUR", order_id="o1", refund_id="r2")
    assert conversion(story, "customer").values == (("EUR", 0), ("USD", 500))
    story.event("conversion_recorded", 8, conversion_type="customer", amount_minor=77, currency="USD")
    found = conversion(story, "customer")
    assert (found.at, found.values) == (T0 + 2 * DAY, (("USD", 77),))


def test_the_opportunity_touch_is_the_last_one_at_or_before_entering_opportunity():
    story = LeadStory().event("ad_clicked", 1).event("email_clicked", 2).event("form_submitted", 3)
    story.stage("opportunity", 3).event("email_clicked", 4).event("email_replied", 5).stage("customer", 6)
    found = conversion(story, "customer")
    assert found.opportunity == 2
    weights = credits_by_model(found, RULES.half_life_ms)["w_shaped"].weights
    assert weights == [300_000_000, 50_000_000, 300_000_000, 50_000_000, 300_000_000]
    assert conversion(story, "lead_created").opportunity is None  # so that W is U there


def test_a_submission_that_two_identities_report_is_one_touchpoint():
    story = LeadStory().attach(2, "L", 0, epoch=1)
    story.event("form_submitted", 3, submission_id="s").event(
        "form_submitted", 2, identity=2, submission_id="s"
    )
    assert days(conversion(story.stage("qualified", 4), "qualified")) == [2]


def test_a_conversion_without_touchpoints_credits_the_explicit_row():
    story = LeadStory().event("page_viewed", 1).stage("customer", 2)
    story.event("purchase_made", 2, amount_minor=999, currency="EUR")
    (row,) = source_credits(conversion(story, "customer"), RULES.half_life_ms)
    assert row.channel == NO_TOUCHPOINT
    assert (set(row.weights), set(row.amounts), row.currency) == ({WEIGHT_UNITS}, {999}, "EUR")


def test_the_longest_path_keeps_the_first_touchpoint_and_the_latest_ones():
    story = LeadStory()
    for number in range(MOST_TOUCHPOINTS + 50):
        story.event("email_clicked", number / 100)
    kept = days(conversion(story.stage("qualified", 20), "qualified"))
    assert len(kept) == MOST_TOUCHPOINTS
    assert kept[:2] == [0, 0.51]


def test_times_of_the_journey():
    story = LeadStory().event("ad_clicked", 1).event("ad_clicked", 2).event("email_clicked", 5)
    found = conversion(story.stage("qualified", 11), "qualified")
    assert (journey_ms(found), mean_gap_ms(found.touchpoints)) == (10 * DAY, 2 * DAY)
    assert mean_gap_ms(found.touchpoints[:1]) is None
    assert channel_path(found.touchpoints) == ("Website",)


def test_the_example_of_the_documentation_is_as_it_was_computed_by_hand():
    """docs/attribution.md, An example by hand."""
    story = LeadStory().event("email_clicked", 0, channel="email")
    story.event("page_viewed", 14, channel_group="Organic Search").event("form_submitted", 28)
    story.event("meeting_scheduled", 35, channel="sales").stage("opportunity", 35)
    story.event("email_replied", 42, channel="email")
    story.event("purchase_made", 42, amount_minor=1000_00, currency="EUR").stage("customer", 42)
    by_hand = {
        "first_touch": [1000_00, 0, 0, 0, 0],
        "last_touch": [0, 0, 0, 0, 1000_00],
        "linear": [200_00] * 5,
        "time_decay": [8_55, 34_19, 136_75, 273_50, 547_01],
        "u_shaped": [400_00, 66_67, 66_67, 66_66, 400_00],
        "w_shaped": [300_00, 50_00, 50_00, 300_00, 300_00],
    }
    found = conversion(story, "customer")
    credited = credits_by_model(found, RULES.half_life_ms)
    assert {model: each.amounts[0] for model, each in credited.items()} == by_hand
    by_channel = defaultdict(int)
    for row in source_credits(found, RULES.half_life_ms):
        by_channel[row.channel] += row.amounts[TOUCH_MODELS.index("w_shaped")]
    assert by_channel == {"Email": 600_00, "Sales": 300_00, "Organic Search": 50_00, "Website": 50_00}


# Restatements


def restated(story, kind="customer"):
    return [
        (each.reason, (each.recorded_at - T0) / DAY, each.before, each.after)
        for each in restatements_of(story.facts_now(), RULES)
        if each.conversion_type == kind
    ]


def touchpoint_counts(story, kind="customer"):
    return [
        (reason, day, before.touchpoints, after and after.touchpoints)
        for reason, day, before, after in restated(story, kind)
    ]


def test_events_in_order_restate_nothing():
    story = LeadStory().event("ad_clicked", 1).event("form_submitted", 2).stage("qualified", 2)
    story.event("email_clicked", 3).stage("opportunity", 4).event("email_replied", 5)
    story.event("purchase_made", 6, amount_minor=5, currency="EUR").stage("customer", 6).event(
        "ad_clicked", 7
    )
    assert restatements_of(story.facts_now(), RULES) == []


def test_a_late_touchpoint_restates_each_conversion_that_it_came_before():
    story = LeadStory().event("ad_clicked", 1).stage("qualified", 3).stage("customer", 5)
    story.event("email_clicked", 4, recorded=8, event_id="late", channel="email")
    ((reason, day, before, after),) = restated(story)
    assert (reason, day) == ("touchpoint", 8)
    assert before.weights["linear"] == {"Website": WEIGHT_UNITS}
    assert after.weights["linear"] == {"Website": WEIGHT_UNITS // 2, "Email": WEIGHT_UNITS // 2}
    assert after.weights["first_touch"]["Website"] == WEIGHT_UNITS
    assert restatements_of(story.facts_now(), RULES)[0].event_id == "late"
    assert restated(story, "qualified") == []


def test_purchases_refunds_and_records_after_the_conversion_restate_its_value():
    story = LeadStory().event("ad_clicked", 1)
    story.event("purchase_made", 2, amount_minor=1000, currency="EUR", order_id="o").stage("customer", 2)
    story.event("purchase_refunded", 3, amount_minor=400, currency="EUR", order_id="o")
    story.event("purchase_made", 4, amount_minor=50, currency="EUR")
    story.event("conversion_recorded", 5, conversion_type="customer", amount_minor=9, currency="EUR")
    story.event("purchase_made", 6, amount_minor=50, currency="EUR")  # the recorded value stands
    assert [(reason, before.values, after.values) for reason, _, before, after in restated(story)] == [
        ("refund", (("EUR", 1000),), (("EUR", 600),)),
        ("purchase", (("EUR", 600),), (("EUR", 650),)),
        ("conversion", (("EUR", 650),), (("EUR", 9),)),
    ]


def test_a_merge_brings_touchpoints_and_a_split_takes_them_away_again():
    story = LeadStory().attach(2, "other", 0, epoch=1)
    story.event("ad_clicked", 1, identity=2).event("email_clicked", 2).stage("customer", 5)
    story.attach(2, "L", 6, epoch=2)
    assert touchpoint_counts(story) == [("merge", 6, 1, 2)]
    story.event("qr_scanned", 4, recorded=7, identity=2)
    story.attach(2, "other", 8, epoch=3)
    assert touchpoint_counts(story) == [("merge", 6, 1, 2), ("touchpoint", 7, 2, 3), ("split", 8, 3, 1)]


def test_a_split_may_take_the_conversion_away():
    story = LeadStory().attach(2, "L", 0, epoch=1)
    story.event("ad_clicked", 1).event("conversion_recorded", 2, identity=2, conversion_type="trial")
    story.attach(2, "other", 3, epoch=2)
    ((reason, _, before, after),) = restated(story, "trial")
    assert (reason, before.touchpoints, after) == ("split", 1, None)


def test_an_import_of_old_touchpoints_restates_from_its_place_in_the_log():
    """An import is recorded when it occurred, but the log has it after the conversion."""
    story = LeadStory().event("ad_clicked", 1).stage("customer", 5).event("page_viewed", 6)
    story.event("email_clicked", 2)
    assert touchpoint_counts(story) == [("touchpoint", 6, 1, 2)]


def test_an_event_before_the_first_one_moves_the_creation_of_the_lead():
    story = LeadStory().event("ad_clicked", 3).event("page_viewed", 2, recorded=4)
    ((reason, _, before, after),) = restated(story, "lead_created")
    assert (reason, before.at, after.at) == ("earlier_event", T0 + 3 * DAY, T0 + 2 * DAY)
    assert (before.touchpoints, after.touchpoints) == (1, 0)


def test_what_changes_beyond_the_bound_is_one_restatement():
    story = LeadStory().event("ad_clicked", 1).stage("customer", 2)
    for number in range(MOST_COMPARISONS + 100):
        story.event("purchase_made", 3 + number / 100, amount_minor=1, currency="EUR")
    rows = restated(story)
    assert len(rows) == (MOST_COMPARISONS - 2) // 2 + 1  # a comparison and a restatement of each; two before
    assert rows[-1][0] == "more"
    assert rows[-1][3].values == (("EUR", MOST_COMPARISONS + 100),)


def test_an_identity_that_goes_and_comes_all_day_costs_linear_time():
    """A thousand changes of the owner of three thousand events: read once for each would be three million."""
    story = LeadStory().attach(2, "L", 0, epoch=1).stage("customer", 500)
    for number in range(3_000):
        story.event("email_clicked", number / 100, identity=2)
    for epoch in range(2, 1_002):
        story.attach(2, "other" if epoch % 2 else "L", 600 + epoch, epoch)
    started = process_time()
    rows = restatements_of(story.facts_now(), RULES)
    assert process_time() - started < 5
    assert 1 < len(rows) < MOST_COMPARISONS


# Random histories


EVENT_KINDS = ("ad_clicked", "email_clicked", "form_submitted", "email_sent", "page_viewed", "qr_scanned")


@st.composite
def random_stories(draw):
    story, clock = LeadStory(), 0.0
    story.attach(2, draw(st.sampled_from(["L", "other"])), 0, epoch=1)
    epoch = 1
    waiting = ["qualified", "opportunity", "customer"]
    for _ in range(draw(st.integers(3, 25))):
        clock += draw(st.sampled_from([0, 0.5, 3, 40]))
        match draw(
            st.sampled_from(["event"] * 5 + ["late", "stage", "purchase", "refund", "record", "owner"])
        ):
            case "event":
                story.event(draw(st.sampled_from(EVENT_KINDS)), clock, identity=draw(st.sampled_from([1, 2])))
            case "late":
                story.event(
                    draw(st.sampled_from(EVENT_KINDS)),
                    max(clock - draw(st.sampled_from([1, 10, 80, 120])), 0),
                    recorded=clock,
                    identity=draw(st.sampled_from([1, 2])),
                )
            case "stage" if waiting:
                story.stage(waiting.pop(0), clock)
            case "purchase":
                story.event(
                    "purchase_made",
                    clock,
                    amount_minor=draw(st.integers(0, 10_000)),
                    currency=draw(st.sampled_from(["EUR", "USD"])),
                    order_id=draw(st.sampled_from([None, "o1", "o2"])),
                )
            case "refund":
                story.event(
                    "purchase_refunded",
                    clock,
                    amount_minor=draw(st.integers(0, 10_000)),
                    currency="EUR",
                    order_id=draw(st.sampled_from(["o1", "o2"])),
                    refund_id=draw(st.sampled_from([None, "r1"])),
                )
            case "record":
                story.event(
                    "conversion_recorded",
                    clock,
                    conversion_type=draw(st.sampled_from(["customer", "contract"])),
                    conversion_id=draw(st.sampled_from(["", "c1"])),
                    amount_minor=draw(st.integers(0, 10_000)),
                    currency="EUR",
                )
            case "owner":
                epoch += 1
                story.attach(2, "L" if story.owner_of[2] == "other" else "other", clock, epoch)
            case _:
                pass
    return story


def naive_net_revenue(events):
    """Per order: the latest purchase, less each refund once, in the currency of the purchase, never below zero."""
    orders, refunds = {}, defaultdict(dict)
    for event in sorted(events, key=lambda each: each.occurred_at):
        if event.type == "purchase_made":
            order = event.order_id or event.event_id
            report = (event.occurred_at, event.currency, event.amount_minor)
            orders[order] = max(report, orders.get(order, report))
        elif event.type == "purchase_refunded":
            refund = event.refund_id or event.event_id
            report = (event.occurred_at, event.currency, event.amount_minor)
            refunds[event.order_id][refund] = max(report, refunds[event.order_id].get(refund, report))
    revenue = defaultdict(int)
    for order, (_, currency, amount) in orders.items():
        returned = sum(minor for _, of, minor in refunds[order].values() if of == currency)
        revenue[currency] += max(amount - returned, 0)
    return dict(revenue)


def naive_conversions(lead):
    """(type, id) -> (at, values, [event ids of touchpoints]), read from the rulings."""
    touching = [
        event
        for event in lead.events
        if event.type in {"ad_clicked", "email_clicked", "form_submitted", "qr_scanned"}
    ]
    made = {}
    for entry in lead.stages:
        if entry.stage in {"qualified", "opportunity", "customer"}:
            made.setdefault((entry.stage, ""), entry.at)
    if lead.events:
        made["lead_created", ""] = min(event.occurred_at for event in lead.events)
    recorded = defaultdict(list)
    for event in lead.events:
        if event.type == "conversion_recorded":
            recorded[event.conversion_type, event.conversion_id].append(event)
    for key, records in recorded.items():
        first = min(event.occurred_at for event in records)
        made[key] = min(first, made.get(key, first))
    answer = {}
    for key, at in made.items():
        values = naive_net_revenue(lead.events) if key == ("customer", "") else {}
        if key in recorded:
            last = max(recorded[key], key=lambda event: (event.occurred_at, event.recorded_order))
            values = {last.currency: last.amount_minor}
        led = [event for event in touching if at - 90 * DAY <= event.occurred_at <= at]
        led.sort(key=lambda event: (event.occurred_at, event.recorded_order))
        answer[key] = (at, tuple(sorted(values.items())), [event.event_id for event in led])
    return answer


@settings(max_examples=scaled(60))
@given(random_stories())
def test_conversions_and_credits_of_random_histories_are_those_of_a_naive_reading(story):
    lead = story.facts_now()
    found = conversions_of(lead, RULES)
    assert {
        each.key: (each.at, each.values, [touchpoint.event_id for touchpoint in each.touchpoints])
        for each in found
    } == naive_conversions(lead)
    for each in found:
        rows = source_credits(each, RULES.half_life_ms)
        for index, model in enumerate(TOUCH_MODELS):
            assert sum(row.weights[index] for row in rows) == WEIGHT_UNITS
            for currency, minor in each.values:
                assert sum(row.amounts[index] for row in rows if row.currency == currency) == minor
            credited = credits_by_model(each, RULES.half_life_ms)[model]
            for (_, minor), amounts in zip(each.values, credited.amounts, strict=True):
                if not each.touchpoints:
                    continue
                assert sum(amounts) == minor
                assert all(
                    abs(amount - Fraction(minor * weight, WEIGHT_UNITS)) < 1.0001
                    for amount, weight in zip(amounts, credited.weights, strict=True)
                )


@settings(max_examples=scaled(60))
@given(random_stories())
def test_restatements_lead_from_each_state_of_a_conversion_to_the_next_and_end_at_what_is_now(story):
    lead = story.facts_now()
    rows = restatements_of(lead, RULES)
    last = {}
    for row in rows:
        key = row.conversion_type, row.conversion_id
        if last.get(key) is not None:
            assert row.before == last[key]
        assert row.before != row.after
        last[key] = row.after
    now = {each.key: each for each in conversions_of(lead, RULES)}
    for key, after in last.items():
        if after is not None:
            assert (after.at, after.values, after.touchpoints) == (
                now[key].at,
                now[key].values,
                len(now[key].touchpoints),
            )
    assert [row.recorded_at for row in rows] == sorted(row.recorded_at for row in rows)


@pytest.mark.parametrize("day", range(1, 9))
def test_what_was_recorded_by_a_moment_has_the_restatements_up_to_it(day):
    """A rebuild of a shorter log makes the same rows, and no more."""
    story = LeadStory().attach(2, "other", 0, epoch=1).event("ad_clicked", 1, identity=2)
    story.event("email_clicked", 2).stage("customer", 3)
    story.event("qr_scanned", 2.5, recorded=4)
    story.attach(2, "L", 5, epoch=2)
    story.event("purchase_made", 6, amount_minor=5, currency="EUR")
    whole = restatements_of(story.facts_now(), RULES)
    story.facts = [fact for fact in story.facts if fact.recorded_at <= T0 + day * DAY]
    story.stages = [entry for entry in story.stages if entry.at <= T0 + day * DAY]
    story.owners = [owner for owner in story.owners if owner.recorded_at <= T0 + day * DAY]
    story.owner_of = {owner.identity_key: owner.lead_id for owner in story.owners}
    until = restatements_of(story.facts_now(), RULES)
    assert until == [row for row in whole if row.recorded_at <= T0 + day * DAY]

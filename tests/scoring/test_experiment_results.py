"""What an experiment has shown, against hand calculation and against a naive reading of the rules."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.experiments.assignment import Experiment, Goal, GoalEvent, Variant
from scoring.experiments.results import Exposure, GoalConversion, experiment_results, exposed_leads

T0 = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
DEMO = Goal("demo", (GoalEvent("demo_requested"), GoalEvent("conversion_recorded", "demo_request")))
BOUGHT = Goal("bought", (GoalEvent("purchase_made"),))


def at(days):
    return T0 + timedelta(days=days)


def experiment(*weights, window_days=30):
    variants = tuple(Variant("ABCDEF"[n], weight, {}) for n, weight in enumerate(weights))
    return Experiment("test", variants, (DEMO, BOUGHT), window_days=window_days)


EVEN = experiment(0.5, 0.5)


def exposed(lead, variant, days=0.0, event_id="e"):
    return Exposure(lead, variant, at(days), event_id)


def demo(lead, days=0.0):
    return GoalConversion(lead, "demo_requested", None, at(days))


def converted(shown, goal="demo"):
    return {each.variant: (each.goals[goal].converted, each.exposed) for each in shown.variants}


def test_a_published_comparison_in_full():
    """56 of 70 beside 48 of 80: Newcombe 1998, example (a) of the difference; a third more."""
    people = [("A", n, n < 48) for n in range(80)] + [("B", 100 + n, n < 56) for n in range(70)]
    shown = experiment_results(
        EVEN, [exposed(n, variant) for variant, n, _ in people], [demo(n, 1) for _, n, done in people if done]
    )
    control, other = (each.goals["demo"] for each in shown.variants)
    assert (control.converted, control.rate, control.against_control) == (48, 0.6, None)
    assert (other.converted, other.rate) == (56, 0.8)
    assert other.against_control.difference == pytest.approx(0.2)
    assert other.against_control.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert other.against_control.lift == pytest.approx(1 / 3)
    assert other.against_control.p == pytest.approx(0.0080, abs=1e-4)
    assert other.against_control.verdict == "higher"
    assert (shown.exposed, shown.saw_several, shown.unknown) == (150, 0, 0)
    assert shown.balance.chi_square == pytest.approx(2 / 3)  # 5^2 / 75, twice
    assert shown.balance.verdict == "ok"


MINUTE = 1 / 24 / 60


@pytest.mark.parametrize(
    ("days", "counts"),
    [(-5 * MINUTE, 1), (-5.1 * MINUTE, 0), (0, 1), (29.999, 1), (30, 1), (30.001, 0)],
)
def test_a_conversion_counts_from_five_minutes_before_the_first_exposure_to_the_end_of_the_window(
    days, counts
):
    shown = experiment_results(EVEN, [exposed("l", "A"), exposed("l", "A", 5, "later")], [demo("l", days)])
    assert converted(shown)["A"] == (counts, 1)


def test_a_lead_counts_once_for_each_goal_however_it_reached_it():
    reached = [
        demo("l"),
        demo("l", 1),
        GoalConversion("l", "conversion_recorded", "demo_request", at(2)),
        GoalConversion("l", "conversion_recorded", "newsletter", at(2)),
        GoalConversion("l", "purchase_made", None, at(3)),
    ]
    shown = experiment_results(EVEN, [exposed("l", "B")], reached)
    assert converted(shown) == {"A": (0, 0), "B": (1, 1)}
    assert converted(shown, "bought") == {"A": (0, 0), "B": (1, 1)}


def test_a_conversion_of_another_type_reaches_nothing():
    shown = experiment_results(
        EVEN, [exposed("l", "A")], [GoalConversion("l", "conversion_recorded", "newsletter", at(1))]
    )
    assert converted(shown)["A"] == (0, 1)


def test_who_was_never_exposed_is_in_no_rate():
    shown = experiment_results(EVEN, [exposed("l", "A")], [demo("stranger")])
    assert converted(shown) == {"A": (0, 1), "B": (0, 0)}


def test_an_earlier_exposure_that_arrives_late_is_the_first_one():
    """The demo on day 0.5 came before the only exposure known at first, and after the one that came late."""
    known = [exposed("l", "A", 1)]
    assert converted(experiment_results(EVEN, known, [demo("l", 0.5)]))["A"] == (0, 1)
    assert converted(experiment_results(EVEN, [*known, exposed("l", "A", 0)], [demo("l", 0.5)]))["A"] == (
        1,
        1,
    )
    assert converted(experiment_results(EVEN, [*known, exposed("l", "A", -30)], [demo("l", 0.5)]))["A"] == (
        0,
        1,
    )


def test_a_lead_that_saw_two_variants_counts_for_the_first_and_the_rate_without_it_is_told_beside():
    """Of the leads of A one of two converted, having seen both: of those that saw A alone none did."""
    exposures = [exposed("l", "A"), exposed("l", "B", 1), exposed("m", "A"), exposed("n", "B")]
    shown = experiment_results(EVEN, exposures, [demo("l", 2), demo("n", 2)])
    assert (shown.exposed, shown.saw_several, converted(shown)) == (3, 1, {"A": (1, 2), "B": (1, 1)})
    first, other = shown.variants
    assert (first.saw_several, other.saw_several) == (1, 0)
    assert (first.goals["demo"].saw_several, first.goals["demo"].rate, first.goals["demo"].pure_rate) == (
        1,
        0.5,
        0,
    )
    assert (other.goals["demo"].saw_several, other.goals["demo"].pure_rate) == (0, 1)


def test_of_two_exposures_at_once_the_smaller_id_is_the_first():
    exposures = [exposed("l", "B", 0, "x"), exposed("l", "A", 0, "y")]
    shown = experiment_results(EVEN, exposures, [])
    assert converted(shown) == {"A": (0, 0), "B": (0, 1)}
    assert shown.variants[1].goals["demo"].pure_rate is None, "nobody saw B alone"


def test_a_variant_that_is_no_longer_there_is_told():
    exposures = [exposed("l", "old"), exposed("m", "old"), exposed("m", "A", 1), exposed("n", "A")]
    shown = experiment_results(EVEN, [*exposures, exposed("n", "old", 1)], [])
    assert (shown.unknown, shown.saw_several, shown.exposed) == (2, 1, 1)


def test_a_lift_has_no_size_where_the_control_converts_nobody():
    exposures = [exposed(n, "AB"[n % 2]) for n in range(20)]
    against = experiment_results(EVEN, exposures, [demo(1, 1)]).variants[1].goals["demo"].against_control
    assert against.lift is None
    assert against.difference == 0.1
    assert against.p == 1  # one table puts the only conversion here, the other there: both are as likely


def test_nothing_is_said_of_an_experiment_without_leads():
    shown = experiment_results(EVEN, [], [demo("l")])
    assert (shown.since, shown.until, shown.balance.verdict) == (None, None, "no leads")
    assert shown.variants[1].goals["demo"].rate is None
    assert shown.needed["demo"].each is None


def test_only_leads_first_exposed_in_the_asked_time_count():
    exposures = [exposed(n, "AB"[n % 2], n) for n in range(6)]
    exposures.append(exposed(1, "B", 3, "again"))
    shown = experiment_results(EVEN, exposures, [], since=at(2), until=at(5))
    assert (shown.exposed, shown.since, shown.until) == (3, at(2), at(4))


@pytest.mark.parametrize(("sizes", "verdict"), [((540, 460), "ok"), ((560, 440), "mismatch"), ((1, 9), "ok")])
def test_shares_that_are_no_chance_are_told(sizes, verdict):
    """chi-square with one degree of freedom: 6.4 (p = 0.011), 14.4 (0.00015), 6.4; the limit is 10.828."""
    exposures = [exposed((n, i), "AB"[n]) for n, size in enumerate(sizes) for i in range(size)]
    assert experiment_results(EVEN, exposures, []).balance.verdict == verdict


def test_uneven_weights_are_what_the_shares_are_held_against():
    """90 and 10 are just as due for 0.9 and 0.1; with 0.5 and 0.5, chi-square is 64."""
    exposures = [exposed(n, "A" if n < 90 else "B") for n in range(100)]
    assert experiment_results(experiment(0.9, 0.1), exposures, []).balance.chi_square == pytest.approx(0)
    assert experiment_results(EVEN, exposures, []).balance.chi_square == 64


def test_how_many_leads_are_still_to_come():
    """From 20% to 25% takes 1094 in each variant (see the sizes of proportions): 10 and 5 are there, and every
    second lead is one of the 1089 that B still wants.
    """
    exposures = [exposed(n, "A" if n < 10 else "B") for n in range(15)]
    needed = experiment_results(EVEN, exposures, [demo(0), demo(1)], lift=0.25).needed["demo"]
    assert (needed.each, needed.more) == (1094, 2 * 1089)


def test_a_variant_of_small_weight_lets_the_others_wait():
    """A has 10 of its 1094 and B 4: of ten leads to come one is B's."""
    exposures = [exposed(n, "A" if n < 10 else "B") for n in range(14)]
    needed = experiment_results(experiment(0.9, 0.1), exposures, [demo(0), demo(1)], lift=0.25).needed["demo"]
    assert (needed.each, needed.more) == (1094, 10 * 1090)


def test_where_every_variant_has_enough_none_are_to_come():
    exposures = [exposed(n, "AB"[n % 2]) for n in range(2 * 1094)]
    converted_fifth = [demo(n) for n in range(0, 2 * 1094, 2) if n % 5 == 0]
    needed = experiment_results(EVEN, exposures, converted_fifth, lift=0.3).needed["demo"]
    assert needed.each is not None
    assert needed.more == 0


def verdict_of(first, other, lift=0.1, experiment=EVEN):
    """Of B beside A; each is (converted, leads)."""
    people = [
        (name, n, n < done)
        for name, (done, size) in zip("AB", (first, other), strict=True)
        for n in range(size)
    ]
    shown = experiment_results(
        experiment,
        [exposed((name, n), name) for name, n, _ in people],
        [demo((name, n), 1) for name, n, done in people if done],
        lift=lift,
    )
    return shown.variants[1].goals["demo"].against_control.verdict


@pytest.mark.parametrize(
    ("control", "other", "lift", "verdict"),
    [
        ((48, 80), (56, 70), 0.1, "higher"),  # Newcombe 1998 (a): 0.0524 to 0.3339, p = 0.008
        ((56, 80), (48, 100), 0.1, "lower"),  # 22 points less; z = 2.96
        ((9, 10), (3, 10), 0.1, "lower"),  # example (b): 0.1705 to 0.8090; Fisher's p = 0.0198
        ((1, 10), (4, 10), 0.1, "too_early"),  # three more of ten prove nothing
        ((0, 10), (5, 10), 0.1, "higher"),  # Fisher: 2 * 252 / 15504 = 0.0325
        ((0, 10), (4, 10), 0.1, "too_early"),  # Fisher: 2 * 210 / 4845 = 0.0867, though the interval is above 0
        ((220, 1100), (225, 1100), 0.25, "no_difference"),  # from 20% to 25% takes 1094 in each
        ((218, 1090), (222, 1090), 0.25, "too_early"),
        ((0, 20), (0, 20), 0.1, "too_early"),
        ((100, 560), (200, 440), 0.1, "unreliable"),  # chi-square 14.4, p = 0.00015
    ],
)  # fmt: skip
def test_what_may_be_concluded_of_a_variant(control, other, lift, verdict):
    assert verdict_of(control, other, lift) == verdict


def test_the_leads_behind_the_results_come_last_exposed_first():
    exposures = [
        exposed("l", "A"),
        exposed("l", "B", 1),
        exposed("m", "A", 2),
        exposed("n", "B", 3),
        exposed("o", "C", 4),
    ]
    shown = exposed_leads(EVEN, exposures, [demo("l", 2), GoalConversion("n", "purchase_made", None, at(3))])
    assert [(each.lead, each.variant, set(each.goals), each.saw_several) for each in shown] == [
        ("n", "B", {"bought"}, False),
        ("m", "A", set(), False),
        ("l", "A", {"demo"}, True),
    ]  # fmt: skip
    assert [each.lead for each in exposed_leads(EVEN, exposures, [], since=at(1), until=at(3))] == ["m"]


# Any history

LEADS = st.integers(0, 6)
MOMENTS = st.integers(-3, 8).map(at)
EXPOSURES = st.lists(st.builds(Exposure, LEADS, st.sampled_from("ABC?"), MOMENTS, st.sampled_from("xyz")))
EVENTS = st.sampled_from(
    [
        ("demo_requested", None),
        ("conversion_recorded", "demo_request"),
        ("conversion_recorded", "other"),
        ("purchase_made", None),
        ("page_viewed", None),
    ]
)
CONVERSIONS = st.lists(
    st.builds(lambda lead, event, moment: GoalConversion(lead, *event, moment), LEADS, EVENTS, MOMENTS)
)
REACHES = {
    ("demo_requested", None): "demo",
    ("conversion_recorded", "demo_request"): "demo",
    ("purchase_made", None): "bought",
}


def naive(exposures, conversions, days):
    """Lead by lead, as one would with pen and paper."""
    told = {"saw_several": 0, "unknown": 0, "counts": {}, "pure": {}}
    for lead in {exposure.lead for exposure in exposures}:
        mine = sorted((e for e in exposures if e.lead == lead), key=lambda e: (e.at, e.event_id, e.variant))
        variant = mine[0].variant
        if variant == "?":
            told["unknown"] += 1
            continue
        several = any(e.variant != variant for e in mine)
        told["saw_several"] += several
        reached = {
            REACHES.get((c.event, c.named))
            for c in conversions
            if c.lead == lead and timedelta(minutes=-5) <= c.at - mine[0].at <= timedelta(days=days)
        }
        for goal in ("demo", "bought"):
            for kind in ["counts"] if several else ["counts", "pure"]:
                done, everybody = told[kind].get((variant, goal), (0, 0))
                told[kind][variant, goal] = (done + (goal in reached), everybody + 1)
    return told


@given(EXPOSURES, CONVERSIONS, st.integers(1, 6))
def test_results_are_those_of_a_naive_reading(exposures, conversions, days):
    shown = experiment_results(experiment(0.2, 0.3, 0.5, window_days=days), exposures, conversions)
    expected = naive(exposures, conversions, days)
    assert (shown.saw_several, shown.unknown) == (expected["saw_several"], expected["unknown"])
    for goal in ("demo", "bought"):
        told = {v: count for v, count in converted(shown, goal).items() if count[1]}
        assert told == {v: count for (v, g), count in expected["counts"].items() if g == goal}
        for each in shown.variants:
            done, everybody = expected["pure"].get((each.variant, goal), (0, 0))
            assert each.goals[goal].pure_rate == (done / everybody if everybody else None)
            assert each.goals[goal].saw_several == each.goals[goal].converted - done


@given(EXPOSURES, CONVERSIONS, st.randoms(use_true_random=False))
def test_the_order_of_facts_and_their_repetition_change_nothing(exposures, conversions, chance):
    shuffled = [*exposures, *exposures[:3]], [*conversions, *conversions[:3]]
    for each in shuffled:
        chance.shuffle(each)
    assert experiment_results(EVEN, *shuffled) == experiment_results(EVEN, exposures, conversions)

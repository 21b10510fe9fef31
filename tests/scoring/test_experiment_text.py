"""Experiments as files: the shipped ones say what they should, and a mistake is named with its place."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.experiments.assignment import ExperimentNamespace, GoalEvent, Variant
from scoring.experiments.experiment_text import (
    ExperimentError,
    built_in_experiments_by_name,
    compile_experiment,
)

GOOD = """\
name = "offer-page"
about = "Which offer?"
coverage = 0.25
window_days = 7
seed = "spring"
hash_version = 1
namespace = { name = "pages", from = 0.5, to = 1 }

[variants.short]
weight = 0.3333
config = { fields = 3, ratio = 1.5, on = true, list = [1, "a"] }

[variants.long]
weight = 0.3333

[variants."very long"]
weight = 0.3334
config = "as it was"

[goals.bought]
event = "purchase_made"

[goals.trial]
about = "A trial began."
event = "custom:trial_started"
conversion = "trial"
"""


def test_the_shipped_experiments_are_those_of_the_chatbot():
    texts = {
        name: {v.name: v.config for v in each.variants}
        for name, each in built_in_experiments_by_name().items()
    }
    assert texts == {
        "greeting_message": {
            "A": {"text": "Hi! Welcome to YouShop!"},
            "B": {"text": "🔥 Transform your business with YouShop!"},
        },
        "question_flow": {
            "A": {"order": ["business_type", "location", "staff_size"]},
            "B": {"order": ["staff_size", "business_type", "location"]},
        },
    }
    for name, each in built_in_experiments_by_name().items():
        assert (each.name, each.status, each.control.name) == (name, "running", "A")
        assert [variant.weight for variant in each.variants] == [0.5, 0.5]
        assert any(goal.counts("conversion_recorded", "demo_request") for goal in each.goals)


def test_a_file_says_everything_that_there_is():
    found = compile_experiment(GOOD)
    assert found.variants == (
        Variant("short", 0.3333, {"fields": 3, "ratio": 1.5, "on": True, "list": [1, "a"]}),
        Variant("long", 0.3333, {}),
        Variant("very long", 0.3334, "as it was"),
    )
    assert (found.coverage, found.window_days, found.seed, found.hash_version) == (0.25, 7, "spring", 1)
    assert found.namespace == ExperimentNamespace("pages", 0.5, 1)
    bought, trial = found.goals
    assert bought.goal_events == (GoalEvent("purchase_made"),)
    assert trial.goal_events == (
        GoalEvent("custom", "trial_started"),
        GoalEvent("conversion_recorded", "trial"),
    )
    assert trial.counts("custom", "trial_started")
    assert trial.counts("conversion_recorded", "trial")
    assert not trial.counts("custom", "other")
    assert not trial.counts("conversion_recorded", None)


def test_what_is_left_out_is_the_simplest():
    found = compile_experiment("name = 'x'\n[variants.A]\n[variants.B]\n[goals.g]\nevent = 'purchase_made'")
    assert [variant.weight for variant in found.variants] == [0.5, 0.5]
    assert (found.coverage, found.seed, found.hash_version, found.window_days) == (1, "x", 2, 30)
    assert (found.status, found.unit, found.winner, found.namespace) == ("running", "visitor", None, None)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "offer-page"\n', "", "line 1, name: missing"),
        ('name = "offer-page"', 'name = "Offer page"', "line 1, name: 'Offer page' is not a name"),
        ("coverage = 0.25", "coverage = 25", "line 3, coverage: is a share from 0 to 1, not 25"),
        ("coverage = 0.25", "coverage = nan", "line 3, coverage: is a share"),
        ("coverage = 0.25", "coverage = true", "line 3, coverage: is a share"),
        ("coverage = 0.25", "covrage = 0.25", "line 3, covrage: unknown; an experiment has about, coverage"),
        ("window_days = 7", "window_days = 0", "line 4, window_days: is 1 to 3650 days, not 0"),
        ("window_days = 7", "window_days = 7.5", "line 4, window_days: is 1 to 3650 days, not 7.5"),
        ('seed = "spring"', 'seed = ""', "line 5, seed: wants a text"),
        ("hash_version = 1", "hash_version = 3", "line 6, hash_version: is 1 or 2, not 3"),
        ("from = 0.5", "from = 1", "line 7, namespace: from is below to"),
        ("from = 0.5, ", "", "line 7, namespace: wants { name"),
        (
            'about = "Which',
            'winner = "long"\nabout = "Which',
            'line 2, winner: only an experiment of status = "st',
        ),
        (
            'about = "Which',
            'status = "paused"\nabout = "Which',
            "line 2, status: is running, draft or stopped, not 'pa",
        ),
        ('about = "Which', 'unit = "page"\nabout = "Which', "line 2, unit: is visitor or lead, not 'page'"),
        (
            'about = "Which',
            'status = "stopped"\nwinner = "tall"\nabout = "Which',
            "line 3, winner: is short or long or very long, not 'tall'",
        ),
        (
            "weight = 0.3334",
            "weight = 0.3333",
            "line 17, variants.very long, weight: the weights sum to 0.9999",
        ),
        (
            "weight = 0.3334",
            "weight = 0",
            "line 17, variants.very long, weight: is above 0 and below 1, not 0",
        ),
        (
            "weight = 0.3334\n",
            "",
            "line 16, variants.very long: weight is missing, and other variants have one",
        ),
        ("weight = 0.3334", "wieght = 0.3334", "line 17, variants.very long, wieght: unknown"),
        ("ratio = 1.5", "ratio = inf", "line 11, variants.short, config: Infinity is no number of JSON"),
        (
            "ratio = 1.5",
            "day = 2030-01-31",
            "line 11, variants.short, config: 2030-01-31 is no value of JSON",
        ),
        ("[variants.long]", '[variants."<b>"]', "line 13, variants.<b>: a name has 1 to 64 letters"),
        (
            'event = "purchase_made"',
            'event = "purchase"',
            "line 21, goals.bought, event: 'purchase' is no event",
        ),
        ('event = "purchase_made"', "", 'line 20, goals.bought: wants event = "demo_requested" or'),
        (
            'conversion = "trial"',
            "conversion = 7",
            "line 26, goals.trial, conversion: wants a conversion type",
        ),
        ('about = "A trial began."', "about = 1", "line 24, goals.trial, about: wants a text"),
        ("coverage = 0.25", "starts_at = 2030-01-31", "line 3, starts_at: is a moment with an offset"),
        (
            "coverage = 0.25",
            "ends_at = 2030-01-31T00:00:00Z\nstarts_at = 2030-01-31T00:00:00Z",
            "line 3, ends_at: is not later than starts_at",
        ),
        ("weight = 0.3334", "weight = = 0.3334", "line 17: Invalid value"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_place(old, new, said):
    assert old in GOOD
    with pytest.raises(ExperimentError) as refused:
        compile_experiment(GOOD.replace(old, new, 1))
    assert str(refused.value).startswith(said)


def test_an_experiment_needs_two_variants_and_a_goal():
    with pytest.raises(ExperimentError, match="line 2, variants: an experiment has 2 to 20, not 1"):
        compile_experiment("name = 'x'\n[variants.A]\n[goals.g]\nevent = 'purchase_made'")
    with pytest.raises(ExperimentError, match=r"line 1, goals: missing: write \[goals.NAME\]"):
        compile_experiment("name = 'x'\n[variants.A]\n[variants.B]")


@given(st.text(alphabet=st.sampled_from('[]{}=."\n variantsgoalseventA01'), max_size=80))
def test_no_text_is_ever_answered_by_anything_but_a_refusal(noise):
    for text in (noise, GOOD + noise, noise + GOOD):
        with contextlib.suppress(ExperimentError):
            compile_experiment(text)

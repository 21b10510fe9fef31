"""What may change in an experiment: nothing that moves a visitor once it has started, and everything before."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.experiments.assignment import hashed_variant
from scoring.experiments.changes import experiment_change, has_started, refused_change
from scoring.experiments.experiment_text import compile_experiment

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
TEXT = """
name = "greeting"
status = "{status}"
{more}
[variants.A]
weight = {weight}
[variants.B]
weight = {other}
config = {{ text = "{config}" }}
[goals.{goal}]
event = "demo_requested"
"""


def experiment(status="running", *, weight="0.5", more="", config="Hi", goal="demo"):
    other = f"{1 - float(weight):.2f}"
    return compile_experiment(
        TEXT.format(status=status, weight=weight, other=other, more=more, config=config, goal=goal)
    )


@pytest.mark.parametrize("status", ["running", "stopped"])
@pytest.mark.parametrize(
    ("after", "key"),
    [
        ({"weight": "0.4"}, "variants"),
        ({"more": 'unit = "lead"'}, "unit"),
        ({"more": 'seed = "other"'}, "seed"),
        ({"more": "hash_version = 1"}, "hash_version"),
        ({"more": 'namespace = { name = "x", from = 0, to = 0.5 }'}, "namespace"),
        ({"more": "starts_at = 2030-02-28T00:00:00Z"}, "starts_at"),
    ],
)
def test_what_decides_the_variant_stays_once_an_experiment_has_started(status, after, key):
    refused = refused_change(experiment(status), experiment(status, **after), NOW)
    assert refused is not None
    assert refused[0] == key
    assert "under a new name" in refused[1]


@pytest.mark.parametrize(
    "after",
    [
        {"config": "Hello"},
        {"goal": "demos"},
        {"more": "coverage = 0.2"},
        {"more": "window_days = 7"},
        {"more": "ends_at = 2030-02-28T00:00:00Z"},
    ],
)
def test_what_moves_nobody_may_change_at_any_time(after):
    assert refused_change(experiment(), experiment(**after), NOW) is None


def test_everything_may_change_before_the_start_and_nothing_becomes_a_draft_after_it():
    assert refused_change(experiment("draft"), experiment("draft", weight="0.4"), NOW) is None
    later = "starts_at = 2030-02-28T00:00:00Z"
    assert refused_change(experiment(more=later), experiment(weight="0.4"), NOW) is None
    assert not has_started(experiment(more=later), NOW)
    assert has_started(experiment(more=later), NOW + timedelta(days=60))
    refused = refused_change(experiment(), experiment("draft"), NOW)
    assert refused is not None
    assert refused[0] == "status"


def test_a_change_is_named_by_what_it_does():
    assert experiment_change(None, experiment("draft")) == "created"
    assert experiment_change(experiment("draft"), experiment()) == "started"
    assert experiment_change(experiment(), experiment("stopped")) == "stopped"
    assert experiment_change(experiment("stopped"), experiment()) == "started"
    assert experiment_change(experiment(), experiment(config="Hello")) == "changed"


@given(
    st.sampled_from(["0.1", "0.25", "0.5", "0.75"]),
    st.sampled_from(["0.1", "0.25", "0.5", "0.75"]),
    st.sampled_from(["", "coverage = 0.3", 'seed = "z"', "hash_version = 1"]),
    st.sampled_from(["", "coverage = 0.3", 'seed = "z"', "hash_version = 1"]),
    st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30),
)
def test_an_allowed_change_moves_no_visitor_that_took_part_before_and_after(
    weight, other, more, changed, visitors
):
    before, after = experiment(weight=weight, more=more), experiment(weight=other, more=changed)
    if refused_change(before, after, NOW) is not None:
        return
    for visitor in visitors:
        first, then = hashed_variant(before, visitor), hashed_variant(after, visitor)
        assert not (first.included and then.included) or first.variant == then.variant

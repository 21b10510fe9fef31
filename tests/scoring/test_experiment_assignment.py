"""Who gets which variant: GrowthBook's published test vectors, and what must hold for every visitor."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.experiments.assignment import (
    Experiment,
    ExperimentNamespace,
    Goal,
    GoalEvent,
    Variant,
    assign_variant,
    equal_weights,
    experiment_phase,
    hash_fraction,
    hashed_variant,
    is_in_namespace,
    range_index,
    variant_ranges,
)
from scoring.experiments.experiment_text import built_in_experiments_by_name, compile_experiment

VECTORS = json.loads(Path(__file__).with_name("growthbook_vectors.json").read_text(encoding="utf-8"))
GOALS = (Goal("demo", (GoalEvent("demo_requested"),)),)


def named(section):
    return [pytest.param(*case[1:], id=case[0]) for case in VECTORS[section]]


NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


def assigned(experiment, unit):
    return assign_variant(experiment, unit, NOW)


# GrowthBook's vectors


@pytest.mark.parametrize(("seed", "value", "version", "expected"), VECTORS["hash"])
def test_hashes_are_those_of_growthbook(seed, value, version, expected):
    assert hash_fraction(seed, value, version) == expected


@pytest.mark.parametrize(("given", "expected"), named("getBucketRange"))
def test_bucket_ranges_are_those_of_growthbook(given, expected):
    ranges = variant_ranges(*given)
    assert [pytest.approx(each) for each in expected] == ranges


@pytest.mark.parametrize(("bucket", "ranges", "expected"), named("chooseVariation"))
def test_the_range_of_a_bucket_is_that_of_growthbook(bucket, ranges, expected):
    assert range_index(bucket, ranges) == expected


@pytest.mark.parametrize(("user", "namespace", "expected"), named("inNamespace"))
def test_namespaces_hold_whom_they_hold_at_growthbook(user, namespace, expected):
    assert is_in_namespace(user, ExperimentNamespace(*namespace)) is expected


@pytest.mark.parametrize(("count", "expected"), VECTORS["getEqualWeights"])
def test_equal_weights_are_those_of_growthbook(count, expected):
    assert equal_weights(count) == pytest.approx(expected)


@pytest.mark.parametrize(("user", "given", "variation", "included"), named("run"))
def test_experiments_run_as_at_growthbook(user, given, variation, included):
    weights = given.get("weights") or equal_weights(given["variations"])
    experiment = Experiment(
        name=given["key"],
        variants=tuple(Variant(str(n), weight, None) for n, weight in enumerate(weights)),
        goals=GOALS,
        status="running" if given.get("active", True) else "stopped",
        seed=given.get("seed", ""),
        hash_version=given.get("hashVersion", 1),
        coverage=given.get("coverage", 1),
        namespace=ExperimentNamespace(*given["namespace"]) if "namespace" in given else None,
    )
    chosen = assigned(experiment, user)
    assert (chosen.variant.name, chosen.included) == (str(variation), included)


def test_a_character_beyond_the_basic_plane_is_hashed_as_two_as_a_browser_has_it():
    """FNV-1a by hand over the UTF-16 units of U+1F525, D83D and DD25."""
    found = 2_166_136_261
    for unit in (0xD83D, 0xDD25):
        found = ((found ^ unit) * 16_777_619) % 2**32
    assert hash_fraction("", "\N{FIRE}", 1) == found % 1000 / 1000


# What holds for every visitor

VISITORS = st.text(min_size=1, max_size=30)
SHARES = st.lists(st.integers(1, 50), min_size=2, max_size=6)


def experiment_of(shares, version=2, coverage=1.0, **given):
    variants = tuple(Variant(f"v{n}", share / sum(shares), n) for n, share in enumerate(shares))
    return Experiment("test", variants, GOALS, hash_version=version, coverage=coverage, **given)


@given(VISITORS, SHARES, st.sampled_from([1, 2]), st.floats(0, 1))
def test_the_same_visitor_always_gets_the_same_variant(visitor, shares, version, coverage):
    first = assigned(experiment_of(shares, version, coverage), visitor)
    assert first == assigned(experiment_of(shares, version, coverage), visitor)


@given(SHARES, st.sampled_from([1, 2]))
def test_every_variant_holds_its_share_of_the_buckets(shares, version):
    """Each bucket is a thousandth (or ten-thousandth): a range that is so wide holds that many, give or take
    the one at its edge.
    """
    of_all = {1: 1_000, 2: 10_000}[version]
    weights = [share / sum(shares) for share in shares]
    ranges = variant_ranges(len(weights), 1, weights)
    held = [range_index(bucket / of_all, ranges) for bucket in range(of_all)]
    assert held == sorted(held)
    assert -1 not in held
    assert all(abs(held.count(n) - weight * of_all) <= 1 + 1e-9 for n, weight in enumerate(weights))


@given(VISITORS, SHARES, st.floats(0, 1), st.floats(0, 1))
def test_another_coverage_moves_nobody_between_variants(visitor, shares, one, other):
    less, more = sorted((one, other))
    before, after = (assigned(experiment_of(shares, coverage=each), visitor) for each in (less, more))
    if before.included:
        assert after == before
    if not after.included:
        assert not before.included
        assert before.variant.name == "v0"


@given(VISITORS, st.floats(0, 1))
def test_two_halves_of_a_namespace_never_share_a_visitor(visitor, cut):
    sides = (ExperimentNamespace("chat", 0, cut), ExperimentNamespace("chat", cut, 1))
    assert sum(assigned(experiment_of([1, 1], namespace=side), visitor).included for side in sides) == 1


def test_different_experiments_mix_independently():
    """A thousand visitors of two even experiments: a quarter in each of the four combinations, within five
    standard deviations (13.7) of 250.
    """
    flow, greeting = (
        built_in_experiments_by_name()["question_flow"],
        built_in_experiments_by_name()["greeting_message"],
    )
    seen = [
        (assigned(flow, f"sess_{n}").variant.name, assigned(greeting, f"sess_{n}").variant.name)
        for n in range(1_000)
    ]
    assert all(abs(seen.count((one, other)) - 250) < 69 for one in "AB" for other in "AB")


def test_a_stopped_experiment_shows_everybody_its_winner():
    stopped = experiment_of([1, 1], status="stopped")
    assert {assigned(stopped, str(n)).variant.name for n in range(20)} == {"v0"}
    won = stopped._replace(winner="v1")
    assert {assigned(won, str(n)).variant.name for n in range(20)} == {"v1"}
    assert not assigned(won, "1").included


@given(VISITORS)
def test_nobody_is_assigned_before_the_start_after_the_end_or_in_a_draft(visitor):
    hour = timedelta(hours=1)
    running = experiment_of([1, 1], starts_at=NOW - hour, ends_at=NOW + hour)
    assert assigned(running, visitor) == hashed_variant(running, visitor)
    for each, phase in (
        (running._replace(starts_at=NOW + timedelta(microseconds=1)), "scheduled"),
        (running._replace(ends_at=NOW), "ended"),
        (running._replace(status="draft"), "draft"),
    ):
        assert experiment_phase(each, NOW) == phase
        assert assigned(each, visitor) == (each.control, False)
    assert experiment_phase(running._replace(starts_at=NOW), NOW) == "running"


# Champion and challenger

DUEL = """
name = "scoring_model"
unit = "lead"
coverage = 0.5
[variants.champion]
weight = 0.8
config = { model = "temperature" }
[variants.challenger]
weight = 0.2
config = { model = "fit_engagement" }
[goals.purchase]
event = "purchase_made"
"""


@given(VISITORS)
def test_a_variant_carries_the_config_that_a_lead_gets_and_the_control_applies_outside(lead):
    """By GrowthBook's ranges: the champion has 0 to 0.4, the challenger 0.8 to 0.9, nobody the rest."""
    bucket = hash_fraction("scoring_model", lead, 2)
    expected = "fit_engagement" if 0.8 <= bucket < 0.9 else "temperature"
    experiment = compile_experiment(DUEL)
    assert assigned(experiment, lead).variant.config == {"model": expected}
    assert assigned(experiment, lead).included == (bucket < 0.4 or 0.8 <= bucket < 0.9)

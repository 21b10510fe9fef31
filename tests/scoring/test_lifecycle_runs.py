"""The lifecycle's interpreter by itself: forward only, fixpoints, exact moments. Nothing is folded here."""

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from random_lifecycles import QUALIFICATIONS, SIGNALS, lifecycles

from schemas.control import Carried
from schemas.moment import LATEST_MS
from scoring.features.features import Features, Signal
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.lifecycle.lifecycle import (
    FUNNEL_STAGES,
    SIDE_STAGES,
    STAGES,
    Qualification,
    StagePosition,
    built_in_lifecycle,
    compile_lifecycle,
    next_transition_by_time,
    run_transitions,
)
from scoring.models.points import NEVER

HOUR, DAY = 3_600_000, 86_400_000
NOW = 20_000 * DAY
DEFAULT = compile_lifecycle(built_in_lifecycle())
MQL = frozenset(DEFAULT.qualifications)
NOTHING = frozenset()
ALL_WANTED = [Qualification(*each) for each in QUALIFICATIONS]


def happened(**signals):
    """Features of these acts: the moment of the last one by name."""
    return Features({name: Signal(1, at, at, 0, b"\x01") for name, at in signals.items()})


def step(lifecycle, position, features, holds=NOTHING, as_of=NOW, **more):
    """The stage that the lead comes to, and why."""
    moved = run_transitions(lifecycle, position, features, holds=holds, as_of=as_of, **more)
    return position.stage, moved and moved.reason


def rank(stage):
    return FUNNEL_STAGES.index(stage)


# -- the shipped one


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("signal", [name for name in EVENT_TYPE_BY_TAG if name != "custom"])
def test_no_event_leads_back(stage, signal):
    """The lead came to the stage a day ago and is qualified; the event happened an hour ago."""
    position = StagePosition(stage, NOW - DAY, NOW - DAY)
    after, _ = step(DEFAULT, position, happened(interaction=NOW, **{signal: NOW - HOUR}), MQL)
    if stage in SIDE_STAGES:
        assert after == ("customer" if signal == "purchase_made" else stage)
    else:
        assert rank(after) >= rank(stage)


@pytest.mark.parametrize("signal", ["email_replied", "meeting_scheduled", "demo_requested", "form_submitted"])
@pytest.mark.parametrize(("when", "counts"), [(-1, False), (0, False), (1, True)])
def test_only_what_happens_after_qualifying_advances_the_qualified(signal, when, counts):
    qualified_at = NOW - DAY
    stage, _ = step(
        DEFAULT,
        StagePosition("qualified", NOW - HOUR, qualified_at),
        happened(**{signal: qualified_at + when}),
    )
    assert (stage != "qualified") is counts


@pytest.mark.parametrize("stage", SIDE_STAGES)
@pytest.mark.parametrize(("when", "comes_back"), [(-1, False), (0, False), (1, True)])
def test_who_was_put_aside_comes_back_by_a_purchase_after_that(stage, when, comes_back):
    stage_after, _ = step(DEFAULT, StagePosition(stage, NOW - DAY), happened(purchase_made=NOW - DAY + when))
    assert (stage_after == "customer") is comes_back


def test_a_merge_gives_the_later_stage_and_what_came_along_counts_from_when_it_was_entered():
    position = StagePosition("contacted", NOW - DAY)
    carried = Carried("qualified", NOW - 3 * DAY)
    told = happened(email_replied=NOW - 2 * DAY)
    assert step(DEFAULT, position, told, merged=True, carried=carried) == (
        "engaged",
        "reply or form after qualifying",
    )
    position = StagePosition("engaged", NOW - DAY, NOW - DAY)
    assert step(DEFAULT, position, told, merged=True, carried=carried) == ("engaged", None)


# -- a person's move


def moved(features, stage, at, event_id="m"):
    features.fields["manual_stage"] = (at, event_id, stage)
    return features


def test_a_band_that_held_at_a_persons_move_has_to_be_missed_before_it_counts_again():
    position, told = StagePosition(), moved(happened(page_viewed=NOW), "contacted", NOW)
    assert step(DEFAULT, position, told, MQL) == ("contacted", "moved by a person")
    assert step(DEFAULT, position, told, MQL) == ("contacted", None)
    assert step(DEFAULT, position, told) == ("contacted", None)
    assert step(DEFAULT, position, told, MQL) == ("qualified", "rules reached mql")


TWO_BANDS = compile_lifecycle("""
lifecycle = "two"
[[transitions]]
to = "qualified"
from = ["contacted"]
qualified_by = { model = "rules", set = "stage", bands = ["mql"] }
reason = "rules"
[[transitions]]
to = "opportunity"
from = ["contacted", "qualified"]
qualified_by = { model = "fit", set = "grade", bands = ["a", "b"] }
reason = "fit"
""")


def test_each_band_has_to_be_missed_by_itself():
    rules, fit = TWO_BANDS.qualifications
    position, told = StagePosition(), moved(happened(page_viewed=NOW), "contacted", NOW)
    assert step(TWO_BANDS, position, told, {rules, fit}) == ("contacted", "moved by a person")
    assert step(TWO_BANDS, position, told, {rules}) == ("contacted", None), "rules held all the time"
    assert not position.armed
    assert step(TWO_BANDS, position, told, {rules, fit}) == ("opportunity", "fit")


@pytest.mark.parametrize("days_idle", [179, 180, 400])
def test_a_persons_move_is_not_undone_by_silence_that_they_saw(days_idle):
    """Idle for 179 days, one more is enough; idle for 180 and moved all the same, it takes 180 more."""
    last = NOW - days_idle * DAY
    position, told = StagePosition("lost", NOW - DAY), moved(happened(interaction=last), "customer", NOW)
    assert step(DEFAULT, position, told) == ("customer", "moved by a person")
    churns = NOW + DAY if days_idle < 180 else NOW + 180 * DAY
    assert next_transition_by_time(DEFAULT, position, told, holds=NOTHING, after=NOW) == churns
    assert step(DEFAULT, position, told, as_of=churns - 1) == ("customer", None)
    assert step(DEFAULT, position, told, as_of=churns) == ("churned", "no interaction for 180 days")


# -- time

RECYCLING = compile_lifecycle("""
lifecycle = "recycling"
[[transitions]]
to = "recycled"
from = ["new", "qualified", "engaged"]
inactive_days = 90
reason = "idle for 90 days"
[[transitions]]
to = "lost"
from = ["recycled"]
inactive_days = 30
since = "entering"
reason = "idle for 30 more"
[[transitions]]
to = "engaged"
from = ["recycled"]
when = ["email_replied"]
since = "entering"
reason = "replied again"
""")


def test_leads_that_stay_idle_are_recycled_and_then_lost_and_an_answer_brings_them_back():
    position, told = StagePosition("qualified", NOW, NOW), happened(interaction=NOW)
    assert next_transition_by_time(RECYCLING, position, told, holds=NOTHING, after=NOW) == NOW + 90 * DAY
    assert step(RECYCLING, position, told, as_of=NOW + 90 * DAY - 1) == ("qualified", None)
    assert step(RECYCLING, position, told, as_of=NOW + 90 * DAY) == ("recycled", "idle for 90 days")
    assert (
        next_transition_by_time(RECYCLING, position, told, holds=NOTHING, after=NOW + 90 * DAY)
        == NOW + 120 * DAY
    )
    back = happened(interaction=NOW + 91 * DAY, email_replied=NOW + 91 * DAY)
    assert step(RECYCLING, position, back, as_of=NOW + 91 * DAY) == ("engaged", "replied again")
    assert (
        next_transition_by_time(RECYCLING, position, back, holds=NOTHING, after=NOW + 91 * DAY)
        == NOW + 181 * DAY
    )
    assert step(RECYCLING, position, back, as_of=NOW + 181 * DAY) == ("recycled", "idle for 90 days")
    assert step(RECYCLING, position, back, as_of=NOW + 211 * DAY) == ("lost", "idle for 30 more")


def test_who_never_did_anything_is_idle_since_the_lead_began():
    position, told = StagePosition(), happened(email_sent=NOW)
    assert step(RECYCLING, position, told, as_of=NOW) == ("new", None)
    assert next_transition_by_time(RECYCLING, position, told, holds=NOTHING, after=NOW) == NOW + 90 * DAY


def test_a_transition_in_time_waits_for_the_rest_of_its_conditions():
    lifecycle = compile_lifecycle("""
        lifecycle = "x"
        [[transitions]]
        to = "lost"
        from = ["contacted"]
        when = ["email_sent"]
        inactive_days = 14
        qualified_by = { model = "fit", set = "grade", bands = ["c"] }
        reason = "no answer"
    """)
    fits, position = frozenset(lifecycle.qualifications), StagePosition("contacted", NOW)
    silent, written = happened(interaction=NOW), happened(interaction=NOW, email_sent=NOW + DAY)
    for told, holds, at in (
        (silent, fits, NEVER),
        (written, NOTHING, NEVER),
        (written, fits, NOW + 14 * DAY),
    ):
        assert next_transition_by_time(lifecycle, position, told, holds=holds, after=NOW) == at
    assert step(lifecycle, position, written, fits, as_of=NOW + 14 * DAY) == ("lost", "no answer")


def test_an_act_that_was_known_when_a_stage_was_entered_does_not_lead_out_of_it_even_if_dated_ahead():
    """The e-mail is dated three minutes after the lead's clock; the lead was idle for ever."""
    lifecycle = compile_lifecycle("""
        lifecycle = "x"
        [[transitions]]
        to = "recycled"
        from = ["contacted"]
        inactive_days = 90
        reason = "idle"
        [[transitions]]
        to = "contacted"
        from = ["recycled"]
        when = ["email_sent"]
        since = "entering"
        reason = "written to"
    """)
    ahead = NOW + 180_000
    position, told = StagePosition("contacted", 0), happened(interaction=NOW - 200 * DAY, email_sent=ahead)
    assert step(lifecycle, position, told) == ("recycled", "idle")
    assert step(lifecycle, position, told) == ("recycled", None)
    later = happened(interaction=NOW - DAY, email_sent=ahead + 1)
    assert step(lifecycle, position, later) == ("contacted", "written to")


def test_what_is_overdue_is_no_next_moment():
    """A lead that a publication has not come to yet: its own record will conclude it."""
    position, told = StagePosition("customer", 0), happened(interaction=NOW - 200 * DAY)
    assert next_transition_by_time(DEFAULT, position, told, holds=NOTHING, after=NOW) == NEVER


# -- any lifecycle

moments = st.integers(NOW - 6 * DAY, NOW) | st.sampled_from([NOW, NOW + 60_000, NOW - DAY])
leads = st.fixed_dictionaries({}, optional=dict.fromkeys((*SIGNALS, "page_viewed"), moments))
moves = st.none() | st.tuples(moments, st.sampled_from("abc"), st.sampled_from(STAGES))
positions = st.builds(
    StagePosition,
    st.sampled_from(STAGES),
    moments,
    st.just(-1) | moments,
    st.just((-1, "")) | st.tuples(moments, st.sampled_from("abc")),
    st.booleans(),
)
holding = st.frozensets(st.sampled_from(ALL_WANTED))
carrying = st.none() | st.builds(Carried, st.sampled_from(STAGES), moments)


def features_of(acts, move):
    features = happened(**acts)
    if move is not None:
        moved(features, move[2], move[0], move[1])
    return features


def placed(position):
    return position.stage, position.entered_at, position.qualified_at, tuple(position.last_manual_move)


@settings(max_examples=scaled(100))
@given(lifecycles(), positions, leads, moves, holding, carrying, st.booleans())
def test_every_lifecycle_comes_to_rest(text, position, acts, move, holds, carried, merged):
    lifecycle, features = compile_lifecycle(text), features_of(acts, move)
    run_transitions(lifecycle, position, features, holds=holds, as_of=NOW, merged=merged, carried=carried)
    rest = placed(position)
    again = run_transitions(lifecycle, position, features, holds=holds, as_of=NOW)
    assert again is None
    assert placed(position) == rest


def without_way_back(lifecycle):
    """The lifecycle without the transitions that take a lead from a side stage into the funnel again."""
    onward = {
        stage: () if stage in SIDE_STAGES else transitions for stage, transitions in lifecycle.onward.items()
    }
    return lifecycle._replace(onward=onward)


@settings(max_examples=scaled(100))
@given(lifecycles(), positions, leads, holding)
def test_no_lifecycle_leads_back_within_the_funnel(text, position, acts, holds):
    before = position.stage
    lifecycle = without_way_back(compile_lifecycle(text))
    run_transitions(lifecycle, position, happened(**acts), holds=holds, as_of=NOW)
    if before in FUNNEL_STAGES and position.stage in FUNNEL_STAGES:
        assert rank(position.stage) >= rank(before)


def test_a_side_stage_may_lead_to_any_stage_of_the_funnel_in_the_same_run():
    """Idle for a year, the customer is recycled; recycled leads that were ever written to are contacted."""
    lifecycle = compile_lifecycle("""
        lifecycle = "x"
        [[transitions]]
        to = "recycled"
        from = ["customer"]
        inactive_days = 365
        reason = "idle"
        [[transitions]]
        to = "contacted"
        from = ["recycled"]
        when = ["email_sent"]
        reason = "written to"
    """)
    position = StagePosition("customer", 0, 0)
    acts = happened(interaction=NOW - 400 * DAY, email_sent=NOW - 500 * DAY)
    assert step(lifecycle, position, acts) == ("contacted", "written to")


@settings(max_examples=scaled(100))
@given(lifecycles(), positions, leads, moves, holding)
def test_the_next_moment_is_exact(text, position, acts, move, holds):
    lifecycle, features = compile_lifecycle(text), features_of(acts, move)
    run_transitions(lifecycle, position, features, holds=holds, as_of=NOW)
    as_of = NOW
    for _ in range(4):
        rest = placed(position)
        due = next_transition_by_time(lifecycle, position, features, holds=holds, after=as_of)
        if due == NEVER:
            assert run_transitions(lifecycle, position, features, holds=holds, as_of=LATEST_MS) is None
            break
        assert run_transitions(lifecycle, position, features, holds=holds, as_of=due - 1) is None
        assert placed(position) == rest
        assert run_transitions(lifecycle, position, features, holds=holds, as_of=due) is not None
        as_of = due

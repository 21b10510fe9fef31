"""What an identity leaves behind when it moves reaches its owner, under random interleavings, crashes, merges and splits.

The stage that a visitor had reached before anybody knew who it was; sessions that a redirected or full lead cannot score.
"""

import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_histories import history, specs
from stream_simulator import refold
from stream_stories import HOUR, Story, happened
from test_two_stage_protocol import started

from schemas import statements as say
from schemas.topics import EVENTS, PARTITION_WIDE_KEY
from scoring.lifecycle.transitions import STAGE_RANK
from streams.track_sessions import VisitorState

EXAMPLES = settings(max_examples=scaled(40), deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**30)

RULES = """
model = "rules"
bands = { stage = { mql = 40, none = 0 } }
[groups.g]
rules = [{ name = "Company", has = "company", points = 50 }]
"""
"""Whoever tells the company is qualified."""
BY_BEHAVIOUR = """
lifecycle = "by_behaviour"
[[transitions]]
to = "contacted"
from = ["new"]
when = ["element_clicked"]
reason = "clicked"
[[transitions]]
to = "qualified"
from = ["new", "contacted"]
qualified_by = { model = "m", set = "heat", bands = ["hot", "warm", "mild"] }
reason = "warm"
[[transitions]]
to = "engaged"
from = ["qualified"]
when = ["page_viewed"]
since = "qualifying"
reason = "came back"
[[transitions]]
to = "opportunity"
from = ["engaged"]
when = ["form_submitted"]
since = "entering"
reason = "asked"
"""
"""Each step needs something after the one before: who begins again does not come as far."""


def segments(pipeline):
    """(visitor, segment, its features) of everybody behind a key that was attached to a lead."""
    for store in pipeline.stores[EVENTS]:
        for key, parts in store.parts.items():
            if key == PARTITION_WIDE_KEY:
                continue
            state = VisitorState(key, dict(parts))
            for number, segment in enumerate(state.visitor.segments):
                if segment.born:
                    yield key, number, segment, state.bodies[number].features


def with_lifecycle(pipeline):
    pipeline.publish_settings("*", 50, 0, lifecycle=BY_BEHAVIOUR)
    return pipeline


def unknown_first(spec, claims):
    """Nobody is known until the end of the history; then visitors are, while leads are merged and split."""
    before = []
    for kind, visitor, lead, *rest, mode in spec:
        before.append((0 if kind in (14, 15) else kind, visitor, lead, *rest, 0 if mode == 1 else mode))
    return before + claims


claim = st.tuples(
    st.sampled_from([14, 14, 14, 18, 19, 21]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0, 1, 30]),
    st.just(0),
    st.just(0),
    st.just(0),
)


@EXAMPLES
@given(specs(4), st.lists(claim, min_size=2, max_size=12), seeds, st.booleans())
def test_no_stage_that_a_visitor_had_reached_is_lost_when_it_is_known(spec, claims, seed, cycles):
    events = history(unknown_first(spec, claims), cycles=cycles, stages=False)
    pipeline = with_lifecycle(started()).run(seed, events, timers=3, crash=0.2)
    reached = {}
    for entered in pipeline.statements(say.StageEntered):
        if entered.lead_id.startswith("anon:v"):
            visitor = entered.lead_id.removeprefix("anon:")
            reached[visitor] = max(reached.get(visitor, 0), STAGE_RANK[entered.stage])
    stages = {state.lead_id: state.head.position.stage for state in pipeline.leads().values()}
    for key, number, segment, _ in segments(pipeline):
        if number == 0 and "/v/" in key:
            assert STAGE_RANK[stages[segment.owner]] >= reached.get(key.rpartition("/")[2], 0)


def sessions_unsaid(pipeline):
    """Sessions that are there now, as they are, and were never said; sessions that are none, and were never retracted."""
    scored, retracted, known = set(), set(), set()
    for statement in pipeline.statements(say.SessionScored):
        s = statement
        scored.add((s.identity, s.session_id, s.pages, s.clicks, s.important_clicks))
    for statement in pipeline.statements(say.SessionRetracted):
        retracted.add((statement.identity, statement.session_id))
    unsaid = []
    leads = {state.lead_id: state for state in pipeline.leads().values()}
    for key, number, segment, features in segments(pipeline):
        name = f"{key}#{number}"
        if leads[segment.owner].refuses_profiling:
            continue
        for session_id, s in features.sessions.items():
            known.add((name, session_id))
            if (name, session_id, s.pages, s.clicks, s.important_clicks) not in scored:
                unsaid.append((name, session_id))
    refusing = {
        f"{key}#{number}"
        for key, number, segment, _ in segments(pipeline)
        if leads[segment.owner].refuses_profiling
    }
    gone = {(i, s) for i, s, *_ in scored if i not in refusing} - known - retracted
    return unsaid, gone


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_every_session_is_said_whatever_races(spec, seed, cycles):
    pipeline = started().run(seed, history(spec, cycles=cycles), timers=3, crash=0.2)
    assert sessions_unsaid(pipeline) == ([], set())


@pytest.fixture(scope="module")
def leads_of_two():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.score_leads.identities.MOST_IDENTITIES", 2)
        yield


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_every_session_is_said_where_a_full_lead_refuses_it(leads_of_two, spec, seed, cycles):
    pipeline = started().run(seed, history(spec, cycles=cycles), timers=3)
    assert sessions_unsaid(pipeline) == ([], set())


@EXAMPLES
@given(specs(), seeds)
def test_folding_again_says_the_same_of_what_was_left_behind(spec, seed):
    recorded = with_lifecycle(started()).run(seed, history(spec, cycles=True), timers=3, crash=0.3)
    again = refold(recorded, seed)
    assert sorted(map(repr, again.said)) == sorted(map(repr, recorded.said))
    assert [s.parts for s in again.stores["lead-activity"]] == [
        s.parts for s in recorded.stores["lead-activity"]
    ]


def web(kind, event_id, when, **fields):
    return happened(kind, event_id, when, visitor_id="v", **fields)


def crm(kind, event_id, when, **fields):
    return happened(kind, event_id, when, lead_id="L", source="crm", **fields)


def test_an_engaged_visitor_stays_engaged_when_it_is_known():
    story = Story((("rules", RULES),)).when(
        web("form_submitted", "f1", 0, fields={"company": "Acme"}),
        web("form_submitted", "f2", HOUR),
    )
    assert story.stage("anon:v") == "engaged"
    story.when(web("lead_identified", "id", 2 * HOUR, lead_id="L"))
    assert story.stage("L") == "engaged"
    assert "anon:v" not in {state.lead_id for state in story.pipeline.leads().values()}


def test_a_buyer_who_was_put_aside_before_buying_and_is_known_afterwards_is_a_customer():
    story = Story().when(
        web("page_viewed", "e1", 0),
        web("stage_changed", "m1", HOUR, stage="lost"),
        web("purchase_made", "p1", 2 * HOUR, value=5, currency="EUR"),
        web("lead_identified", "id", 3 * HOUR, lead_id="L"),
    )
    assert story.stage("L") == "customer"


def test_a_move_that_is_recorded_late_is_entered_at_its_own_time():
    story = Story().when(
        web("purchase_made", "p1", 2 * HOUR, value=5, currency="EUR"),
        web("lead_identified", "id", 3 * HOUR, lead_id="L"),
        crm("stage_changed", "m1", HOUR, recorded=4 * HOUR, stage="lost"),
    )
    assert story.stage("L") == "customer"


def test_a_persons_move_after_it_wins_over_what_a_visitor_had_reached():
    story = Story().when(
        web("page_viewed", "e0", 0),
        web("purchase_made", "p1", HOUR, value=5, currency="EUR"),
        crm("stage_changed", "m1", 2 * HOUR, stage="lost"),
        web("lead_identified", "id", 3 * HOUR, lead_id="L"),
    )
    assert story.stage("L") == "lost"

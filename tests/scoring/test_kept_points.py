"""What is kept of a lead's rules gives the score that a whole evaluation gives, whatever happens to the lead."""

from decimal import Decimal
from types import SimpleNamespace

from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leads_given import DAY_MS, HOUR_MS, IDLE, T0, UTC, at_of, happened
from random_scoring import histories, model_texts, repeating_models

from scoring.features.calendar import calendar
from scoring.features.features import FIELDS_KEPT, Features
from scoring.features.lead_identity import LeadIdentity
from scoring.features.signals import SignalCatalogue
from scoring.features.view import Subject, view_of
from scoring.lifecycle.lifecycle import StagePosition
from scoring.models.kept_points import affected_rules, shape_of
from scoring.models.model import (
    all_models,
    compile_model,
    may_change_score,
    next_visible_time_change,
    score_lead,
)
from streams.score_leads.lead_state import LeadState

few = settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
TIME_STEPS = st.one_of(st.integers(0, 5 * DAY_MS), st.sampled_from([0, 0, 1, HOUR_MS, DAY_MS, 40 * DAY_MS]))
NO_SESSIONS = SimpleNamespace(sessions=(), retracted=(), forgotten=())


def assert_kept_is_whole(state, model, at, zone):
    subject = Subject(state.features, state.head.position.stage)
    view = view_of(subject, at, zone)
    kept = state.kept_points(model, view)
    assert kept.conclude(view) == score_lead(model, subject, at, zone, IDLE)
    known = next_visible_time_change(model, subject, at, zone, IDLE, kept.points_at(view))
    assert known == next_visible_time_change(model, subject, at, zone, IDLE)
    return known


@few
@given(
    model_texts(session=False) | repeating_models() | st.sampled_from(sorted(all_models().values())),
    histories(14, min_size=1),
    st.data(),
    ZONES,
)
def test_kept_points_conclude_what_a_whole_evaluation_concludes(text, events, data, zone):
    model, zone = compile_model(text), calendar(zone)
    if model.mean is not None:
        return
    catalogue, state, at = SignalCatalogue.of([model]), LeadState("t/lead/L", {}), T0 - 40 * DAY_MS
    state.attach("a", LeadIdentity(1, "L", Features()))
    for event in events:
        at += data.draw(TIME_STEPS)
        match data.draw(st.sampled_from(["", "", "", "attach", "detach", "stage", "time"])):
            case "attach":
                state.attach("b", LeadIdentity(1, data.draw(st.sampled_from(["L", "M"])), Features()))
            case "detach":
                state.detach("b")
            case "stage":
                stage = data.draw(st.sampled_from(["new", "qualified", "customer"]))
                state.head.position = StagePosition(stage)
            case "time":
                known = assert_kept_is_whole(state, model, at, zone)
                at = known if known < at + 400 * DAY_MS else at
            case _:
                pass
        occurred = min(at_of(event), at + 2 * HOUR_MS) if data.draw(st.booleans()) else at
        delta = catalogue.feature_delta_of(event, occurred, zone.day_of(occurred))
        state.apply(data.draw(st.sampled_from(sorted(state.identities))), delta, NO_SESSIONS)
        if may_change_score(model, delta, False, False) or data.draw(st.booleans()):
            assert_kept_is_whole(state, model, at, zone)
    assert_kept_is_whole(state, model, at, zone)


READING = """
model = "m"
[groups.g]
rules = [
  { name = "signal", each = "page_viewed", points = 1 },
  { name = "field", has = "company", points = 2 },
  { name = "set", value = "distinct questions", greater_than = 1, points = 4 },
  { name = "first touch", value = "profile.source", equals = "ads", points = 8 },
  { name = "stage", choose = "profile.stage", points = { qualified = 16 } },
]
"""


def test_each_part_that_changes_changes_the_rules_that_read_it():
    model, state = compile_model(READING), LeadState("t/lead/L", {})
    state.attach("a", LeadIdentity(1, "L", Features()))
    assert_kept_is_whole(state, model, T0, UTC)
    for kind, fields in [
        ("page_viewed", {"url": "https://x.example"}),
        ("profile_updated", {"fields": {"company": "X"}}),
        ("question_answered", {"question_id": "1", "text": "yes"}),
        ("question_answered", {"question_id": "2", "text": "yes"}),
    ]:
        delta = delta_of(model, happened(kind, T0, event_id=kind + str(fields), **fields))
        if kind == "page_viewed":
            delta.touchpoint = "ads"
        state.apply("a", delta, NO_SESSIONS)
        assert_kept_is_whole(state, model, T0, UTC)
    state.head.position = StagePosition("qualified")
    assert_kept_is_whole(state, model, T0, UTC)
    assert sum(state.kept_points(model, None).points) == 31_000


def delta_of(model, event):
    return SignalCatalogue.of([model]).feature_delta_of(event, T0, 20_000)


def test_an_event_touches_the_rules_that_read_it_and_no_others():
    model = compile_model(
        "model = 'm'\n[groups.g]\nrules = [{ name = 'p', each = 'page_viewed', points = 1 }, "
        "{ name = 'c', each = 'element_clicked', points = 1 }, { name = 'f', has = 'company', points = 2 }]"
    )
    shape = shape_of(delta_of(model, happened("page_viewed", T0, url="https://x.example")), Features())
    assert affected_rules(model, shape) == (0,)


def test_where_one_name_may_displace_another_an_event_has_no_shape():
    model = compile_model("model = 'm'\n[groups.g]\nrules = []")
    delta = delta_of(model, happened("profile_updated", T0, fields={"company": "X"}))
    full = Features(fields={f"f{n}": (T0, "e", "x") for n in range(FIELDS_KEPT)})
    assert shape_of(delta, Features()) is not None
    assert shape_of(delta, full) is None
    assert (
        shape_of(
            delta_of(model, happened("purchase_made", T0, value=Decimal(5), currency="EUR", order_id="1")),
            Features(),
        )
        is None
    )

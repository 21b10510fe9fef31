"""A chat that is only tried: what it would record and score, by hand from requirement 2's table of points."""

import pytest

from schemas.refusal import Refusal
from scoring.chat.flow import question_numbered
from scoring.chat.trial import (
    ScoringTerms,
    after_action,
    after_answer,
    after_profile,
    begun_trial,
    flow_points,
    option_points,
    trial_score,
)
from scoring.editing.flow_edits import flow_json, text_with_flow
from scoring.features.calendar import calendar
from scoring.models.model import built_in_models, compile_model

TEXT = built_in_models()["chatbot"]
MODEL = compile_model(TEXT)
FLOW = MODEL.flow
POINT = 1_000_000


def terms(model=MODEL):
    return ScoringTerms(model, calendar("UTC"), 1_800_000, 1_900_000_000_000)


def answered(trial, number, text, seconds=None, flow=FLOW):
    return after_answer(trial, flow, question_numbered(flow, number), text, seconds)


def total(trial):
    return trial_score(trial, terms()).conclusion.total // POINT


def test_a_whole_chat_scores_what_the_table_says():
    trial = begun_trial()
    assert total(trial) == 5  # session opened
    trial = answered(trial, 1, "Restaurant", 200)
    assert total(trial) == 10  # + 5 for the answer; ten characters are not more than ten
    trial = answered(trial, 2, "Dubai Marina", 5)
    assert total(trial) == 25  # + 5, + 5 quick, + 5 detailed
    for number, text in ((3, "2–5"), (4, "Below ₹50K"), (5, "Billing")):
        trial = answered(trial, number, text, 300)
    assert total(trial) == 50  # + 5 each, + 10 for all of them
    trial = after_profile(trial, {"email": "ada@example.com"})
    assert total(trial) == 60
    trial = after_action(trial, "clicked_demo", {"cta_id": "book-demo"})
    assert total(trial) == 75
    assert trial_score(trial, terms()).conclusion.bands["category"] == "SQL"
    assert [each["type"] for each in trial.events] == [
        "session_started", *["question_answered"] * 5, "questions_completed", "contact_shared", "demo_requested",
    ]  # fmt: skip


def test_an_answer_that_is_sent_twice_counts_once():
    once = answered(begun_trial(), 1, "Restaurant", 200)
    assert answered(once, 1, "Restaurant", 200) == once


def test_options_score_what_a_rule_of_the_draft_gives_them():
    """A rule for restaurants: 7 points beside the 5 of every answer; `Service Business` is more than ten characters."""
    text = TEXT.replace(
        "rules = [\n", 'rules = [\n  { name = "Restaurants", value = "profile.business_type", equals = "Restaurant", points = 7 },\n', 1
    )  # fmt: skip
    model = compile_model(text)
    found = option_points(begun_trial(), model.flow, model.flow.questions[0], terms(model))
    assert dict(
        zip(model.flow.questions[0].options["en"], (each // POINT for each in found), strict=True)
    ) == {
        "Restaurant": 12,
        "Retail Store": 10,
        "Service Business": 10,
        "E-commerce": 5,
        "Other": 5,
    }
    assert flow_points(model.flow, terms(model))[1] == found


def test_no_more_options_are_scored_than_there_is_time_for():
    flow = flow_json(FLOW)
    for question in flow["questions"][:3]:
        question["options"] = {"en": [f"option {n}" for n in range(90)]}
    model = compile_model(text_with_flow(TEXT, flow))
    assert sorted(flow_points(model.flow, terms(model))) == [1, 2]


def test_what_the_log_would_refuse_is_refused_here():
    with pytest.raises(Refusal):
        trial_score(after_action(begun_trial(), "waved", {"why": "w" * 70_000}), terms())

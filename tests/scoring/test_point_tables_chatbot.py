"""The chatbot's scoring rules, row by row, and where its categories begin. Points from the table."""

import pytest
from leads_given import T0, happened, lines, scored, shipped

from scoring.models.model import ONE_POINT, built_in_models, compile_model

CHATBOT = shipped("chatbot")


def chat(kind, **fields):
    return happened(kind, source="chatbot", **fields)


def answer(question, text="", seconds=None):
    return chat("question_answered", question_id=str(question), text=text, time_taken_s=seconds)


def points(*events):
    """By rule, in whole points."""
    given = lines(CHATBOT, scored(CHATBOT, events))
    assert all(each % ONE_POINT == 0 for each in given.values())
    return {rule: each // ONE_POINT for rule, each in given.items()}


TABLE = {
    "session opened": ([chat("session_started")], {"Opened the chat": 5}),
    "replied to greeting": ([chat("greeting_replied")], {"Replied to greeting": 5}),
    "each question answered": ([answer(1), answer(2), answer(3)], {"Questions answered": 15}),
    "all questions completed": ([chat("questions_completed")], {"All questions answered": 10}),
    "contact shared": ([chat("contact_shared")], {"Shared contact": 10}),
    "product interest": ([chat("product_clicked")], {"Product interest": 5}),
    "demo requested": ([chat("demo_requested")], {"Asked for a demo": 15}),
    "quick reply, under 2 minutes": (
        [answer(1, seconds=119.0)],
        {"Questions answered": 5, "Quick replies": 5},
    ),
    "detailed answer, over 10 characters": (
        [answer(1, "x" * 11)],
        {"Questions answered": 5, "Detailed answers": 5},
    ),
    "CTA clicked": ([chat("cta_clicked")], {"Clicked a CTA": 15}),
}


@pytest.mark.parametrize(("events", "expected"), TABLE.values(), ids=TABLE)
def test_a_row_of_the_table(events, expected):
    assert points(*events) == expected


@pytest.mark.parametrize(("events", "expected"), TABLE.values(), ids=TABLE)
def test_a_row_done_again_adds_nothing(events, expected):
    """Each act counts once, and of the answers each question once."""
    assert points(*events, *events, *events) == expected


@pytest.mark.parametrize("questions", range(9))
def test_every_question_gives_five_points_and_there_is_no_cap(questions):
    given = points(*(answer(number, "a long answer", 10.0) for number in range(questions)))
    each = {"Questions answered", "Quick replies", "Detailed answers"}
    assert given == (dict.fromkeys(each, 5 * questions) if questions else {})


def test_all_rows_together_are_worth_ninety_and_fifteen_for_each_question_more():
    """5 + 5 + 3 x 5 + 10 + 10 + 5 + 15 + 5 + 5 + 15, all that the table offers with three questions."""
    everything = [event for events, _ in TABLE.values() for event in events]
    assert sum(points(*everything).values()) == 90
    assert sum(points(*everything, answer(9, "quite in detail", 1.0)).values()) == 105


@pytest.mark.parametrize(
    ("seconds", "quick"),
    [(0.0, True), (60.0, True), (119.0, True), (119.999, True), (120.0, False), (120.001, False)],
)
def test_a_reply_is_quick_under_two_minutes(seconds, quick):
    assert ("Quick replies" in points(answer(1, seconds=seconds))) is quick


@pytest.mark.parametrize(
    ("text", "detailed"),
    [("", False), ("x" * 9, False), ("x" * 10, False), ("x" * 11, True), ("x" * 12, True), ("ы" * 11, True)],
)
def test_an_answer_is_detailed_over_ten_characters(text, detailed):
    assert ("Detailed answers" in points(answer(1, text))) is detailed


@pytest.mark.parametrize(
    ("total", "category"),
    [
        (0, "Unqualified"),
        (29, "Unqualified"),
        (29.499, "Unqualified"),
        (30, "MQL"),
        (31, "MQL"),
        (59, "MQL"),
        (59.499, "MQL"),
        (60, "SQL"),
        (61, "SQL"),
        (250, "SQL"),
    ],
)
def test_categories_begin_at_thirty_and_sixty(total, category):
    head = built_in_models()["chatbot"].partition("[signals]")[0]
    given = compile_model(head + f'[groups.g]\nrules = [{{ name = "given", base = {total} }}]')
    assert scored(given, []).bands == {"category": category}


JOURNEY = {
    "session_opened": ([chat("session_started")], 5),
    "answered_questions": ([answer(n, "Retail", 600.0) for n in range(2)], 15),
    "quick_replies": ([answer(n, "Mumbai", 30.0) for n in range(2, 5)], 45),
    "completed_all": ([chat("questions_completed")], 55),
    "shared_contact": ([chat("contact_shared", email="a@example.com")], 65),
    "clicked_demo": ([chat("demo_requested")], 80),
}


def test_the_example_journey_comes_to_eighty_step_by_step():
    """5, five questions 25 of which three quick 15, completed 10, contact 10, demo 15."""
    done, seen, categories = [], [], []
    for events, _ in JOURNEY.values():
        done += events
        now = scored(CHATBOT, done, T0)
        seen.append(now.total // ONE_POINT)
        categories.append(now.bands["category"])
    assert seen == [total for _, total in JOURNEY.values()]
    assert categories == ["Unqualified", "Unqualified", "MQL", "MQL", "SQL", "SQL"]

"""The text of a chat's flow: what is refused, with its line, and what an answer is."""

import pytest

from scoring.chat.flow import SharedContact, answer_of, built_in_flow, contact_of, next_question, parts_of
from scoring.chat.flow_text import FlowError, compile_flow

BUILT_IN = compile_flow(built_in_flow())
LINES = """flow = "clinic"
languages = ["en", "hi"]
thanks = { en = "Thanks", hi = "धन्यवाद" }
[greeting]
id = 1
text = "Hello"
[[questions]]
id = 2
text = { en = "Which day?", hi = "कौन सा दिन?" }
options = { en = ["Today", "Tomorrow"], hi = ["आज", "कल"] }
profile_field = "day"
[[questions]]
id = 3
text = "Anything else?"
several = true
options = ["Parking", "Lunch"]
[contact]
id = 4
text = "Your phone?"
[[products]]
id = "checkup"
text = "Check-up"
[[ctas]]
id = "book"
text = "Book"
"""


def test_the_built_in_flow_asks_what_the_document_asks():
    fields = ["business_type", "location", "staff_size", "monthly_sales", "features_interested"]
    assert [(each.id, each.profile_field) for each in BUILT_IN.questions] == list(enumerate(fields, 1))
    assert [each.several for each in BUILT_IN.questions] == [False] * 4 + [True]
    assert (BUILT_IN.greeting, BUILT_IN.contact) == (0, 6)


@pytest.mark.parametrize(
    ("changed", "to", "refusal"),
    [
        ('flow = "clinic"', "", "line 1, flow: missing"),
        ('flow = "clinic"', 'flow = "My Clinic"', "line 1, flow: 'My Clinic' is no name"),
        ('flow = "clinic"', 'flow = "clinic"\nnext = 5', "line 2, next: unknown; possible are assigned_to"),
        ('["en", "hi"]', '["en", "en"]', "line 2, languages: is a list of 1 to 20 languages"),
        ('en = "Thanks", ', "", "line 3, thanks: is missing in the language en"),
        ('en = "Thanks"', 'en = "Thanks", fr = "Merci"', "line 3, thanks: 'fr' is none of the flow's"),
        (
            '[greeting]\nid = 1\ntext = "Hello"',
            "",
            "line 1, greeting: missing; below [greeting], write id and text",
        ),
        ("id = 1", "", "line 4, greeting.id: missing"),
        ("id = 3", "id = true", "line 13, questions.id: is a whole number, not True"),
        ("id = 3", "id = 2", "line 13, questions.id: 2 is another question's already"),
        ("id = 4", "id = 1", "line 18, contact.id: 1 is the greeting's"),
        ("several = true", "many = true", "line 15, questions.many: unknown; possible are id, options"),
        ("several = true", 'several = "yes"', "line 15, questions.several: is true or false, not 'yes'"),
        ('"Parking", "Lunch"', '"Parking", "parking"', "line 16, questions.options: has one of them twice"),
        ('"Parking", "Lunch"', '"Parking, Lunch"', "line 16, questions.options: contain no comma"),
        ('["आज", "कल"]', '["आज"]', "line 10, questions.options: has more of them in one language"),
        (
            "several = true",
            'profile_field = "day"',
            "line 15, questions.profile_field: another question fills it",
        ),
        ("several = true", 'profile_field = "Day"', "line 15, questions.profile_field: 'Day' is no name"),
        ('text = "Check-up"', "", "line 20, products.text: missing"),
        ('text = "Book"', 'text = ""', "line 25, ctas.text: is a text of one line"),
        ('text = "Your phone?"', "text = x", "line 19: "),
    ],
)
def test_a_refusal_names_the_line_and_the_reason(changed, to, refusal):
    assert changed in LINES
    with pytest.raises(FlowError) as refused:
        compile_flow(LINES.replace(changed, to, 1))
    assert str(refused.value).startswith(refusal)


def test_a_flow_without_questions_is_refused():
    text = LINES[: LINES.index("[[questions]]")] + LINES[LINES.index("[contact]") :]
    with pytest.raises(FlowError, match=r"line 1, questions: a flow has at least one"):
        compile_flow(text)
    with pytest.raises(FlowError, match=r"line 4, questions: begin each with \[\[questions\]\]"):
        compile_flow(text.replace("[greeting]", "[questions]\nid = 2\n[greeting]"))


@pytest.mark.parametrize(
    ("number", "answer", "text", "other"),
    [
        (2, "Today", "Today", False),
        (2, " today ", "Today", False),
        (2, "कल", "Tomorrow", False),
        (2, "next week, or never", "next week, or never", True),
        (3, "parking;lunch", "Parking, Lunch", False),
        (3, ["Lunch", "Lunch", "a lift"], "Lunch, a lift", True),
    ],
)
def test_options_are_recognised_and_any_text_is_an_answer(number, answer, text, other):
    flow = compile_flow(LINES)
    question = next(each for each in flow.questions if each.id == number)
    assert answer_of(flow, question, answer) == (text, other)


def test_a_question_without_options_has_no_other_answers():
    assert answer_of(BUILT_IN, BUILT_IN.questions[1], "Mumbai, India") == ("Mumbai, India", False)


def test_the_next_question_is_the_first_open_one():
    assert next_question(BUILT_IN, {1, 3}).id == 2
    assert next_question(BUILT_IN, {5, 4, 3, 2, 1, 99}) is None


@pytest.mark.parametrize(
    ("text", "contact"),
    [
        (
            "Ada Obi, ada@example.com, +971 50 123 4567",
            SharedContact("Ada Obi", "ada@example.com", "+971 50 123 4567"),
        ),
        ("9123456789", SharedContact(phone="9123456789")),
        ("call me", SharedContact(name="call me")),
        (" , ;\n", SharedContact()),
    ],
)
def test_a_contact_is_read_from_a_text(text, contact):
    assert contact_of(text) == contact


def test_the_parts_of_a_recorded_answer():
    assert (
        parts_of("Billing, QR Payments") == parts_of(["Billing", "QR Payments"]) == ["Billing", "QR Payments"]
    )
    assert parts_of(None) == []

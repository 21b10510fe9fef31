"""The flow of a chat in a model's text: what is refused, with its line, and what an answer is."""

import pytest

from scoring.chat.flow import SharedContact, answer_of, contact_of, next_question, parts_of
from scoring.editing.describe import describe_model
from scoring.models.model import ModelError, built_in_models, compile_model

BUILT_IN = compile_model(built_in_models()["chatbot"]).flow
LINES = """model = "chat"
[flow]
languages = ["en", "hi"]
thanks = { en = "Thanks", hi = "धन्यवाद" }
[flow.greeting]
id = 1
text = "Hello"
[[flow.questions]]
id = 2
text = { en = "Which day?", hi = "कौन सा दिन?" }
options = { en = ["Today", "Tomorrow"], hi = ["आज", "कल"] }
profile_field = "day"
[[flow.questions]]
id = 3
text = "Anything else?"
several = true
options = ["Parking", "Lunch"]
[flow.contact]
id = 4
text = "Your phone?"
[[flow.products]]
id = "checkup"
text = "Check-up"
[[flow.ctas]]
id = "book"
text = "Book"
[groups.chat]
rules = [{ name = "Opened", once = "session_started", points = 5 }]
"""


def test_the_built_in_flow_asks_what_the_document_asks():
    fields = ["business_type", "location", "staff_size", "monthly_sales", "features_interested"]
    assert [(each.id, each.profile_field) for each in BUILT_IN.questions] == list(enumerate(fields, 1))
    assert [each.several for each in BUILT_IN.questions] == [False] * 4 + [True]
    assert (BUILT_IN.greeting, BUILT_IN.contact) == (0, 6)


@pytest.mark.parametrize(
    ("changed", "to", "refusal"),
    [
        ('["en", "hi"]', '["en", "hi"]\nnext = 5', "line 4, flow.next: unknown; possible are assigned_to"),
        ('["en", "hi"]', '["en", "en"]', "line 3, flow.languages: is a list of 1 to 20 languages"),
        ('en = "Thanks", ', "", "line 4, flow.thanks: is missing in the language en"),
        ('en = "Thanks"', 'en = "Thanks", fr = "Merci"', "line 4, flow.thanks: 'fr' is none of the flow's"),
        (
            '[flow.greeting]\nid = 1\ntext = "Hello"',
            "",
            "line 2, flow.greeting: missing; below [flow.greeting]",
        ),
        ("id = 1", "", "line 5, flow.greeting.id: missing"),
        ("id = 3", "id = true", "line 14, flow.questions.id: is a whole number, not True"),
        ("id = 3", "id = 2", "line 14, flow.questions.id: 2 is another question's already"),
        ("id = 4", "id = 4\nbutton = 5", "line 20, flow.contact.button: is a text of one line"),
        ("id = 4", "id = 1", "line 19, flow.contact.id: 1 is the greeting's"),
        ("several = true", "many = true", "line 16, flow.questions.many: unknown; possible are id, options"),
        ("several = true", 'several = "yes"', "line 16, flow.questions.several: is true or false, not 'yes'"),
        (
            '"Parking", "Lunch"',
            '"Parking", "parking"',
            "line 17, flow.questions.options: has one of them twice",
        ),
        ('"Parking", "Lunch"', '"Parking, Lunch"', "line 17, flow.questions.options: contain no comma"),
        ('["आज", "कल"]', '["आज"]', "line 11, flow.questions.options: has more of them in one language"),
        (
            "several = true",
            'profile_field = "day"',
            "line 16, flow.questions.profile_field: another question",
        ),
        (
            "several = true",
            'profile_field = "Day"',
            "line 16, flow.questions.profile_field: 'Day' is no name",
        ),
        ('text = "Check-up"', "", "line 21, flow.products.text: missing"),
        ('text = "Book"', 'text = ""', "line 26, flow.ctas.text: is a text of one line"),
    ],
)
def test_a_refusal_names_the_line_and_the_reason(changed, to, refusal):
    assert changed in LINES
    with pytest.raises(ModelError) as refused:
        compile_model(LINES.replace(changed, to, 1))
    assert str(refused.value).startswith(refusal)


def test_a_flow_without_questions_is_refused():
    text = LINES[: LINES.index("[[flow.questions]]")] + LINES[LINES.index("[flow.contact]") :]
    with pytest.raises(ModelError, match=r"line 2, flow.questions: missing: a flow has at least one"):
        compile_model(text)
    with pytest.raises(ModelError, match=r"line 5, flow.questions: begin each with \[\[flow.questions\]\]"):
        compile_model(text.replace("[flow.greeting]", "questions = 5\n[flow.greeting]"))
    with pytest.raises(ModelError, match=r"line 2, flow: wants a table"):
        compile_model('model = "chat"\nflow = 5\n' + LINES[LINES.index("[groups") :])


def test_a_model_needs_no_flow():
    assert compile_model('model = "chat"\n' + LINES[LINES.index("[groups") :]).flow is None


def test_a_description_of_the_model_has_its_questions():
    assert "| 2 | Which day? | Today, Tomorrow | `day` |" in describe_model(LINES)


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
    flow = compile_model(LINES).flow
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

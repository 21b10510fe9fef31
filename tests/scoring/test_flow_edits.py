"""A flow as a form edits it: the text keeps what did not change, and means what the form shows."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.chat.flow_text import FlowError
from scoring.editing.flow_edits import flow_json, text_with_flow
from scoring.models.model import built_in_models, compile_model

TEXT = built_in_models()["chatbot"]
WITHOUT_FLOW = TEXT[: TEXT.index("[flow]")]


def flow_of(text):
    return flow_json(compile_model(text).flow)


FLOW = flow_of(TEXT)


def changed(**parts):
    return {**copy.deepcopy(FLOW), **parts}


def test_a_flow_that_did_not_change_leaves_the_text_as_it_was():
    assert text_with_flow(TEXT, FLOW) == TEXT


def test_one_changed_question_changes_its_lines_only():
    flow = changed()
    flow["questions"][1]["text"]["en"] = 'Where is "it"?'
    before, after = TEXT.split("\n"), text_with_flow(TEXT, flow).split("\n")
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ('text = "Where is your business?"', 'text = "Where is \\"it\\"?"')
    ]


def test_questions_change_places_come_and_go():
    flow = changed()
    flow["questions"] = [*reversed(flow["questions"][1:]), {
        "id": 9, "text": {"en": "When?"}, "options": {"en": []}, "several": False, "step": "profile", "profile_field": None,
    }]  # fmt: skip
    text = text_with_flow(TEXT, flow)
    assert flow_of(text) == flow
    assert text.index("[flow.greeting]") < text.index('"When?"') < text.index("[flow.contact]"), "in place"
    assert flow_of(text_with_flow(text, FLOW)) == FLOW, "and back"


def test_what_is_taken_away_is_gone_and_what_is_added_is_there():
    bare = changed(products=[], ctas=[], assigned_to=None)
    text = text_with_flow(TEXT, bare)
    assert flow_of(text) == bare
    assert "[[flow.products]]" not in text
    assert flow_of(text_with_flow(text, FLOW)) == FLOW


def test_a_model_without_a_flow_gets_one():
    text = text_with_flow(WITHOUT_FLOW, FLOW)
    assert text.startswith(WITHOUT_FLOW.rstrip())
    assert flow_of(text) == FLOW


def in_two_languages(flow):
    """Everything also in Persian."""

    def worded(value):
        match value:
            case {"en": list(options)}:
                return {"en": options, "fa": [f"{each} ف" for each in options]}
            case {"en": each}:
                return {"en": each, "fa": f"{each} ف" if each else ""}
            case dict():
                return {key: worded(each) for key, each in value.items()}
            case list():
                return [worded(each) for each in value]
        return value

    return worded(flow) | {"languages": ["en", "fa"]}


def test_a_language_is_added_and_taken_away():
    flow = in_two_languages(copy.deepcopy(FLOW))
    for offer in flow["ctas"]:
        offer["about"] = {"en": "", "fa": ""}
    text = text_with_flow(TEXT, flow)
    assert flow_of(text) == flow
    assert "# in messengers that can share it" in text
    assert text_with_flow(text, FLOW).count("fa =") == 0


WORDS = st.text(st.characters(blacklist_characters="\n\r\0", blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)  # fmt: skip


@settings(max_examples=25)
@given(
    st.lists(st.integers(10, 40), min_size=1, max_size=5, unique=True),
    st.lists(WORDS, min_size=3, max_size=3),
)
def test_any_flow_is_read_back_as_it_was_written(ids, words):
    flow = changed()
    flow["questions"] = [
        {"id": each, "text": {"en": words[each % 3]}, "options": {"en": [f"a{words[0]}", f"b{words[1]}"] if each % 2 else []},
         "several": False, "step": words[2], "profile_field": None}
        for each in ids
    ]  # fmt: skip
    assert flow_of(text_with_flow(TEXT, flow)) == flow
    assert flow_of(text_with_flow(WITHOUT_FLOW, flow)) == flow


@pytest.mark.parametrize(
    ("break_it", "field"),
    [
        (lambda flow: flow["questions"][2]["text"].update(en=" "), "questions.2.text"),
        (lambda flow: flow["questions"][1].update(id=1), "questions.1.id"),
        (lambda flow: flow["questions"][0]["options"].update(en=["A", "a"]), "questions.0.options"),
        (lambda flow: flow["questions"][3].update(profile_field="No field"), "questions.3.profile_field"),
        (lambda flow: flow.update(languages=["en", "hi"]), "thanks"),
        (lambda flow: flow.update(languages=["English"]), "languages"),
        (lambda flow: flow["greeting"]["variants"].update({"a b": {"en": "x"}}), "greeting.variants"),
        (lambda flow: flow["contact"].update(id=0), "contact.id"),
        (lambda flow: flow["ctas"][1].update(action="Click me"), "ctas.1.action"),
    ],
)
def test_a_mistake_names_its_field(break_it, field):
    flow = changed()
    break_it(flow)
    if field == "thanks":  # one text for all languages would be taken for every one
        flow["thanks"] = {"en": "Thanks", "de": "Danke"}
    with pytest.raises(FlowError) as refused:
        compile_model(text_with_flow(TEXT, flow))
    assert refused.value.field == field

"""An experiment as a form and back: what is not changed keeps its lines and comments."""

import copy
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.refusal import Refusal
from scoring.editing.experiment_edits import (
    experiment_form,
    new_experiment_text,
    text_with_form,
    text_with_status,
)
from scoring.experiments.assignment import built_in_experiments
from scoring.experiments.experiment_text import compile_experiment

THIRDS = 'name = "t"\n[variants.A]\n[variants.B]\n[variants.C]\n[goals.g]\nevent = "demo_requested"\n'


@pytest.mark.parametrize("text", [*built_in_experiments().values(), THIRDS])
def test_a_form_that_changes_nothing_changes_no_letter(text):
    assert text_with_form(text, experiment_form(compile_experiment(text))) == text


def test_a_changed_value_leaves_the_comments_of_the_others():
    text = built_in_experiments()["greeting_message"]
    form = experiment_form(compile_experiment(text))
    form["window_days"] = 14
    changed = text_with_form(text, form)
    assert changed == text.replace("window_days = 30", "window_days = 14")


names = st.text("abcXYZ019 _.-", min_size=1, max_size=8).filter(lambda name: name.strip(" .-_") == name)
keys = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
line = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
config = st.dictionaries(
    line, st.integers(-9, 9) | st.booleans() | line | st.lists(line, max_size=2), max_size=3
)
moments = st.none() | st.integers(0, 10**8).map(
    lambda seconds: datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@st.composite
def forms(draw):
    variants = draw(st.lists(names, min_size=2, max_size=4, unique=True))
    starts_at = draw(moments)
    return {
        "about": draw(line),
        "unit": draw(st.sampled_from(["visitor", "lead"])),
        "coverage": draw(st.sampled_from([0.0, 0.1, 0.5, 1])),
        "window_days": draw(st.integers(1, 400)),
        "starts_at": starts_at,
        "ends_at": None if starts_at else draw(moments),
        "namespace": draw(st.none() | st.just({"name": "chat", "from": 0.0, "to": 0.5})),
        "variants": [
            {"name": name, "weight": 1 / len(variants), "config": draw(config)} for name in variants
        ],
        "goals": [
            {"name": name, "about": draw(line), "event": "demo_requested", "conversion": draw(st.none() | st.just("x"))}
            for name in draw(st.lists(keys, min_size=1, max_size=3, unique=True))
        ],
    }  # fmt: skip


@given(forms(), forms())
def test_whatever_a_form_has_comes_back_from_the_text_also_on_top_of_another(first, then):
    text = text_with_form(new_experiment_text("mine"), first)
    assert experiment_form(compile_experiment(text)) == first
    changed = text_with_form(text, then)
    assert experiment_form(compile_experiment(changed)) == then


def test_null_in_a_config_is_refused_at_its_place():
    form = experiment_form(compile_experiment(THIRDS))
    form = copy.deepcopy(form)
    form["variants"][1]["config"] = {"texts": ["a", None]}
    with pytest.raises(Refusal) as refused:
        text_with_form(THIRDS, form)
    assert refused.value.field == "variants.B.config.texts.1"


def test_a_new_text_is_a_draft_and_a_start_forgets_the_winner():
    form = experiment_form(compile_experiment(THIRDS))
    draft = text_with_form(new_experiment_text("t"), form)
    assert compile_experiment(draft).status == "draft"
    stopped = text_with_status(draft, "stopped", "B")
    assert (compile_experiment(stopped).status, compile_experiment(stopped).winner) == ("stopped", "B")
    assert compile_experiment(text_with_status(stopped, "running")).winner is None
    assert text_with_status(stopped, "stopped") == text_with_status(draft, "stopped")

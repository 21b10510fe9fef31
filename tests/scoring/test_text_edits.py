"""Edits of texts as people lay them out: what was not meant stays as it was, comments included."""

import tomllib

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.refusal import Refusal
from scoring.editing.qualification import (
    change_criterion,
    change_rule,
    create_criterion,
    create_rule,
    criteria_of,
    criterion_numbered,
    delete_criterion,
    delete_rule,
    rule_numbered,
    rules_of,
    switch_criterion,
    switch_rule,
)
from scoring.editing.text_edits import UneditableText
from scoring.models.model import ModelError, built_in_models, compile_model

LINES = """model = "rules"
bands = { stage = { hot = 80, mql = 40, none = 0 } }
[groups.a] # of a
rules = [ # first
  # above A
  { name = "A",   base = 1 }
  # below A
]
[needs.mql]
fields = ["email"] # why
[groups.b]
rules = []
[[needs.hot]]
fields = ["phone"]
[[needs.hot]]
actions = ["email_opened"]
minimum = 90
"""
INLINE = """model = "rules"
groups = { a = { rules = [{ name="A", base=1 }, {name="B", value="profile.email", is_set=true, points=2}] } }
needs = { mql = { fields = ["email"] }, hot = [{ fields = ["email"] }] }
bands = { stage = { hot = 80, mql = 40 } }
"""
BLOCKS = """model = "rules"
needs.mql = [{ fields = ["email"] }, { fields = ["phone"], minimum = 50 }]
[bands.stage]
hot = 80.5 # half
mql = 40
[groups.a]
weight = 2
[[groups.a.rules]]
name = "A" # of A
base = 1.5
[[groups.a.rules]]
name = "B"
value = "profile.email"
is_set = true
points = 2
"""
WINDOWS = LINES.replace("\n", "\r\n")
LAYOUTS = [built_in_models()["rules"], LINES, INLINE, BLOCKS, WINDOWS]

NAMES = st.sampled_from(["One", "Two # no comment", 'Three "quoted"', "Four\nlines \\ \t", "Fünf 🔥"])
RULES = st.fixed_dictionaries(
    {
        "name": NAMES,
        "rule_type": st.sampled_from(["a", "b", "demographic", "of_its_own"]),
        "field_name": st.just("industry"),
        "operator": st.sampled_from(["equals", "contains"]),
        "value": NAMES,
        "points": st.sampled_from([1, 2.5, -3]),
        "priority": st.integers(0, 2),
        "is_active": st.booleans(),
    }
)
CRITERIA = st.fixed_dictionaries(
    {
        "name": NAMES,
        "stage": st.sampled_from(["mql", "hot", "vip"]),
        "minimum_score": st.sampled_from([20, 40, 60.5, 90]),
        "required_fields": st.sampled_from([[], ["email"], ["profile.own"]]),
        "required_actions": st.sampled_from([[], ["email_opened"]]),
        "time_constraint_days": st.sampled_from([None, 30]),
        "is_active": st.booleans(),
    }
)
ACTS = [
    (create_rule, rules_of, RULES),
    (change_rule, rules_of, RULES),
    (switch_rule, rules_of, None),
    (delete_rule, rules_of, None),
    (create_criterion, criteria_of, CRITERIA),
    (change_criterion, criteria_of, CRITERIA),
    (switch_criterion, criteria_of, None),
    (delete_criterion, criteria_of, None),
]


def by_id(told):
    return {each["id"]: each for each in told}


@settings(max_examples=scaled(80), deadline=None)
@given(st.data(), st.sampled_from(LAYOUTS))
def test_an_edit_changes_what_it_names_and_nothing_else(data, text):
    for _ in range(data.draw(st.integers(1, 6))):
        act, list_of, bodies = data.draw(st.sampled_from(ACTS))
        other = criteria_of if list_of is rules_of else rules_of
        before, untouched = by_id(list_of(text)), other(text)
        body = {} if bodies is None else data.draw(bodies)
        number = data.draw(st.sampled_from(sorted(before) or [1]))
        active = data.draw(st.booleans())
        try:
            if act in {create_rule, create_criterion}:
                edited, number = act(text, body)
                assert number > max(before, default=0)
            elif act in {change_rule, change_criterion}:
                edited = act(text, number, body, partly=False)
            elif act in {switch_rule, switch_criterion}:
                body, edited = {"is_active": active}, act(text, number, active=active)
            else:
                edited = act(text, number)
            compile_model(edited)
        except (Refusal, UneditableText, LookupError, ModelError):
            continue
        after = by_id(list_of(edited))
        changed = after.pop(number, {})
        assert after == {each: told for each, told in before.items() if each != number}
        assert {key: changed[key] for key in body if changed} == body
        assert bool(changed) == (act not in {delete_rule, delete_criterion})
        assert other(edited) == untouched
        text = edited


COMMENTS = ["# of a", "# first", "# above A", "# below A", "# why"]


@pytest.mark.parametrize("text", [LINES, WINDOWS], ids=["unix", "windows"])
def test_comments_outlive_every_rule_and_criterion_beside_them(text):
    body = {"name": "N", "rule_type": "a", "field_name": "email", "operator": "is_set", "points": 1}
    text, number = create_rule(text, body)
    text = change_rule(text, number, {"rule_type": "b"}, partly=True)
    text = delete_rule(delete_rule(text, number), 1)
    text, _ = create_criterion(text, {"name": "N", "stage": "mql", "minimum_score": 50})
    text, _ = create_rule(text, body)
    assert [comment for comment in COMMENTS if comment not in text] == []
    assert [told["name"] for told in rules_of(text)] == ["N"]


def test_a_text_without_numbers_has_the_same_ones_until_it_is_edited():
    told = rules_of(BLOCKS), criteria_of(BLOCKS)
    assert [(each["id"], each["name"]) for each in told[0]] == [(1, "A"), (2, "B")]
    assert [(each["id"], each["stage"], each["minimum_score"]) for each in told[1]] == [
        (1, "mql", 40),
        (2, "mql", 50),
        (3, "hot", 80.5),
    ]
    edited = switch_rule(BLOCKS, 2, active=False)
    assert (rules_of(edited)[0], criteria_of(edited)) == (told[0][0], told[1])
    assert tomllib.loads(edited)["highest_rule_id"] == 2


def test_the_number_of_the_last_rule_is_not_given_again_after_its_deletion():
    text = delete_rule(BLOCKS, 2)
    body = {"name": "N", "rule_type": "a", "field_name": "email", "operator": "is_set", "points": 1}
    _, number = create_rule(text, body)
    assert number == 3


def test_the_lowest_minimum_of_a_stage_is_where_it_begins():
    text = change_criterion(LINES, 3, {"minimum_score": 70}, partly=True)
    assert tomllib.loads(text)["bands"]["stage"]["hot"] == 70
    assert [criterion_numbered(text, number)["minimum_score"] for number in (2, 3)] == [80, 70]
    text = delete_criterion(text, 3)
    assert tomllib.loads(text)["bands"]["stage"]["hot"] == 80


def test_the_only_stage_cannot_go():
    text = 'model = "rules"\nbands = { stage = { mql = 40 } }\n[groups.a]\n'
    with pytest.raises(UneditableText, match="switch"):
        delete_criterion(text, 1)


def test_the_stage_of_everybody_asks_for_nothing_and_other_bands_are_no_stages():
    with pytest.raises(Refusal) as refused:
        create_criterion(LINES, {"name": "N", "stage": "none", "minimum_score": 5})
    assert refused.value.field == "stage"
    graded = LINES.replace("bands = {", "bands = { grade = { top = 70 },")
    with pytest.raises(Refusal) as refused:
        create_criterion(graded, {"name": "N", "stage": "top", "minimum_score": 5})
    assert refused.value.field == "stage"


def test_a_layout_that_cannot_be_edited_is_still_read_and_says_what_to_do():
    text = (
        'model = "rules"\nbands.stage.hot = 80\nbands.stage.mql = 40\nneeds.mql.fields = ["email"]\n'
        'groups.a.rules = [{ name = "A", base = 1 }]\n'
    )
    assert rule_numbered(text, 1)["points"] == 1
    with pytest.raises(UneditableText, match="publish the whole text"):
        switch_rule(text, 1, active=False)

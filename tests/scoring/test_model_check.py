"""What an author sees of a text while writing it: the place of a mistake, lines of rules, requirement 4's hints, differences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.editing.model_check import (
    changes_between,
    hints_of,
    problem_in,
    rules_with_lines,
)
from scoring.editing.qualification import change_rule, create_rule, delete_rule, rules_of
from scoring.editing.unnumbered import without_new_numbers
from scoring.models.model import all_models, built_in_models

RULES = built_in_models()["rules"]
HEAD = 'model = "house"\nbands = { stage = { hot = 80, none = 0 } }\n'


def house(*rules: str, group: str = "") -> str:
    return (
        f"{HEAD}[groups.engagement]\n{group}rules = [\n"
        + "".join(f"  {{ {rule} }},\n" for rule in rules)
        + "]\n"
    )


@pytest.mark.parametrize("name", all_models())
def test_a_built_in_text_has_no_problem(name):
    assert problem_in(all_models()[name], name) is None


@pytest.mark.parametrize(
    ("right", "wrong", "at"),
    [
        ('"profile.title"', '"profil.title"', '"profil.title"'),  # a word that the reason quotes
        ("max   = 100", "maxx  = 100", "maxx"),  # a key that there is not
        ("hot = 80", "hot = [", None),  # no TOML
        ("greater_than = 3, points = 10", "greater_than = 3, points = ", None),
        ("min   = 0", "min   = 500", "min"),  # a key of the model
    ],
)
def test_a_mistake_is_named_with_its_line_and_column(right, wrong, at):
    text = RULES.replace(right, wrong, 1)
    line = next(number for number, each in enumerate(RULES.split("\n"), 1) if right in each)
    problem = problem_in(text, "rules")
    assert problem is not None
    assert problem.line == line
    written = text.split("\n")[line - 1]
    if at is not None:
        assert written[problem.column - 1 : problem.end_column - 1] == at.strip('"')
    else:
        assert 1 < problem.column <= len(written) + 1, "where TOML cannot be read on"
    assert problem.reason
    assert "line" not in problem.reason[:5], "the place is said once"


def test_a_text_of_another_model_is_a_mistake_at_its_name():
    problem = problem_in("# mine\n" + RULES, "house")
    assert (problem.line, problem.column) == (2, 10)


@given(st.text(max_size=200), st.integers(0, 2_000))
def test_no_text_makes_the_check_fail(part, where):
    text = RULES[:where] + part + RULES[where:]
    problem = problem_in(text, "rules")
    if problem is None:
        rules_with_lines(text)
        hints_of(text)
    else:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert 1 <= problem.column < problem.end_column


def test_rules_come_in_the_order_of_the_text_with_the_line_of_their_names():
    lines = RULES.split("\n")
    rules = rules_with_lines(RULES)
    assert [each["id"] for each in rules] == list(range(1, 9))
    assert {each["kind"] for each in rules} == {"value"}
    assert all(f'"{each["name"]}"' in lines[each["line"] - 1] for each in rules)


def test_rules_of_one_name_in_two_groups_have_their_own_lines():
    text = HEAD + "".join(
        f"[[groups.{group}.rules]]\nname = 'Same \"name\"'\nbase = 1\n\n" for group in ("first", "second")
    )
    assert [each["line"] for each in rules_with_lines(text)] == [4, 8]


def test_an_edit_changes_only_its_line():
    before, after = RULES.split("\n"), change_rule(RULES, 5, {"points": 22}, partly=True).split("\n")
    assert [n for n, (old, new) in enumerate(zip(before, after, strict=True), 1) if old != new] == [43]


# Hints of requirement 4: at most 25 points, more than 100 in all, positive and negative rules


def kinds(text: str) -> list[str]:
    return [each.kind for each in hints_of(text)]


def test_a_rule_above_25_points_is_pointed_at():
    text = house(
        'name = "Fine", base = 25',
        'name = "Much", base = 26',
        'name = "More", base = 60',
        'name = "Less", base = -1',
    )
    assert [(each.rule, each.line, each.points) for each in hints_of(text)] == [
        ("Much", 6, 26),
        ("More", 7, 60),
    ]


@pytest.mark.parametrize(
    ("rules", "group", "is_low"),
    [
        (['name = "A", base = 25', 'name = "B", base = 25'], "", True),
        ([f'name = "{n}", base = 25' for n in range(4)], "", True),  # 100 does not exceed 100
        ([f'name = "{n}", base = 25' for n in range(5)], "", False),
        ([f'name = "{n}", base = 25' for n in range(5)], "max = 100\n", True),
        ([f'name = "{n}", base = 25' for n in range(5)], "weight = 0.5\n", True),
        (['name = "A", each = "demo_requested", points = 1'], "", False),  # there is no end to it
        (['name = "A", each = "demo_requested", points = 1, max = 20'], "", True),
        (['name = "A", each = "demo_requested", points = 25, times = 5'], "", False),
        (
            [*(f'name = "{n}", base = 25' for n in range(4)), 'name = "off", base = 25, active = false'],
            "",
            True,
        ),
    ],
)
def test_a_possible_total_that_does_not_exceed_100_is_pointed_at(rules, group, is_low):
    assert ("total_not_above_100" in kinds(house(*rules, group=group))) == is_low


def test_a_model_without_a_negative_rule_is_pointed_at():
    assert "no_negative_rule" in kinds(house('name = "A", base = 5'))
    assert "no_negative_rule" in kinds(house('name = "A", base = 5', 'name = "B", base = -5, active = false'))
    assert "no_negative_rule" not in kinds(house('name = "A", base = 5', 'name = "B", base = -5'))


def test_hints_are_for_models_that_qualify_leads():
    assert hints_of(built_in_models()["temperature"]) == []


# Differences


def test_a_difference_is_told_by_rules_criteria_and_settings():
    after = change_rule(RULES, 5, {"points": 22, "name": "Our industry"}, partly=True)
    after, number = create_rule(
        after,
        {"name": "New", "rule_type": "behavioral", "field_name": "email_clicks_count", "operator": "greater_than",
         "value": "1", "points": 7},
    )  # fmt: skip
    after = after.replace("sql = 65", "sql = 66").replace("max   = 100", "max   = 90")
    after = after.replace(next(each for each in after.split("\n") if '"Free mailbox"' in each) + "\n", "")
    changes = {(each.of, each.change, each.name): {f: (b, a) for f, b, a in each.fields}
               for each in changes_between(RULES, after)}  # fmt: skip
    assert number == 9
    assert changes.pop(("setting", "changed", "bands"))
    assert changes.pop(("rule", "added", "New"))["points"] == (None, "7")
    assert changes == {
        ("rule", "changed", "Our industry"): {
            "name": ("Target industry", "Our industry"),
            "points": ("20", "22"),
        },
        ("rule", "removed", "Free mailbox"): {},
        ("criterion", "changed", "Sales Qualified Lead"): {"minimum_score": ("65", "66")},
        ("setting", "changed", "max"): {"max": ("100", "90")},
    }


def test_equal_texts_and_new_comments_are_no_difference():
    assert changes_between(RULES, f"# a comment\n{RULES}") == []


@pytest.mark.parametrize("name", all_models())
def test_a_form_changes_only_the_lines_of_its_rule(name):
    """Also in a text whose rules have no numbers yet, as those of most built-in models."""
    text = all_models()[name]
    before = text.split("\n")
    for rule in rules_of(text):
        if rule["points"] is None:
            continue
        changed = without_new_numbers(text, change_rule(text, rule["id"], {"points": 7.5}, partly=True))
        after = changed.split("\n")
        assert len(after) == len(before)
        differing = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert len(differing) == 1, rule["name"]
        assert rule["name"] in differing[0][0]
        assert [each["points"] for each in rules_of(changed) if each["id"] == rule["id"]] == [7.5]
        removed = without_new_numbers(text, delete_rule(text, rule["id"])).split("\n")
        # The built-in rules have numbers, and keep the highest one.
        assert [line for line in before if line not in removed] == [differing[0][0]]


def test_a_text_of_tables_and_numbers_in_words_keeps_its_meaning():
    text = (
        HEAD
        + "[[groups.g.rules]]\nname = 'A, id = 3 }'\nbase = 1\n\n[[groups.g.rules]]\nname = 'B'\nbase = 2\n"
    )
    edited = without_new_numbers(text, change_rule(text, 2, {"points": 5}, partly=True))
    assert [(each["name"], each["points"]) for each in rules_of(edited)] == [("A, id = 3 }", 1), ("B", 5)]

"""Rules and criteria as the API gives them, against an evaluation written from their description alone."""

import tomllib
from decimal import Decimal

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from leads_given import DAY_MS, IDLE, T0, UTC, features_of, happened, lines, scored

from schemas.refusal import Refusal
from scoring.editing.criterion_check import check_criterion, single_rule_numbered
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
from scoring.editing.text_edits import UneditableText, UnknownId
from scoring.models.model import ONE_POINT, Subject, built_in_models, compile_model, score_lead

SHIPPED = built_in_models()["rules"]
EMPTY = """
model = "rules"
min = 0
max = 100
[groups.demographic]
rules = []
"""


def rule(name, rule_type, field, operator, value, points, **given):
    return {
        "name": name,
        "rule_type": rule_type,
        "field_name": field,
        "operator": operator,
        "value": value,
        "points": points,
    } | given


def knows(**fields):
    return happened("profile_updated", T0, fields=fields)


# The examples of the user guide


@pytest.mark.parametrize(
    ("body", "matching", "other"),
    [
        (
            rule(
                "Target Industry",
                "firmographic",
                "industry",
                "in_list",
                '["SaaS", "Enterprise Software"]',
                20,
            ),
            [knows(industry="Enterprise Software")],
            [knows(industry="Farming")],
        ),
        (
            rule("Mid to Large Company", "firmographic", "company_size", "in_list", '["51-200", "500+"]', 15),
            [knows(company_size="500+")],
            [knows(company_size="1-10")],
        ),
        (
            rule("Email Engaged", "behavioral", "email_opens_count", "greater_than", "3", 10),
            [happened("email_opened") for _ in range(4)],
            [happened("email_opened") for _ in range(3)],
        ),
        (
            rule("Recent Activity", "engagement", "days_since_creation", "less_than", "30", 10),
            [happened("page_viewed", T0 - 30 * DAY_MS + 1)],
            [happened("page_viewed", T0 - 30 * DAY_MS)],
        ),
        (
            rule("Decision Maker", "demographic", "title", "contains", "director", 15),
            [knows(title="Managing Director")],
            [knows(title="Intern")],
        ),
    ],
    ids=lambda each: each["name"] if isinstance(each, dict) else "",
)
def test_every_example_rule_gives_its_points_to_whom_it_means(body, matching, other):
    text, number = create_rule(EMPTY, body)
    model = compile_model(text)
    assert scored(model, matching).total == body["points"] * ONE_POINT
    assert scored(model, other).total == 0
    told = rule_numbered(text, number)
    assert told["id"] == 1
    assert {key: told[key] for key in body} == body


def test_the_example_criteria_are_those_that_are_shipped():
    mql, sql, hot = criteria_of(SHIPPED)
    assert (mql["stage"], mql["minimum_score"], mql["time_constraint_days"]) == ("mql", 40, 90)
    assert mql["required_fields"] == ["email", "company", "phone"]
    assert mql["required_actions"] == ["email_opened", "form_submitted"]
    assert (sql["stage"], sql["minimum_score"], sql["time_constraint_days"]) == ("sql", 65, 60)
    assert sql["required_fields"] == ["email", "company", "phone", "title", "company_size"]
    assert sql["required_actions"] == ["email_opened", "email_clicked", "demo_requested"]
    assert (hot["stage"], hot["minimum_score"]) == ("hot", 80)


# Any rules, in any order of changes

FIELDS = {
    "industry": ["SaaS", "Farming", "", None],
    "budget": [0, 3, 3.5, "7", None],
    "company": ["Acme", None],
}
OPERATORS = {
    "equals": lambda v, o: v is not None and spelt(v) == spelt(o),
    "not_equals": lambda v, o: v not in (None, "") and spelt(v) != spelt(o),
    "in_list": lambda v, o: v is not None and spelt(v) in [spelt(each) for each in o],
    "not_in_list": lambda v, o: v not in (None, "") and spelt(v) not in [spelt(each) for each in o],
    "contains": lambda v, o: isinstance(v, str) and o.lower() in v.lower(),
    "starts_with": lambda v, o: isinstance(v, str) and v.lower().startswith(o.lower()),
    "greater_than": lambda v, o: value_of(v) is not None and value_of(v) > o,
    "less_or_equal": lambda v, o: value_of(v) is not None and value_of(v) <= o,
    "between": lambda v, o: value_of(v) is not None and o[0] <= value_of(v) <= o[1],
    "is_set": lambda v, _: v is not None and v != "",
    "is_not_set": lambda v, _: v is None or v == "",
}
OPERANDS = {
    "equals": ["SaaS", "farming", 3, "7"],
    "not_equals": ["SaaS", 3],
    "in_list": [["saas", "Farming"], [3, 7], ["7"]],
    "not_in_list": [["Farming"], [3.5]],
    "contains": ["a", "ARM"],
    "starts_with": ["S", "ac"],
    "greater_than": [0, 3, 3.25],
    "less_or_equal": [3, 6],
    "between": [[1, 3.5], [4, 9]],
    "is_set": [None],
    "is_not_set": [None],
}


def value_of(v):
    try:
        return None if v in (None, "") else Decimal(str(v))
    except ArithmeticError:
        return None


def spelt(v):
    n = value_of(v)
    return n.normalize() if n is not None else str(v).lower()


bodies = st.sampled_from(sorted(OPERATORS)).flatmap(
    lambda operator: st.builds(
        rule,
        st.uuids().map(lambda unique: f"R {str(unique)[:8]}"),
        st.sampled_from(["demographic", "behavioral", "own_group"]),
        st.sampled_from(sorted(FIELDS)),
        st.just(operator),
        st.sampled_from(OPERANDS[operator]),
        st.sampled_from([-20, -0.5, 1, 12.25, 60]),
        is_active=st.booleans(),
        priority=st.integers(0, 3),
    )
)
leads = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FIELDS.items()})


def expected(kept, lead):
    """Of the active rules, the points of those that hold, added up, and held between 0 and 100."""
    points = sum(
        Decimal(str(body["points"]))
        for body in kept.values()
        if body["is_active"] and OPERATORS[body["operator"]](lead[body["field_name"]], body["value"])
    )
    return min(max(points, 0), 100)


@settings(max_examples=scaled(60), deadline=None)
@given(st.data())
def test_after_any_changes_the_score_is_that_of_the_rules_as_they_were_given(data):
    text, kept, ever = EMPTY, {}, set()
    for _ in range(data.draw(st.integers(1, 8))):
        act = data.draw(st.sampled_from(["create", "create", "replace", "part", "switch", "delete"]))
        if act == "create" or not kept:
            body = data.draw(bodies)
            text, number = create_rule(text, body)
            assert number not in ever, "numbers are never given twice"
            ever.add(number)
            kept[number] = body
            continue
        number = data.draw(st.sampled_from(sorted(kept)))
        if act == "replace":
            kept[number] = data.draw(bodies)
            text = change_rule(text, number, kept[number], partly=False)
        elif act == "part":
            part = {"points": data.draw(st.sampled_from([3, -7.5]))}
            text = change_rule(text, number, part, partly=True)
            kept[number] = kept[number] | part
        elif act == "switch":
            active = data.draw(st.booleans())
            text = switch_rule(text, number, active=active)
            kept[number] = kept[number] | {"is_active": active}
        else:
            text = delete_rule(text, number)
            del kept[number]
    assert {told["id"] for told in rules_of(text)} == kept.keys()
    lead = data.draw(leads)
    subject = Subject(features_of([knows(**lead)]))
    assert score_lead(compile_model(text), subject, T0, UTC, IDLE).total == expected(kept, lead) * ONE_POINT
    for number, body in kept.items():
        alone = score_lead(single_rule_numbered(text, number).model, subject, T0, UTC, IDLE).total
        holds = OPERATORS[body["operator"]](lead[body["field_name"]], body["value"])
        assert alone == (Decimal(str(body["points"])) * ONE_POINT if holds else 0)


@settings(max_examples=scaled(60), deadline=None)
@given(bodies, leads)
def test_a_rule_told_back_and_given_again_is_the_same_rule(body, lead):
    text, number = create_rule(EMPTY, body)
    told = rule_numbered(text, number)
    again = change_rule(text, number, told, partly=False)
    assert rule_numbered(again, number) == told
    both = [scored(compile_model(each), [knows(**lead)]).total for each in (text, again)]
    assert both[0] == both[1]


def test_the_highest_priority_comes_first_and_changes_no_points():
    text, first = create_rule(EMPTY, rule("A", "demographic", "company", "is_set", None, 5))
    text, second = create_rule(text, rule("B", "demographic", "company", "is_set", None, 7, priority=10))
    assert [told["id"] for told in rules_of(text)] == [second, first]
    assert scored(compile_model(text), [knows(company="Acme")]).total == 12 * ONE_POINT


def test_comments_and_the_order_of_the_text_survive():
    text, _ = create_rule(SHIPPED, rule("Phone", "demographic", "phone", "is_set", None, 5))
    text = change_rule(text, 5, {"points": 25}, partly=True)
    text = delete_rule(text, 2)
    kept = [line for line in SHIPPED.splitlines() if line.lstrip().startswith("#")]
    assert kept
    assert [line for line in text.splitlines() if line.lstrip().startswith("#")] == kept
    groups = [line for line in SHIPPED.splitlines() if line.startswith("[")]
    assert [line for line in text.splitlines() if line.startswith("[")] == groups


def test_a_rule_of_another_shape_is_listed_and_its_points_may_change():
    text = EMPTY.replace(
        "rules = []", 'rules = [{ name = "Scans", each = "qr_scanned", points = 3, max = 15 }]'
    )
    [told] = rules_of(text)
    assert (told["id"], told["editable"], told["field_name"], told["points"]) == (1, False, None, 3)
    assert "15" in told["condition"]
    text = change_rule(text, 1, {"points": 4}, partly=True)
    assert lines(compile_model(text), scored(compile_model(text), [happened("qr_scanned")])) == {
        "Scans": 4 * ONE_POINT
    }
    with pytest.raises(UneditableText, match="operator"):
        change_rule(text, 1, {"operator": "equals"}, partly=True)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("operator", "is_like"),
        ("operator", "between_"),
        ("points", "many"),
        ("points", 0.0001),
        ("field_name", "no_such_field"),
        ("value", "[1, 2"),
        ("value", []),
        ("value", None),
        ("rule_type", "Own Group"),
        ("name", " "),
        ("priority", "high"),
        ("is_active", "no"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(field, wrong):
    body = rule("R", "demographic", "industry", "in_list", ["SaaS"], 5) | {field: wrong}
    with pytest.raises(Refusal) as refused:
        create_rule(EMPTY, body)
    assert refused.value.field == field


def test_an_id_that_nothing_has_is_unknown():
    with pytest.raises(UnknownId, match="99"):
        rule_numbered(SHIPPED, 99)
    with pytest.raises(UnknownId, match="99"):
        delete_criterion(SHIPPED, 99)


# Criteria


def test_any_one_of_two_criteria_is_enough_and_each_has_its_own_score():
    text, number = create_criterion(
        SHIPPED, {"name": "By score alone", "stage": "mql", "minimum_score": 55, "required_fields": []}
    )
    model = compile_model(text)
    company = {"industry": "SaaS", "company_size": "500+"}  # 20 + 15, and 10 of a new lead
    assert scored(model, [knows(**company)]).total == 45 * ONE_POINT
    assert scored(model, [knows(**company)]).bands["stage"] == "none"
    director = [knows(**company, title="Director")]  # 15 more
    assert scored(model, director).bands["stage"] == "mql"
    off = compile_model(switch_criterion(text, number, active=False))
    assert scored(off, director).bands["stage"] == "none"


def test_a_stage_whose_only_criterion_is_switched_off_is_not_reached():
    """Switching a criterion off makes nobody qualify who did not before."""
    text = switch_criterion(SHIPPED, 3, active=False)
    everything = [
        knows(industry="SaaS", company_size="500+", title="Director", email="a@acme.example"),
        knows(company="Acme", phone="+971501234567"),
        happened("demo_requested"),
        happened("form_submitted"),
        *(happened("email_opened") for _ in range(4)),
        happened("email_clicked"),
    ]
    assert scored(compile_model(SHIPPED), everything).bands["stage"] == "hot"
    assert scored(compile_model(text), everything).bands["stage"] == "sql"
    assert criterion_numbered(text, 3)["is_active"] is False


def test_a_stage_goes_with_the_last_of_its_criteria_and_comes_with_the_first():
    text = delete_criterion(SHIPPED, 1)
    assert "mql" not in tomllib.loads(text)["bands"]["stage"]
    text, number = create_criterion(text, {"name": "Again", "stage": "mql", "minimum_score": 30})
    assert number == 4
    assert tomllib.loads(text)["bands"]["stage"]["mql"] == 30


def test_two_stages_cannot_begin_at_one_score():
    with pytest.raises(Refusal, match="65"):
        change_criterion(SHIPPED, 1, {"minimum_score": 65}, partly=True)


def test_a_check_says_what_is_met_until_the_window_closes():
    lead = [knows(email="a@acme.example", company="Acme"), happened("email_opened", T0)]
    subject = Subject(features_of(lead, [compile_model(SHIPPED)]))
    in_time = check_criterion(SHIPPED, 1, subject, T0 + 90 * DAY_MS - 1, UTC, IDLE)
    assert in_time.fields == {"email": True, "company": True, "phone": False}
    assert [(a.name, a.last, a.met) for a in in_time.actions] == [
        ("email_opened", T0, True),
        ("form_submitted", None, False),
    ]
    assert [a.met for a in check_criterion(SHIPPED, 1, subject, T0 + 90 * DAY_MS, UTC, IDLE).actions] == [
        False,
        False,
    ]
    assert (in_time.minimum, in_time.met) == (40 * ONE_POINT, False)


# Every operator and every field of the guide


@pytest.mark.parametrize(
    ("operator", "value", "holds", "fails"),
    [
        ("equals", "saas", "SaaS", "Saas Ltd"),
        ("not_equals", "SaaS", "Farming", " saas "),
        ("in_list", '["SaaS", "7"]', 7, "Farming"),
        ("not_in_list", ["SaaS"], "Farming", "saas"),
        ("contains", "director", "Managing DIRECTOR", "Intern"),
        ("not_contains", "director", "Intern", "Director"),
        ("starts_with", "vice", "Vice President", "President"),
        ("ends_with", "officer", "Chief Officer", "Officer of the watch"),
        ("longer_than", "3", "four", "six"),
        ("matches", "^[a-c]+$", "ABC", "abcd"),
        ("greater_than", "3", "3.5", 3),
        ("less_than", "3", 2, "3"),
        ("greater_or_equal", 3, 3, 2.9),
        ("less_or_equal", "2.50", 2.5, 2.51),
        ("between", "[1, 3]", 3, 4),
        ("is_set", "", "anything", None),
        ("is_not_set", None, " ", "anything"),
    ],
)
def test_every_operator(operator, value, holds, fails):
    text, number = create_rule(EMPTY, rule("R", "demographic", "industry", operator, value, 5))
    model = compile_model(text)
    assert [scored(model, [knows(industry=each)]).total for each in (holds, fails)] == [5 * ONE_POINT, 0]
    told = rule_numbered(text, number)
    assert change_rule(text, number, told, partly=False) == text, "what is told can be given back"


@pytest.mark.parametrize(
    "field", ["email", "phone", "company", "title", "industry", "company_size", "status", "source"]
)
def test_the_fields_of_a_lead_are_read_from_its_profile(field):
    text, number = create_rule(EMPTY, rule("R", "demographic", field, "equals", "given", 5))
    assert scored(compile_model(text), [knows(**{field: "given"})]).total == 5 * ONE_POINT
    assert rule_numbered(text, number)["field_name"] == field


@pytest.mark.parametrize("field", ["company_revenue", "job_level", "technologies", "social_profiles"])
def test_the_enriched_fields_are_read_from_the_profile_too(field):
    text, _ = create_rule(EMPTY, rule("R", "demographic", field, "in_list", '["Django"]', 5))
    model = compile_model(text)
    assert scored(model, [knows(**{field: ["Rust", "django"]})]).total == 5 * ONE_POINT
    assert scored(model, [knows(**{field: ["Rust"]})]).total == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email_opens_count", "2"),
        ("email_clicks_count", "1"),
        ("activities_count", "3"),
        ("last_activity_days_ago", "4"),
        ("days_since_creation", "10"),
        ("created_at", "2025-09-29"),
        ("email_opened in 5 days", "1"),
    ],
)
def test_the_computed_fields(field, value):
    """A lead of ten days: two mails opened, one link in them clicked, the last of it four days ago."""
    events = [
        happened("email_opened", T0 - 10 * DAY_MS),
        happened("email_opened", T0 - 4 * DAY_MS),
        happened("email_clicked", T0 - 4 * DAY_MS),
        happened("email_sent", T0),
    ]
    text, number = create_rule(EMPTY, rule("R", "behavioral", field, "equals", value, 5))
    assert scored(compile_model(text), events).total == 5 * ONE_POINT
    assert rule_numbered(text, number)["value"] == value


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("greater_than", "2025-09-28", 5),
        ("greater_than", "2025-09-29", 0),
        ("less_than", "2025-09-30", 5),
        ("less_than", 20250929, 0),
        ("between", ["2025-09-01", "2025-09-30"], 5),
        ("in_list", '["2025-09-28", "2025-09-30"]', 0),
    ],
)
def test_the_day_of_the_creation_is_compared_as_a_date(operator, value, expected):
    text, _ = create_rule(EMPTY, rule("R", "behavioral", "created_at", operator, value, 5))
    created = [happened("page_viewed", T0 - 10 * DAY_MS)]  # 2025-09-29, ten in the morning
    assert scored(compile_model(text), created).total == expected * ONE_POINT


@pytest.mark.parametrize(
    ("field", "operator", "value", "blamed"),
    [
        ("email_opens_count", "contains", "3", "operator"),
        ("email_opens_count", "greater_than", "three", "value"),
        ("email_opens_count", "in_list", ["1", "many"], "value"),
        ("trend of interaction over 14 days", "greater_than", 3, "operator"),
        ("created_at", "greater_than", "2025-02-30", "value"),
        ("created_at", "greater_than", "5", "value"),
        ("created_at", "starts_with", "2025", "operator"),
        ("industry", "in_list", "SaaS", "value"),
        ("industry", "between", [3, 1], "value"),
        ("industry", "matches", "(", "value"),
        ("industry", "contains", " ", "value"),
        ("industry", "is_set", "false", "value"),
        ("email_opened in 91 days", "equals", 1, "field_name"),
        ("session.pages", "equals", 1, "field_name"),
        ("emails_opened", "equals", 1, "field_name"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_field_to_blame(field, operator, value, blamed):
    with pytest.raises(Refusal) as refused:
        create_rule(EMPTY, rule("R", "demographic", field, operator, value, 5))
    assert refused.value.field == blamed


def test_a_reason_is_never_as_long_as_what_was_given():
    with pytest.raises(Refusal) as refused:
        create_rule(EMPTY, rule("R", "demographic", "industry", "greater_than", "x" * 50_000, 5))
    assert (refused.value.field, len(refused.value.reason) <= 300) == ("value", True)


def test_a_name_is_given_once_in_a_group():
    with pytest.raises(Refusal) as refused:
        create_rule(SHIPPED, rule("New lead", "engagement", "email", "is_set", None, 5))
    assert refused.value.field == "name"
    text, _ = create_rule(SHIPPED, rule("New lead", "demographic", "email", "is_set", None, 5))
    compile_model(text)


@pytest.mark.parametrize("number", [0.0000001, 2.5, 1e20])
def test_a_number_stays_that_number_when_it_is_told_and_given_back(number):
    text, _ = create_rule(EMPTY, rule("R", "demographic", "budget", "greater_than", number, 5))
    assert change_rule(text, 1, rule_numbered(text, 1), partly=False) == text


def test_a_part_that_is_changed_leaves_the_operand_as_it_was_written():
    text = EMPTY.replace(
        "rules = []",
        'rules = [{ name = "R", value = "profile.budget", equals = 5, points = 5, max = 4, id = 1 }]',
    )
    [changed] = tomllib.loads(change_rule(text, 1, {"points": 8}, partly=True))["groups"]["demographic"][
        "rules"
    ]
    assert changed == {"id": 1, "name": "R", "value": "profile.budget", "equals": 5, "points": 8, "max": 4}
    text = change_rule(text, 1, {"operator": "is_set"}, partly=True)
    assert rule_numbered(text, 1)["value"] is None


def test_a_rule_alone_gives_what_it_adds_to_the_score_even_while_it_is_switched_off():
    text = EMPTY.replace("rules = []", "weight = 0.5\nmax = 1\nrules = []")
    text, number = create_rule(text, rule("R", "demographic", "company", "is_set", None, 10, is_active=False))
    subject = Subject(features_of([knows(company="Acme")]))
    assert score_lead(single_rule_numbered(text, number).model, subject, T0, UTC, IDLE).total == 5 * ONE_POINT


@pytest.mark.parametrize("points", [0, -7, 7])
def test_a_rule_worth_nothing_still_applies_to_whom_it_means(points):
    text, number = create_rule(EMPTY, rule("R", "demographic", "company", "is_set", None, points))
    asked = single_rule_numbered(text, number).one_point_model
    known, other = Subject(features_of([knows(company="Acme")])), Subject(features_of([knows(title="x")]))
    assert [score_lead(asked, each, T0, UTC, IDLE).total != 0 for each in (known, other)] == [True, False]

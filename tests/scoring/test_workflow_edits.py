"""Workflows as the API gives them, and edits of their text: what was not meant stays as it was, comments included."""

import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.refusal import Refusal
from scoring.editing.text_edits import UnknownId
from scoring.editing.workflow_edits import (
    change_of_workflow,
    change_workflow,
    create_workflow,
    delete_workflow,
    finished_workflows,
    summary_of_changes,
    switch_workflow,
    workflow_numbered,
    workflows_of,
)
from scoring.workflows.built_in_workflows import built_in_workflows
from scoring.workflows.workflow_text import WorkflowsError, compile_workflows

NOW = datetime(2030, 1, 31, 10, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
HOT = {
    "name": "Assign hot leads to senior rep",
    "trigger_type": "score_threshold",
    "trigger_config": {"score": 75},
    "action_type": "assign_owner",
    "action_config": {"owner_id": 5},
    "is_active": True,
    "priority": 10,
}
FOLLOW_UP = {
    "name": "Follow up on SQL",
    "trigger_type": "score_threshold",
    "trigger_config": {"score": 65},
    "action_type": "create_task",
    "action_config": {
        "title": "Call qualified lead",
        "description": "Lead reached SQL qualification",
        "due_in_days": 1,
        "priority": "high",
    },
    "is_active": True,
}
NOTIFY = {
    "name": "Notify on hot lead",
    "trigger_type": "score_threshold",
    "trigger_config": {"score": 80},
    "action_type": "send_notification",
    "action_config": {"message": "🔥 Hot lead! Score increased to 80+"},
    "is_active": True,
}
STATUS = {
    "name": "Move to qualified status",
    "trigger_type": "score_threshold",
    "trigger_config": {"score": 60},
    "action_type": "change_status",
    "action_config": {"status": "qualified"},
    "is_active": True,
}
DEFAULTS = {"conditions": [], "priority": 0, "anonymous": False, "is_active": True}
TEXT = """# ours
highest_workflow_id = 7 # two were deleted

[[workflow]] # the first
id = 2 # stays
name = "Call"
trigger = { type = "score_threshold", score = 75 } # high
# who calls
action = { type = "create_task", title = "Call" }

# the team wants this
[[workflow]]
id = 5
name = "Mail"
active = false
priority = -1
conditions = [
  { value = "profile.industry", in_list = ["SaaS"] }, # ours
]
[workflow.trigger]
type = "event" # any
event = "demo_requested"
[workflow.action]
type = "send_notification"
message = "Demo!"
"""


def written(*bodies, text=""):
    for body in bodies:
        text, _ = create_workflow(text, body, NOW)
    return text


@pytest.mark.parametrize("body", [HOT, FOLLOW_UP, NOTIFY, STATUS], ids=lambda body: body["name"])
def test_the_examples_of_the_user_guide_come_back_as_they_were_sent(body):
    text = written(body)
    assert workflow_numbered(text, 1) == DEFAULTS | body | {"id": 1, "created_at": NOW}
    (compiled,) = compile_workflows(text)
    assert (compiled.name, compiled.action, dict(compiled.config)) == (
        body["name"],
        body["action_type"],
        body["action_config"],
    )


words = st.text("abcdefgh 🔥\"'\\é", min_size=1, max_size=20).filter(str.strip)
scores = st.integers(1, 100)
triggers = st.one_of(
    st.fixed_dictionaries({"score": scores}, optional={"model": st.just("composite"), "rearm": scores}).map(
        lambda config: ("score_threshold", config)
    ),
    scores.map(lambda score: ("score_falls", {"score": score})),
    st.sampled_from([{}, {"to": "customer"}, {"to": "sql", "from": "mql", "set": "stage"}]).map(
        lambda config: ("stage_change", config)
    ),
    st.sampled_from([{"field": "budget"}, {"field": "status", "in_list": ["a", "b"]}]).map(
        lambda config: ("field_update", config)
    ),
    st.sampled_from(
        [
            {"event": "demo_requested"},
            {"event": ["demo_requested", "custom:expo"]},
            {"event": "form_submitted", "where": {"field": "form_id", "equals": "expo"}},
        ]
    ).map(lambda config: ("event", config)),
    st.sampled_from([{"cron": "0 9 * * 1"}, {"days_without": 14, "of": "email_opened"}]).map(
        lambda config: ("time_based", config)
    ),
    st.just(("manual", {})),
)
actions = st.one_of(
    st.integers(0, 10**15).map(lambda owner: ("assign_owner", {"owner_id": owner})),
    st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True).map(
        lambda owners: ("assign_owner", {"owners": owners, "by": "round_robin"})
    ),
    words.map(lambda message: ("send_notification", {"message": message})),
    st.fixed_dictionaries({"title": words}, optional={"due_in_days": st.integers(0, 99)}).map(
        lambda config: ("create_task", config)
    ),
    st.one_of(words, st.booleans(), st.integers(-99, 99), st.sampled_from([0.5, 0.1, 1e-7])).map(
        lambda value: ("update_field", {"field": "plan", "value": value})
    ),
)
conditions = st.lists(
    st.sampled_from(
        [
            {"field_name": "industry", "operator": "in_list", "value": '["SaaS", "Finance"]'},
            {"field_name": "email", "operator": "is_set", "value": None},
            {"field_name": "email_opens_count", "operator": "greater_than", "value": "3"},
            {"field_name": "profile.plan", "operator": "equals", "value": "5"},
            {"field_name": "score", "operator": "greater_or_equal", "value": 40},
            {"field_name": "band.rules.stage", "operator": "in_list", "value": ["sql", "hot"]},
        ]
    ),
    max_size=3,
)
bodies = st.builds(
    lambda name, trigger, held, action, active, priority, anonymous: {
        "name": name,
        "trigger_type": trigger[0],
        "trigger_config": trigger[1],
        "conditions": held,
        "action_type": action[0],
        "action_config": action[1],
        "is_active": active,
        "priority": priority,
        "anonymous": anonymous,
    },
    words,
    triggers,
    conditions,
    actions,
    st.booleans(),
    st.integers(-9, 9),
    st.booleans(),
)


@given(bodies, bodies)
@settings(max_examples=scaled(60), deadline=None)
def test_what_is_created_or_replaced_comes_back_as_it_was_sent(first, second):
    text = written(first, text=TEXT)
    assert workflow_numbered(text, 8) == first | {"id": 8, "created_at": NOW}
    others = [each for each in workflows_of(text) if each["id"] != 8]
    replaced = change_workflow(text, 8, second, partly=False)
    assert workflow_numbered(replaced, 8) == second | {"id": 8, "created_at": NOW}
    assert [each for each in workflows_of(replaced) if each["id"] != 8] == others
    # What an answer shows may be sent back.
    assert change_workflow(replaced, 8, workflow_numbered(replaced, 8), partly=False) == replaced
    for number in (2, 5):
        over = change_workflow(TEXT, number, second, partly=False)
        assert {**workflow_numbered(over, number), "created_at": None} == second | {
            "id": number,
            "created_at": None,
        }


@pytest.mark.parametrize("name", built_in_workflows())
def test_every_built_in_workflow_comes_back_as_the_same_table(name):
    text = finished_workflows(built_in_workflows()[name], "", NOW)
    before = tomllib.loads(text)["workflow"]
    for number in [each["id"] for each in before]:
        text = change_workflow(text, number, workflow_numbered(text, number), partly=False)
    assert tomllib.loads(text)["workflow"] == before


def test_a_part_changes_its_line_and_no_other():
    changed = change_workflow(TEXT, 2, {"priority": 3}, partly=True)
    assert set(changed.splitlines()) - set(TEXT.splitlines()) == {"priority = 3"}
    assert not set(TEXT.splitlines()) - set(changed.splitlines())
    changed = change_workflow(TEXT, 5, {"trigger_config": {"event": "form_submitted"}}, partly=True)
    assert changed == TEXT.replace("demo_requested", "form_submitted")
    assert switch_workflow(TEXT, 5, active=True) == TEXT.replace("active = false\n", "")
    assert switch_workflow(TEXT, 5, active=False) == TEXT


def test_a_deleted_id_is_not_given_again():
    text = delete_workflow(TEXT, 5)
    assert [each["id"] for each in workflows_of(text)] == [2]
    text, number = create_workflow(delete_workflow(text, 2), HOT, NOW)
    assert number == 8
    assert create_workflow(delete_workflow(text, 8), HOT, NOW)[1] == 9
    with pytest.raises(UnknownId):
        delete_workflow(text, 2)


UNNUMBERED = """# all of ours
[[workflow]]
name = "Call"
trigger = { type = "score_threshold", score = 75 }
action = { type = "create_task", title = "Call" }

[[workflow]]
name = "Tell"
trigger = { type = "manual" }
action = { type = "send_notification", message = "Hello" }
"""


def test_a_text_without_ids_gets_them_and_the_same_ones_when_it_is_published_again():
    first = finished_workflows(UNNUMBERED, "", NOW)
    assert [(each["id"], each["name"]) for each in workflows_of(first)] == [(1, "Call"), (2, "Tell")]
    assert {each["created_at"] for each in workflows_of(first)} == {NOW}
    assert set(UNNUMBERED.splitlines()) <= set(first.splitlines()), "comments and lines stay"
    assert finished_workflows(UNNUMBERED, first, LATER) == first
    assert finished_workflows(first, first, LATER) == first
    swapped = UNNUMBERED.replace('name = "Call"', 'name = "Write"')
    second = finished_workflows(swapped, first, LATER)
    assert [(each["id"], each["created_at"]) for each in workflows_of(second)] == [(2, NOW), (3, LATER)]


def test_a_text_cannot_reuse_the_id_of_a_deleted_workflow_unless_a_version_is_restored():
    first = finished_workflows(UNNUMBERED, "", NOW)
    without = delete_workflow(first, 2)
    with pytest.raises(Refusal, match="workflow 2 was deleted"):
        finished_workflows(first, without, LATER)
    restored = finished_workflows(first, without, LATER, restored=True)
    assert [each["id"] for each in workflows_of(restored)] == [1, 2]
    forgotten = first.replace("highest_workflow_id = 2", "highest_workflow_id = 1")
    assert finished_workflows(forgotten, first, LATER) == first


def test_an_empty_text_has_no_workflows_and_remembers_the_ids():
    assert finished_workflows("", "", NOW) == ""
    emptied = finished_workflows("# none\n", finished_workflows(UNNUMBERED, "", NOW), LATER)
    assert workflows_of(emptied) == []
    assert create_workflow(emptied, HOT, LATER)[1] == 3


def test_a_text_with_a_mistake_is_refused_by_its_own_line():
    broken = UNNUMBERED.replace("score = 75", "score = -75")
    with pytest.raises(WorkflowsError, match=r"line 4, workflow '?\"?Call"):
        finished_workflows(broken, "", NOW)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"name": "Call"}, "name"),
        ({"trigger_type": "score"}, "trigger_type"),
        ({"trigger_type": None}, "trigger_type"),
        ({"trigger_config": {}}, "trigger_config.score"),
        ({"trigger_config": {"score": "75"}}, "trigger_config.score"),
        ({"trigger_config": {"score": 75, "modle": "rules"}}, "trigger_config.modle"),
        ({"trigger_config": {"score": 75, "type": "manual"}}, "trigger_config.type"),
        ({"trigger_config": [75]}, "trigger_config"),
        ({"action_type": "explode"}, "action_type"),
        ({"action_config": {"owner": 5}}, "action_config.owner"),
        ({"action_config": {"owner_id": [None]}}, "action_config.owner_id.0"),
        ({"conditions": {"field_name": "email"}}, "conditions"),
        ({"conditions": [{"field_name": "email", "operator": "like", "value": 1}]}, "conditions.0.operator"),
        ({"conditions": [{"field_name": "emial", "operator": "is_set"}]}, "conditions.0.field_name"),
        ({"conditions": [{"value": "profile.industry"}]}, "conditions.0"),
        ({"is_active": "yes"}, "is_active"),
        ({"priority": "high"}, "priority"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(Refusal) as refused:
        create_workflow(TEXT, HOT | change, NOW)
    assert refused.value.field == field
    assert len(refused.value.reason) > 5


def test_history_shows_the_fields_that_changed():
    created = written(HOT)
    changed = change_workflow(created, 1, {"priority": 3}, partly=True)
    off = switch_workflow(changed, 1, active=False)
    gone = delete_workflow(off, 1)
    whole = workflow_numbered(created, 1)
    assert change_of_workflow("", created, 1) == ("created", None, whole)
    assert change_of_workflow(created, changed, 1) == ("changed", {"priority": 10}, {"priority": 3})
    assert change_of_workflow(changed, off, 1) == ("deactivated", {"is_active": True}, {"is_active": False})
    assert change_of_workflow(off, gone, 1).change == "deleted"
    assert change_of_workflow(off, off, 1) is None
    assert change_of_workflow(off, gone, 2) is None
    assert summary_of_changes(created, created) is None
    both = finished_workflows(UNNUMBERED, gone, NOW)
    assert summary_of_changes(off, both) == "workflow_deleted 1; workflow_created 2, 3"

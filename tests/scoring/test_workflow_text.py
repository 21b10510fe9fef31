"""The text of workflows: what it accepts, and how it refuses: by line, workflow, key and reason."""

import re
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.statements import SilencedBy
from scoring.workflows.actions import ACTION_TYPES, ACTIONS, LEAD_ACTIONS
from scoring.workflows.built_in_workflows import built_in_workflows
from scoring.workflows.speed_to_lead import SpeedToLead, unknown_band
from scoring.workflows.workflow import (
    TRIGGER_TYPE,
    BandTrigger,
    LapseTrigger,
    NoContactTrigger,
    ScoreFallTrigger,
    ScoreRiseTrigger,
    StageTrigger,
)
from scoring.workflows.workflow_text import (
    LONGEST_TEXT,
    MOST_WORKFLOWS,
    WorkflowsError,
    compile_speed_to_lead,
    compile_workflows,
    unknown_references,
)

TASK = 'action = { type = "create_task", title = "Call" }'


def text_of(trigger='{ type = "manual" }', rest=TASK, number=1):
    return f'[[workflow]]\nid = {number}\nname = "W"\ntrigger = {trigger}\n{rest}\n'


def refused(text, **options):
    with pytest.raises(WorkflowsError) as caught:
        compile_workflows(text, **options)
    return caught.value


def only(text):
    [workflow] = compile_workflows(text)
    return workflow


# What it accepts


def test_an_empty_text_has_no_workflows():
    assert compile_workflows("") == compile_workflows('about = "none yet"\nhighest_workflow_id = 7') == ()


def test_a_workflow_in_full():
    workflow = only(
        """
[[workflow]]
id         = 12
name       = "Hot leads in SaaS"
active     = false
priority   = -3
anonymous  = true
created_at = 2026-03-01T09:00:00Z
conditions = [{ value = "profile.industry", in_list = ["SaaS"] }, { has = "phone" }]
[workflow.trigger]
type  = "score_threshold"
score = 75
model = "composite"
rearm = 0
[workflow.action]
type        = "create_task"
title       = "Call"
due_in_days = 1
"""
    )
    assert (workflow.id, workflow.name, workflow.active, workflow.priority, workflow.anonymous) == (
        12,
        "Hot leads in SaaS",
        False,
        -3,
        True,
    )
    assert workflow.trigger == ScoreRiseTrigger("composite", 75, 0)
    assert workflow.trigger_type == "score_threshold"
    assert (workflow.action, dict(workflow.config)) == ("create_task", {"title": "Call", "due_in_days": 1})
    assert len(workflow.conditions) == 2


@pytest.mark.parametrize(
    ("trigger", "compiled"),
    [
        ('type = "score_threshold", score = 75', ScoreRiseTrigger("rules", 75, 5)),
        ('type = "score_threshold", score = 3', ScoreRiseTrigger("rules", 3, 3)),  # it can fall to 0 only
        ('type = "score_falls", score = 40', ScoreFallTrigger("rules", 40, 5)),
        ('type = "stage_change"', StageTrigger(None, None)),
        ('type = "stage_change", to = "customer", from = "engaged"', StageTrigger("customer", "engaged")),
        ('type = "stage_change", set = "stage", to = "sql"', BandTrigger("rules", "stage", "sql", None)),
        (
            'type = "stage_change", model = "temperature", set = "temperature", to = "hot"',
            BandTrigger("temperature", "temperature", "hot", None),
        ),
        ('type = "not_contacted"', NoContactTrigger(5)),
        ('type = "not_contacted", minutes = 30', NoContactTrigger(30)),
        ('type = "time_based", days_without = 14', LapseTrigger(14, "interaction")),
        ('type = "time_based", days_without = 1, of = "custom:tour"', LapseTrigger(1, "custom:tour")),
    ],
)
def test_triggers(trigger, compiled):
    assert only(text_of(f"{{ {trigger} }}")).trigger == compiled


def test_the_highest_priority_comes_first_then_the_lowest_id():
    text = "".join(text_of(rest=f"priority = {p}\n{TASK}", number=n) for n, p in ((3, 0), (1, 0), (2, 5)))
    assert [workflow.id for workflow in compile_workflows(text)] == [2, 1, 3]


def test_every_type_of_trigger_has_an_example_that_compiles():
    assert set(TRIGGER_TYPE.values()) == {
        "score_threshold", "score_falls", "stage_change", "field_update", "event", "time_based", "not_contacted", "manual",
    }  # fmt: skip


CONFIGS = {
    "assign_owner": [
        "owner_id = 5",
        'owners = [5, "maria"], by = "capacity", working_hours = true, keep = true',
    ],
    "change_status": ['status = "qualified"'],
    "send_email": [
        'template = "welcome", to = "owner"',
        'subject = "Hello", text = "Hi\\nthere", channel = "news"',
    ],
    "create_task": ['title = "Call", description = "Soon", due_in_days = 0, priority = "high"'],
    "send_notification": ['message = "Hot", channels = ["sales-slack"]', 'message = "Hot", owner_id = 7'],
    "move_to_stage": ['stage = "sql", days = 30, reason = "by hand"'],
    "update_field": ['field = "segment", value = ["a", "b"]', 'field = "vip", value = true'],
    "add_to_campaign": ['campaign_id = "spring", campaign_name = "Spring"'],
    "send_webhook": ['channel = "crm"'],
}


@pytest.mark.parametrize(("action", "config"), [(a, c) for a, several in CONFIGS.items() for c in several])
def test_actions(action, config):
    workflow = only(text_of(rest=f'action = {{ type = "{action}", {config} }}'))
    assert workflow.action == action
    assert "type" not in workflow.config


def test_there_are_nine_actions_and_six_of_them_change_the_lead():
    assert set(CONFIGS) == set(ACTION_TYPES) == set(ACTIONS)
    assert len(ACTION_TYPES) == 9
    assert len(LEAD_ACTIONS) == 6


def test_the_built_in_texts_get_their_ids_from_the_publisher():
    for text in built_in_workflows().values():
        assert {workflow.id for workflow in compile_workflows(text, numbered=False)} == {0}
        assert refused(text).key == "id"
    assert set(built_in_workflows()) == {
        "chatbot_alerts",
        "progressive",
        "qualification_examples",
        "speed_to_lead",
    }


# How it refuses


@pytest.mark.parametrize(
    ("trigger", "key", "part"),
    [
        ('type = "score_treshold", score = 75', "trigger.type", "is no trigger; those are score_threshold"),
        ("score = 75", "trigger.type", "missing"),
        ('type = "score_threshold"', "trigger.score", "missing: a whole number from 1"),
        ('type = "score_threshold", score = 75.5', "trigger.score", "75.5 is no score"),
        ('type = "score_threshold", score = true', "trigger.score", "True is no score"),
        ('type = "score_threshold", score = 75, rearm = -1', "trigger.rearm", "from 0"),
        ('type = "score_threshold", score = 75, model = "Rules!"', "trigger.model", "no name of a model"),
        (
            'type = "score_threshold", score = 75, to = "x"',
            "trigger.to",
            "score_threshold has score, model, rearm",
        ),
        ('type = "stage_change", to = "sql"', "trigger.to", 'add set = "stage"'),
        ('type = "stage_change", to = "lost", from = "lost"', "trigger.from", "is where it leads to"),
        ('type = "stage_change", model = "rules"', "trigger.model", "needs the set of bands"),
        ('type = "field_update"', "trigger.field", "missing"),
        ('type = "field_update", field = "stage"', "trigger.field", "use the trigger stage_change"),
        ('type = "field_update", field = "a", is = 1, equals = 2', "trigger.is", "give one of them"),
        ('type = "field_update", field = "a", greater_than = "x"', "trigger.greater_than", "is not a number"),
        ('type = "event"', "trigger.event", "missing"),
        ('type = "event", event = "demo_request"', "trigger.event", "is no type of an event"),
        ('type = "event", event = "custom"', "trigger.event", "custom:NAME"),
        ('type = "event", event = []', "trigger.event", "0 types"),
        (
            'type = "event", event = "demo_requested", where = { field = "nope", equals = 1 }',
            "trigger.where",
            "has no field 'nope'",
        ),
        ('type = "time_based"', "trigger.cron", "cron = "),
        ('type = "not_contacted", minutes = 0', "trigger.minutes", "1 to 10,080"),
        ('type = "not_contacted", days = 1', "trigger.days", "not_contacted has minutes"),
        ('type = "time_based", cron = "0 9 * * 1", days_without = 3', "trigger.cron", "not both"),
        ('type = "time_based", cron = "0 25 * * *"', "trigger.cron", "the hour is 0 to 23, not '25'"),
        ('type = "time_based", cron = "*/5 * * * *"', "trigger.cron", "at most once an hour"),
        ('type = "time_based", cron = "0 9 30 2 *"', "trigger.cron", "never comes"),
        ('type = "time_based", days_without = 0', "trigger.days_without", "1 to 3,650"),
        ('type = "time_based", days_without = 1, of = "nothing"', "trigger.of", "is no signal"),
        ('type = "manual", by = "me"', "trigger.by", "manual has no keys"),
    ],
)
def test_a_wrong_trigger_is_refused_by_its_key(trigger, key, part):
    refusal = refused(text_of(f"{{ {trigger} }}"))
    assert (refusal.key, refusal.line) == (key, 4)
    assert part in refusal.reason
    assert str(refusal) == f"line 4, workflow 'W', {key}: {refusal.reason}"


@pytest.mark.parametrize(
    ("action", "key", "part"),
    [
        ('type = "phone"', "action.type", "is no action; those are assign_owner"),
        ('title = "x"', "action.type", "missing"),
        ('type = "create_task"', "action.title", "missing: what is to be done"),
        ('type = "create_task", title = "a\\nb"', "action.title", "wants one line"),
        ('type = "create_task", title = "x", priority = "asap"', "action.priority", "low or medium or high"),
        ('type = "create_task", title = "x", due = 1', "action.due", "create_task has title"),
        ('type = "assign_owner"', "action.owner_id", "wants owner_id = 5"),
        ('type = "assign_owner", owner_id = 5, owners = [6]', "action.owner_id", "not both"),
        ('type = "assign_owner", owner_id = 5, by = "capacity"', "action.by", "there is only one"),
        ('type = "assign_owner", owners = [5, "5"]', "action.owners", "twice"),
        (
            'type = "send_webhook", channel = "https://hooks.example/x"',
            "action.channel",
            "no name of a channel",
        ),
        ('type = "send_webhook", channel = "crm", secret = "s"', "action.secret", "unknown"),
        ('type = "send_email", subject = "Hi"', "action.template", "a subject and a text"),
        (
            'type = "send_notification", message = "x", to = "owner", owner_id = 1',
            "action.owner_id",
            "already",
        ),
        ('type = "update_field", field = "stage", value = 1', "action.field", "move_to_stage"),
        ('type = "update_field", field = "x", value = 2026-01-01', "action.value", "is a text of 1 to"),
    ],
)
def test_a_wrong_action_is_refused_by_its_key(action, key, part):
    refusal = refused(text_of(rest=f"action = {{ {action} }}"))
    assert (refusal.key, refusal.line) == (key, 5)
    assert part in refusal.reason


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ('"x"', "wants a table"),
        ('{ value = "profile.industry" }', "wants one operator"),
        ('{ value = "profile.industry", in_list = ["a"], points = 3 }', "points belongs to rules"),
        ('{ each = "page_viewed" }', "one of value, has, once, not each"),
        ('{ value = "session.pages", greater_than = 1 }', "of one session"),
        ('{ value = "page_views", greater_than = 1 }', "is no signal"),
        ('{ value = "score", contains = "7" }', "'score' is a number"),
        ('{ value = "band.rules.stage", greater_than = 1 }', "is a text"),
        ('{ value = "score", equals = 1, less_than = 3 }', "wants one operator, not equals, less_than"),
    ],
)
def test_a_wrong_condition_is_refused(condition, part):
    refusal = refused(text_of(rest=f"{TASK}\nconditions = [\n{condition}]"))
    assert refusal.key == "conditions.0"
    assert part in refusal.reason


def test_a_refusal_names_the_line_of_the_key_in_the_right_workflow():
    good = text_of()
    bad = '[[workflow]]\nid = 2\nname = "Second"\n[workflow.trigger]\ntype = "event"\nevent = "nope"\n'
    refusal = refused(good + bad)
    assert (refusal.line, refusal.key) == (len(good.splitlines()) + 6, "trigger.event")
    assert "workflow 'Second'" in str(refusal)


def test_ids_are_given_and_unique():
    assert refused(text_of() + text_of()).reason == "another workflow has the id 1"
    assert "missing" in refused(text_of().replace("id = 1\n", "")).reason
    assert refused(text_of().replace("id = 1", "id = 0")).key == "id"


def test_unknown_keys_and_a_single_bracket_are_refused():
    assert "with two brackets" in refused("[[workflows]]\nid = 1").reason
    assert "one for each" in refused("[workflow]\nid = 1").reason
    assert refused(text_of(rest=f"{TASK}\nwhen = 1")).reason.startswith("unknown; a workflow has id, name")
    assert refused("x = [").line == 1


def test_a_text_has_bounds():
    assert "at most" in refused("".join(text_of(number=n) for n in range(1, MOST_WORKFLOWS + 2))).reason
    assert "characters" in refused("#" * (LONGEST_TEXT + 1)).reason


@given(st.text(max_size=300))
def test_any_text_is_compiled_or_refused(text):
    for each in (text, text_of() + text, text_of(f'{{ type = "event", event = "{text}" }}')):
        with suppress(WorkflowsError):
            compile_workflows(each)


def test_what_no_active_model_has_is_named_before_a_publication():
    text = (
        text_of('{ type = "score_threshold", score = 5, model = "nobody" }')
        + text_of('{ type = "stage_change", set = "stage", to = "sqll" }', number=2)
        + text_of('{ type = "stage_change", set = "grade" }', number=3)
        + text_of('{ type = "stage_change", set = "stage", to = "mql" }', number=4)
    )
    unknown = unknown_references(compile_workflows(text), {"rules": {"stage": ("hot", "sql", "mql", "none")}})
    assert [(each.workflow, each.key) for each in unknown] == [
        (1, "trigger.model"),
        (2, "trigger.to"),
        (3, "trigger.set"),
    ]


# The page


PAGE = (Path(__file__).parent.parent.parent / "docs/workflows.md").read_text(encoding="utf-8")


def test_the_texts_of_the_page_are_one_text_without_a_mistake():
    text = "".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    assert [workflow.id for workflow in compile_workflows(text)][:1] == [1]
    assert len(compile_workflows(text)) == 9


def test_the_page_has_every_trigger_and_every_key_of_every_action():
    for trigger in TRIGGER_TYPE.values():
        assert f"| `{trigger}` |" in PAGE
    for action, keys in ACTIONS.items():
        [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{action}` |")]
        assert [key for key in keys if f"`{key}`" not in row] == []
    for reason in get_args(SilencedBy):
        assert f"`{reason}`" in PAGE or not reason


# Speed to lead


def test_speed_to_lead_in_full_and_its_defaults():
    assert compile_speed_to_lead("") == SpeedToLead(
        "qualified", ("call_made", "email_sent", "sms_sent"), 5, ()
    )
    text = (
        '[speed_to_lead]\nafter = "sql"\ncontacts = ["call_made", "custom:visit"]\nminutes = 30\n'
        'working_hours = ["mon-fri 09:00-17:30", "sat 10:00-12:00"]\n'
    )
    compiled = compile_speed_to_lead(text)
    assert (compiled.after, compiled.contacts, compiled.minutes) == ("sql", ("call_made", "custom:visit"), 30)
    assert [(sorted(each.days), each.begin, each.end) for each in compiled.working_hours] == [
        ([0, 1, 2, 3, 4], 540, 1050),
        ([5], 600, 720),
    ]
    assert only(text + text_of('{ type = "not_contacted" }')).trigger == NoContactTrigger(30)


@pytest.mark.parametrize(
    ("line", "key", "part"),
    [
        ("afer = 1", "afer", "has after, contacts, minutes, working_hours"),
        ('after = "customer"', "after", "no stage in which a lead waits"),
        ("after = 7", "after", "one stage of the lifecycle or one band"),
        ("minutes = 0", "minutes", "1 to 10,080 whole minutes"),
        ('contacts = "call_made"', "contacts", "a list of 1 to 32"),
        ('contacts = ["phoned"]', "contacts", "no type of an event"),
        ('contacts = ["custom:"]', "contacts", "no type of an event"),
        ('working_hours = "9-17"', "working_hours", "is not HH:MM-HH:MM"),
        ('working_hours = "mon 09:00-09:30"', "working_hours", "fewer than 60 minutes"),
    ],
)
def test_a_mistake_in_speed_to_lead_is_refused_by_its_line(line, key, part):
    refusal = refused(f"[speed_to_lead]\n\n{line}\n")
    assert (refusal.line, refusal.key) == (3, f"speed_to_lead.{key}")
    assert part in refusal.reason


def test_a_band_that_the_rules_do_not_have_would_start_no_clock():
    sets = {"rules": {"stage": ("hot", "sql", "none")}}
    assert unknown_band(SpeedToLead("sql"), sets) is unknown_band(SpeedToLead("qualified"), {}) is None
    assert "neither a stage" in (unknown_band(SpeedToLead("mql"), sets) or "")

"""What a workflow would do for a lead now: each trigger, each hindrance, each action in words."""

import pytest
from leads_given import DAY_MS, IDLE, T0, UTC, features_of, happened

from scoring.editing.workflow_trial import action_text, try_workflow
from scoring.models.model import Subject, built_in_models, compile_model
from scoring.workflows.workflow_text import compile_workflows

MODELS = {name: compile_model(text) for name, text in built_in_models().items()}
ACTION = 'action = { type = "create_task", title = "Call" }'


def tried(trigger, *events, more="", lead_id="lead-1", stage="engaged", at=T0 + 3 * DAY_MS):
    (workflow,) = compile_workflows(
        f'[[workflow]]\nid = 1\nname = "W"\n{more}\ntrigger = {trigger}\n{ACTION}\n'
    )
    known = happened("profile_updated", T0, fields={"industry": "SaaS", "budget": 500})
    return try_workflow(
        workflow, lead_id, Subject(features_of([known, *events]), stage), MODELS, at, UTC, IDLE
    )


@pytest.mark.parametrize(
    ("trigger", "met"),
    [
        ('{ type = "score_threshold", score = 1 }', True),
        ('{ type = "score_threshold", score = 99 }', False),
        ('{ type = "score_threshold", score = 1, model = "astrology" }', False),
        ('{ type = "score_falls", score = 99 }', True),
        ('{ type = "score_falls", score = 1 }', False),
        ('{ type = "stage_change", to = "engaged" }', True),
        ('{ type = "stage_change", to = "customer" }', False),
        ('{ type = "stage_change" }', None),
        ('{ type = "stage_change", set = "stage", to = "hot" }', False),
        ('{ type = "field_update", field = "industry", is = "SaaS" }', True),
        ('{ type = "field_update", field = "budget", greater_than = 1000 }', False),
        ('{ type = "field_update", field = "budget" }', None),
        ('{ type = "event", event = "demo_requested" }', None),
        ('{ type = "time_based", cron = "0 9 * * 1" }', None),
        ('{ type = "time_based", days_without = 3 }', True),
        ('{ type = "time_based", days_without = 4 }', False),
        ('{ type = "manual" }', None),
    ],
)
def test_a_trigger_is_met_as_things_stand_or_waits_for_something(trigger, met):
    trial = tried(trigger)
    assert trial.trigger.met is met, trial.trigger.text
    assert trial.would_fire is (met is not False)
    assert len(trial.trigger.text) > 10


@pytest.mark.parametrize(
    ("more", "lead_id", "events", "words"),
    [
        ('conditions = [{ value = "profile.industry", equals = "Farming" }]', "lead-1", (), "SaaS"),
        ("active = false", "lead-1", (), "switched off"),
        ("", "anon:w-1", (), "nobody knows"),
        (
            "",
            "lead-1",
            (happened("profile_updated", T0 + 1, fields={"profiling_consent": False}),),
            "profiled",
        ),
    ],
)
def test_what_hinders_it_is_said(more, lead_id, events, words):
    trial = tried('{ type = "manual" }', *events, more=more, lead_id=lead_id)
    assert not trial.would_fire
    assert words in trial.failed_condition


def test_no_model_scores_a_lead_that_objects_to_profiling():
    refusal = happened("profile_updated", T0 + 1, fields={"profiling_consent": False})
    trial = tried('{ type = "score_threshold", model = "rules", score = 10 }', refusal)
    assert trial.trigger.text.startswith("there is no score by rules")


def test_an_anonymous_visitor_is_no_hindrance_to_a_workflow_for_visitors():
    assert tried('{ type = "manual" }', more="anonymous = true", lead_id="anon:w-1").would_fire


@pytest.mark.parametrize(
    ("action", "config", "words"),
    [
        ("assign_owner", {"owner_id": 5}, "assigns the lead to owner 5"),
        ("assign_owner", {"owners": [5, 7], "by": "capacity"}, "assigns the lead to one of the owners 5, 7, who has most room"),
        ("change_status", {"status": "qualified"}, "changes the status to qualified"),
        ("send_email", {"template": "welcome", "to": "lead"}, "sends an e-mail to the lead, by the channel email, of the template welcome"),
        ("move_to_stage", {"stage": "sql", "days": 30}, "moves the lead to sql for 30 days"),
        ("add_to_campaign", {"campaign_id": "win-back"}, "adds the lead to the campaign win-back"),
        ("send_webhook", {"channel": "crm"}, "calls the channel crm"),
    ],
)  # fmt: skip
def test_an_action_is_told_in_words(action, config, words):
    assert action_text(action, config) == words

"""Texts of workflows' messages are checked when they are published: places for values only, and only for values there are."""

import pytest

from delivery.templates import SAMPLE, render_published, values_of
from scoring.workflows.actions import ACTIONS
from scoring.workflows.built_in_workflows import built_in_workflows
from scoring.workflows.message_texts import (
    LEAD_MAPPINGS,
    MESSAGE_KEYS,
    VALUE_NAMES,
    MessageTextError,
    check_message_text,
    unusable_messages,
)
from scoring.workflows.workflow_text import compile_workflows


def test_the_names_are_those_that_delivery_knows():
    values = values_of(SAMPLE)
    assert values.keys() == VALUE_NAMES.keys()
    for name, parts in VALUE_NAMES.items():
        assert parts is None or values[name].keys() == parts
    assert {name for name, value in values["lead"].items() if isinstance(value, dict)} == LEAD_MAPPINGS


@pytest.mark.parametrize(
    "text",
    [
        "Hot",
        "{{ lead.name or lead.company or lead.id }} has {{ lead.scores.rules }}",
        "{{ lead['fields']['budget']|default('nothing') }}, {{ owner.name|title }}, {{ workflow.name }}, {{ reason }}",
        "{% raw %}{{ lead.nmae }}{% endraw %}",
    ],
)
def test_what_can_be_made_is_taken(text):
    check_message_text(text)
    assert render_published(text, SAMPLE)


MISTAKES = {
    "{{ lead.nmae }}": "lead has no 'nmae'; it has assigned_to, company",
    "{{ leda.name }}": "there is no 'leda'; there are lead, owner",
    "{{ lead['__class__'] }}": "lead has no '__class__'",
    "{{ lead.fields.budget.amount }}": "lead.fields.budget has no parts",
    "{{ reason.length }}": "reason has no 'length'",
    "{{ lead.name": "unexpected end of template",
    "{% for n in lead %}x{% endfor %}": "for is not for texts of workflows",
    "{{ 'a' * 1000000000 }}": "mul is not for texts of workflows",
    "{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}": "nested too deeply",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_cannot_be_made_is_refused_with_the_reason(text):
    with pytest.raises(MessageTextError, match=MISTAKES[text]):
        check_message_text(text)


def test_a_mistake_names_the_workflow_and_the_key():
    text = """
[[workflow]]
id = 4
name = "Tell"
trigger = { type = "manual" }
action = { type = "send_notification", title = "Hot", message = "{{ lead.nmae }}" }
"""
    (mistake,) = unusable_messages(compile_workflows(text))
    assert (mistake.workflow, mistake.key) == (4, "action.message")


def test_built_in_texts_can_be_made_and_the_keys_are_those_of_the_actions():
    for text in built_in_workflows().values():
        assert unusable_messages(compile_workflows(text, numbered=False)) == []
    assert all(key in ACTIONS[action] for action, keys in MESSAGE_KEYS.items() for key in keys)

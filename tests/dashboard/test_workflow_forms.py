"""The form of workflows has an input for every key of every trigger and action, and none that they do not have."""

import re
from pathlib import Path

import dashboard
from scoring.workflows.actions import ACTIONS
from scoring.workflows.workflow_text import TRIGGER_KEYS

SOURCE = (Path(dashboard.__file__).parent / "app/src/workflows/forms.ts").read_text(encoding="utf-8")
IN_THE_TEXT_ONLY = {"where", "is, or one operator"}
"""Tests of an event, and operators other than equality. The form shows them and leaves them as they are."""


def inputs_of(name):
    block = SOURCE.partition(f"export const {name}: ")[2].partition("\n};")[0]
    return {
        kind: set(re.findall(r'\w+\("(\w+)"', inputs))
        for kind, inputs in re.findall(r"^  (\w+): \[(.*)\],$", block, re.MULTILINE)
    }


def test_every_trigger_has_its_inputs():
    expected = {kind: set(keys) - IN_THE_TEXT_ONLY for kind, keys in TRIGGER_KEYS.items()}
    expected["field_update"].add("is")
    assert inputs_of("TRIGGERS") == expected


def test_every_action_has_its_inputs():
    assert inputs_of("ACTIONS") == {kind: set(keys) for kind, keys in ACTIONS.items()}

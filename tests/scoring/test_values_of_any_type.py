"""A value of another type, anywhere in a text or a request's body, is refused by name; it breaks nothing."""

import json
import tomllib
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.refusal import Refusal
from scoring.attribution.attribution_text import AttributionError, compile_attribution
from scoring.editing.qualification import create_criterion, create_rule
from scoring.editing.text_edits import toml_value
from scoring.editing.workflow_edits import create_workflow
from scoring.experiments.experiment_text import ExperimentError, compile_experiment
from scoring.lifecycle.lifecycle_text import LifecycleError, compile_lifecycle
from scoring.models.model import ModelError, built_in_models, compile_model
from scoring.workflows.workflow_text import WorkflowsError, compile_speed_to_lead, compile_workflows

NOW = datetime(2030, 1, 31, 10, tzinfo=UTC)
VALUES = [
    None, True, False, 0, 1, -1, 10**30, 0.5, "", "x", "2030-01-31", [], [[]], [{}], ["x"], [1], {}, {"x": {}}, {"type": []},
]  # fmt: skip
EXAMPLES = Path(resources.files("gateway") / "examples")
WORKFLOW = json.loads((EXAMPLES / "workflows.json").read_bytes())
QUALIFICATION = json.loads((EXAMPLES / "qualification.json").read_bytes())
SHIPPED = built_in_models()["rules"]


def texts():
    for name, text in built_in_models().items():
        yield f"model {name}", text, compile_model, ModelError
    for package, name, compiled, refusal in (
        ("lifecycle", "default.toml", compile_lifecycle, LifecycleError),
        ("attribution", "default.toml", compile_attribution, AttributionError),
        ("experiments", "greeting_message.toml", compile_experiment, ExperimentError),
        ("experiments", "question_flow.toml", compile_experiment, ExperimentError),
        ("workflows.built_in", "qualification_examples.toml", compile_workflows, WorkflowsError),
        ("workflows.built_in", "chatbot_alerts.toml", compile_workflows, WorkflowsError),
        ("workflows.built_in", "speed_to_lead.toml", compile_speed_to_lead, WorkflowsError),
    ):
        text = (resources.files("scoring") / package.replace(".", "/") / name).read_text("utf-8")
        yield f"{package} {name}", text, compiled, refusal


TEXTS = {name: rest for name, *rest in texts()}


def places(tree, path=()):
    """Every path to a value of the tree."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def with_value(tree, path, value):
    changed = deepcopy(tree)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=scaled(60), deadline=None)
@given(data=st.data())
def test_a_text_with_a_value_of_another_type_is_compiled_or_refused(name, data):
    text, compiled, refusal = TEXTS[name]
    tree = tomllib.loads(text)
    path = data.draw(st.sampled_from(sorted(places(tree), key=repr)))
    value = data.draw(st.sampled_from([each for each in VALUES if each is not None]))
    changed = with_value(tree, path, value)
    with suppress(refusal):
        compiled("\n".join(f"{toml_value(key)} = {toml_value(each)}" for key, each in changed.items()))


BODIES = {
    "workflow": (WORKFLOW["workflow"], lambda body: create_workflow("", body, NOW)),
    "rule": (QUALIFICATION["rule"], lambda body: create_rule(SHIPPED, body)),
    "criterion": (QUALIFICATION["criterion"], lambda body: create_criterion(SHIPPED, body)),
}


def refused_field(create, body):
    """None where the body is taken."""
    try:
        create(body)
    except Refusal as refused:
        return refused.field
    return None


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_with_a_value_of_another_type_is_taken_or_refused_by_field(name, value):
    body, create = BODIES[name]
    for path in places(body):
        changed = with_value(body, path, value)
        assert refused_field(create, changed) != ""


@pytest.mark.parametrize("value", [True, False], ids=repr)
@pytest.mark.parametrize("name", BODIES)
def test_true_and_false_are_no_numbers_of_a_body(name, value):
    body, create = BODIES[name]
    numbers = [field for field, each in body.items() if type(each) is int]
    for field in numbers:
        with pytest.raises(Refusal) as refused:
            create(body | {field: value})
        assert refused.value.field == field

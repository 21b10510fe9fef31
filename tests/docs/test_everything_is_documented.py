"""What a user may call, set, watch or write into a text is in the documents: from the lists that the program itself reads."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from msgspec import inspect

from delivery.channels.smtp_email import EmailTemplate
from delivery.configuration import Channel, Limits
from delivery.owners import Owner
from gateway.scopes import ROLE_SCOPES, ROUTE_SCOPES
from leadstream.operations import reference_pages
from leadstream.settings import Settings
from leadstream.variable_names import variable_name
from projections.workflow_queries import EXECUTION_STATUSES
from schemas.envelope import tag_of
from schemas.events import EVENT_TYPES
from schemas.statements import WorkflowTriggerType
from scoring.workflows.actions import ACTIONS

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["endpoints", "metrics"])
def test_every_address_and_every_metric_is_on_its_page(name):
    written = getattr(reference_pages, f"{name}_page")()
    assert written == page(name), "run `make schemas`"
    assert written.count("\n| `") > 40


def test_an_address_is_listed_with_its_scope():
    listed = dict(re.findall(r"^\| `(\w+ \S+)` \| ([\w ]+) \|", page("endpoints"), re.MULTILINE))
    assert listed["GET /api/users"] == "admin"
    assert listed["GET /api/leads/{lead_id}"] == "read"
    assert listed["POST /v1/events"] == "collect"
    assert set(listed.values()) <= set(ROUTE_SCOPES.values())


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_documented(setting):
    assert f"`{variable_name(setting)}`" in page("settings")


@pytest.mark.parametrize("event", [tag_of(each) for each in EVENT_TYPES])
def test_every_event_is_documented(event):
    assert f"`{event}`" in page("producing")


def test_every_trigger_action_and_status_of_workflows_is_documented():
    workflows = page("workflows")
    assert not [each for each in get_args(WorkflowTriggerType) if f"`{each}`" not in workflows]
    assert not [each for each in ACTIONS if f"| `{each}` |" not in workflows]
    assert not [each for each in EXECUTION_STATUSES if f"`{each}`" not in workflows]


@pytest.mark.parametrize("kind", [*get_args(Channel), EmailTemplate, Limits, Owner])
def test_every_kind_of_channel_and_every_key_of_delivery_is_documented(kind):
    delivery = page("delivery")
    tag = inspect.type_info(kind).tag
    assert tag is None or f"`{tag}`" in delivery or f'"{tag}"' in delivery
    assert not [
        key for key in kind.__struct_fields__ if f"`{key}`" not in delivery and f"{key} =" not in delivery
    ]


def test_every_role_and_every_scope_is_documented():
    rows = set(re.findall(r"^\| `(\w+)` \|", page("access"), re.MULTILINE))
    assert rows >= ROLE_SCOPES.keys()
    assert rows >= {name for scope in ROUTE_SCOPES.values() for name in scope.split(" or ")} - {"none", "any"}


def test_every_alert_says_what_it_means_and_where_to_look():
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        assert len(rule["annotations"]["description"]) > 40, rule["alert"]

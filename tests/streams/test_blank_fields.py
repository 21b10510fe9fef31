"""Blank fields and types of fields, through the door and both folds: what is recorded stays as it was recorded."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from stream_stories import DAY, HOUR, Settings, given, happened

from gateway.door.admission import RequestFacts, admit_event, admit_import, read_producer_event

FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="no field cases in ../shared/data/field-cases")
@pytest.mark.parametrize("way", ["door", "import"])
def test_a_second_form_with_blank_fields_erases_nothing(way):
    """The right results are those of the field cases' README."""
    lines = (FIELD_CASES / "blank-form-fields.ndjson").read_bytes().splitlines()
    events = [
        read_producer_event(line, f"e{number}", NOW) for number, line in enumerate(lines) if line.strip()
    ]
    story = given(
        *(
            admit_event(each, RequestFacts(None), NOW) if way == "door" else admit_import(each, NOW)
            for each in events
        )
    )
    assert story.card("f03").fields == {
        "company": "Rae GmbH",
        "email": "rae@kunde03.example",
        "phone": "+971501234599",
        "topic": "newsletter",
    }
    assert story.card("f03b").fields == {
        "email": "lee@kunde03.example",
        "name": "Lee",
        "phone": "+971501234588",
    }
    assert story.card("f03c").fields == {"location": "Berlin"}


def fields_of(story, lead):
    return story.card(lead).fields


def test_a_declared_type_is_used_for_the_events_after_its_publication():
    def update(event_id, when, **fields):
        return happened("profile_updated", event_id, when, lead_id="ada", source="crm", fields=fields)

    story = given(update("1", 0, seats=5, newsletter=True), update("2", HOUR, seats=0, newsletter=False))
    assert fields_of(story, "ada") == {"seats": 5, "newsletter": True}
    story.when(Settings(2, DAY, profile_fields={"seats": "number", "newsletter": "flag"}))
    assert fields_of(story, "ada") == {"seats": 5, "newsletter": True}
    story.when(update("3", DAY + HOUR, seats=0, newsletter="off"))
    assert fields_of(story, "ada") == {"seats": 0, "newsletter": False}
    story.when(update("4", DAY + 2 * HOUR, seats="1,200", newsletter="n/a"))
    assert fields_of(story, "ada") == {"seats": 1200, "newsletter": False}


def test_a_tenant_declares_for_itself_alone():
    story = given(Settings(1, 0, tenant="acme", profile_fields={"seats": "number"}))
    for tenant in ("acme", "default"):
        story.when(
            happened(
                "profile_updated", "1", HOUR, tenant=tenant, lead_id="ada", fields={"seats": 0, "a": "b"}
            )
        )
    assert story.card("ada", "acme").fields == {"seats": 0, "a": "b"}
    assert story.card("ada").fields == {"a": "b"}


def test_a_blank_owner_keeps_the_assignment_and_null_removes_it():
    def assigned(event_id, when, owner):
        return happened("lead_assigned", event_id, when, lead_id="ada", source="crm", assigned_to=owner)

    story = given(assigned("1", 0, "Rosa"), assigned("2", HOUR, " "), assigned("3", 2 * HOUR, "None"))
    assert fields_of(story, "ada")["assigned_to"] == "Rosa"
    story.when(assigned("4", 3 * HOUR, None))
    assert fields_of(story, "ada")["assigned_to"] is None

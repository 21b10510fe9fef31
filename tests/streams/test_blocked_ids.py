"""What broken producers send in place of an id joins nobody, by whatever way it comes in."""

import json
from datetime import UTC, datetime

import pytest
from stream_simulator import Pipeline

from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from leadstream.operations.imports import import_events
from schemas.decode import Refusal, decode_dead_letter
from schemas.record import Outgoing
from schemas.topics import EVENTS

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
PAGE = {"type": "page_viewed", "event_id": "e", "occurred_at": "2030-01-31T11:00:00Z"}
MERGE = {**PAGE, "type": "leads_merged", "lead_id": "lead-1", "into": "lead-2"}


def by_http(event):
    with pytest.raises(Refusal) as refused:
        read_producer_event(json.dumps(event).encode(), "x", NOW)
    return str(refused.value)


def by_kafka(event):
    """Straight into the topic, past the door: a dead letter, and nobody is there for it."""
    key = f"default/v/{event['visitor_id']}" if "visitor_id" in event else f"default/l/{event['lead_id']}"
    pipeline = Pipeline()
    pipeline.append(Outgoing(EVENTS, key, json.dumps(event | {"recorded_at": event["occurred_at"]}).encode()))
    pipeline.fold_all()
    assert pipeline.leads() == {}
    letter = decode_dead_letter(pipeline.dead[0])
    return f"{letter.field}: {letter.reason}"


def by_import(event):
    tally = import_events([json.dumps(event).encode()], lambda _: pytest.fail("it was taken"), NOW)
    (told,) = tally.complaints
    return told.reason


WAYS = [by_http, by_kafka, by_import]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("blocked", ["null", "Undefined", "anonymous", "000-000", "-1", "'none'"])
@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({**PAGE, "visitor_id": ...}, "visitor_id"),
        ({**PAGE, "visitor_id": ..., "lead_id": "lead-1"}, "visitor_id"),
        ({**PAGE, "lead_id": ...}, "lead_id"),
        ({**PAGE, "visitor_id": "v", "lead_id": ...}, "lead_id"),
        ({**PAGE, "type": "lead_identified", "visitor_id": "v", "lead_id": ...}, "lead_id"),
        ({**MERGE, "lead_id": ...}, "lead_id"),
        ({**MERGE, "into": ...}, "into"),
        ({**MERGE, "type": "merge_undone", "lead_id": ...}, "lead_id"),
    ],
    ids=lambda given: given if isinstance(given, str) else given["type"] + "-" + "-".join(given)[-18:],
)
def test_a_placeholder_is_refused_by_its_field_with_the_reason(way, event, field, blocked):
    given = {name: blocked if value is ... else value for name, value in event.items()}
    said = way(given)
    assert f"{field}: '{blocked}' is a placeholder, not an id; leave the field out instead" in said


@pytest.mark.parametrize("way", WAYS)
def test_nobody_is_merged_with_an_anonymous_visitor(way):
    said = way({**MERGE, "into": "anon:w-1"})
    assert "into: 'anon:w-1' is an anonymous visitor, not a known lead" in said


def through_the_door(event):
    with pytest.raises(Refusal) as refused:
        admit_event(read_producer_event(json.dumps(event).encode(), "x", NOW), RequestFacts(None), NOW)
    return str(refused.value)


@pytest.mark.parametrize("blocked", ["Test", "demo", "user", "user_id", "N/A", "'abc123'"])
@pytest.mark.parametrize("field", ["visitor_id", "lead_id"])
def test_what_developers_write_in_place_of_an_id_is_refused(field, blocked):
    assert f"{field}: '{blocked}' is a placeholder" in through_the_door({**PAGE, field: blocked})

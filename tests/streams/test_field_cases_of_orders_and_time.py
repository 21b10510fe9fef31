"""What real producers send, through the import and both folds; the results are those of the field cases' README."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from stream_simulator import Pipeline
from stream_stories import SHIPPED

from leadstream.operations.imports import import_events
from schemas.decode import decode_source
from schemas.envelope import Event
from schemas.moment import millis
from schemas.record import Record
from schemas.topics import EVENTS, lead_key
from streams.track_sessions.stage import TRACK_SESSIONS

FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"
needs_field_cases = pytest.mark.skipif(not FIELD_CASES.exists(), reason=f"{FIELD_CASES} is not there")
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def imported(name, *models, now=NOW):
    """The pipeline after the import of a file, and the imported events."""
    pipeline, records = Pipeline((*SHIPPED, *models)).fold_all(), []
    lines = [line for line in (FIELD_CASES / f"{name}.ndjson").read_bytes().splitlines() if line]
    stated = [
        line if b"occurred_at" in line else line[:-1] + b',"occurred_at":"2026-11-20T10:00:00Z"}'
        for line in lines
    ]
    counts = import_events(stated, records.extend, now)
    assert counts.taken == len(lines)
    for record in records:
        pipeline.append(record)
    return pipeline.fold_all(), [decode_source(record.value) for record in records]


@needs_field_cases
def test_a_thank_you_page_that_is_reloaded():
    text = (FIELD_CASES / "same-mail-opened-again.toml").read_text(encoding="utf-8")
    pipeline, _ = imported("order-reloaded", ("f24", text))
    card = pipeline.cards[lead_key("default", "f07")]
    assert (card.counts["purchase_made"], card.revenue) == (2, {"EUR": Decimal("49.95")})
    assert card.scores["f24"].total == 0


@needs_field_cases
def test_an_email_that_is_opened_again():
    text = (FIELD_CASES / "same-mail-opened-again.toml").read_text(encoding="utf-8")
    pipeline, _ = imported("same-mail-opened-again", ("f24", text))
    assert pipeline.cards[lead_key("default", "f24")].scores["f24"].total == 4


@needs_field_cases
def test_a_text_cut_in_the_middle_of_an_emoji():
    pipeline, events = imported("half-an-emoji")
    assert [event.text for event in events] == ["Price please \ufffd", "A demo please \ufffd"]
    assert pipeline.cards[lead_key("default", "anon:f29")].counts["interaction"] == 2


@needs_field_cases
def test_a_clock_of_2099():
    pipeline, (event,) = imported("from-the-future")
    assert event.occurred_at == NOW
    assert pipeline.cards[lead_key("default", "anon:f22")].last_interaction_at == NOW


@pytest.mark.parametrize(("ahead", "taken"), [(timedelta(minutes=5), True), (timedelta(days=26_000), False)])
def test_an_event_from_the_future_in_kafka_happened_when_the_broker_appended_it(ahead, taken):
    stated = NOW + ahead
    raw = (
        b'{"type":"page_viewed","event_id":"1","visitor_id":"v","occurred_at":"%s"}'
        % stated.isoformat().encode()
    )
    _, event = TRACK_SESSIONS.decode(Record(EVENTS, 0, 0, "default/v/v", raw, millis(NOW)))
    assert isinstance(event, Event)
    assert (event.occurred_at, event.recorded_at) == (stated if taken else NOW, NOW)

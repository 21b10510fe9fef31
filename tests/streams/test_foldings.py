"""A publication keeps the comparison of texts that it was made with; the next one of the same text gets the newest."""

import json
from pathlib import Path

import pytest
from msgspec import msgpack
from stream_stories import NOON, Publish, given, happened

from authoring.revisions import control_record_of, newest_if_unchanged, publication_of_draft
from leadstream.evaluation.model_sets import ModelSet
from leadstream.wiring import genesis
from projections.authoring import PublishedVersion
from projections.public_rows import Draft
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import decode_activity, decode_source, encode_activity, encode_source
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.topics import EVENTS, LEAD_ACTIVITY
from scoring.features.comparison import NEWEST_COMPARISON, PLAIN_COMPARISON
from scoring.models.active import ModelVersion, TenantSettings

MODEL = """
model = "f"
[signals]
wants_tabriz = { event = "message_received", field = "text", contains = "تبریز" }
[groups.g]
rules = [
  { name = "Tabriz", value = "profile.location", equals = "تبریز", points = 10 },
  { name = "Asked",  each = "wants_tabriz", points = 100 },
]
"""
ARABIC, PERSIAN = "تبريز", "تبریز"
FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"


def lives_in(city, event_id, when, lead="ada"):
    return happened("profile_updated", event_id, when, lead_id=lead, fields={"location": city})


def writes(text, event_id, when, lead="ada"):
    return happened(
        "message_received", event_id, when, lead_id=lead, source="telegram", kind="text", text=text
    )


def plainly(version, when=0, text=MODEL):
    return Publish("f", text, version, when, folding=PLAIN_COMPARISON.folding)


def newly(version, when=0, text=MODEL):
    return Publish("f", text, version, when, folding=NEWEST_COMPARISON.folding)


def test_an_old_publication_compares_as_it_always_did():
    story = given(
        plainly(1), lives_in(ARABIC, "e1", 1), writes(ARABIC, "e2", 2), writes(PERSIAN, "e3", 3), models=()
    )
    assert story.scores("ada") == {"f": 100}


def test_a_new_publication_compares_all_spellings():
    story = given(
        newly(1), lives_in(ARABIC, "e1", 1), writes(ARABIC, "e2", 2), writes(PERSIAN, "e3", 3), models=()
    )
    assert story.scores("ada") == {"f": 210}


def test_the_same_text_published_again_is_compared_anew_and_its_signals_go_on_counting():
    story = given(
        plainly(1), lives_in(ARABIC, "e1", 1), writes(PERSIAN, "e2", 2), writes(ARABIC, "e3", 3), models=()
    )
    assert story.scores("ada") == {"f": 100}
    story.when(newly(2, 4))
    assert story.scores("ada") == {"f": 110}, "what was counted stays, and the profile is compared again"
    story.when(writes(ARABIC, "e4", 5))
    assert story.scores("ada") == {"f": 210}


def test_a_signal_of_two_models_is_compared_as_the_newest_of_them_does_and_counts_once():
    other = MODEL.replace('"f"', '"a"')
    story = given(
        plainly(1),
        Publish("a", other, 1, 0, folding=NEWEST_COMPARISON.folding),
        writes(ARABIC, "e1", 1),
        models=(),
    )
    assert story.scores("ada") == {"f": 100, "a": 100}


def test_a_publication_with_a_folding_of_the_future_is_a_dead_letter():
    story = given(newly(1), models=()).when(Publish("f", MODEL, 2, 1, folding=NEWEST_COMPARISON.folding + 1))
    story.when(lives_in(ARABIC, "e1", 2))
    assert story.scores("ada") == {"f": 10}
    assert story.pipeline.dead


def test_records_of_earlier_versions_compare_plainly():
    record = ModelPublished(tenant=EVERY_TENANT, recorded_at=moment(NOON), model="f", version=1, text=MODEL)
    event, activity = publication_records(record)
    assert "folding" not in json.loads(event.value)
    assert decode_source(event.value).folding == PLAIN_COMPARISON.folding
    short = msgpack.encode(msgpack.decode(activity.value)[:-1])
    assert decode_activity(short).folding == PLAIN_COMPARISON.folding
    assert msgpack.decode(msgpack.encode([3, MODEL]), type=ModelVersion) == ModelVersion(
        3, MODEL, PLAIN_COMPARISON.folding
    )


def test_a_new_publication_records_its_folding_in_both_records():
    record = ModelPublished(
        tenant=EVERY_TENANT, recorded_at=moment(NOON), model="f", version=1, text=MODEL, folding=2
    )
    event, activity = publication_records(record)
    assert decode_source(event.value) == record
    assert decode_source(encode_source(record)).folding == 2
    assert decode_activity(activity.value).folding == 2
    assert encode_activity(decode_activity(activity.value)) == activity.value


def test_a_new_store_begins_with_the_newest_folding():
    published = [decode_source(record.value) for record in genesis(moment(NOON)) if record.topic == EVENTS]
    foldings = {each.model: each.folding for each in published if isinstance(each, ModelPublished)}
    assert set(foldings) == {"chatbot", "composite", "rules", "temperature", "web_session"}
    assert set(foldings.values()) == {NEWEST_COMPARISON.folding}
    assert {record.topic for record in genesis(moment(NOON))} == {EVENTS, LEAD_ACTIVITY}


def version_of(folding):
    return PublishedVersion("acme", "f", 3, MODEL, by="ada", recorded_at=moment(NOON), folding=folding)


def test_a_text_that_is_compared_plainly_may_be_published_again():
    assert newest_if_unchanged(version_of(PLAIN_COMPARISON.folding), "acme", MODEL) is None
    assert newest_if_unchanged(version_of(NEWEST_COMPARISON.folding), "acme", MODEL).version == 3


@pytest.mark.parametrize(("recorded", "folding"), [(None, 1), (1, 1), (2, 2)])
def test_what_an_earlier_version_left_to_append_keeps_its_folding(recorded, folding):
    """Some partitions may have it already: all must get the same."""
    nothing = dict.fromkeys(Draft._fields)
    now = {"published_at": moment(NOON), "created_at": moment(NOON), "changed_at": moment(NOON)}
    claimed = Draft(
        **nothing | now | {"tenant": "acme", "model": "f", "text": MODEL, "version": 3, "folding": recorded}
    )
    assert control_record_of(publication_of_draft(claimed), fire=False).folding == folding


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="the field cases are not here")
def test_persian_on_an_arabic_keyboard_and_numbers_in_persian_digits():
    lines = (FIELD_CASES / "same-letters.ndjson").read_text(encoding="utf-8").splitlines()
    model = (FIELD_CASES / "same-letters.toml").read_text(encoding="utf-8")
    events = []
    for number, line in enumerate(lines):
        fields = json.loads(line)
        events.append(happened(fields.pop("type"), fields.pop("event_id"), number, **fields))
    story = given(Publish("f09", model, 1, 0, folding=NEWEST_COMPARISON.folding), *events, models=())
    scores = {lead: story.scores(lead)["f09"] for lead in ("f09-fa", "f09-ar", "f09-num", "f09-fanum")}
    assert scores == {"f09-fa": 11, "f09-ar": 11, "f09-num": 1000, "f09-fanum": 1000}


def test_what_if_compares_an_active_model_as_it_is_with_the_draft_as_it_will_be():
    current = ModelSet(TenantSettings(), {"f": ModelVersion(1, MODEL, PLAIN_COMPARISON.folding)})
    draft = current.with_draft(MODEL)
    assert current.rules.models["f"].comparison is PLAIN_COMPARISON
    assert draft.rules.models["f"].comparison is NEWEST_COMPARISON
    replayed = {
        decode_source(record.value).folding
        for record in current.genesis()
        if record.topic == EVENTS and b"model_published" in record.value
    }
    assert replayed == {PLAIN_COMPARISON.folding}

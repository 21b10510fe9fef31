"""What the folds make of an erased person: nothing is left, nothing comes back, and nobody else notices."""

import pytest
from stream_simulator import PARTITIONS, Pipeline
from stream_stories import MINUTE, NOON, SHIPPED, happened

from schemas.activity import TimePassed
from schemas.control import IdentityErased, PersonErased
from schemas.decode import decode_dead_letter, encode_activity, encode_source
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.record import ERASED_KEY, Outgoing, stub_of
from schemas.topics import EVENTS, LEAD_ACTIVITY, lead_key
from scoring.features.erased_people import ErasedPeople, PersonName, hash_of_name
from scoring.features.identity import key_of_identity

SALT = bytes(range(16))
PERSON = [PersonName("lead", "ada"), PersonName("visitor", "own"), PersonName("email", "ada@x.example")]


def story(*, with_person=True):
    """Ada on a browser of her own and on one that she shares with Bob; Carl on his own."""
    of_ada = [
        happened("page_viewed", "a1", NOON, visitor_id="own"),
        happened("lead_identified", "a2", NOON + MINUTE, visitor_id="own", lead_id="ada"),
        happened("contact_shared", "a3", NOON + 2 * MINUTE, lead_id="ada", email="ada@x.example"),
        happened("demo_requested", "a4", NOON + 3 * MINUTE, visitor_id="family", lead_id="ada"),
    ]
    of_others = [
        happened("demo_requested", "b1", NOON + 4 * MINUTE, visitor_id="family", lead_id="bob"),
        happened("qr_scanned", "c1", NOON + 5 * MINUTE, visitor_id="carls", lead_id="carl"),
    ]
    return [*(of_ada if with_person else []), *of_others]


def erasing(pipeline, at=NOON + 10 * MINUTE):
    hashes = [hash_of_name(SALT, name).hex() for name in PERSON]
    erased = PersonErased(tenant="default", recorded_at=moment(at), salt=SALT.hex(), hashes=hashes)
    for record in publication_records(erased):
        for partition in range(PARTITIONS):
            pipeline.append(record._replace(partition=partition))
    for identity in ("default/v/own#0", "default/v/family#0", "default/l/ada#0"):
        forget = IdentityErased(tenant="default", recorded_at=moment(at), identity=identity, epoch=0)
        pipeline.append(Outgoing(EVENTS, key_of_identity(identity)[0], encode_source(forget)))
    for lead in ("ada", "anon:own"):
        key = lead_key("default", lead)
        pipeline.append(Outgoing(LEAD_ACTIVITY, key, encode_activity(TimePassed("default", lead, at))))


def pipeline_of(events):
    pipeline = Pipeline(SHIPPED)
    for event in events:
        pipeline.produce(event)
    pipeline.fold_all()
    return pipeline


def stored_bytes(pipeline):
    return b"".join(
        key.encode() + part.encode() + value
        for stores in pipeline.stores.values()
        for store in stores
        for key, parts in store.parts.items()
        for part, value in parts.items()
    )


@pytest.mark.parametrize("times", [1, 2])
def test_no_state_has_a_name_of_an_erased_person(times):
    pipeline = pipeline_of(story())
    assert b"ada" in stored_bytes(pipeline)
    for _ in range(times):
        erasing(pipeline)
        pipeline.fold_all()
    left = stored_bytes(pipeline)
    assert b"ada" not in left
    assert b"/v/own" not in left
    assert {lead.lead_id for lead in pipeline.leads().values()} == {"bob", "carl"}


def test_the_others_have_the_features_that_they_had():
    erased, without = pipeline_of(story()), pipeline_of(story(with_person=False))
    erasing(erased)
    erased.fold_all()
    for lead in ("bob", "carl"):
        assert erased.lead(lead).features == without.lead(lead).features


@pytest.mark.parametrize(
    "event",
    [
        happened("page_viewed", "z1", NOON + 20 * MINUTE, visitor_id="own"),
        happened("page_viewed", "z2", NOON + 20 * MINUTE, visitor_id="another", lead_id="ada"),
        happened("contact_shared", "z3", NOON + 20 * MINUTE, visitor_id="another", email=" ADA@x.example"),
        happened("leads_merged", "z4", NOON + 20 * MINUTE, lead_id="carl", into="ada"),
        happened("qr_scanned", "z5", NOON + 20 * MINUTE, lead_id="anon:own"),
    ],
)
def test_a_later_event_is_refused_without_a_trace_of_its_bytes(event):
    pipeline = pipeline_of(story())
    erasing(pipeline)
    pipeline.fold_all()
    before = stored_bytes(pipeline)
    pipeline.produce(event)
    pipeline.fold_all()
    assert stored_bytes(pipeline) == before
    (letter,) = map(decode_dead_letter, pipeline.dead)
    assert letter.original == b""
    assert letter.key == ERASED_KEY
    assert "erased" in letter.reason


def test_who_uses_the_same_browser_goes_on():
    pipeline = pipeline_of(story())
    erasing(pipeline)
    pipeline.produce(happened("demo_requested", "b2", NOON + 20 * MINUTE, visitor_id="family", lead_id="bob"))
    pipeline.produce(happened("page_viewed", "s1", NOON + 21 * MINUTE, visitor_id="family"))
    pipeline.fold_all()
    assert pipeline.dead == []
    assert pipeline.lead("bob").features.signals["demo_requested"].count == 2


def test_what_was_on_its_way_to_an_erased_lead_brings_nobody_back():
    """Other partitions still send: in any order against the record of the erasure."""
    pipeline = pipeline_of([])
    for event in story():
        pipeline.produce(event)
    erasing(pipeline)
    for topic in (LEAD_ACTIVITY, EVENTS, LEAD_ACTIVITY):
        while pending := pipeline.pending(topic):
            pipeline.step(topic, pending[-1], 3)
    pipeline.fold_all()
    assert {lead.lead_id for lead in pipeline.leads().values()} == {"bob", "carl"}


def test_hashes_survive_the_encoding_of_state_and_recognise_every_way_of_writing():
    people = ErasedPeople()
    people.remember("default", SALT, [hash_of_name(SALT, PersonName("phone", "+49 151 123"))])
    assert people.contains("default", PersonName("phone", "0049151123"))
    assert not people.contains("other", PersonName("phone", "+49151123"))
    assert people.remember("default", bytes(16), [b"12345678"]) == set(), "a tenant has one salt"


def test_a_log_with_stubs_gives_everybody_else_what_the_whole_log_gave():
    """Stage 1 from the events and stage 2 from the activity, each with the person's records as stubs."""
    whole = pipeline_of(story())
    erasing(whole)
    whole.fold_all()
    again = Pipeline()
    for topic, logs in whole.logs.items():
        for partition, log in enumerate(logs):
            again.logs[topic][partition] = [
                stub_of(record) if "ada" in record.key or "own" in record.key else record for record in log
            ]
    while pending := again.pending(LEAD_ACTIVITY):
        again.step(LEAD_ACTIVITY, pending[0], 2)
    assert again.dead == []
    for lead in ("bob", "carl"):
        assert again.lead(lead).features == whole.lead(lead).features
        assert again.lead(lead).head.emitted == whole.lead(lead).head.emitted
    assert {lead.lead_id for lead in again.leads().values()} == {"bob", "carl"}

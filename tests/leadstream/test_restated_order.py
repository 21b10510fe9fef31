"""In which portions a restatement folds recorded events: none has two events whose order matters."""

from datetime import UTC, datetime

from gateway.door.resolving import AddressQuery
from leadstream.operations.restate import RecordedItem, _chunks, _runs
from projections.row_keys import hashed_key as row_key
from schemas.decode import encode_source, key_of
from schemas.envelope import Event
from schemas.events import ContactShared, LeadsMerged, QrScanned

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)


def item(kind: type[Event], query: AddressQuery | None = None, **fields: object) -> RecordedItem:
    event = kind(event_id="e", occurred_at=AT, recorded_at=AT, **fields)
    return RecordedItem(key_of(event), encode_source(event), event, event, query)


def contact(visitor: str, email: str) -> RecordedItem:
    query = AddressQuery("default", visitor, email, None)
    return item(ContactShared, query, visitor_id=visitor, email=email)


def test_the_events_of_one_lead_under_two_keys_are_in_two_runs():
    visit, scan, other = (
        item(QrScanned, visitor_id="va"),
        item(QrScanned, lead_id="ada"),
        item(QrScanned, lead_id="bob"),
    )
    owners = {row_key("default/v/va#0"): "default/ada", row_key("default/l/ada#0"): "default/ada"}
    assert list(_runs([visit, visit, other, scan, scan], lambda _: owners)) == [
        [visit, visit, other],
        [scan, scan],
    ]


def test_the_lead_that_an_event_names_counts_before_any_store_has_it():
    claim, scan = item(QrScanned, visitor_id="va", lead_id="ada"), item(QrScanned, lead_id="ada")
    assert list(_runs([claim, scan], lambda _: {})) == [[claim], [scan]]


def test_an_address_is_looked_up_only_when_the_events_that_name_it_are_folded():
    first, other, same_address, same_visitor = (
        contact("va", "ada@lovelace.example"),
        contact("vb", "bob@byron.example"),
        contact("vc", "ada@lovelace.example"),
        contact("vb", "cyd@charisse.example"),
    )
    assert list(_chunks([first, other, same_address, same_visitor])) == [
        [first, other],
        [same_address, same_visitor],
    ]


def test_a_merge_is_folded_before_the_next_address_is_looked_up():
    merge = item(LeadsMerged, lead_id="ada", into="bob")
    after = contact("va", "ada@lovelace.example")
    assert list(_chunks([merge, after])) == [[merge], [after]]

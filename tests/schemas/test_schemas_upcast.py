"""Upgrading: events of an older shape read as if they had been written today."""

import copy
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import decode
from schemas.decode import Refusal, read_event
from schemas.events import EVENT_TYPES
from schemas.upcast import UPCASTS, newest_event_version, upcast


def title_was_name(found):
    """Version 1 said `name`."""
    return {**{k: v for k, v in found.items() if k != "name"}, "title": found.get("name")}


def value_was_price(found):
    """Version 1 said `price`."""
    return {**{k: v for k, v in found.items() if k != "price"}, "value": found.get("price")}


TABLE = {
    ("page_viewed", 1): title_was_name,
    ("purchase_made", 1): value_was_price,
    ("purchase_made", 2): lambda found: {**found, "currency": found.get("currency") or "EUR"},
}


def raw(type_, **fields) -> bytes:
    return json.dumps(
        {"type": type_, "event_id": "e", "occurred_at": "2026-03-02T08:00:00Z", "visitor_id": "w", **fields}
    ).encode()


def test_an_old_event_is_upgraded_and_says_its_new_version():
    event = read_event(raw("page_viewed", name="Pricing"), TABLE)
    assert (event.title, event.v, event.extra) == ("Pricing", 2, None)


def test_an_event_of_the_newest_version_is_left_alone():
    event = read_event(raw("page_viewed", v=2, title="Pricing"), TABLE)
    assert (event.title, event.v) == ("Pricing", 2)


def test_a_version_is_upgraded_step_by_step():
    assert read_event(raw("purchase_made", price=5), TABLE).currency == "EUR"
    assert read_event(raw("purchase_made", v=2, value=5), TABLE).currency == "EUR"
    assert read_event(raw("purchase_made", v=3, value=5, currency="USD"), TABLE).currency == "USD"


def test_an_amount_stays_exact_on_its_way_through():
    """A float would read 123456789012.123456 as ...123450 or so."""
    old = raw("purchase_made", price=0).replace(b'"price": 0', b'"price": 123456789012.123456')
    assert read_event(old, TABLE).value == Decimal("123456789012.123456")


def test_a_number_that_no_decimal_can_hold_is_refused_on_its_way_through():
    old = raw("page_viewed", plan=0).replace(b'"plan": 0', b'"plan": 1e-99999999999999999999')
    with pytest.raises(Refusal):
        read_event(old, TABLE)


def test_the_log_upgrades_old_records_whether_or_not_they_still_decode(monkeypatch):
    monkeypatch.setattr(decode, "UPCASTS", TABLE)
    monkeypatch.setattr(
        decode,
        "_NEWEST_VERSION",
        {kind: newest_event_version(kind.__struct_config__.tag, TABLE) for kind in EVENT_TYPES},
    )
    decodes, does_not = raw("page_viewed", name="Pricing"), raw("purchase_made", price=5)
    assert decode.decode_source(decodes).title == "Pricing"
    upgraded = decode.decode_source(does_not)
    assert (upgraded.value, upgraded.currency, upgraded.v) == (5, "EUR", 3)
    assert decode.decode_source(decode.encode_source(upgraded)) == upgraded


def test_types_without_an_entry_are_untouched():
    assert read_event(raw("link_clicked", text="x"), TABLE) == read_event(raw("link_clicked", text="x"), {})


@pytest.mark.parametrize("version", [4, 99])
def test_a_version_from_the_future_is_refused(version):
    with pytest.raises(Refusal) as caught:
        read_event(raw("purchase_made", v=version, value=5, currency="EUR"), TABLE)
    assert caught.value.field == "v"
    assert "the newest is 3" in caught.value.reason


def test_an_old_event_that_makes_no_sense_is_refused_in_todays_words():
    with pytest.raises(Refusal) as caught:
        read_event(raw("page_viewed", name=17), TABLE)
    assert caught.value.field == "title"


def test_unknown_fields_of_an_old_event_are_checked_and_kept():
    assert read_event(raw("page_viewed", name="x", plan=1.5), TABLE).extra == {"plan": 1.5}
    with pytest.raises(Refusal) as caught:
        read_event(raw("page_viewed", name="x", plan=1e16), TABLE)
    assert caught.value.field == "plan"


def test_the_newest_version_is_one_above_the_last_step():
    assert [
        newest_event_version(type_, TABLE) for type_ in ("page_viewed", "purchase_made", "link_clicked")
    ] == [2, 3, 1]


def test_every_entry_belongs_to_a_type_and_leaves_no_gap():
    tags = {kind.__struct_config__.tag for kind in EVENT_TYPES}
    for type_, version in UPCASTS:
        assert type_ in tags
        assert version == 1 or (type_, version - 1) in UPCASTS


@settings(deadline=None)
@given(st.integers(1, 6), st.data(), st.dictionaries(st.text(max_size=3), st.integers(), max_size=3))
def test_each_step_is_taken_once_and_in_order(versions, data, fields):
    """A made-up type whose every step notes itself: from version n come the notes n ... newest - 1."""
    start = data.draw(st.integers(1, versions))
    table = {
        ("made_up", n): lambda found, n=n: {**found, "notes": [*found["notes"], n]}
        for n in range(1, versions)
    }
    found = {**fields, "type": "made_up", "v": start, "notes": []}
    before = copy.deepcopy(found)
    upgraded = upcast(found, table)
    assert found == before
    assert upgraded == {**before, "notes": list(range(start, versions)), "v": versions}
    assert upcast(upgraded, table) is upgraded


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["type", "v", "x"]), st.none() | st.text() | st.booleans() | st.integers()
    )
)
def test_whatever_is_no_old_event_comes_back_as_it_is(found):
    assert upcast(found, {("page_viewed", 7): title_was_name}) is found or found["v"] == 7

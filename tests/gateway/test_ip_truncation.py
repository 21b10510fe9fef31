"""What is kept of a visitor's address, at every entrance."""

import json
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_collect import House

from gateway.access import read_access
from gateway.door.ip_truncation import truncated_ip
from leadstream.operations.access_log import visitor_id_of
from leadstream.operations.imports import ImportPrivacy, import_access_log, import_events

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"


@pytest.mark.parametrize(
    ("text", "truncation", "kept"),
    [
        ("203.0.113.77", "none", "203.0.113.77"),
        ("203.0.113.77", "last_octet", "203.0.113.0"),
        ("203.0.113.77", "two_octets", "203.0.0.0"),
        ("203.0.113.77", "all", None),
        ("2001:db8:1234:5678::9", "last_octet", "2001:db8:1234::"),
        ("2001:db8:1234:5678::9", "two_octets", "2001:db8::"),
        ("::ffff:203.0.113.77", "last_octet", "203.0.113.0"),
        ("2002:cb00:714d::1", "last_octet", "203.0.113.0"),  # 6to4
        ("fe80::1%eth0", "last_octet", "fe80::"),
        (" 203.0.113.77 ", "last_octet", "203.0.113.0"),
        ("203.0.113.77:4711", "last_octet", None),
        ("203.0.113.77, 10.0.0.1", "last_octet", None),
        ("home of Ada", "last_octet", None),
        ("home of Ada", "none", "home of Ada"),
    ],
)
def test_so_much_is_kept(text, truncation, kept):
    assert truncated_ip(text, truncation) == kept


@given(st.ip_addresses(), st.sampled_from(["last_octet", "two_octets"]))
def test_the_rest_of_an_address_is_gone_and_cutting_twice_changes_nothing(address, truncation):
    kept = truncated_ip(str(address), truncation)
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    gone = {("last_octet", 4): 8, ("two_octets", 4): 16, ("last_octet", 6): 80, ("two_octets", 6): 96}
    bits = gone[truncation, mapped.version]
    assert int(ip_address(kept)) == int(mapped) >> bits << bits
    assert truncated_ip(kept, truncation) == kept


@pytest.mark.anyio
async def test_the_collector_stores_neither_the_producers_address_nor_the_requests():
    house = House(ip_truncation="last_octet", access=read_access(write_keys=["default:public-key"]))
    event = {"type": "page_viewed", "visitor_id": "v"}
    await house.send(
        [event, event | {"context": {"ip": "198.51.100.9"}}],
        client=("203.0.113.77", 1),
        user_agent=FIREFOX,
        x_write_key="public-key",
    )
    assert [each.context.ip for each in house.events] == ["203.0.113.0", "198.51.100.0"]
    written = b"".join(record.value for record in house.log)
    assert b"203.0.113.77" not in written
    assert b"198.51.100.9" not in written


def imported(import_, lines, **options):
    log = []
    import_(lines, log.extend, NOW, **options)
    return b"".join(record.key.encode() + record.value for record in log)


LINE = f'203.0.113.77 - - [01/Jun/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 99 "-" "{FIREFOX}"'.encode()


def test_an_import_stores_no_whole_address_and_no_id_that_betrays_it():
    event = {"type": "page_viewed", "event_id": "e", "occurred_at": "2026-06-01T10:00:00Z", "visitor_id": "v",
             "context": {"ip": "198.51.100.9"}}  # fmt: skip
    privacy = ImportPrivacy("two_octets", b"a secret of twenty-four!")
    assert b"198.51.0.0" in imported(import_events, [json.dumps(event).encode()], privacy=privacy)
    written = imported(import_access_log, [LINE], tenant="default", privacy=privacy)
    assert b"203.0.0.0" in written
    assert b"203.0.113" not in written
    assert visitor_id_of("203.0.113.77", FIREFOX).encode() not in written
    assert visitor_id_of("203.0.113.77", FIREFOX, b"a secret of twenty-four!").encode() in written
    # The id of the event, too, is of the whole line, and so of the address.
    assert (
        imported(import_access_log, [LINE], tenant="default", privacy=ImportPrivacy("two_octets", b"b" * 24))
        != written
    )


def test_an_import_keeps_to_consent():
    lines = [LINE]
    since = ImportPrivacy(consent_required_since=lambda _: 0)
    assert imported(import_access_log, lines, tenant="default", privacy=since) == b""
    sent = {"type": "page_viewed", "event_id": "e", "occurred_at": "2026-06-01T10:00:00Z", "visitor_id": "v"}
    no = json.dumps(sent | {"tracking_consent": False}).encode()
    yes = json.dumps(sent | {"tracking_consent": True, "event_id": "f"}).encode()
    written = imported(import_events, [no, yes], privacy=since)
    assert b'"f"' in written
    assert b'"e"' not in written

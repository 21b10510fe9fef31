"""What a body costs grows with its length and no faster, however it was made to be expensive; and no byte
costs many times what a byte of an honest batch costs. CPU seconds are only compared with each other.
"""

import asyncio
import gzip
import time
from collections.abc import Callable

import pytest
from test_collect import House

from gateway.door.resolving import AddressMatches

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SMALL, LARGE = 8_000, 64_000
LARGER = {"empty members": 12, "members of a byte": 12, "an address that many share": 7}
"""What costs little at first is tried so many times larger."""
STEEPER = 3
"""So many times more than its length may a body's cost grow; what is quadratic grows eight times more."""
DEARER = 8
"""So many times more than an honest byte may a byte cost."""

EVENT = b'{"type":"page_viewed","visitor_id":"v","event_id":"e%d","url":"https://example.com/a"}'


def listed(element: bytes, size: int) -> bytes:
    """A list of so many elements, numbered if they have a place for a number."""
    number = max(1, size // (len(element) + 1))
    return b"[%s]" % b",".join(element % each if b"%d" in element else element for each in range(number))


def filled(form: bytes, unit: bytes, most: int = 60_000) -> Callable[[int], bytes]:
    """One event after the other, each with so much of the unit as fits."""

    def body(size: int) -> bytes:
        each = min(most, size - len(form))
        element = form % (unit * max(1, each // len(unit)))
        return b"[%s]" % b",".join([element] * max(1, size // len(element)))

    return body


def repeated(before: bytes, unit: bytes, after: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: before + unit * ((size - len(before) - len(after)) // len(unit)) + after


PAGE = b'{"type":"page_viewed","visitor_id":"v","x":%s}'
KINDS: dict[str, Callable[[int], bytes]] = {
    "a string that is never closed, of escaped quotes": repeated(b'["', b'\\"'),
    "a string that is never closed": repeated(b'["', b"a"),
    "quotes and backslashes": repeated(b"[", b'"\\'),
    "backslashes": repeated(b'["', b"\\"),
    "broken strings": repeated(b"[x", b'"a"'),
    "an unclosed string in a list that is cut": repeated(b'[x,"', b'\\",'),
    "commas": repeated(b"[", b",", b"]"),
    "broken elements": repeated(b"[", b"x,", b"x]"),
    "numbers": repeated(b"[", b"1,", b"1]"),
    "brackets": repeated(b"[", b"["),
    "brackets in an event": lambda size: b'[{"a":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}]",
    "braces": repeated(b"", b'{"a":'),
    "braces over lines": repeated(b"", b'{"a":[\n'),
    "objects over lines": repeated(b"{}\n", b"{}\n{"),
    "a wrapper of nothing": repeated(b'{"events":[', b",", b"]}"),
    "a wrapper of keys": repeated(b"{", b'"k":1,', b'"events":1}'),
    "misspelt types": lambda size: listed(b'{"type":"page_vie%d"}', size),
    "one misspelt type": lambda size: listed(b'{"type":"page_view"}', size),
    "long types": filled(b'{"type":"%s"}', b"page_viewe", 200),
    "short unknown types": lambda size: listed(b'{"type":"%d"}', size),
    "misspelt fields": filled(
        b'{"type":"page_viewed","event_id":"e",%s"z":1}', b'"visitor_i":1,"lead_ib":1,"aVisitorId":1,', 3_000
    ),
    "keys of capitals": filled(b'{"type":"page_viewed","visitor_id":"","%s":1}', b"aA-"),
    "keys of spaces": filled(b'{"type":"page_viewed","visitor_id":"","%s":1}', b" "),
    "many fields": filled(b'{"type":"page_viewed","visitor_id":"v",%s"z":1}', b'"k":1,'),
    "different fields": lambda size: (
        b"["
        + b",".join(
            PAGE % (b"{" + b",".join(b'"k%d":1' % each for each in range(3_000)) + b"}")
            for _ in range(max(1, size // 30_000))
        )
        + b"]"
    ),
    "digits": filled(PAGE, b"1"),
    "decimals": filled(PAGE.replace(b"%s", b"0.%s"), b"1"),
    "exponents": filled(PAGE.replace(b"%s", b"1e%s"), b"9"),
    "digits of an amount": filled(
        b'{"type":"purchase_made","visitor_id":"v","currency":"EUR","value":%s}', b"9"
    ),
    "decimals of an amount": filled(
        b'{"type":"purchase_made","visitor_id":"v","currency":"EUR","value":"0.%s"}', b"9"
    ),
    "digits of a moment": filled(
        b'{"type":"page_viewed","visitor_id":"v","occurred_at":"2030-01-01T00:00:00.%sZ"}', b"9"
    ),
    "surrogates": filled(PAGE, b'["\\ud800"],'),
    "half surrogates": filled(PAGE.replace(b"%s", b'"%s"'), b"\\ud800"),
    "half surrogates in a wrapper": lambda size: (
        b'{"events":' + filled(PAGE.replace(b"%s", b'"%s"'), b"\\ud800")(size) + b"}"
    ),
    "half surrogates in a wrapper's own field": lambda size: (
        b'{"events":[],"own":"' + b"\\ud800" * (size // 6) + b'"}'
    ),
    "encoded half surrogates": filled(PAGE.replace(b"%s", b'"%s"'), b"\xed\xa0\x80"),
    "escaped NULs": filled(PAGE.replace(b"%s", b'"%s"'), b"\\u0000"),
    "no UTF-8": filled(PAGE.replace(b"%s", b'"%s"'), b"\xff"),
    "NaN": filled(PAGE.replace(b"%s", b"[%s1]"), b"NaN,"),
    "e-mails": lambda size: listed(
        b'{"type":"contact_shared","visitor_id":"v","email":"a.b.c.d.e.f.g.h%d@a.b.c.d.e.f.g.example.com"}',
        size,
    ),
    "phones": lambda size: listed(
        b'{"type":"contact_shared","visitor_id":"v","phone":"+49 (0) 30 / 1234 - %d ext. 123456789"}', size
    ),
    "an address that many share": lambda size: (
        listed(b'{"type":"profile_updated","lead_id":"l%d","fields":{"email":"a@b.de"}}', size // 2)[:-1]
        + b","
        + listed(b'{"type":"contact_shared","visitor_id":"v%d","email":"a@b.de"}', size // 2)[1:]
    ),
}
LINES: dict[str, Callable[[int], bytes]] = {
    "empty lines": repeated(b"", b"\n"),
    "blank lines": repeated(b"", b" \n"),
    "lines of quotes": repeated(b"", b'"\n'),
    "lines of objects": repeated(b"", b"{}\n"),
}
PACKED: dict[str, Callable[[int], bytes]] = {
    "empty members": repeated(b"", gzip.compress(b"", mtime=0)),
    "members of a byte": repeated(b"", gzip.compress(b" ", mtime=0)),
    "members before garbage": repeated(b"", gzip.compress(b"", mtime=0), b"garbage"),
}


async def unknown(asked):
    return [AddressMatches()] * len(asked)


async def cost(content: bytes, **headers: str) -> float:
    """CPU seconds of the least busy of three requests."""
    least = float("inf")
    for _ in range(3):
        house = House(resolve=unknown)
        began = time.process_time()
        response = await house.send(content, **headers)
        least = min(least, time.process_time() - began)
        assert response.status_code < 500
    return least


@pytest.fixture(scope="module")
def fair() -> float:
    """What an honest byte costs."""
    return asyncio.run(cost(listed(EVENT, LARGE))) / LARGE


async def check(fair: float, kind: str, body: Callable[[int], bytes], **headers: str) -> None:
    times = LARGER.get(kind, 1)
    small, large = body(SMALL * times), body(LARGE * times)
    less, more = await cost(small, **headers), await cost(large, **headers)
    assert more <= DEARER * fair * len(large)
    assert more / less <= STEEPER * len(large) / len(small)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_costs_no_more_than_its_length(fair, kind):
    await check(fair, kind, KINDS[kind])


@pytest.mark.parametrize("kind", LINES)
async def test_lines_cost_no_more_than_their_length(fair, kind):
    await check(fair, kind, LINES[kind], content_type="application/x-ndjson")


@pytest.mark.parametrize("kind", PACKED)
async def test_packed_bodies_cost_no_more_than_their_length(fair, kind):
    await check(fair, kind, PACKED[kind], content_encoding="gzip")

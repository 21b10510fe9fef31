"""The common job's input: a seeded stream of small events of many visitors, as JSON.

Twenty events a visitor, five visitors to four leads. One event in twenty goes to a few visitors who
never tire; one in fourteen opens a new session. Events of a visitor are in the order of their times.
The same number gives the same bytes.
"""

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

import msgspec

START = 1_790_000_000_000
DAY = 86_400_000
PAGES = [f"https://shop.example/products/{number}" for number in range(200)]
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36"
TYPES = ("page_viewed", "clicked", "answered", "messaged", "qr_scanned")
SHARES = (60, 25, 5, 5, 5)


class Raw(NamedTuple):
    key: str
    value: bytes


def events(count: int, *, first: int | None = None) -> list[Raw]:
    """The events of a stream of `count`; only the `first` so many of them, if that is given."""
    return list(islice(_stream(count), first))


def _stream(count: int) -> Iterator[Raw]:
    chance = Random(7)
    visitors = max(count // 20, 1)
    leads = max(visitors * 4 // 5, 1)
    clock: dict[int, int] = {}
    types = iter(chance.choices(TYPES, SHARES, k=count))
    encode = msgspec.json.Encoder().encode
    for number, kind in enumerate(types):
        tireless = chance.random() < 0.05
        visitor = (
            min(int(chance.paretovariate(1.2)), visitors) - 1 if tireless else chance.randrange(visitors)
        )
        goes_on = chance.random() < 0.93
        gap = chance.expovariate(1 / 40_000) if goes_on else chance.uniform(1_900_000, 90_000_000)
        before = clock.get(visitor) or START + chance.randrange(DAY)
        clock[visitor] = at = before + int(gap)
        text = "hello there"
        if kind == "clicked":
            text = "Get a Demo" if chance.random() < 0.1 else "Learn more"
        yield Raw(
            f"v{visitor}",
            encode(
                {
                    "event_id": f"{number:012x}-{chance.getrandbits(64):016x}",
                    "type": kind,
                    "t": at,
                    "visitor_id": f"v{visitor}",
                    "lead_id": f"l{visitor % leads}",
                    "url": chance.choice(PAGES),
                    "text": text,
                    "ua": BROWSER,
                }
            ),
        )

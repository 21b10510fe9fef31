"""A web server's access log (combined format) read as page views.

Pure: lines in, events and reasons out. The same line gives the same event id, so that a log which is
imported twice counts once. Identical lines are numbered, so that each has its own id. The order of the
file is kept: it is the order in which the server recorded. The door decides whether a user agent is a
crawler's. A request without a user agent is marked as a bot's here.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple
from urllib.parse import urlsplit

from schemas.envelope import Context, Event
from schemas.events import PageViewed

_LINE = re.compile(
    r"(?P<ip>\S+) \S+ \S+ \[(?P<at>[^\]]{20,32})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?:\d+|-) '
    r'"(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
)
_TIME = re.compile(r"(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_ASSET_ENDINGS = """
    css js mjs map json wasm webmanifest
    png jpg jpeg gif svg ico webp avif bmp
    woff woff2 ttf otf eot
    mp3 mp4 webm ogg wav swf
    xml rss atom xsl txt
"""
ASSETS = frozenset(_ASSET_ENDINGS.split())
"""Endings of paths that a page loads by itself, or that only machines fetch."""

MALFORMED = "malformed"
NOT_A_VISIT = "not GET"
FAILED = "error answer"
REDIRECTED = "redirect"
ASSET = "asset"
TOO_LONG = "address too long"
REASONS = (ASSET, NOT_A_VISIT, REDIRECTED, FAILED, TOO_LONG, MALFORMED)
"""Why a line is no page view."""

NO_AGENT = "no user agent"
"""The name of a bot that sends no user agent."""

_LONGEST_URL = 2048
_LONGEST_AGENT = 1024
_LONGEST_IP = 64
_IDENTICAL_WITHIN = timedelta(days=2)


class LogLine(NamedTuple):
    """One line of the log: the event, or why there is none."""

    number: int
    event: Event | None
    reason: str | None = None


def read_access_log(lines: Iterable[bytes], *, tenant: str, site: str = "") -> Iterator[LogLine]:
    """Each line that is not blank. `site` (https://www.shop.example) is put before the paths."""
    repetitions = _Repetitions()
    for number, raw in enumerate(lines, 1):
        text = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if not text.strip():
            continue
        line = _LINE.match(text)
        at = _moment(line["at"]) if line else None
        if line is None or at is None:
            yield LogLine(number, None, MALFORMED)
            continue
        path, reason = _visited(line["request"], int(line["status"]))
        if reason is None and (len(site) + len(path) > _LONGEST_URL or len(line["ip"]) > _LONGEST_IP):
            reason = TOO_LONG
        if reason is not None:
            yield LogLine(number, None, reason)
            continue
        event_id = repetitions.name(text, at)
        yield LogLine(number, _page_view(line, at, path, event_id, tenant, site))


def _visited(request: str, status: int) -> tuple[str, str | None]:
    """The path, and the reason why it is no page view, if there is one."""
    method, _, rest = request.partition(" ")
    path, _, protocol = rest.rpartition(" ")
    if method != "GET" or not path or not protocol.startswith("HTTP/"):
        return path, NOT_A_VISIT
    if _query(path) is None:
        return path, MALFORMED
    if status >= 400:
        return path, FAILED
    if status >= 300 and status != 304:
        return path, REDIRECTED
    if status < 200:
        return path, FAILED
    name = path.partition("?")[0].rpartition("/")[2]
    _, dot, ending = name.rpartition(".")
    return path, ASSET if dot and ending.lower() in ASSETS else None


def _page_view(line: re.Match[str], at: datetime, path: str, event_id: str, tenant: str, site: str) -> Event:
    agent, referrer = _present(line["agent"]), _present(line["referrer"])
    url = site + path
    return PageViewed(
        event_id=event_id,
        occurred_at=at,
        recorded_at=at,
        tenant=tenant,
        visitor_id=visitor_of(line["ip"], agent or ""),
        source="web",
        imported=True,
        bot=None if agent else NO_AGENT,
        context=Context(
            ip=line["ip"],
            user_agent=agent[:_LONGEST_AGENT] if agent else None,
            url=url,
            referrer=referrer if referrer and len(referrer) <= _LONGEST_URL else None,
        ),
        url=url,
    )


def visitor_of(ip: str, user_agent: str) -> str:
    """The visitor id of one browser at one address: a log shows no more."""
    return "log-" + hashlib.sha256(f"{ip}\0{user_agent}".encode()).hexdigest()[:16]


def _query(path: str) -> str | None:
    """None if it is no address: `//[x`, and other hosts that no browser requests."""
    try:
        return urlsplit(path).query
    except ValueError:
        return None


def _present(text: str) -> str | None:
    return None if text in {"", "-"} else text


def _moment(text: str) -> datetime | None:
    match = _TIME.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second, sign, off_hours, off_minutes = match.groups()
    offset = timedelta(hours=int(off_hours), minutes=int(off_minutes))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        local = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=zone
        )
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class _Repetitions:
    """Counts identical lines. Identical lines have the same second, so lines that are days older than the
    newest are dropped.
    """

    def __init__(self) -> None:
        self._days: dict[int, dict[bytes, int]] = {}

    def name(self, text: str, at: datetime) -> str:
        digest = hashlib.sha256(text.encode()).digest()[:16]
        today = at.toordinal()
        if today not in self._days:
            oldest = max([today, *self._days]) - _IDENTICAL_WITHIN.days
            self._days = {day: seen for day, seen in self._days.items() if day >= oldest}
        seen = self._days.setdefault(today, {})
        nth = seen[digest] = seen.get(digest, 0) + 1
        return f"log-{digest.hex()}-{nth}"

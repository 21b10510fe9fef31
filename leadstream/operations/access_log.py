"""A web server's access log read as page views. `log_formats` reads the lines.

Pure: lines in, events and reasons out. The same line gives the same event id, so that a log which is
imported twice counts once. Identical lines are numbered, so that each has its own id. The order of the
file is kept: it is the order in which the server recorded. The door decides whether a user agent is a
crawler's. A request without a user agent is marked as a bot's here, if the log records user agents.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from leadstream.operations.log_formats.formats import LogReader
from leadstream.operations.log_formats.logged_request import LoggedRequest
from leadstream.operations.log_formats.w3c import W3cDirective
from schemas.envelope import Context, Event
from schemas.events import PageViewed

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
NOT_A_SUCCESS = "error answer"
REDIRECTED = "redirect"
ASSET = "asset"
TOO_LONG = "address too long"
DOWNLOAD_PIECE = "piece of a download"
SKIP_REASONS = (ASSET, NOT_A_VISIT, REDIRECTED, NOT_A_SUCCESS, DOWNLOAD_PIECE, TOO_LONG, MALFORMED)
"""Why a line is no page view."""

NO_USER_AGENT = "no user agent"
"""The name of a bot that sends no user agent."""

_LONGEST_URL = 2048
_LONGEST_AGENT = 1024
_LONGEST_IP = 64
_IDENTICAL_WITHIN = timedelta(days=2)
_DOWNLOAD_WITHIN = timedelta(minutes=30)
"""Between two pieces of one download."""
_MOST_DOWNLOADS = 50_000
_ABSOLUTE_ADDRESS = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_PORTS = {"http": "80", "https": "443"}


class LogLine(NamedTuple):
    """One line of the log: the event, or why there is none."""

    number: int
    event: Event | None
    reason: str | None = None
    records_agent: bool = True
    """False: the log does not record user agents, so no crawler can be recognised."""


def read_access_log(
    lines: Iterable[bytes], *, tenant: str, site: str = "", visitor_id_key: bytes = b""
) -> Iterator[LogLine]:
    """Each line that is a request or malformed. `site` (https://www.shop.example) is put before the paths; without it,
    the host that the line names. Raises UnknownLogFormatError if no line at the beginning has a supported format.
    """
    reader, repetitions, downloads = LogReader(), _Repetitions(visitor_id_key), _Downloads()
    unread: list[int] = []
    for number, raw in enumerate(lines, 1):
        text = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if not raw.strip():
            continue
        match reader.read(text):
            case LoggedRequest() as request:
                yield from (LogLine(each, None, MALFORMED) for each in unread)
                unread.clear()
                visitor_id = visitor_id_of(request.address, request.agent or "", visitor_id_key)
                url, reason = _address_and_skip_reason(request, site.rstrip("/"))
                if reason is None and downloads.has_begun(visitor_id, url, request):
                    reason = DOWNLOAD_PIECE
                event = None
                if reason is None:
                    event_id = repetitions.name(text, request.at)
                    event = _page_view(request, url, event_id, visitor_id, tenant)
                yield LogLine(number, event, reason, request.agent is not None)
            case W3cDirective():
                pass
            case None if reader.recognised:
                yield LogLine(number, None, MALFORMED)
            case None:
                unread.append(number)
    reader.end()


def _address_and_skip_reason(request: LoggedRequest, site: str) -> tuple[str, str | None]:
    """The address, and the reason why it is no page view, if there is one."""
    target, origin = request.target, _origin(request.scheme, request.host)
    if request.method != "GET" or not target:
        return target, NOT_A_VISIT
    if _query_of(target) is None:
        return target, MALFORMED
    if absolute := _ABSOLUTE_ADDRESS.match(target):
        origin = _origin(absolute[1].lower(), absolute[2])
        target = absolute[3] if absolute[3].startswith("/") else f"/{absolute[3]}"
    url = (site or (origin if target.startswith("/") else "")) + target
    if request.status >= 400 or request.status < 200:
        return url, NOT_A_SUCCESS
    if request.status >= 300 and request.status != 304:
        return url, REDIRECTED
    name = target.partition("?")[0].rpartition("/")[2]
    _, dot, ending = name.rpartition(".")
    if dot and ending.lower() in ASSETS:
        return url, ASSET
    too_long = len(url) > _LONGEST_URL or len(request.address) > _LONGEST_IP
    return url, TOO_LONG if too_long else None


def _origin(scheme: str | None, host: str | None) -> str:
    """Scheme, host and port, without the port that the scheme has anyway; empty if it is no host."""
    match = _HOST.fullmatch(host or "")
    if match is None:
        return ""
    name, port = match["name"].lower(), match["port"]
    scheme = scheme or ("http" if port == _PORTS["http"] else "https")
    return f"{scheme}://{name}" if port in {None, _PORTS[scheme]} else f"{scheme}://{name}:{port}"


def _page_view(request: LoggedRequest, url: str, event_id: str, visitor_id: str, tenant: str) -> Event:
    agent, referrer = request.agent, request.referrer
    return PageViewed(
        event_id=event_id,
        occurred_at=request.at,
        recorded_at=request.at,
        tenant=tenant,
        visitor_id=visitor_id,
        source="web",
        imported=True,
        bot=NO_USER_AGENT if agent == "" else None,
        context=Context(
            ip=request.address,
            user_agent=agent[:_LONGEST_AGENT] if agent else None,
            url=url,
            referrer=referrer if referrer and len(referrer) <= _LONGEST_URL else None,
        ),
        url=url,
    )


def visitor_id_of(ip: str, user_agent: str, key: bytes = b"") -> str:
    """The visitor id of one browser at one address: a log shows no more. Without the key, nobody can tell the address."""
    return "log-" + _digest(f"{ip}\0{user_agent}", key).hex()[:16]


def _digest(text: str, key: bytes) -> bytes:
    """Addresses are few enough to try them all, so only a secret key hides them."""
    return hmac.digest(key, text.encode(), "sha256") if key else hashlib.sha256(text.encode()).digest()


def _query_of(path: str) -> str | None:
    """None if it is no address: `//[x`, and other hosts that no browser requests."""
    try:
        return urlsplit(path).query
    except ValueError:
        return None


class _Repetitions:
    """Counts identical lines. Identical lines have the same second, so lines that are days older than the
    newest are dropped.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._days: dict[int, dict[bytes, int]] = {}

    def name(self, text: str, at: datetime) -> str:
        digest = _digest(text, self._key)[:16]
        today = at.toordinal()
        if today not in self._days:
            oldest = max([today, *self._days]) - _IDENTICAL_WITHIN.days
            self._days = {day: seen for day, seen in self._days.items() if day >= oldest}
        seen = self._days.setdefault(today, {})
        nth = seen[digest] = seen.get(digest, 0) + 1
        return f"log-{digest.hex()}-{nth}"


class _Downloads:
    """Which addresses a visitor has requested of late. Browsers fetch a large file in pieces (206), which are one
    download. Keeps so many, then forgets the older half.
    """

    def __init__(self) -> None:
        self._newer: dict[bytes, datetime] = {}
        self._older: dict[bytes, datetime] = {}

    def has_begun(self, visitor_id: str, url: str, request: LoggedRequest) -> bool:
        """Whether the request is a further piece of what the visitor already has."""
        if request.status not in {200, 206}:
            return False
        key = hashlib.sha256(f"{visitor_id}\0{url}".encode()).digest()[:16]
        last = self._newer.get(key) or self._older.get(key)
        if len(self._newer) >= _MOST_DOWNLOADS:
            self._newer, self._older = {}, self._newer
        self._newer[key] = request.at
        return request.status == 206 and last is not None and abs(request.at - last) <= _DOWNLOAD_WITHIN

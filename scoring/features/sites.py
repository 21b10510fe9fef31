"""The site on which an event happened: the host of its page, and the page's path. Pure; total for events.

Both follow from the address that the producer sent, which the log has. The site is the host in small letters, without
`www.`, port and the dot at its end. An event without the address of a page has no site.
"""

import re
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from schemas import events
from schemas.envelope import Event

SITE: Final = "site"
LONGEST_SITE: Final = 253
_HOST = re.compile(r"[^\s/?#@:\x00-\x20]+")


class SiteError(ValueError):
    """What is given for a site is none."""


def page_of(event: Event) -> str:
    """The address of the page on which it happened; empty: unknown."""
    own = event.url if isinstance(event, events.PageViewed) else None
    return own or (event.context.url if event.context is not None else None) or ""


def site_of_event(event: Event) -> str | None:
    """The site on which it happened; None: unknown."""
    return _host_and_path(page_of(event))[0] or None


def path_of_event(event: Event) -> str | None:
    """The path of the page, decoded, without a slash at its end; None: unknown. `/` for the first page of a site."""
    page = page_of(event)
    return _host_and_path(page)[1] if page else None


def site_name(value: Any) -> str:
    """The site in its one form, of a host or an address. Raises SiteError."""
    text = value.strip() if isinstance(value, str) else ""
    host = _host_and_path(text if "//" in text else f"//{text}")[0]
    if not host or len(host) > LONGEST_SITE or not _HOST.fullmatch(host):
        raise SiteError(f"{value!r} is no host such as shop.example.com")
    return host


def bare_path(path: str) -> str:
    """A path without a slash at its end, as paths are compared."""
    return path.rstrip("/") or "/"


@lru_cache(maxsize=4_096)
def _host_and_path(address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").rstrip(".").removeprefix("www.")
    except ValueError:
        return "", "/"
    return host, bare_path(unquote(parts.path))

"""The W3C extended log format: IIS and CloudFront. The line `#Fields:` names the columns, and may change in a file.

Sources: https://www.w3.org/TR/WD-logfile.html, https://learn.microsoft.com/windows/win32/http/w3c-logging and
https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html. Times are UTC. IIS
writes + for spaces. CloudFront separates by tabs and encodes by %.
"""

from collections.abc import Callable
from urllib.parse import unquote

from leadstream.operations.log_formats.addresses import client_address
from leadstream.operations.log_formats.logged_request import (
    LoggedRequest,
    http_status_of,
    present_value,
    user_agent_of,
)
from leadstream.operations.log_formats.moments import read_iso_moment


class W3cDirective:
    """A line that describes the log, and is no request."""


DIRECTIVE = W3cDirective()

_DIRECTIVE_NAMES = frozenset({"version", "fields", "software", "start-date", "end-date", "date", "remark"})
_SCHEME_OF_PORT = {"80": "http", "443": "https"}
_FORWARDED_COLUMNS = ("x-forwarded-for", "cs(x-forwarded-for)", "c-forwarded-for")
_HOST_COLUMNS = ("x-host-header", "cs-host", "cs(host)")
_MOST_FIELDS = 200


def w3c_reader() -> Callable[[str], LoggedRequest | W3cDirective | None]:
    """A reader of one file, which remembers the last `#Fields:` and `#Date:`."""
    fields: list[str] = []
    date = ""

    def read(text: str) -> LoggedRequest | W3cDirective | None:
        nonlocal fields, date
        if text.startswith("#"):
            name, _, value = text[1:].partition(":")
            if name.lower() == "fields":
                fields = value.lower().split(maxsplit=_MOST_FIELDS)
            elif name.lower() == "date":
                date = value.strip().partition(" ")[0]
            return DIRECTIVE if name.lower() in _DIRECTIVE_NAMES else None
        if not fields:
            return None
        values = text.split("\t") if "\t" in text else text.split()
        if len(values) != len(fields):
            return None
        return _logged_request(dict(zip(fields, values, strict=True)), date, encoded="\t" in text)

    return read


def _logged_request(columns: dict[str, str], date: str, *, encoded: bool) -> LoggedRequest | None:
    get = columns.get
    at = read_iso_moment(f"{get('date', date)}T{get('time', '')}")
    stem = present_value(get("cs-uri-stem")) or present_value(get("cs-uri"))
    if at is None or stem is None or "c-ip" not in columns:
        return None
    agent = get("cs(user-agent)")
    if agent is not None:
        agent = unquote(unquote(agent)) if encoded else agent.replace("+", " ")
    forwarded = next((columns[name] for name in _FORWARDED_COLUMNS if name in columns), None)
    if forwarded is not None:
        forwarded = unquote(forwarded) if encoded else forwarded.replace("+", " ")
    query = present_value(get("cs-uri-query"))
    protocol = get("cs-protocol", "").lower()
    return LoggedRequest(
        at=at,
        address=client_address(forwarded, columns["c-ip"]),
        method=get("cs-method", "GET"),
        target=f"{stem}?{query}" if query else stem,
        status=http_status_of(get("sc-status", "200")),
        agent=user_agent_of(agent),
        referrer=present_value(get("cs(referer)")),
        host=next((host for name in _HOST_COLUMNS if (host := present_value(get(name)))), None),
        scheme=protocol if protocol in {"http", "https"} else _SCHEME_OF_PORT.get(get("s-port", "")),
    )

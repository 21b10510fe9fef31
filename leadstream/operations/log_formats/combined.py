r"""Apache's and nginx's common and combined format, and what is put before and behind it.

    [vhost[:port]] address[, proxy ...] ident user [time] "request" status bytes ["referrer" "agent" [more ...]]

Sources: https://httpd.apache.org/docs/2.4/mod/mod_log_config.html#formats (common, combined; Debian adds
vhost_combined), https://nginx.org/en/docs/http/ngx_http_log_module.html (combined; packages have `main`, which adds
"$http_x_forwarded_for"), lighttpd's accesslog.format (the host stands where ident does).
User names may contain spaces.
"""

import re
from typing import NamedTuple

from leadstream.operations.log_formats.addresses import bare, client_address, is_address
from leadstream.operations.log_formats.logged_request import (
    LoggedRequest,
    agent_of,
    present,
    request_line,
    status_of,
)
from leadstream.operations.log_formats.moments import moment_of

_TIME = re.compile(r'\[(\d[^\[\]"]{18,39})\] (?=")')
_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_REQUEST = re.compile(rf"{_QUOTED} (\d{{3}}) (?:\d+|-)")
_CLIENT = re.compile(rf" {_QUOTED} {_QUOTED}")
_MORE = re.compile(_QUOTED)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+\.?")
_WITH_PORT = re.compile(r"\S+:\d{1,5}")
_LONGEST_HOST = 255
_LOOKED_AT = 2_000
"""Characters behind the user agent. A text of escaped quotes costs their square."""
_SCHEMES = {"80": "http", "443": "https"}


class BeforeTime(NamedTuple):
    """What stands before the time."""

    addresses: str
    host: str | None
    port: str | None


def read_combined(text: str) -> LoggedRequest | None:
    time = _TIME.search(text)
    request = _REQUEST.match(text, time.end()) if time else None
    at = moment_of(time[1]) if time else None
    if time is None or request is None or at is None:
        return None
    client = _CLIENT.match(text, request.end())
    if client is None and text.startswith(' "', request.end()):
        return None  # a combined line that was cut off
    head = _head(text[: time.start()].split())
    if head is None:
        return None
    referrer, agent = client.groups() if client else (None, None)
    method, target = request_line(request[1])
    return LoggedRequest(
        at=at,
        address=client_address(_forwarded(text, client.end()) if client else None, head.addresses),
        method=method,
        target=target,
        status=status_of(request[2]),
        agent=agent_of(agent),
        referrer=present(referrer),
        host=head.host,
        scheme=_SCHEMES.get(head.port or ""),
    )


def _head(words: list[str]) -> BeforeTime | None:
    if not words:
        return None
    host = port = None
    if _begins_with_host(words):
        host, _, port = words[0].rpartition(":") if _WITH_PORT.fullmatch(words[0]) else (words[0], "", None)
        words = words[1:]
    count = 1
    while count < len(words) and (words[count - 1].endswith(",") or is_address(bare(words[count]))):
        count += 1
    if host is None and len(words) > count + 1 and _is_host(words[count]):
        host = words[count]
    return BeforeTime(",".join(words[:count]), host, port)


def _begins_with_host(words: list[str]) -> bool:
    """The first word is the server, not the client: the second one is an address, too."""
    if len(words) < 2 or words[0] == "-" or words[0].endswith(","):
        return False
    first, second = bare(words[0]), bare(words[1].rstrip(","))
    with_port = _WITH_PORT.fullmatch(words[0]) is not None and not is_address(words[0])
    if is_address(second):
        return with_port or not is_address(first)
    return with_port and not is_address(first) and _is_host(second)


def _is_host(text: str) -> bool:
    return (
        len(text) <= _LONGEST_HOST
        and _HOST.fullmatch(text) is not None
        and not text.replace(".", "").isdigit()
    )


def _forwarded(text: str, begin: int) -> str | None:
    """The first quoted field behind the user agent that is a list of addresses: X-Forwarded-For."""
    for more in _MORE.finditer(text[begin : begin + _LOOKED_AT]):
        if any(is_address(bare(entry)) for entry in more[1].split(",")):
            return more[1]
    return None

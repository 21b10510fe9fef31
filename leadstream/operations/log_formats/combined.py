"""Apache's and nginx's common and combined format, and what is put before and behind it.

    [vhost[:port]] address[, proxy ...] ident user [time] "request" status bytes [more] ["referrer" "agent" [more]]

Sources: https://httpd.apache.org/docs/2.4/mod/mod_log_config.html#formats (common, combined; Debian adds
vhost_combined), https://nginx.org/en/docs/http/ngx_http_log_module.html (combined; packages have `main`, which adds
"$http_x_forwarded_for"), lighttpd's accesslog.format (the host stands where ident does). HAProxy's `httplog clf` writes `"" ""` for what it does
not record; other servers write `-` for what a client did not send.
User names may contain spaces.
"""

import re
from typing import NamedTuple

from leadstream.operations.log_formats.addresses import bare_address, client_address, is_ip_address
from leadstream.operations.log_formats.logged_request import (
    LoggedRequest,
    http_status_of,
    method_and_target,
    present_value,
    unescaped,
    user_agent_of,
)
from leadstream.operations.log_formats.moments import read_moment

_TIME = re.compile(r'\[(\d[^\[\]"]{18,39})\] (?=")')
_QUOTED = r'"((?:[^"\\]|\\.)*+)"'
_REQUEST = re.compile(rf'{_QUOTED} "?(\d{{3}})"? "?(?:\d+|-)"?')
_CLIENT = re.compile(rf' (?:[^ "]+ ){{0,4}}{_QUOTED} {_QUOTED}')
_REST_OF_COMMON = re.compile(rf'(?: +(?:[^ "]++|{_QUOTED}))*+ *')
_QUOTED_FIELD = re.compile(_QUOTED)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+\.?")
_WITH_PORT = re.compile(r"\S+:\d{1,5}")
_LONGEST_HOST = 255
_MOST_WORDS_BEFORE_TIME = 12
"""Words among which the visitor's address is looked for."""
_MOST_CHARACTERS_READ = 2_000
"""Characters behind the user agent."""
_SCHEMES = {"80": "http", "443": "https"}


class BeforeTime(NamedTuple):
    """What stands before the time."""

    addresses: str
    host: str | None
    port: str | None


def read_combined(text: str) -> LoggedRequest | None:
    text = text.replace("\t", " ")
    time = _TIME.search(text)
    request = _REQUEST.match(text, time.end()) if time else None
    at = read_moment(time[1]) if time else None
    if time is None or request is None or at is None:
        return None
    client = _CLIENT.match(text, request.end())
    if client is None and not _REST_OF_COMMON.fullmatch(text, request.end()):
        return None  # a combined line that was cut off
    head = _before_time(text[: time.start()].split())
    if head is None:
        return None
    referrer, agent = client.groups() if client and any(client.groups()) else (None, None)
    method, target = method_and_target(unescaped(request[1]))
    return LoggedRequest(
        at=at,
        address=client_address(_forwarded_addresses(text, client.end()) if client else None, head.addresses)
        or head.addresses,
        method=method,
        target=target,
        status=http_status_of(request[2]),
        agent=user_agent_of(agent),
        referrer=present_value(unescaped(referrer or "")),
        host=head.host,
        scheme=_SCHEMES.get(head.port or ""),
    )


def _before_time(words: list[str]) -> BeforeTime | None:
    begin = _index_of_first_client(words)
    if begin == len(words):
        return None
    end = begin + 1
    while end < len(words) and (words[end - 1].endswith(",") or _begins_with_address(words[end])):
        end += 1
    host = port = None
    if begin and _WITH_PORT.fullmatch(words[begin - 1]):
        host, _, port = words[begin - 1].rpartition(":")
    elif begin and _is_host(words[begin - 1]):
        host = words[begin - 1]
    elif len(words) > end + 1 and _is_host(words[end]):
        host = words[end]
    return BeforeTime(",".join(words[begin:end]), host, port)


def _index_of_first_client(words: list[str]) -> int:
    """Where the addresses begin: behind the host, or behind what a collector of logs (syslog, Docker) put first."""
    prefix = [index for index, word in enumerate(words[:_MOST_WORDS_BEFORE_TIME]) if _ends_prefix(word)]
    first = prefix[-1] + 1 if prefix else 0
    for index, word in enumerate(words[first:_MOST_WORDS_BEFORE_TIME], first):
        if _begins_with_address(word):
            with_port = _WITH_PORT.fullmatch(word) is not None and not is_ip_address(word)
            followed = with_port and index + 1 < len(words) and _begins_with_address(words[index + 1])
            return index + 1 if followed else index
        if index > first and word == "-":  # a name, and then ident
            break
    named = len(words) > first + 1 and _WITH_PORT.fullmatch(words[first]) is not None
    return first + 1 if named and _is_host(words[first + 1]) else first


def _ends_prefix(word: str) -> bool:
    """`nginx:` of syslog, `|` of Docker Compose."""
    return word == "|" or (word.endswith(":") and word != "unix:" and not is_ip_address(bare_address(word)))


def _begins_with_address(word: str) -> bool:
    return is_ip_address(bare_address(word.partition(",")[0]))


def _is_host(text: str) -> bool:
    return (
        len(text) <= _LONGEST_HOST
        and _HOST.fullmatch(text) is not None
        and not text.replace(".", "").isdigit()
    )


def _forwarded_addresses(text: str, begin: int) -> str | None:
    """The first quoted field behind the user agent if it is a list of addresses: X-Forwarded-For. An address with a
    port is that of a server.
    """
    more = _QUOTED_FIELD.search(text[begin : begin + _MOST_CHARACTERS_READ])
    entries = more[1].split(",") if more else []
    return more[1] if more and any(is_ip_address(entry.strip()) for entry in entries) else None

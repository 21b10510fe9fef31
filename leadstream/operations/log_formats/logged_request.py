"""A request as a line of an access log has it, whatever the log's format."""

import re
from datetime import datetime
from typing import NamedTuple

_ESCAPED = re.compile(r'((?:\\x[89A-Fa-f][0-9A-Fa-f])+)|\\(?:(["\\])|x(22|5[Cc]))')


class LoggedRequest(NamedTuple):
    """`target` is a path with its query, or a whole address. `method` is empty for what is no HTTP request."""

    at: datetime
    address: str
    """The visitor's IP address or host name: no proxy's, no port."""
    method: str
    target: str
    status: int
    agent: str | None = None
    """None: the log does not record user agents. Empty: the client sent none."""
    referrer: str | None = None
    host: str | None = None
    scheme: str | None = None
    """http, https, or None if the log does not tell."""


def present_value(text: str | None) -> str | None:
    """None for the signs that logs have instead of a value."""
    return None if text is None or text in {"", "-"} else text


def unescaped(text: str) -> str:
    r"""The text as the client sent it. Apache and nginx write `\"` or `\x22` for a quote, and `\xc3\xbc` for a letter in
    UTF-8. Control characters stay escaped.
    """
    return _ESCAPED.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    octets, sign, code = match.groups()
    if octets:
        return bytes.fromhex(octets.replace("\\x", "")).decode("utf-8", "backslashreplace")
    return sign or chr(int(code, 16))


def user_agent_of(text: str | None) -> str | None:
    """Empty for a client that sent none; None for a log without user agents."""
    return None if text is None else present_value(text) or ""


def method_and_target(text: str) -> tuple[str, str]:
    """Method and target of `GET /path HTTP/1.1`; the path may contain spaces. Empty if it is no HTTP request."""
    method, _, rest = text.partition(" ")
    target, _, protocol = rest.rpartition(" ")
    return (method, target) if target and protocol.startswith("HTTP/") else ("", "")


def http_status_of(text: str) -> int:
    """0 if there was no answer, or the log does not name its status."""
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else 0

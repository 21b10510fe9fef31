"""The table of the formats of access logs, and the error for a log that has none of them."""

import re
from collections.abc import Callable
from typing import NamedTuple

from leadstream.operations.log_formats.combined import read_combined
from leadstream.operations.log_formats.json_lines import decoded_object, read_json
from leadstream.operations.log_formats.load_balancer import read_load_balancer
from leadstream.operations.log_formats.logged_request import LoggedRequest
from leadstream.operations.log_formats.w3c import W3cDirective, w3c_reader

ReadLine = Callable[[str], LoggedRequest | W3cDirective | None]
"""The request of a line; None if the line has another format. Total, and linear in the line."""


class LogFormat(NamedTuple):
    name: str
    reader: Callable[[], ReadLine]
    """A reader for one file."""


def _read_docker(text: str) -> LoggedRequest | None:
    """Docker wraps each line: https://docs.docker.com/engine/logging/drivers/json-file/."""
    fields = decoded_object(text) if text.startswith("{") else None
    line = fields.get("log") if fields else None
    return (read_combined(line) or read_json(line)) if isinstance(line, str) else None


FORMATS = (
    LogFormat("common or combined (Apache, nginx, lighttpd, Traefik)", lambda: read_combined),
    LogFormat("JSON lines (nginx, Caddy, Traefik, Cloudflare)", lambda: read_json),
    LogFormat("one of these in Docker's json-file", lambda: _read_docker),
    LogFormat("W3C with a #Fields line (IIS, CloudFront)", w3c_reader),
    LogFormat("AWS load balancer (ALB, ELB)", lambda: read_load_balancer),
)

_LINES_TRIED = 100
"""Lines without any format until the log is refused."""
_MATCHED = 400
_CHARACTERS_SHOWN = 120
_KEYS_SHOWN = 12
_UNSUPPORTED = tuple(
    (re.compile(begin), description)
    for begin, description in (
        (
            r".{0,80}\bhaproxy\[|\S+:\d+ \[\d\d/\w{3}/\d{4}:[\d:.]+\] \S+ \S+/\S+ ",
            "It looks like HAProxy's log. `option httplog clf` makes HAProxy write the common format",
        ),
        (
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ",
            "It looks like a W3C log, but the #Fields line that names its columns is missing",
        ),
        (
            r"[\d.:a-f]+, [^,]+, [\d./]+, [\d:]+, ",
            "It looks like IIS's own format. IIS can write W3C instead",
        ),
        (
            r"\d{4}/\d\d/\d\d [\d:.]+\s+(?:INFO|ERROR)\s",
            "It looks like Caddy's console format. `format json` makes Caddy write JSON",
        ),
        (
            r"\[\w{3} \w{3} \d\d [\d:.]+ \d{4}\] \[|\d{4}/\d\d/\d\d [\d:]+ \[\w+\] ",
            "It looks like the error log of a web server, which has no page views",
        ),
        (
            r"\w+ \S+ \[[^\]]+\] \S+ \S+ \S+ (?:REST|WEBSITE|BATCH|S3)\.",
            "It looks like the log of an Amazon S3 bucket",
        ),
        (r"(?:[^\\\x00-\x08]*(?:\\x[0-9a-f]{2}|[\x00-\x08])){4}", "It is no text file"),
    )
)
"""How other files begin, and what they are."""


class UnknownLogFormatError(Exception):
    """No line at the beginning of the log has a supported format. The text names what is there and what is supported."""

    def __init__(self, first_line: str) -> None:
        supported = "; ".join(each.name for each in FORMATS)
        super().__init__(f"{_description_of_line(first_line)}. Supported formats: {supported}")


class LogReader:
    """Reads the lines of one file. The format of the last line is tried first, so that a mixture is read, too."""

    def __init__(self) -> None:
        self._readers = [each.reader() for each in FORMATS]
        self._first: str | None = None
        self._unread = 0
        self.recognised = False

    def read(self, text: str) -> LoggedRequest | W3cDirective | None:
        """None: the line has no supported format. Raises UnknownLogFormatError."""
        for index, reader in enumerate(self._readers):
            if (request := reader(text)) is not None:
                if isinstance(request, LoggedRequest):
                    self.recognised = True
                    if index:
                        self._readers.insert(0, self._readers.pop(index))
                return request
        if not self.recognised:
            self._first = self._first or text
            self._unread += 1
            if self._unread >= _LINES_TRIED:
                self.end()
        return None

    def end(self) -> None:
        """Raises UnknownLogFormatError if there were lines, and none of them has a format."""
        if self._first is not None and not self.recognised:
            raise UnknownLogFormatError(self._first)


def _description_of_line(line: str) -> str:
    if (fields := decoded_object(line)) is not None:
        if {"type", "event_id"} <= fields.keys():
            return "Its lines are events: use `leadstream import events`"
        keys = ", ".join(list(fields)[:_KEYS_SHOWN])[:_CHARACTERS_SHOWN]
        return f"Its lines are JSON. Address, time, request or status is not among the keys: {keys}"
    for begin, description in _UNSUPPORTED:
        if begin.match(line[:_MATCHED]):
            return description
    return f"Its first line is: {line[:_CHARACTERS_SHOWN]}"

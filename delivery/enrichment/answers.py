"""What a source answers about a key: profile fields. An answer is read up to a bound, and what no field can be is left out."""

import csv
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec
from jmespath.exceptions import JMESPathError

from delivery.channels.http_requests import request
from delivery.crm.inbound import compiled
from delivery.enrichment.sources import KEY_TEMPLATE, FileSource, HttpSource
from delivery.outcomes import DeliveryRejectedError
from schemas.broken_text import repair_broken_text

MOST_ROWS: Final = 1_000_000
MOST_FILE_BYTES: Final = 200_000_000
LONGEST_TEXT: Final = 1_024
LONGEST_ITEM: Final = 256
MOST_ITEMS: Final = 64
NOTHING_KNOWN: Final = frozenset({404, 410})
"""Statuses by which an API says that it knows nothing of the key."""

Fields = dict[str, Any]


class SourceFileError(ValueError):
    """The file cannot be used; the message names the place and the reason."""


async def ask_api(name: str, source: HttpSource, key: str, http: httpx.AsyncClient, now: datetime) -> Fields:
    """The fields of the answer; none if the API knows nothing of the key. Raises DeliveryError."""
    body = None
    if source.body is not None:
        body = source.body.replace(KEY_TEMPLATE, msgspec.json.encode(key).decode()[1:-1]).encode()
    headers = {header: value.reveal() for header, value in source.headers.items()}
    if body is not None:
        headers.setdefault("content-type", "application/json")
    try:
        answer = await request(
            http,
            source.method,
            source.url.replace(KEY_TEMPLATE, quote(key, safe="")),
            now,
            what=f"the source {name!r}",
            headers=headers,
            body=body,
        )
    except DeliveryRejectedError as cause:
        if cause.status in NOTHING_KNOWN:
            return {}
        raise
    if not answer.body.strip():
        return {}
    content = answer.json()
    return usable_fields(
        {field: _searched(expression, content) for field, expression in source.fields.items()}
    )


def _searched(expression: str, content: Any) -> Any:
    try:
        return compiled(expression, "fields").search(content)
    except (JMESPathError, RecursionError, ValueError, TypeError, ArithmeticError):
        return None


def usable_fields(values: Mapping[str, Any]) -> Fields:
    """Those that an event can carry; the rest is left out."""
    return {name: usable for name, value in values.items() if (usable := _usable(value)) is not None}


def _usable(value: Any) -> Any:
    match value:
        case str():
            return value.strip()[:LONGEST_TEXT] or None
        case bool():
            return value
        case int() | float():
            return value if abs(value) <= 10**15 else None
        case list() if value and all(isinstance(each, str) for each in value):
            return [each[:LONGEST_ITEM] for each in value[:MOST_ITEMS]]
        case _:
            return None


def read_source_file(source: FileSource) -> dict[str, Fields]:
    """Key in small letters -> fields. A later row of the same key wins. Raises SourceFileError."""
    path = Path(source.path)
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise SourceFileError(f"{path} is larger than {MOST_FILE_BYTES // 1_000_000} MB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file) if path.suffix == ".csv" else map(_json_row, file)
            table: dict[str, Fields] = {}
            for number, row in enumerate(rows):
                if number >= MOST_ROWS:
                    raise SourceFileError(f"{path} has more than {MOST_ROWS:,} rows")
                if number == 0 and source.column not in row:
                    raise SourceFileError(f"{path} has no column {source.column!r}")
                key = row.get(source.column)
                if isinstance(key, str) and key.strip():
                    fields = {field: row.get(column) for field, column in source.fields.items()}
                    table[key.strip().lower()] = usable_fields(fields)
            return table
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.DecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else str(cause)
        raise SourceFileError(f"{path} cannot be read ({reason})") from None


def _json_row(line: str) -> dict[str, Any]:
    if not line.strip():
        return {}
    row = msgspec.json.decode(repair_broken_text(line.encode(errors="replace")))
    return row if isinstance(row, dict) else {}

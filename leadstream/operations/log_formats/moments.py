"""The ways in which access logs write a time. Each function returns UTC, or None if the text is no time."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone

_COMMON_FORM = re.compile(
    r"(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})? ([+-])(\d{2}):?(\d{2})"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NUMBER = re.compile(r"\d{9,19}(?:\.\d{1,9})?")
_LONGEST = 40
_SECONDS_PER_UNIT_FROM = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Above so much, a count since 1970 is in so many parts of a second."""


def read_moment(text: str) -> datetime | None:
    """Of any of these ways."""
    if len(text) > _LONGEST:
        return None
    if _NUMBER.fullmatch(text):
        return moment_of_epoch_number(float(text))
    return read_common_moment(text) or read_iso_moment(text)


def read_common_moment(text: str) -> datetime | None:
    """`10/Oct/2000:13:55:36 -0700`, as Apache and nginx write it; fractions of a second are dropped."""
    match = _COMMON_FORM.fullmatch(text)
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


def read_iso_moment(text: str) -> datetime | None:
    """`2018-07-02T22:23:00.186641Z`; slashes in the date, too; without a zone it is UTC."""
    try:
        local = datetime.fromisoformat(text.replace("/", "-"))
        return (local if local.tzinfo else local.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def moment_of_epoch_number(number: float) -> datetime | None:
    """Seconds since 1970, or thousandths, millionths or billionths: by the size of the number."""
    if not math.isfinite(number):
        return None
    parts = next((parts for least, parts in _SECONDS_PER_UNIT_FROM if number >= least), 1)
    try:
        return datetime.fromtimestamp(number / parts, UTC)
    except (ValueError, OverflowError, OSError):
        return None

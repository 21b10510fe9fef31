"""A record of a CRM in one form, whatever the vendor calls its fields; and what the vendors' values mean.

Values are texts as the CRM has them. Readers are lenient: a value of another kind is none.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from delivery.crm.inbound import RecordKind

LONGEST_ID: Final = 64
LONGEST_VALUE: Final = 512
LARGEST_AMOUNT: Final = Decimal(10**12)
_MILLIS_FROM: Final = 10**11
"""A number from here on counts milliseconds, since it would be the year 5138 in seconds."""


class CrmRecord(NamedTuple):
    """A contact or a deal as the CRM has it now. `values` are by role (`owner`, `stage`, `status`, `value`, `currency`) and by
    profile field (`field:industry`).
    """

    kind: RecordKind
    record_id: str
    changed_at: datetime
    values: Mapping[str, str | None]
    lead_id: str | None = None
    """Ours, as a push left it there."""
    email: str | None = None
    phone: str | None = None
    contact_ids: tuple[str, ...] = ()
    """Of a deal: its contacts, the first one first."""
    closed_at: datetime | None = None
    reason: str | None = None
    names: Mapping[str, str] = {}
    """Role -> the CRM's own name of the field, by which a push of ours is recognised."""


class RecordPage(NamedTuple):
    """Records in the order of their changes, and what finds those behind them; None: there are none."""

    records: list[CrmRecord]
    next_page: str | None = None


def text_of(value: Any) -> str | None:
    """A text or a number as a text; None for anything else, and for what is blank."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value.strip()[:LONGEST_VALUE] or None
        case int() | float():
            return f"{value:.15g}" if isinstance(value, float) else str(value)[:LONGEST_VALUE]
        case _:
            return None


def id_of(value: Any) -> str | None:
    """An id; longer ones than any CRM has are none."""
    text = None if isinstance(value, bool) else text_of(value)
    return text if text and len(text) <= LONGEST_ID and text.isprintable() else None


def moment_of(value: Any) -> datetime | None:
    """ISO 8601 (UTC, if it names no zone), `2026-01-31 10:00:00`, or seconds or milliseconds since 1970."""
    text = text_of(value)
    if text is None:
        return None
    try:
        if text.isascii() and text.removeprefix("-").isdigit():
            seconds = float(text)
            return datetime.fromtimestamp(seconds / 1_000 if abs(seconds) >= _MILLIS_FROM else seconds, UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def amount_of(value: str | None) -> Decimal | None:
    """An amount as events take it: not negative, at most six decimals."""
    try:
        amount = Decimal(value or "")
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= LARGEST_AMOUNT:
        return None
    return Decimal(f"{amount.quantize(Decimal('0.000001')).normalize():f}")


def currency_of(value: str | None) -> str | None:
    """A code of ISO 4217 by its form."""
    code = (value or "").strip().upper()
    return code if len(code) == 3 and code.isascii() and code.isalpha() else None

"""How an attempt to deliver ends, if not well. Reasons name no address and no secret: people and logs see them."""

import asyncio
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_RETRY_AFTER_SECONDS = 86_400.0
"""A receiver that asks for a longer pause is asked again after this one."""


class DeliveryError(Exception):
    """An attempt failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DeliveryRejectedError(DeliveryError):
    """No repetition helps: the row becomes a dead letter, which an operator may send again. `status`: of HTTP."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class DeliveryFailedError(DeliveryError):
    """A repetition may help. `retry_after` (s) is what the receiver asked for; `channel_fails`: others would fail, too."""

    def __init__(self, reason: str, *, retry_after: float | None = None, channel_fails: bool = True) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.channel_fails = channel_fails


def retry_after_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, at most MOST_RETRY_AFTER_SECONDS; None: it is missing or nonsense."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            moment = parsedate_to_datetime(value)
        except (TypeError, ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    return min(max(math.ceil(seconds), 0.0), MOST_RETRY_AFTER_SECONDS)


def unreachable(what: str, cause: BaseException) -> DeliveryFailedError:
    """For an error of the network: names its kind only, since messages of libraries may contain addresses."""
    if isinstance(cause, TimeoutError | asyncio.TimeoutError):
        return DeliveryFailedError(f"{what} did not answer in time")
    return DeliveryFailedError(f"{what} cannot be reached ({type(cause).__name__})")

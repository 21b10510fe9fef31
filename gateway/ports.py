"""What the gateway needs from the rest, as plain values and callables; `leadstream` wires them.

The collector knows the log only as `append`, which returns once the log has the records, and
waiting callers only as `Await`. So it takes events while Postgres is away, and tests need no driver.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.access import Access, Rate
from gateway.answers import Problem
from gateway.published import Published, shipped
from schemas.record import Outgoing


class Unavailable(Problem):
    """The log cannot take records now. What of the call is kept all the same, counts once when it is sent
    again under its event ids.
    """

    def __init__(self, reason: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(503, reason, retry_after_s=retry_after_s)


class EventKey(NamedTuple):
    tenant: str
    event_id: str


class Outcome(NamedTuple):
    """What the folds made of an event: applied, duplicate or bot, and the lead's totals after it."""

    outcome: str
    lead_id: str
    scores: Mapping[str, float]


Append = Callable[[Sequence[Outgoing]], Awaitable[None]]
Await = Callable[[Sequence[EventKey], float], Awaitable[Mapping[EventKey, Outcome]]]
"""(events, seconds) -> those that became visible in that time."""


Status = Mapping[str, object]
"""`ready`: events are taken and scores follow; `reason`: why not; `backlog`: records not yet scored, None
if that is not known; and what else an operator may want to see at /ready.
"""


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _all_well() -> Status:
    return {"ready": True, "reason": None, "backlog": 0}


@dataclass(frozen=True)
class Ports:
    append: Append
    database_url: str
    access: Access = field(default_factory=Access)
    status: Callable[[], Awaitable[Status]] = _all_well
    """As it is when it is asked for, never earlier."""
    now: Callable[[], datetime] = utc_now
    published: Published = shipped
    """What a tenant's leads are scored by now."""
    public_url: str = "http://127.0.0.1:8000"
    rate: Rate = Rate()  # noqa: RUF009 - an immutable tuple
    max_body_bytes: int = 1_000_000
    """Of a request, unpacked."""
    max_batch: int = 10_000
    phone_region: str | None = None
    """Two letters (AE): where a phone number without a country code is taken to be."""

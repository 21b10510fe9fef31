"""What a channel gets: the execution, and the lead as the read models have it when the message is sent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class LeadCard(NamedTuple):
    """A lead for people. `scores` are rounded totals by model."""

    lead_id: str
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    company: str | None = None
    stage: str | None = None
    assigned_to: str | None = None
    fields: Mapping[str, Any] = {}
    scores: Mapping[str, int] = {}


class OwnerCard(NamedTuple):
    """A sales person, as the configuration has them."""

    owner_id: str
    name: str = ""
    email: str | None = None


class Message(NamedTuple):
    """One execution on its way. `key` is the same at every attempt."""

    tenant: str
    execution_id: int
    workflow_id: int
    workflow: str
    version: int
    trigger: str
    reason: str
    action: str
    config: Mapping[str, Any]
    hops: int
    at: datetime
    """When it was triggered, on the lead's clock."""
    channel: str
    attempt: int
    lead: LeadCard
    owner: OwnerCard | None = None
    """Who the lead is assigned to; of assign_owner: who it is to be assigned to."""

    @property
    def key(self) -> str:
        """The idempotency key: receivers that know it drop repetitions."""
        return f"wf-{self.execution_id}"


class ChannelResult(NamedTuple):
    """What became of a message that was sent as a test."""

    channel: str
    sent: bool
    error: str | None = None

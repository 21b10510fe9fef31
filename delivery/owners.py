"""Who gets a lead: the next in turn, or the one with most capacity left. Pure.

Working hours and capacity are wishes: if nobody is at work or has room, somebody gets the lead all the same, since a lead
without an owner is worse.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from delivery.hours import end_of_hours
from scoring.workflows.working_hours import Hours, read_hours


class Owner(Struct, frozen=True, forbid_unknown_fields=True):
    """A sales person. `capacity`: open leads at a time. `working_hours`: `mon-fri 09:00-17:30`; none: always."""

    name: str = ""
    email: str | None = None
    capacity: Annotated[int, Meta(ge=1)] | None = None
    working_hours: tuple[str, ...] = ()
    time_zone: str | None = None
    tenants: tuple[str, ...] = ()

    def hours(self) -> list[Hours]:
        """Raises ValueError."""
        return [read_hours(text) for text in self.working_hours]


NOBODY = Owner()
"""Somebody whom the configuration does not know: always at work, with room for everybody."""


def choose_owner(
    candidates: Sequence[str],
    *,
    by_capacity: bool,
    working_hours: bool,
    owners: Mapping[str, Owner],
    open_leads: Mapping[str, int],
    last: str | None,
    now: datetime,
    zone: ZoneInfo,
) -> str:
    """One of the candidates: the next after `last`, or by capacity the one with most of it left (`open_leads` by owner; equal:
    the one with fewer leads, then the next in turn). `zone` is that of owners who name none.
    """
    turn = 0 if last is None or last not in candidates else list(candidates).index(last) + 1
    in_turn = [*candidates[turn:], *candidates[:turn]]
    if working_hours:
        in_turn = [each for each in in_turn if _is_at_work(owners.get(each, NOBODY), now, zone)] or in_turn
    if not by_capacity:
        return in_turn[0]
    return min(
        in_turn,
        key=lambda each: (-_left(owners.get(each, NOBODY), open_leads.get(each, 0)), open_leads.get(each, 0)),
    )


def _left(owner: Owner, leads: int) -> float:
    return math.inf if owner.capacity is None else owner.capacity - leads


def _is_at_work(owner: Owner, now: datetime, zone: ZoneInfo) -> bool:
    own_zone = ZoneInfo(owner.time_zone) if owner.time_zone else zone
    return not owner.working_hours or end_of_hours(now, owner.hours(), own_zone) is not None

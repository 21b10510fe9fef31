"""Identity at the visitor: who is behind a key, and where that person's features are.

A segment is one person behind one key. The visitor is the single writer of its segments: only it
raises an epoch, and every move is told to the leads concerned as messages. Compare claims with a
segment's *home*, never with its owner: merges change owners, only claims change homes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from schemas.envelope import ANONYMOUS

MOST_SEGMENTS = 20
"""Persons behind one key; those beyond it share one more segment, in an anonymous lead of its own."""
LONGEST_PATH = 20
"""Redirected leads that an identity walks; then it settles where it is."""
MOST_IDENTITIES = 50
"""Identities that one lead holds; more are refused and park in anonymous leads."""


class Segment(Struct, array_like=True):
    """`home`: the lead its own events named. `owner`: the lead that holds it now. `path`: the
    redirected leads walked from home to owner. `final`: settled in a cycle or parked.
    """

    home: str
    owner: str
    epoch: int = 1
    path: list[str] = []
    final: bool = False
    born: bool = False
    """It has been attached: its first event came."""


class Visitor(Struct, array_like=True):
    """What stage 1 keeps of one key, besides its segments' bodies and the ids it has seen."""

    clock: int = 0
    """The highest `recorded_at` of its events: what lateness is measured by."""
    moved: int = 0
    """The highest clock of leads that reassigned it; never mixed into `clock`."""
    segments: list[Segment] = []
    current: int = 0
    claim: tuple[int, str, str] = (-1, "", "")
    """(occurred_at, event_id, lead) of the latest claim."""


class Reassignment(NamedTuple):
    """A segment moved: `leave` are the owners to detach from, `gone` those whose redirect it will
    not walk again. The caller attaches it to its new owner.
    """

    segment: int
    leave: list[str]
    gone: frozenset[str]


def anonymous(visitor_id: str) -> str:
    """The lead that an unclaimed visitor is."""
    return ANONYMOUS + visitor_id


def is_anonymous(lead_id: str) -> bool:
    return lead_id.startswith(ANONYMOUS)


def first_home_lead(key: str) -> str:
    """Whom a key stands for before any claim: `TENANT/v/VISITOR` or `TENANT/l/LEAD`."""
    _, kind, name = key.split("/", 2)
    return anonymous(name) if kind == "v" else name


def identity_id(key: str, segment: int) -> str:
    """The identity of a segment, unique across tenants."""
    return f"{key}#{segment}"


def key_of_identity(identity: str) -> tuple[str, int]:
    """(key, segment) of an identity."""
    key, _, number = identity.rpartition("#")
    return key, int(number)


def open_visitor(key: str) -> Visitor:
    home = first_home_lead(key)
    return Visitor(segments=[Segment(home, home)])


def claim(
    visitor: Visitor, key: str, lead_id: str, occurred_at: int, event_id: str
) -> tuple[int, Reassignment | None]:
    """An event names a known lead: the segment it belongs to, and the move it causes, if any.

    Handled also for repeated deliveries, since a retry after log-in claims, too. An anonymous
    segment becomes the lead's; otherwise the lead's own segment is found or opened (a shared
    device), and becomes the current one only if this claim is later than the last.
    """
    stamp = (occurred_at, event_id, lead_id)
    at, moved = visitor.current, None
    home = visitor.segments[at].home
    if home != lead_id:
        if is_anonymous(home):
            moved = rehome(visitor, at, lead_id)
        else:
            found = next((i for i, s in enumerate(visitor.segments) if s.home == lead_id), None)
            at = _open_segment(visitor, key, lead_id) if found is None else found
            if at < MOST_SEGMENTS and stamp > tuple(visitor.claim):
                visitor.current = at
    if stamp > tuple(visitor.claim):
        visitor.claim = stamp
    return at, moved


def _open_segment(visitor: Visitor, key: str, lead_id: str) -> int:
    """One more person behind the key; beyond `MOST_SEGMENTS` everybody shares the last, so that nobody is
    taken for another known lead.
    """
    if len(visitor.segments) > MOST_SEGMENTS:
        return MOST_SEGMENTS
    home = lead_id if len(visitor.segments) < MOST_SEGMENTS else anonymous(identity_id(key, MOST_SEGMENTS))
    visitor.segments.append(Segment(home, home))
    return len(visitor.segments) - 1


def rehome(visitor: Visitor, at: int, home: str) -> Reassignment | None:
    """The segment's person turns out to be `home`."""
    segment = visitor.segments[at]
    gone = frozenset((*segment.path, segment.home))
    segment.home = home
    if not segment.born:
        segment.owner = home
        return None
    return move(visitor, at, home, gone=gone)


def move(
    visitor: Visitor,
    at: int,
    to: str,
    *,
    path: Iterable[str] = (),
    final: bool = False,
    gone: frozenset[str] = frozenset(),
) -> Reassignment:
    """Give the segment to `to`, under the next epoch."""
    segment = visitor.segments[at]
    leave = sorted({segment.owner, *gone} - {to})
    segment.epoch += 1
    segment.owner, segment.path, segment.final = to, list(path), final
    return Reassignment(at, leave, gone)


def reassign(
    visitor: Visitor, at: int, *, holder: str, epoch: int, to: str | None, path: list[str], final: bool
) -> Reassignment | None:
    """A lead asks for the segment to move: on to `to` if the lead still holds that very epoch, or
    (None) back home, always, to walk the redirects anew.
    """
    if at >= len(visitor.segments):
        return None
    segment = visitor.segments[at]
    if to is None:
        return move(visitor, at, segment.home)
    if segment.owner == holder and segment.epoch == epoch:
        return move(visitor, at, to, path=path, final=final)
    return None


def park(visitor: Visitor, at: int, identity: str, epoch: int) -> Reassignment | None:
    """A full lead refused the segment: it becomes an anonymous lead of its own."""
    if at >= len(visitor.segments) or visitor.segments[at].epoch != epoch:
        return None
    return move(visitor, at, anonymous(identity), final=True)


class Forwarding(NamedTuple):
    """Where a redirected lead sends an identity: `settles` means that it stays with this lead."""

    to: str
    path: list[str]
    final: bool
    settles: bool


def forwarding(lead_id: str, redirect: str, path: list[str]) -> Forwarding:
    """The next step along redirects; a cycle settles on the smallest id in it, a long chain here."""
    walked = [*path, lead_id]
    if len(path) >= LONGEST_PATH:
        return Forwarding(lead_id, walked, final=True, settles=True)
    if redirect == lead_id or redirect in path:
        cycle = [*path[path.index(redirect) :], lead_id] if redirect in path else [lead_id]
        smallest = min(cycle)
        return Forwarding(smallest, walked, final=True, settles=smallest == lead_id)
    return Forwarding(redirect, walked, final=False, settles=False)

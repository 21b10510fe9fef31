"""Identity at the visitor: which person is behind a key, and which lead owns that person's features.

A segment is one person behind one key. The visitor is the single writer of its segments: only it raises an epoch,
and it sends every reassignment to the leads concerned. Claims are compared with a segment's *home* lead, never
with its owner: merges change owners, and only claims change homes.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec import Struct

from schemas.control import Carried
from schemas.envelope import ANONYMOUS_PREFIX
from scoring.features.consent import TrackingWord

MOST_SEGMENTS = 20
"""Persons behind one key. Further persons share one more segment, in an anonymous lead of its own."""
LONGEST_PATH = 20
"""Redirects that an identity follows; then it settles where it is."""
MOST_IDENTITIES = 50
"""Identities of one lead. Further ones are refused and go to anonymous leads of their own."""


class Segment(Struct, array_like=True):
    """`home`: the lead that its own events named. `owner`: the lead that owns it now. `path`: the redirected leads
    from home to owner. `final`: settled, in a cycle or in an anonymous lead.
    """

    home: str
    owner: str
    epoch: int = 1
    path: list[str] = []
    final: bool = False
    born: bool = False
    """Its first event came, so it was attached to a lead."""
    identified: Carried | None = None
    """The stage that the visitor had reached before anybody knew who it was."""


class Visitor(Struct, array_like=True):
    """The state of one key in stage 1, besides its segments' bodies and the event ids it has seen."""

    clock: int = 0
    """The highest `recorded_at` of its events; lateness is measured by it."""
    moved: int = 0
    """The highest clock of leads that reassigned it; never mixed into `clock`."""
    segments: list[Segment] = []
    current: int = 0
    claim: tuple[int, str, str] = (-1, "", "")
    """(occurred_at, event_id, lead) of the latest claim."""
    tracking: TrackingWord | None = None
    counted: list[str] = []
    """SEGMENT:SIGNAL of the signals whose earlier events were added (`control.SignalsCounted`): each is added once."""


class Reassignment(NamedTuple):
    """A reassigned segment: `leave` are the owners to detach from, `gone` those whose redirect it will not follow
    again. The caller attaches it to its new owner.
    """

    segment: int
    leave: list[str]
    gone: frozenset[str]


def anonymous_lead_id(visitor_id: str) -> str:
    """The lead of an unclaimed visitor."""
    return ANONYMOUS_PREFIX + visitor_id


def is_anonymous(lead_id: str) -> bool:
    return lead_id.startswith(ANONYMOUS_PREFIX)


def first_home_lead(key: str) -> str:
    """The lead of a key (`TENANT/v/VISITOR` or `TENANT/l/LEAD`) before any claim."""
    _, id_kind, name = key.split("/", 2)
    return anonymous_lead_id(name) if id_kind == "v" else name


def identity_id(key: str, segment: int) -> str:
    """The identity of a segment, unique across tenants."""
    return f"{key}#{segment}"


def key_of_identity(identity: str) -> tuple[str, int]:
    """(key, segment) of an identity."""
    key, _, number = identity.rpartition("#")
    return key, int(number)


def new_visitor(key: str) -> Visitor:
    home_lead = first_home_lead(key)
    return Visitor(segments=[Segment(home_lead, home_lead)])


def claim_visitor(
    visitor: Visitor, key: str, lead_id: str, occurred_at: int, event_id: str
) -> tuple[int, Reassignment | None]:
    """An event names a known lead: (its segment, the reassignment that it causes, if any).

    Repeated deliveries claim, too, since a retry after log-in does. An anonymous segment becomes the lead's.
    Otherwise (a shared device) the lead's own segment is used or opened. It becomes the current one only if this
    claim is later than the last.
    """
    stamp = (occurred_at, event_id, lead_id)
    segment, reassignment = visitor.current, None
    home_lead = visitor.segments[segment].home
    if home_lead != lead_id:
        if is_anonymous(home_lead):
            reassignment = set_home_lead(visitor, segment, lead_id)
        else:
            existing = next((i for i, s in enumerate(visitor.segments) if s.home == lead_id), None)
            segment = _open_segment(visitor, key, lead_id) if existing is None else existing
            if segment < MOST_SEGMENTS and stamp > tuple(visitor.claim):
                visitor.current = segment
    if stamp > tuple(visitor.claim):
        visitor.claim = stamp
    return segment, reassignment


def _open_segment(visitor: Visitor, key: str, lead_id: str) -> int:
    """Add a person behind the key. Beyond `MOST_SEGMENTS` all share the last segment, so that no one is mistaken for
    another known lead.
    """
    if len(visitor.segments) > MOST_SEGMENTS:
        return MOST_SEGMENTS
    home_lead = (
        lead_id
        if len(visitor.segments) < MOST_SEGMENTS
        else anonymous_lead_id(identity_id(key, MOST_SEGMENTS))
    )
    visitor.segments.append(Segment(home_lead, home_lead))
    return len(visitor.segments) - 1


def set_home_lead(visitor: Visitor, at: int, home_lead: str) -> Reassignment | None:
    """Make `home_lead` the home of the segment."""
    segment = visitor.segments[at]
    former_homes = frozenset((*segment.path, segment.home))
    segment.home = home_lead
    if not segment.born:
        segment.owner = home_lead
        return None
    return reassign_segment(visitor, at, home_lead, gone=former_homes)


def reassign_segment(
    visitor: Visitor,
    at: int,
    to: str,
    *,
    path: Iterable[str] = (),
    final: bool = False,
    gone: frozenset[str] = frozenset(),
) -> Reassignment:
    """Reassign the segment to the lead `to`, under the next epoch."""
    segment = visitor.segments[at]
    leave = sorted({segment.owner, *gone} - {to})
    segment.epoch += 1
    segment.owner, segment.path, segment.final = to, list(path), final
    return Reassignment(at, leave, gone)


def reassign_as_requested(
    visitor: Visitor, at: int, *, holder: str, epoch: int, to: str | None, path: list[str], final: bool
) -> Reassignment | None:
    """Reassign a segment as a lead asked: to `to` if that lead still owns it under this epoch. None: back to its home
    lead in any case, from where it follows the redirects again.
    """
    if at >= len(visitor.segments):
        return None
    segment = visitor.segments[at]
    if not segment.born:
        return None
    if to is None:
        return reassign_segment(visitor, at, segment.home)
    if segment.owner == holder and segment.epoch == epoch:
        return reassign_segment(visitor, at, to, path=path, final=final)
    return None


def park_refused_segment(visitor: Visitor, at: int, identity: str, epoch: int) -> Reassignment | None:
    """A full lead refused the segment: it goes to an anonymous lead of its own."""
    if at >= len(visitor.segments) or visitor.segments[at].epoch != epoch:
        return None
    return reassign_segment(visitor, at, anonymous_lead_id(identity), final=True)


def erase_segment(visitor: Visitor, key: str, at: int) -> Segment | None:
    """The person behind the segment was erased: a stranger, whose anonymous lead is the segment's own, takes the place. The
    others behind the key stay as they are. Returns what was there; None: there was nothing.
    """
    if at >= len(visitor.segments) or not visitor.segments[at].born:
        return None
    before = visitor.segments[at]
    stranger = anonymous_lead_id(identity_id(key, at))
    visitor.segments[at] = Segment(stranger, stranger, before.epoch + 1)
    if visitor.claim[2] in {before.home, before.owner, *before.path}:
        visitor.claim = (visitor.claim[0], "", "")
    return before


class ForwardedIdentity(NamedTuple):
    """Where a redirected lead forwards an identity. `settles`: it stays with this lead."""

    to: str
    path: list[str]
    final: bool
    settles: bool


def owner_by_redirects(lead_id: str, redirect_of: Callable[[str], str | None]) -> str:
    """Whose an identity with this home lead is in the end, by the redirects of all leads: as step after step of
    `forwarded_identity` decides.
    """
    path = [lead_id]
    while len(path) <= LONGEST_PATH and (to := redirect_of(path[-1])) is not None:
        if to in path:
            return min(path[path.index(to) :])
        path.append(to)
    return path[-1]


def merge_circle(lead_id: str, redirect_of: Callable[[str], str | None]) -> list[str]:
    """The leads that are merged into each other in a circle, from this one on; empty: it is in none."""
    path = [lead_id]
    while len(path) <= LONGEST_PATH and (to := redirect_of(path[-1])) is not None:
        if to == lead_id:
            return path
        if to in path:
            break
        path.append(to)
    return []


def forwarded_identity(lead_id: str, redirect: str, path: list[str]) -> ForwardedIdentity:
    """The next step along redirects. A cycle settles on its smallest lead id, a chain that is too long on this lead."""
    walked = [*path, lead_id]
    if len(path) >= LONGEST_PATH:
        return ForwardedIdentity(lead_id, walked, final=True, settles=True)
    if redirect == lead_id or redirect in path:
        cycle = [*path[path.index(redirect) :], lead_id] if redirect in path else [lead_id]
        smallest = min(cycle)
        return ForwardedIdentity(smallest, walked, final=True, settles=smallest == lead_id)
    return ForwardedIdentity(redirect, walked, final=False, settles=False)

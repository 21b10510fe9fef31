"""A compiled model: data, ready to be applied to any lead at any moment; made by `model_text`.

A score is a vector with one slot per line of the breakdown, fixed by the model. What the slots hold
always sums to the total, so a ledger entry is the difference between two vectors.
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any, NamedTuple

from scoring.features import CUSTOM, Lift
from scoring.phrases import Reads
from scoring.points import Micro, Milli, U
from scoring.rules import Rule
from scoring.signals import Definition

FADED_AFTER = 3_650
"""Days after which a half-life takes no more."""

SHARES = 10**12


class Slot(NamedTuple):
    """What one element of a score's vector stands for."""

    group: str
    rule: str
    kind: str
    """points, rule cap, group cap, limit, decay, mean or rounding."""


class Group(NamedTuple):
    name: str
    rules: tuple[Rule, ...]
    cap: Milli | None
    weight: Milli


class Need(NamedTuple):
    """What a band asks for beside points."""

    fields: tuple[str, ...]
    actions: tuple[str, ...]
    within: int | None
    """Milliseconds; None: ever."""
    minimum: Micro


class Decay(NamedTuple):
    """What each inactive day takes: the same points, or a share."""

    points: Micro
    shares: tuple[int, ...]
    """What is left after so many days, of SHARES; empty if the decay is linear."""


class Mean(NamedTuple):
    """How the scores of sessions become a lead's."""

    latest: int
    shares: tuple[int, ...]
    """How much a session counts that is so many days older than the newest; empty: all the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    name: str
    groups: tuple[Group, ...]
    slots: tuple[Slot, ...]
    scales: dict[str, list[tuple[Micro, str]]]
    """Per set of bands: (threshold, band), the highest first."""
    band_on_rounded: bool
    needs: dict[str, tuple[Need, ...]]
    """Per band: any one of them is enough."""
    lowest: Micro | None
    highest: Micro | None
    decay: Decay | None
    mean: Mean | None
    rounding: bool
    signals: tuple[Definition, ...]
    reads: Reads
    windows: tuple[tuple[str, tuple[int, ...]], ...]
    """(signal, lengths in days): when days enter or leave them, the score may change."""
    moments: tuple[tuple[str, tuple[int, ...]], ...]
    """(signal, milliseconds after it, rising): then, too."""
    lines: tuple[tuple[tuple[tuple[Any, Milli | None], ...], Milli | None, Milli], ...]
    """The groups once more, as the innermost loop wants them: ((award, cap) ...), cap, weight."""

    @property
    def reads_sessions(self) -> bool:
        """Its rules see one session at a time, and a lead gets their mean."""
        return self.mean is not None


def slots_of(
    groups: tuple[Group, ...], *, limited: bool, decays: bool, mean: bool, rounding: bool
) -> tuple[Slot, ...]:
    """The lines that a breakdown has, in order."""
    slots: list[Slot] = []
    for group in groups:
        for rule in group.rules:
            slots.append(Slot(group.name, rule.name, "points"))
            if rule.cap is not None:
                slots.append(Slot(group.name, rule.name, "rule cap"))
        if group.cap is not None:
            slots.append(Slot(group.name, "", "group cap"))
    last = (("limit", limited), ("decay", decays), ("mean", mean), ("rounding", rounding))
    return (*slots, *(Slot("", "", kind) for kind, present in last if present))


def lines_of(groups: tuple[Group, ...]) -> tuple[Any, ...]:
    return tuple(
        (tuple((rule.body.points, rule.cap) for rule in group.rules), group.cap, group.weight)
        for group in groups
    )


@lru_cache(maxsize=64)
def half_life(days: Decimal) -> tuple[int, ...]:
    """What is left after 0, 1, 2 ... days, of SHARES: exact decimals, the same on every machine."""
    with localcontext() as exact:
        exact.prec = 60
        daily, left, shares = Decimal(2) ** (-1 / days), Decimal(SHARES), []
        for _ in range(FADED_AFTER + 1):
            shares.append(int(left))
            left *= daily
    return tuple(shares)


def touched(
    model: Model,
    lift: Lift | None,
    sessions_changed: bool,  # noqa: FBT001 - each caller has exactly these three in hand, in this order
    stage_changed: bool,  # noqa: FBT001 - as above
) -> bool:
    """May this change the model's score? If not, only time can."""
    reads = model.reads
    if (sessions_changed and reads.sessions) or (stage_changed and reads.stage):
        return True
    if lift is None:
        return False
    return bool(
        reads.created
        or (reads.fields and lift.fields)
        or (reads.sums and lift.sums)
        or (reads.first_touch and lift.touch is not None)
        or any(name in reads.signals for name in lift.signals)
        or any(name in reads.sets for name, _ in lift.items)
        or (_reads_custom(reads) and any(name.startswith(CUSTOM) for name in lift.signals))
    )


def _reads_custom(reads: Reads) -> bool:
    """A new custom signal may displace another: caps are shared."""
    return any(name.startswith(CUSTOM) for name in reads.signals)


def faded(decay: Decay, above: Micro, inactive_days: int) -> Micro:
    """How much of the points above the lowest is gone after so many inactive days, not above 0."""
    if above <= 0 or inactive_days <= 0:
        return 0
    if decay.shares:
        return above * decay.shares[min(inactive_days, FADED_AFTER)] // SHARES - above
    return -min(decay.points * inactive_days, above)


def fades_for(decay: Decay, above: Micro) -> int:
    """After how many inactive days nothing more goes."""
    if above <= 0:
        return 0
    return FADED_AFTER if decay.shares else -(-above // decay.points)


def whole(total: Micro) -> Micro:
    """Rounded half up to a whole point."""
    return (2 * total + U) // (2 * U) * U

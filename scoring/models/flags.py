"""Flags of a lead: what a seller should see at once, such as "Voice message, and nobody answered". Red asks for an act, green
says that the lead is good.

A model's text defines them. A flag is raised while all its conditions hold. It gives no points. It is stored among the bands
of the model, under a name that no set of bands can have; only flags that are raised are there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from scoring.features.view import View
from scoring.models.phrases import Reads, SignalWindows, join_reads

Colour = Literal["red", "green"]
COLOURS: Final[tuple[Colour, ...]] = ("red", "green")
FLAG: Final = "flag"
"""The key of the list in a model's text."""
FLAG_PREFIX: Final = "flag:"
"""Before the name of a flag among the bands."""


class FlagCondition(NamedTuple):
    """A test of a lead and of its rounded total by the model."""

    is_met: Callable[[View, int], bool]
    evidence: Callable[[View, int], str]
    reads: Reads = Reads()
    windows: tuple[SignalWindows, ...] = ()
    moments: tuple[tuple[str, int], ...] = ()


class Flag(NamedTuple):
    name: str
    colour: Colour
    text: str
    conditions: tuple[FlagCondition, ...]

    @property
    def scale(self) -> str:
        """Its name among the bands."""
        return FLAG_PREFIX + self.name

    def is_raised(self, view: View, total: int) -> bool:
        for condition in self.conditions:  # noqa: SIM110 - a generator costs more than what it asks
            if not condition.is_met(view, total):
                return False
        return True


class RaisedFlag(NamedTuple):
    """A flag of a lead in words. `evidence`: why, if the lead's features are known."""

    name: str
    colour: str
    text: str | None = None
    evidence: str | None = None


def reads_of_flags(flags: Iterable[Flag]) -> Reads:
    return join_reads(condition.reads for flag in flags for condition in flag.conditions)


def split_flags(bands: Mapping[str, str | None]) -> tuple[dict[str, str | None], dict[str, str]]:
    """The bands of a score without its flags, and the colours of the flags by name."""
    own = {name: band for name, band in bands.items() if not name.startswith(FLAG_PREFIX)}
    raised = {
        name.removeprefix(FLAG_PREFIX): band
        for name, band in bands.items()
        if name.startswith(FLAG_PREFIX) and band is not None
    }
    return own, raised


def raised_flags(
    bands: Mapping[str, str | None], flags: Sequence[Flag] = (), view: View | None = None, total: int = 0
) -> list[RaisedFlag]:
    """The flags among the bands, the red ones first, in the order of the model's text. A flag that the text no longer has
    keeps its name and colour.
    """
    _, raised = split_flags(bands)
    texts = {flag.name: flag for flag in flags}
    order = {name: number for number, name in enumerate(texts)}
    names = sorted(raised, key=lambda name: (raised[name] != COLOURS[0], order.get(name, len(order)), name))
    shown = []
    for name in names:
        flag, evidence = texts.get(name), None
        if flag is not None and view is not None:
            evidence = "; ".join(condition.evidence(view, total) for condition in flag.conditions)
        shown.append(RaisedFlag(name, raised[name], None if flag is None else flag.text, evidence))
    return shown

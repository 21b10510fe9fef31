"""How an `each` rule counts when it limits repetitions or lets what it counts fade.

`times` and `times_a_day` limit how often acts count, the latest first; `half_life_days` and `fades` make
an act count less with its age in local days. All of it is exact: what acts count is a sum of whole
shares, and the rule's points are cut to thousandths, towards zero, once, at its end.
"""

from collections.abc import Callable, Sequence
from itertools import islice, zip_longest
from operator import mul
from typing import Any, NamedTuple

from scoring.features.features import days_in
from scoring.features.view import View
from scoring.models.decay import SHARES, HalfLifeError, half_life, half_life_days
from scoring.models.phrases import MOST_A_DAY, Days, Phrase
from scoring.models.points import Milli
from scoring.models.text_refusals import is_whole, shorten_value

COUNTING_KEYS = ("times", "times_a_day", "half_life_days", "fades")
MOST_TIMES = 1_000_000
UNLIMITED = 1 << 62


class CountingError(ValueError):
    """The rule cannot count so."""


class Occurrences(NamedTuple):
    acts: int
    """How many count."""
    shares: int
    """What they count together, in parts of an act."""


Aged = tuple[int, Sequence[int]]
"""How many days the latest are old, and the acts of each day from there, the latest first."""


class Counting(NamedTuple):
    """How a rule counts that does not simply count all."""

    tally: Callable[[View], Occurrences]
    parts: int
    """Of a whole act."""
    fading: str
    """In words; empty if an act counts the same at any age."""

    def award(self, points: Milli, view: View) -> Milli:
        worth = abs(points) * self.tally(view).shares // self.parts
        return worth if points > 0 else -worth


def compile_counting(given: dict[str, Any], phrases: Sequence[Phrase]) -> Counting | None:
    """Take the rule's KEYS and understand them; None if there are none. Raises CountingError."""
    if not any(key in given for key in COUNTING_KEYS):
        return None
    times = _limit(given, "times", MOST_TIMES)
    in_days = [key for key in COUNTING_KEYS[1:] if key in given]
    if not in_days:
        return Counting(_up_to(times, phrases), 1, "")
    windows = [phrase.days for phrase in phrases if phrase.days is not None]
    if len(windows) != len(phrases):
        without = next(phrase.text for phrase in phrases if phrase.days is None)
        raise CountingError(f"{in_days[0]} wants a window, x in N days, and {without!r} is none")
    a_day = _limit(given, "times_a_day", MOST_A_DAY)
    shares, parts, fading = _shares(given, windows)
    return Counting(_by_age(windows, times, a_day, shares), parts, fading)


def _limit(given: dict[str, Any], key: str, most: int) -> int:
    if key not in given:
        return UNLIMITED
    value = given.pop(key)
    if not is_whole(value, 1, most):
        raise CountingError(f"{key} is a whole number from 1 to {most:,}, not {shorten_value(value)}")
    return int(value)


def _shares(given: dict[str, Any], windows: Sequence[Days]) -> tuple[tuple[int, ...], int, str]:
    """(what an act of so many days counts, of how many parts, in words)"""
    lengths = sorted({window.length for window in windows})
    if "half_life_days" in given and "fades" in given:
        raise CountingError("half_life_days or fades, not both")
    if "half_life_days" in given:
        try:
            days = half_life_days(given.pop("half_life_days"))
        except HalfLifeError as wrong:
            raise CountingError(str(wrong)) from None
        return (
            half_life(days)[: lengths[-1]],
            SHARES,
            "halved every day" if days == 1 else f"halved every {days:f} days",
        )
    if "fades" not in given:
        return (1,) * lengths[-1], 1, ""
    if (fades := given.pop("fades")) != "linear":
        raise CountingError(f'fades = "linear" is all there is, not {fades!r}')
    if len(lengths) > 1:
        raise CountingError(f'fades = "linear" wants windows of one length, not {_and(lengths)} days')
    (length,) = lengths
    return tuple(range(length, 0, -1)), length, f"fading over {length} {'day' if length == 1 else 'days'}"


def _and(lengths: Sequence[int]) -> str:
    return " and ".join(str(length) for length in lengths)


def _up_to(times: int, phrases: Sequence[Phrase]) -> Callable[[View], Occurrences]:
    reads = [phrase.read for phrase in phrases]

    def tally(view: View) -> Occurrences:
        acts = min(sum([read(view) for read in reads]), times)
        return Occurrences(acts, acts)

    return tally


def _by_age(
    windows: Sequence[Days], times: int, a_day: int, shares: Sequence[int]
) -> Callable[[View], Occurrences]:
    acts_of = _of_one(windows[0], a_day) if len(windows) == 1 else _of_several(windows, a_day)

    def tally(view: View) -> Occurrences:
        age, acts = acts_of(view)
        counted = sum(acts)
        if counted > times:
            acts, counted = _latest(acts, times), times
        return Occurrences(counted, sum(map(mul, acts, islice(shares, age, None))))

    return tally


def _of_one(window: Days, a_day: int) -> Callable[[View], tuple[int, bytes]]:
    kept_of = bytes(min(count, a_day, window.most) for count in range(256))

    def acts_of(view: View) -> tuple[int, bytes]:
        found = view.signals.get(window.signal)
        if found is None:
            return 0, b""
        days = days_in(found, view.day - window.length, view.day)
        return max(view.day - found.last_day, 0), days.translate(kept_of)[::-1]

    return acts_of


def _of_several(windows: Sequence[Days], a_day: int) -> Callable[[View], Aged]:
    each = [_of_one(window, UNLIMITED) for window in windows]

    def acts_of(view: View) -> Aged:
        found = [bytes(age) + acts for age, acts in [of_one(view) for of_one in each] if acts]
        together = [sum(of_day) for of_day in zip_longest(*found, fillvalue=0)]
        return 0, together if a_day == UNLIMITED else [min(count, a_day) for count in together]

    return acts_of


def _latest(acts: Sequence[int], times: int) -> list[int]:
    """The first so many of them."""
    kept = []
    for count in acts:
        kept.append(min(count, times))
        times -= kept[-1]
        if not times:
            break
    return kept

"""How an `each` rule counts if it limits repetitions or its points decay.

`times` and `times_a_day` limit how many events count, the latest first; with `half_life_days` and `fades` an event
counts less with its age in local days. All of it is exact: events count in whole shares, and the rule's points are
cut to thousandths, towards zero, once, at the end.
"""

from collections.abc import Callable, Sequence
from itertools import islice, zip_longest
from operator import mul
from typing import Any, NamedTuple

from scoring.features.features import days_in
from scoring.features.view import View
from scoring.models.decay import WHOLE_SHARE, HalfLifeError, half_life_shares, read_half_life_days
from scoring.models.phrases import MOST_COUNTED_A_DAY, ValuePhrase, WindowDays
from scoring.models.points import MilliPoints
from scoring.models.text_refusals import is_whole_number, shorten_value

COUNTING_KEYS = ("times", "times_a_day", "half_life_days", "fades")
LARGEST_TIMES = 1_000_000
UNLIMITED_TIMES = 1 << 62


class CountingError(ValueError):
    """The rule's limits or decay are wrong."""


class Occurrences(NamedTuple):
    counted: int
    """How many events count."""
    shares: int
    """What they count in all, in parts of an event."""


TotalAndCountsByAge = tuple[int, Sequence[int]]
"""The age of the latest event in days, and the events of each day before it, the latest day first."""


class LimitedCounting(NamedTuple):
    """How a rule counts that does not count every event in full."""

    occurrences: Callable[[View], Occurrences]
    parts: int
    """Parts of a whole event."""
    decay_text: str
    """The decay in words; empty if an event counts the same at any age."""

    def award(self, points: MilliPoints, view: View) -> MilliPoints:
        worth = abs(points) * self.occurrences(view).shares // self.parts
        return worth if points > 0 else -worth


def compile_counting(table: dict[str, Any], phrases: Sequence[ValuePhrase]) -> LimitedCounting | None:
    """Remove COUNTING_KEYS from the rule's table and compile them; None if it has none. Raises CountingError."""
    if not any(key in table for key in COUNTING_KEYS):
        return None
    times = _pop_limit(table, "times", LARGEST_TIMES)
    in_days = [key for key in COUNTING_KEYS[1:] if key in table]
    if not in_days:
        return LimitedCounting(_occurrences_up_to(times, phrases), 1, "")
    windows = [phrase.days for phrase in phrases if phrase.days is not None]
    if len(windows) != len(phrases):
        without = next(phrase.text for phrase in phrases if phrase.days is None)
        raise CountingError(f"{in_days[0]} wants a window, x in N days, and {without!r} is none")
    a_day = _pop_limit(table, "times_a_day", MOST_COUNTED_A_DAY)
    shares, parts, decay_text = _pop_shares(table, windows)
    return LimitedCounting(_occurrences_by_age(windows, times, a_day, shares), parts, decay_text)


def _pop_limit(table: dict[str, Any], key: str, most: int) -> int:
    if key not in table:
        return UNLIMITED_TIMES
    value = table.pop(key)
    if not is_whole_number(value, 1, most):
        raise CountingError(f"{key} is a whole number from 1 to {most:,}, not {shorten_value(value)}")
    return int(value)


def _pop_shares(table: dict[str, Any], windows: Sequence[WindowDays]) -> tuple[tuple[int, ...], int, str]:
    """(what an event counts at each age in days, the parts of a whole event, the decay in words)"""
    lengths = sorted({window.length for window in windows})
    if "half_life_days" in table and "fades" in table:
        raise CountingError("half_life_days or fades, not both")
    if "half_life_days" in table:
        try:
            days = read_half_life_days(table.pop("half_life_days"))
        except HalfLifeError as wrong:
            raise CountingError(str(wrong)) from None
        return (
            half_life_shares(days)[: lengths[-1]],
            WHOLE_SHARE,
            "halved every day" if days == 1 else f"halved every {days:f} days",
        )
    if "fades" not in table:
        return (1,) * lengths[-1], 1, ""
    if (fades := table.pop("fades")) != "linear":
        raise CountingError(f'fades = "linear" is all there is, not {fades!r}')
    if len(lengths) > 1:
        raise CountingError(
            f'fades = "linear" wants windows of one length, not {_lengths_text(lengths)} days'
        )
    (length,) = lengths
    return tuple(range(length, 0, -1)), length, f"fading over {length} {'day' if length == 1 else 'days'}"


def _lengths_text(lengths: Sequence[int]) -> str:
    return " and ".join(str(length) for length in lengths)


def _occurrences_up_to(times: int, phrases: Sequence[ValuePhrase]) -> Callable[[View], Occurrences]:
    reads = [phrase.read for phrase in phrases]

    def occurrences(view: View) -> Occurrences:
        count = min(sum([read(view) for read in reads]), times)
        return Occurrences(count, count)

    return occurrences


def _occurrences_by_age(
    windows: Sequence[WindowDays], times: int, a_day: int, shares: Sequence[int]
) -> Callable[[View], Occurrences]:
    count_days = (
        _counts_in_window(windows[0], a_day) if len(windows) == 1 else _counts_in_windows(windows, a_day)
    )

    def occurrences(view: View) -> Occurrences:
        age, by_day = count_days(view)
        counted = sum(by_day)
        if counted > times:
            by_day, counted = _latest_counts(by_day, times), times
        return Occurrences(counted, sum(map(mul, by_day, islice(shares, age, None))))

    return occurrences


def _counts_in_window(window: WindowDays, a_day: int) -> Callable[[View], tuple[int, bytes]]:
    kept_of = bytes(min(count, a_day, window.most) for count in range(256))

    def count_days(view: View) -> tuple[int, bytes]:
        signal = view.signals.get(window.signal)
        if signal is None:
            return 0, b""
        days = days_in(signal, view.day - window.length, view.day)
        return max(view.day - signal.last_day, 0), days.translate(kept_of)[::-1]

    return count_days


def _counts_in_windows(windows: Sequence[WindowDays], a_day: int) -> Callable[[View], TotalAndCountsByAge]:
    each = [_counts_in_window(window, UNLIMITED_TIMES) for window in windows]

    def count_days(view: View) -> TotalAndCountsByAge:
        several = [bytes(age) + by_day for age, by_day in [of_one(view) for of_one in each] if by_day]
        together = [sum(of_day) for of_day in zip_longest(*several, fillvalue=0)]
        return 0, together if a_day == UNLIMITED_TIMES else [min(count, a_day) for count in together]

    return count_days


def _latest_counts(by_day: Sequence[int], times: int) -> list[int]:
    """The latest events only, up to `times`."""
    kept = []
    for count in by_day:
        kept.append(min(count, times))
        times -= kept[-1]
        if not times:
            break
    return kept

"""Intervals of what each channel is credited with, by every model. Pure.

Each counts the credits of the groups of leads that a resample drew (see `bootstrap`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.bootstrap import BootstrapInterval, draws, interval_of
from scoring.attribution.markov import (
    MOST_CHANNELS_BY_ORDER,
    ChannelChain,
    Path,
    PathCount,
    bounded_paths,
    channel_chain,
    effects_of_counts,
    step_counts,
)
from scoring.attribution.shapley import shapley_values

MOST_RESAMPLED_STATES: Final = 64
"""A chain with more states has no intervals: they would take minutes."""

ChannelIntervals = dict[str, BootstrapInterval]


class GroupPath(NamedTuple):
    """How often leads of a group took a path of channels, and how it ended."""

    group: int
    path: Path
    converted: int
    abandoned: int = 0


def credit_intervals(
    credited: Iterable[tuple[int, str, float]], groups: Sequence[int], seed: str
) -> ChannelIntervals:
    """The interval of each channel's sum, of (group, channel, credit)."""
    row_of = {group: row for row, group in enumerate(groups)}
    by_channel: defaultdict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(len(groups)))
    for group, channel, credit in credited:
        by_channel[channel][row_of[group]] += credit
    drawn = draws(seed, len(groups)) if by_channel else np.zeros((0, len(groups)))
    return {channel: interval_of(drawn @ sums) for channel, sums in sorted(by_channel.items())}


def shapley_intervals(paths: Iterable[GroupPath], groups: Sequence[int], seed: str) -> ChannelIntervals:
    """The Shapley value is a sum over conversions, so each group has its own."""
    of_group: defaultdict[int, list[tuple[Path, int]]] = defaultdict(list)
    for each in paths:
        of_group[each.group].append((each.path, each.converted))
    credited = [
        (group, channel, float(value))
        for group, own in of_group.items()
        for channel, value in shapley_values(own).items()
    ]
    return credit_intervals(credited, groups, seed)


def markov_intervals(
    paths: Sequence[GroupPath], groups: Sequence[int], order: int, seed: str
) -> ChannelIntervals | None:
    """The intervals of the conversions that a chain credits; None if it has too many states."""
    distinct: dict[Path, list[int]] = {}
    for _, path, converted, abandoned in paths:
        if path:
            counts = distinct.setdefault(path, [0, 0])
            counts[0] += converted
            counts[1] += abandoned
    merged = bounded_paths(
        [PathCount(path, *counts) for path, counts in distinct.items()], MOST_CHANNELS_BY_ORDER[order]
    )
    chain = channel_chain(step_counts(merged, order))
    if not merged or len(chain.states) > MOST_RESAMPLED_STATES:
        return None if merged else {}
    row_of = {group: row for row, group in enumerate(groups)}
    column_of = {path: column for column, path in enumerate(distinct)}
    taken = np.zeros((2, len(groups), len(distinct)))
    for group, path, converted, abandoned in paths:
        if path:
            taken[:, row_of[group], column_of[path]] += (converted, abandoned)
    steps = taken[0] @ _steps_of_paths(merged, chain, order, (1, 0))
    steps += taken[1] @ _steps_of_paths(merged, chain, order, (0, 1))
    drawn = draws(seed, len(groups))
    return _shares_of_effects(effects_of_counts(chain, drawn @ steps), drawn @ taken[0].sum(axis=1))


def _steps_of_paths(
    paths: Sequence[PathCount], chain: ChannelChain, order: int, ends: tuple[int, int]
) -> NDArray[np.float64]:
    """How often each path takes each step, if it ends so."""
    column_of = {step: column for column, step in enumerate(chain.steps)}
    steps = np.zeros((len(paths), len(column_of)))
    for row, each in enumerate(paths):
        for step, count in step_counts([PathCount(each.path, *ends)], order).items():
            if step in column_of:  # no lead's path ended so
                steps[row, column_of[step]] += count
    return steps


def _shares_of_effects(
    effects: Mapping[str, NDArray[np.float64]], conversions: NDArray[np.float64]
) -> ChannelIntervals:
    if not effects:
        return {}
    total = np.sum(list(effects.values()), axis=0)
    return {
        channel: interval_of(
            conversions * np.divide(effect, total, out=np.zeros_like(total), where=total > 0)
        )
        for channel, effect in effects.items()
    }

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
    merged = bounded_paths(
        [PathCount(each.path, each.converted, each.abandoned) for each in paths if each.path],
        MOST_CHANNELS_BY_ORDER[order],
    )
    owners = [each.group for each in paths if each.path]
    chain = channel_chain(step_counts(merged, order))
    if not merged or len(chain.states) > MOST_RESAMPLED_STATES:
        return None if merged else {}
    row_of = {group: row for row, group in enumerate(groups)}
    column_of = {step: column for column, step in enumerate(chain.steps)}
    steps, converted = np.zeros((len(groups), len(column_of))), np.zeros(len(groups))
    for group, each in zip(owners, merged, strict=True):
        converted[row_of[group]] += each.converted
        for step, count in step_counts([each], order).items():
            steps[row_of[group], column_of[step]] += count
    drawn = draws(seed, len(groups))
    effects = effects_of_counts(chain, drawn @ steps)
    return _shares_of_effects(effects, drawn @ converted)


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

"""Attribution by a Markov chain of channels: what conversions would be missed without each channel. Pure.

The state is the last `order` channels of a path. A path goes from the start through its channels to a conversion, or is
abandoned. The removal effect of a channel is 1 - P(without) / P, where P is the probability of a conversion from the start,
and without the channel every path that reaches it is abandoned. Channels are credited in proportion to their removal
effects. (Anderl, Becker, von Wangenheim, Schumann: Mapping the customer journey, 2016.)

With Q the probabilities between states and b those of a conversion next, the probabilities x of a conversion from each
state solve (I - Q) x = b. These systems of equations are solved; nothing is simulated.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_CHANNELS_BY_ORDER: Final[Mapping[int, int]] = {1: 32, 2: 16, 3: 8}
"""Channels that are states of their own. The least frequent ones beyond are one channel, OTHER_CHANNELS."""
OTHER_CHANNELS: Final = "(other)"
_PART_SCALE: Final = 1 << 53

Path = tuple[str, ...]
State = tuple[str, ...]
Step = tuple[State, State]

_START: Final[State] = ()
CONVERTED: Final[State] = ("", "converted")
ABANDONED: Final[State] = ("", "abandoned")
"""The two ends. Names of channels are not empty."""


class PathCount(NamedTuple):
    """How often a path of channels was taken, and how it ended."""

    path: Path
    converted: int
    abandoned: int = 0


class ChannelChain(NamedTuple):
    """The states of a chain, and the index of each step in vectors of counts."""

    states: Sequence[State]
    """The start is the first one."""
    steps: Sequence[Step]


def removal_effects(paths: Iterable[PathCount], order: int = 1) -> dict[str, float]:
    """The removal effect of each channel; empty if no path converts. Paths without channels are left out."""
    taken = step_counts(bounded_paths(paths, MOST_CHANNELS_BY_ORDER[order]), order)
    chain = channel_chain(taken)
    effects = effects_of_counts(chain, np.array([[taken[step] for step in chain.steps]], dtype=float))
    return {channel: float(by_sample[0]) for channel, by_sample in effects.items()}


def removal_parts(effects: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to the effects."""
    return {channel: round(effect * _PART_SCALE) for channel, effect in effects.items()}


def bounded_paths(paths: Iterable[PathCount], most_channels: int) -> list[PathCount]:
    """The paths with channels, of which at most `most_channels` differ: the rarest ones become OTHER_CHANNELS."""
    counted = [each for each in paths if each.path]
    uses: Counter[str] = Counter()
    for path, converted, abandoned in counted:
        for channel in set(path):
            uses[channel] += converted + abandoned
    if len(uses) <= most_channels:
        return counted
    kept = set(sorted(uses, key=lambda channel: (-uses[channel], channel))[: most_channels - 1])
    return [
        PathCount(
            _without_repeats(each if each in kept else OTHER_CHANNELS for each in path), converted, abandoned
        )
        for path, converted, abandoned in counted
    ]


def step_counts(paths: Iterable[PathCount], order: int) -> dict[Step, int]:
    """How often each step from state to state was taken."""
    taken: defaultdict[Step, int] = defaultdict(int)
    for path, converted, abandoned in paths:
        state = _START
        for channel in path:
            following = (*state, channel)[-order:]
            taken[state, following] += converted + abandoned
            state = following
        for end, count in ((CONVERTED, converted), (ABANDONED, abandoned)):
            if count:
                taken[state, end] += count
    return dict(taken)


def channel_chain(taken: Iterable[Step]) -> ChannelChain:
    steps = sorted(taken)
    return ChannelChain(sorted({state for state, _ in steps} | {_START}), steps)


def effects_of_counts(chain: ChannelChain, counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The removal effects of several samples at once. `counts`: (samples, steps); the result: (samples,) for each
    channel, 0 in a sample without a conversion. Empty if no sample has one.
    """
    index = {state: number for number, state in enumerate(chain.states)}
    size = len(index)
    between = np.zeros((len(counts), size, size))
    converts = np.zeros((len(counts), size))
    leaving = np.zeros((len(counts), size))
    for (state, following), count in zip(chain.steps, counts.T, strict=True):
        leaving[:, index[state]] += count
        if following == CONVERTED:
            converts[:, index[state]] = count
        elif following != ABANDONED:
            between[:, index[state], index[following]] = count
    leaving[leaving == 0] = 1.0  # a state that the sample does not reach
    between /= leaving[:, :, None]
    converts /= leaving
    return _removal_effects(between, converts, index)


def _removal_effects(
    between: NDArray[np.float64], converts: NDArray[np.float64], index: Mapping[State, int]
) -> dict[str, NDArray[np.float64]]:
    """By the fundamental matrix N = (I - Q)^-1. Paths step into the states C of a channel first at its states with the
    probabilities h = N[start, C] N[C, C]^-1; without the channel, h x[C] of the conversions are missed.
    """
    visits = np.linalg.inv(np.eye(len(index)) - between)
    converting = np.einsum("sij,sj->si", visits, converts)
    start = index[_START]
    probability = converting[:, start]
    if not probability.any():
        return {}
    states_of: defaultdict[str, list[int]] = defaultdict(list)
    for state, number in index.items():
        if state:
            states_of[state[-1]].append(number)
    effects = {}
    for channel, numbers in sorted(states_of.items()):
        returns = visits[:, numbers][:, :, numbers]
        abandoned = np.linalg.solve(returns, converting[:, numbers, None])[:, :, 0]
        share = np.einsum("si,si->s", visits[:, start, numbers], abandoned)
        effects[channel] = np.divide(
            share, probability, out=np.zeros_like(probability), where=probability > 0
        )
    return effects


def _without_repeats(channels: Iterable[str]) -> Path:
    path: list[str] = []
    for channel in channels:
        if not path or path[-1] != channel:
            path.append(channel)
    return tuple(path)

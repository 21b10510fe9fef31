"""The credits of a conversion: what each touchpoint, channel and source gets by each model. Pure, exact.

Weights are billionths that sum to a billion; money is minor units that sum to the conversion's value. A conversion
without touchpoints credits NO_TOUCHPOINT with all of it.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, TypeVar

from scoring.attribution.conversions import AttributedConversion, CurrencyAmount
from scoring.attribution.rules import TOUCH_MODELS
from scoring.attribution.touchpoints import Touchpoint
from scoring.attribution.weights import WEIGHT_UNITS, divide, touch_parts

NO_TOUCHPOINT: Final = "(none)"
"""The channel and the source that get what no touchpoint explains."""

Key = TypeVar("Key", bound=Hashable)


class ModelCredits(NamedTuple):
    """By one model, in the order of the touchpoints."""

    weights: Sequence[int]
    """Billionths."""
    amounts: Sequence[Sequence[int]]
    """For each of the conversion's values, the minor units of each touchpoint."""


class SourceCredit(NamedTuple):
    """What a channel and source get of one conversion in one currency. Only the first currency of a conversion has
    weights, so sums over rows count a conversion once.
    """

    channel: str
    source_type: str
    source_name: str
    currency: str | None
    weights: tuple[int, ...]
    """By each of TOUCH_MODELS."""
    amounts: tuple[int, ...]


class MainTouchpoints(NamedTuple):
    """The indexes of the touchpoints with the highest and the second highest weight; the earlier of equals first."""

    primary: int | None
    secondary: int | None


def credits_by_model(conversion: AttributedConversion, half_life_ms: int) -> dict[str, ModelCredits]:
    """The credits of the touchpoints by every model."""
    ages = [conversion.at - touchpoint.at for touchpoint in conversion.touchpoints]
    by_model = {}
    for model in TOUCH_MODELS:
        parts = touch_parts(model, ages, half_life_ms, conversion.opportunity)
        by_model[model] = ModelCredits(
            divide(WEIGHT_UNITS, parts), [divide(minor, parts) for _, minor in conversion.values]
        )
    return by_model


def weights_by_channel(conversion: AttributedConversion, half_life_ms: int) -> dict[str, dict[str, int]]:
    """By model, the weight of each channel."""
    if not conversion.touchpoints:
        return {model: {NO_TOUCHPOINT: WEIGHT_UNITS} for model in TOUCH_MODELS}
    return {
        model: _sums(conversion.touchpoints, credited.weights, lambda touchpoint: touchpoint.channel)
        for model, credited in credits_by_model(conversion, half_life_ms).items()
    }


def source_credits(conversion: AttributedConversion, half_life_ms: int) -> list[SourceCredit]:
    """What each channel and source gets, in each currency of the conversion."""
    values: Sequence[CurrencyAmount | tuple[None, int]] = conversion.values or ((None, 0),)
    if not conversion.touchpoints:
        count = len(TOUCH_MODELS)
        return [
            SourceCredit(
                NO_TOUCHPOINT,
                NO_TOUCHPOINT,
                NO_TOUCHPOINT,
                currency,
                (0 if index else WEIGHT_UNITS,) * count,
                (minor,) * count,
            )
            for index, (currency, minor) in enumerate(values)
        ]
    by_model = credits_by_model(conversion, half_life_ms)
    weights = {
        model: _sums(conversion.touchpoints, credited.weights, _source_of)
        for model, credited in by_model.items()
    }
    sources = list(dict.fromkeys(map(_source_of, conversion.touchpoints)))
    rows = []
    for index, (currency, _) in enumerate(values):
        amounts = {
            model: _sums(conversion.touchpoints, credited.amounts[index], _source_of)
            if conversion.values
            else {}
            for model, credited in by_model.items()
        }
        rows += [
            SourceCredit(
                *source,
                currency,
                tuple(0 if index else weights[model][source] for model in TOUCH_MODELS),
                tuple(amounts[model].get(source, 0) for model in TOUCH_MODELS),
            )
            for source in sources
        ]
    return rows


def main_touchpoints(weights: Sequence[int]) -> MainTouchpoints:
    """The primary and the secondary touchpoint by a model's weights. A touchpoint without weight is neither."""
    first, second, *_ = (
        *sorted(
            (index for index, weight in enumerate(weights) if weight),
            key=lambda index: (-weights[index], index),
        )[:2],
        None,
        None,
    )
    return MainTouchpoints(first, second)


def channel_path(touchpoints: Sequence[Touchpoint]) -> tuple[str, ...]:
    """The channels in order. Touchpoints of one channel in a row are one step."""
    path: list[str] = []
    for touchpoint in touchpoints:
        if not path or path[-1] != touchpoint.channel:
            path.append(touchpoint.channel)
    return tuple(path)


def mean_gap_ms(touchpoints: Sequence[Touchpoint]) -> float | None:
    """The mean time between touchpoints; None for fewer than two."""
    if len(touchpoints) < 2:
        return None
    return (touchpoints[-1].at - touchpoints[0].at) / (len(touchpoints) - 1)


def journey_ms(conversion: AttributedConversion) -> int:
    """From the first touchpoint to the conversion; 0 without touchpoints."""
    return conversion.at - conversion.touchpoints[0].at if conversion.touchpoints else 0


def _source_of(touchpoint: Touchpoint) -> tuple[str, str, str]:
    return touchpoint.channel, touchpoint.source_type, touchpoint.source_name


def _sums(
    touchpoints: Sequence[Touchpoint], shares: Sequence[int], key_of: Callable[[Touchpoint], Key]
) -> dict[Key, int]:
    sums: defaultdict[Key, int] = defaultdict(int)
    for touchpoint, share in zip(touchpoints, shares, strict=True):
        sums[key_of(touchpoint)] += share
    return dict(sums)

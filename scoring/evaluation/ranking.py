"""How well scores rank the leads that convert: decile lift, gains, precision at a capacity, AUC.

Leads with equal scores have no order: every figure is the exact expected value over all orders, as a fraction.
Rankings of several moments add up; each lead is ranked among the leads of its own moment only. Pure; figures
become floats only for output.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

from scoring.experiments.proportions import wilson_interval
from scoring.models.points import MicroPoints

TENTHS = 10

ScoreAndOutcome = tuple[MicroPoints, bool]
"""(score, converted)"""


class TiedLeads(NamedTuple):
    """The leads of one score."""

    leads: int
    converted: int


class Ranking(NamedTuple):
    """Sums only, so that rankings of several moments add up."""

    leads: int
    converted: int
    tenths: tuple[tuple[int, Fraction], ...]
    """Leads and expected conversions of each tenth, the highest scores first."""
    chosen: int
    """The leads within the capacity."""
    hits: Fraction
    """Conversions expected among the chosen."""
    by_chance: Fraction
    """Conversions expected among as many leads chosen at random."""
    ahead: int
    """Of the pairs of a lead that converted and one that did not: twice those where the first scored higher, plus
    those with equal scores.
    """
    pairs: int


def rank_leads(pairs: Iterable[ScoreAndOutcome], capacity: int) -> Ranking:
    """The ranking of one moment's leads."""
    groups = tied_leads(pairs)
    leads, converted = sum(g.leads for g in groups), sum(g.converted for g in groups)
    chosen = min(capacity, leads)
    ends = [leads * n // TENTHS for n in range(TENTHS + 1)]
    reached = [expected_conversions_among(groups, end) for end in ends]
    return Ranking(
        leads,
        converted,
        tuple((ends[n + 1] - ends[n], reached[n + 1] - reached[n]) for n in range(TENTHS)),
        chosen,
        expected_conversions_among(groups, chosen),
        Fraction(chosen * converted, leads) if leads else Fraction(0),
        _correctly_ordered_pairs(groups),
        converted * (leads - converted),
    )


def pooled_ranking(rankings: Sequence[Ranking]) -> Ranking:
    """The sum of the rankings; all zeros without any."""
    return Ranking(
        sum(r.leads for r in rankings),
        sum(r.converted for r in rankings),
        tuple(
            (sum(r.tenths[n][0] for r in rankings), sum((r.tenths[n][1] for r in rankings), Fraction(0)))
            for n in range(TENTHS)
        ),
        sum(r.chosen for r in rankings),
        sum((r.hits for r in rankings), Fraction(0)),
        sum((r.by_chance for r in rankings), Fraction(0)),
        sum(r.ahead for r in rankings),
        sum(r.pairs for r in rankings),
    )


def tied_leads(pairs: Iterable[ScoreAndOutcome]) -> list[TiedLeads]:
    """The leads by score, the highest first."""
    highest_first = sorted(pairs, key=_score, reverse=True)
    return [
        TiedLeads(len(of_one), sum(converted for _, converted in of_one))
        for of_one in (list(group) for _, group in groupby(highest_first, key=_score))
    ]


def expected_conversions_among(groups: Sequence[TiedLeads], first: int) -> Fraction:
    """Expected conversions among the first leads. Of a group that is cut, every lead is equally likely."""
    expected = Fraction(0)
    for group in groups:
        if first <= 0:
            break
        taken = min(first, group.leads)
        expected += Fraction(taken * group.converted, group.leads)
        first -= taken
    return expected


def _correctly_ordered_pairs(groups: Sequence[TiedLeads]) -> int:
    ahead = below = 0
    for group in reversed(groups):
        others = group.leads - group.converted
        ahead += group.converted * (2 * below + others)
        below += others
    return ahead


def _score(pair: ScoreAndOutcome) -> MicroPoints:
    return pair[0]


# Figures


def conversion_rate(ranking: Ranking) -> Fraction | None:
    return _share_of(ranking.converted, ranking.leads)


def area_under_curve(ranking: Ranking) -> Fraction | None:
    """How likely a lead that converts scored higher than one that does not; 1/2 is chance, None: no such pair."""
    return _share_of(ranking.ahead, 2 * ranking.pairs)


def precision(ranking: Ranking) -> Fraction | None:
    """The share of the chosen that converts."""
    return _share_of(ranking.hits, ranking.chosen)


def recall(ranking: Ranking) -> Fraction | None:
    """The share of all conversions that is among the chosen."""
    return _share_of(ranking.hits, ranking.converted)


def lift_of_tenth(ranking: Ranking, tenth: int) -> Fraction | None:
    """How many times as often the leads of a tenth (0: the highest scores) convert as all leads do."""
    leads, converted = ranking.tenths[tenth]
    return _share_of(converted * ranking.leads, leads * ranking.converted)


def cumulative_gains(ranking: Ranking) -> list[Fraction | None]:
    """The share of all conversions in the first tenth, in the first two, and so on."""
    sums, reached = [], Fraction(0)
    for _, converted in ranking.tenths:
        reached += converted
        sums.append(_share_of(reached, ranking.converted))
    return sums


def ranking_figures(ranking: Ranking) -> dict[str, Any]:
    """All figures as numbers for people and JSON; null where the divisor is 0. The intervals are Wilson's, at 95%,
    and assume independent leads.
    """
    gained = cumulative_gains(ranking)
    return {
        "leads": ranking.leads,
        "converted": ranking.converted,
        "conversion_rate": _float_or_none(conversion_rate(ranking)),
        "auc": _float_or_none(area_under_curve(ranking)),
        "capacity": {
            "chosen": ranking.chosen,
            "converted": float(ranking.hits),
            "precision": _float_or_none(precision(ranking)),
            "interval": _conversion_interval(ranking.hits, ranking.chosen),
            "recall": _float_or_none(recall(ranking)),
            "converted_by_chance": float(ranking.by_chance),
            "times_chance": _float_or_none(_share_of(ranking.hits, ranking.by_chance)),
        },
        "deciles": [
            {
                "decile": n + 1,
                "leads": leads,
                "converted": float(converted),
                "conversion_rate": _float_or_none(_share_of(converted, leads)),
                "interval": _conversion_interval(converted, leads),
                "lift": _float_or_none(lift_of_tenth(ranking, n)),
                "gain": _float_or_none(gained[n]),
            }
            for n, (leads, converted) in enumerate(ranking.tenths)
        ],
    }


def _share_of(part: Fraction | int, whole: Fraction | int) -> Fraction | None:
    return Fraction(part) / whole if whole else None


def _float_or_none(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _conversion_interval(converted: Fraction, leads: int) -> tuple[float, float] | None:
    return wilson_interval((float(converted), leads)) if leads else None

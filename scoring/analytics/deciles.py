"""Conversion by score decile: of ten equal groups of leads, the highest scores first. Pure.

Leads with equal scores have no order, so a decile that cuts them has their expected conversions.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from scoring.analytics.shares import share
from scoring.evaluation.ranking import TENTHS, TiedLeads, expected_conversions_among


class Decile(NamedTuple):
    decile: int
    """1 has the highest scores."""
    leads: int
    customers: float
    conversion_rate: float | None
    lift: float | None
    """The rate divided by that of all leads."""
    highest_score: int | None
    lowest_score: int | None


def deciles(leads_by_score: Mapping[int, TiedLeads]) -> list[Decile]:
    scores = sorted(leads_by_score, reverse=True)
    groups = [leads_by_score[score] for score in scores]
    leads, converted = sum(g.leads for g in groups), sum(g.converted for g in groups)
    shown, start, before = [], 0, Fraction(0)
    for number in range(1, TENTHS + 1):
        end = leads * number // TENTHS
        reached = expected_conversions_among(groups, end)
        size, customers = end - start, reached - before
        rate = customers / size if size else None
        shown.append(
            Decile(
                number,
                size,
                round(float(customers), 2),
                share(float(customers), size),
                None if rate is None or not converted else round(float(rate * leads / converted), 2),
                _score_at(scores, groups, start) if size else None,
                _score_at(scores, groups, end - 1) if size else None,
            )
        )
        start, before = end, reached
    return shown


def _score_at(scores: list[int], groups: list[TiedLeads], number: int) -> int:
    """The score of the lead of this rank, from 0."""
    for score, group in zip(scores, groups, strict=True):
        number -= group.leads
        if number < 0:
            return score
    raise ValueError("there are not so many leads")

"""Compares the leads of two stores: as they are recorded, and as the restated store has them.

Both are read once, in the order of their keys, so memory is bounded.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import Struct

from projections.connection import Connection
from projections.row_keys import lead_row_key
from scoring.models.flags import split_flags

MOVERS: Final = 20
"""How many of the leads that move most are listed."""
LINES: Final = 3
EXAMPLES: Final = 5
_PAGE: Final = 2_000

_LEADS: Final = """
    select l.lead_key, l.tenant, l.lead_id, l.name, l.identified, l.stage, coalesce(s.scores, '{}')
    from leads l
    left join (select lead_key, jsonb_object_agg(model, jsonb_build_array(rounded, bands)) as scores
               from lead_scores group by lead_key) s using (lead_key)
    where l.identities > 0 order by l.lead_key"""
_LINES: Final = """
    select line ->> 0, line ->> 1, line ->> 2, sum((line ->> 3)::numeric)
    from score_history, jsonb_array_elements(lines) as line
    where lead_key = %s and model = %s group by 1, 2, 3"""
_REASONS: Final = """
    select kind, count(*) from public.door_changes join identities using (identity_key)
    where tenant = %s and lead_id = %s group by kind order by 2 desc, 1"""


class ComparedLead(NamedTuple):
    key: int
    tenant: str
    lead_id: str
    name: str | None
    identified: bool
    stage: str
    scores: dict[str, tuple[int, dict[str, str | None]]]
    """By model: the rounded total and the bands."""


class ModelMoves(Struct):
    rise: int = 0
    fall: int = 0
    change_band: int = 0


class MovingLead(Struct):
    tenant: str
    lead_id: str
    name: str | None
    identified: bool
    model: str
    before: int
    after: int
    bands: list[tuple[str, str | None, str | None]]
    """(scale, before, after) of those that differ."""
    lines: list[tuple[str, float]] = []
    """The lines of the breakdown that differ most: (rule, points)."""
    reasons: dict[str, int] = {}
    """By kind of decision, how many events of the lead today's door takes differently."""


class LeadMoves(Struct):
    """How the leads of the restated store differ. Leads that are in both stores count as the same lead by their id."""

    leads: int = 0
    """Of the store as recorded, anonymous visitors included."""
    moving: int = 0
    """Whose rounded score, band or stage differs."""
    stages: dict[str, int] = {}
    """Stages that leads change, as `contacted to engaged`, with the number of leads."""
    new: int = 0
    merged: int = 0
    """Leads whose events belong to other leads, or to nobody, in the restated store."""
    new_examples: list[str] = []
    merged_examples: list[str] = []
    models: dict[str, ModelMoves] = {}
    movers: list[MovingLead] = []


def compare_leads(old: Connection, new: Connection) -> LeadMoves:
    """The connections have the search path of `READ_OPTIONS`; each is in a transaction."""
    moves = LeadMoves(new_examples=[], merged_examples=[], models={}, movers=[])
    models: defaultdict[str, ModelMoves] = defaultdict(ModelMoves)
    stages: Counter[str] = Counter()
    for before, after in _pairs(_leads(old, "recorded"), _leads(new, "restated")):
        moves.leads += before is not None
        if before is None or after is None:
            _count_unmatched(moves, before, after)
            continue
        of_models = list(_moves_of(before, after))
        for each in of_models:
            counts = models[each.model]
            counts.rise += each.after > each.before
            counts.fall += each.after < each.before
            counts.change_band += bool(each.bands)
        if before.stage != after.stage:
            stages[f"{before.stage} to {after.stage}"] += 1
        moves.moving += bool(of_models) or before.stage != after.stage
        if of_models:
            moves.movers.append(max(of_models, key=_distance))
        if len(moves.movers) > 10 * MOVERS:
            moves.movers = _furthest(moves.movers)
    moves.models, moves.stages = dict(sorted(models.items())), dict(stages.most_common())
    moves.movers = _furthest(moves.movers)
    for mover in moves.movers:
        _explain(mover, old, new)
    return moves


def _leads(connection: Connection, name: str) -> Iterator[ComparedLead]:
    with connection.cursor(name=name) as cursor:
        cursor.itersize = _PAGE
        cursor.execute(_LEADS)
        for row in cursor:
            yield ComparedLead(*row)


def _pairs(
    old: Iterator[ComparedLead], new: Iterator[ComparedLead]
) -> Iterator[tuple[ComparedLead | None, ComparedLead | None]]:
    """The leads of both, by key; None where a store lacks the lead."""
    before, after = next(old, None), next(new, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before.key < after.key):
            yield before, None
            before = next(old, None)
        elif before is None or after.key < before.key:
            yield None, after
            after = next(new, None)
        else:
            yield before, after
            before, after = next(old, None), next(new, None)


def _count_unmatched(moves: LeadMoves, before: ComparedLead | None, after: ComparedLead | None) -> None:
    if after is not None:
        moves.new += 1
        if len(moves.new_examples) < EXAMPLES:
            moves.new_examples.append(after.lead_id)
    elif before is not None:
        moves.merged += 1
        if len(moves.merged_examples) < EXAMPLES:
            moves.merged_examples.append(before.lead_id)


def _moves_of(before: ComparedLead, after: ComparedLead) -> Iterator[MovingLead]:
    """The models by which the lead moves. A model that scores it in one store only counts as 0 in the other."""
    for model in sorted(before.scores.keys() | after.scores.keys()):
        old_total, old_standing = before.scores.get(model, (0, {}))
        new_total, new_standing = after.scores.get(model, (0, {}))
        old_bands, new_bands = split_flags(old_standing)[0], split_flags(new_standing)[0]
        bands = [
            (scale, old_bands.get(scale), new_bands.get(scale))
            for scale in sorted(old_bands.keys() | new_bands.keys())
            if old_bands.get(scale) != new_bands.get(scale)
        ]
        if old_total != new_total or bands:
            yield MovingLead(
                after.tenant, after.lead_id, after.name, after.identified, model, old_total, new_total, bands
            )


def _distance(mover: MovingLead) -> tuple[bool, int, int]:
    return mover.identified, abs(mover.after - mover.before), len(mover.bands)


def _furthest(movers: list[MovingLead]) -> list[MovingLead]:
    """Identified leads first, then those that move most."""
    return heapq.nlargest(MOVERS, movers, key=_distance)


def _explain(mover: MovingLead, old: Connection, new: Connection) -> None:
    """Adds what differs in the breakdown, and in the decisions of the door."""
    key = lead_row_key(mover.tenant, mover.lead_id)
    difference: Counter[str] = Counter()
    for connection, sign in ((new, 1), (old, -1)):
        for group, rule, kind, total in connection.execute(_LINES, (key, mover.model)):
            difference[f"{rule or group}{'' if kind == 'points' else f' {kind}'}"] += sign * total
    lines = sorted(difference.items(), key=lambda line: -abs(line[1]))
    mover.lines = [(rule, float(points)) for rule, points in lines[:LINES] if points]
    mover.reasons = dict(new.execute(_REASONS, (mover.tenant, mover.lead_id)).fetchall())

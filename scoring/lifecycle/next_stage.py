"""What a lead lacks for the next stage of its lifecycle. Pure.

The next stage is the nearest one ahead. Of several ways to it, the one that lacks least counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from schemas.events import Stage
from scoring.features.calendar import DAY_MS, Calendar
from scoring.features.qualification_override import QualificationOverride, bands_that_count
from scoring.features.view import Subject, View, profile_value, view_of
from scoring.features.words import any_of_words, words_of
from scoring.lifecycle.transitions import STAGE_RANK, Lifecycle, Qualification, Transition
from scoring.models.model import BandRequirement, MicroPoints, Model, rounded_points, score_lead
from scoring.models.plan import round_to_whole_points
from scoring.models.points import points_text
from scoring.models.score import was_done_within

MissingKind = Literal["event", "points", "field", "band", "inactive"]


class MissingRequirement(NamedTuple):
    kind: MissingKind
    """event: one of `any_of` has to happen. points: so many by `model` up to a band. field: the profile lacks it. band:
    the model has to reach a band. inactive: so many days without an interaction."""
    text: str
    any_of: tuple[str, ...] = ()
    """Event types, signals, fields or bands."""
    model: str | None = None
    points: MicroPoints | None = None
    days: int | None = None


class NextStage(NamedTuple):
    stage: Stage
    missing: tuple[MissingRequirement, ...]


class StageContext(NamedTuple):
    """What decides about a lead's stage beside its own features."""

    lifecycle: Lifecycle
    models: Mapping[str, Model]
    zone: Calendar
    idle_ms: int


def next_stage(
    context: StageContext, subject: Subject, at: int, override: QualificationOverride | None = None
) -> NextStage | None:
    """At a moment (ms). None: no automatic transition leads further in the funnel."""
    stage: Stage = subject.stage  # type: ignore[assignment]  # a fold wrote it
    rank = STAGE_RANK.get(stage, 0)
    ahead = [each for each in context.lifecycle.onward.get(stage, ()) if STAGE_RANK[each.to] > rank]
    if not ahead:
        return None
    nearest = min((each.to for each in ahead), key=lambda to: STAGE_RANK[to])
    ways = [tuple(_missing_of(context, each, subject, at, override)) for each in ahead if each.to == nearest]
    return NextStage(nearest, min(ways, key=len))


def _missing_of(
    context: StageContext,
    transition: Transition,
    subject: Subject,
    at: int,
    override: QualificationOverride | None,
) -> Iterator[MissingRequirement]:
    """The lead has not made the transition, so something is missing; what is not, is left out."""
    qualified: list[MissingRequirement] = []
    if transition.qualified_by is not None:
        qualified = list(_missing_of_band(context, transition.qualified_by, subject, at, override))
        yield from qualified
    if transition.signals:
        yield MissingRequirement("event", any_of_words(transition.signals), transition.signals)
    if transition.inactive is not None:
        days = -(-transition.inactive // DAY_MS)
        yield MissingRequirement("inactive", f"{days} days without an interaction", days=days)
    if transition.qualified_by is not None and not (
        qualified or transition.signals or transition.inactive is not None
    ):
        bands = transition.qualified_by.bands
        yield MissingRequirement(
            "band",
            f"to leave {any_of_words(bands)} and reach it again: the lead had it when a person moved it",
            bands,
            transition.qualified_by.model,
        )


def _missing_of_band(
    context: StageContext,
    qualification: Qualification,
    subject: Subject,
    at: int,
    override: QualificationOverride | None,
) -> Iterator[MissingRequirement]:
    """What the lead lacks for the lowest of the bands; nothing, if it is in one of them."""
    model = context.models.get(qualification.model)
    if model is None or qualification.scale not in model.band_sets:
        yield MissingRequirement(
            "band",
            f"{any_of_words(qualification.bands)} by {qualification.model}, which is not active",
            qualification.bands,
            qualification.model,
        )
        return
    concluded = score_lead(model, subject, at, context.zone, context.idle_ms)
    bands = bands_that_count(model.name, concluded.bands, override)
    if bands.get(qualification.scale) in qualification.bands:
        return
    lowest = min(
        (
            (threshold, band)
            for threshold, band in model.scales.get(qualification.scale, ())
            if band in qualification.bands and (band not in model.needs or model.needs[band])
        ),
        default=None,
    )
    if lowest is None:  # a matrix, whose bands no number of points reaches; or all criteria are switched off
        bands_text = any_of_words(qualification.bands)
        yield MissingRequirement("band", f"{bands_text} by {model.name}", qualification.bands, model.name)
        return
    view = view_of(subject, at, context.zone)
    reached = round_to_whole_points(concluded.total) if model.band_on_rounded else concluded.total
    threshold, band = lowest
    criteria: Sequence[BandRequirement | None] = model.needs.get(band) or [None]
    ways = [tuple(_missing_of_criterion(model, view, reached, threshold, band, need)) for need in criteria]
    yield from min(ways, key=len)


def _missing_of_criterion(
    model: Model,
    view: View,
    reached: MicroPoints,
    threshold: MicroPoints,
    band: str,
    need: BandRequirement | None,
) -> Iterator[MissingRequirement]:
    lowest = threshold if need is None else max(threshold, need.minimum)
    if reached < lowest:
        gap = lowest - reached
        text = f"{points_text(gap)} more {'point' if rounded_points(gap) == 1 else 'points'} by {model.name} for {band}"
        yield MissingRequirement("points", text, (band,), model.name, points=gap)
    if need is None:
        return
    for name in need.fields:
        if model.comparison.is_blank(profile_value(view, name)):
            yield MissingRequirement("field", words_of(name), (name,), model.name)
    for action in need.actions:
        if not was_done_within(view, action, need.within):
            days = None if need.within is None else need.within // DAY_MS
            within = "" if days is None else f" within {days} days"
            yield MissingRequirement("event", words_of(action) + within, (action,), model.name, days=days)

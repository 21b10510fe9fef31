"""Assigns visitors and leads to the variants of an experiment by a hash, exactly as GrowthBook's SDKs do.

No assignment is stored: name, seed, hash version and weights give the same one at any time, here and in a browser
that runs GrowthBook's SDK. Less coverage only excludes visitors; it moves none from one variant to another.
`scoring.experiments.results` evaluates an experiment.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate
from struct import unpack
from typing import Any, Literal, NamedTuple

DRAFT = "draft"
"""Not started yet."""
RUNNING = "running"
STOPPED = "stopped"
ExperimentStatus = Literal["draft", "running", "stopped"]
ExperimentPhase = Literal["draft", "scheduled", "running", "ended", "stopped"]
"""What the status means at a moment. scheduled: it is to start later. ended: its last moment has come."""

UNIT_VISITOR = "visitor"
UNIT_LEAD = "lead"
AssignmentUnit = Literal["visitor", "lead"]
"""The id that is hashed: the visitor's, the same on every visit from one browser, or the lead's, the same everywhere."""

HASH_VERSIONS = (1, 2)

_FNV_START, _FNV_PRIME, _FNV_MASK = 0x811C9DC5, 0x01000193, 0xFFFFFFFF

HashRange = tuple[float, float]
"""From (included) and to (excluded), between 0 and 1."""


class Variant(NamedTuple):
    name: str
    weight: float
    config: Any
    """Any JSON value, for the caller."""


class GoalEvent(NamedTuple):
    """An event by which a goal is reached."""

    event: str
    named: str | None = None
    """The conversion type of `conversion_recorded`, the name of `custom`; None: any."""


class Goal(NamedTuple):
    """A goal; any one of its events is a conversion."""

    name: str
    goal_events: tuple[GoalEvent, ...]
    about: str = ""

    def counts(self, event: str, named: str | None) -> bool:
        return GoalEvent(event, named) in self.goal_events or GoalEvent(event) in self.goal_events


class ExperimentNamespace(NamedTuple):
    """Experiments of one namespace whose ranges do not overlap never share a visitor."""

    name: str
    start: float
    end: float


class Experiment(NamedTuple):
    """An experiment; `compile_experiment` reads it from a text. The first variant is the control."""

    name: str
    variants: tuple[Variant, ...]
    goals: tuple[Goal, ...]
    about: str = ""
    status: ExperimentStatus = "running"
    unit: AssignmentUnit = "visitor"
    seed: str = ""
    hash_version: int = 2
    coverage: float = 1.0
    namespace: ExperimentNamespace | None = None
    window_days: int = 30
    winner: str | None = None
    """The variant that all get once the experiment is stopped; None: the control."""
    starts_at: datetime | None = None
    """The first moment at which visitors are assigned; None: as soon as it runs."""
    ends_at: datetime | None = None
    """From here on nobody is assigned any more; None: until it is stopped."""

    @property
    def control(self) -> Variant:
        return self.variants[0]


class Assignment(NamedTuple):
    variant: Variant
    included: bool
    """False: not in the experiment. The variant is only shown, and no exposure is recorded."""


def experiment_phase(experiment: Experiment, at: datetime) -> ExperimentPhase:
    if experiment.status != RUNNING:
        return experiment.status
    if experiment.starts_at is not None and at < experiment.starts_at:
        return "scheduled"
    if experiment.ends_at is not None and at >= experiment.ends_at:
        return "ended"
    return "running"


def assign_variant(experiment: Experiment, unit_id: str, at: datetime) -> Assignment:
    """The variant of a visitor (or lead, as the experiment's `unit` says) at this moment."""
    phase = experiment_phase(experiment, at)
    if phase == STOPPED:
        shown = next((v for v in experiment.variants if v.name == experiment.winner), experiment.control)
        return Assignment(shown, included=False)
    if phase != RUNNING:
        return Assignment(experiment.control, included=False)
    return hashed_variant(experiment, unit_id)


def hashed_variant(experiment: Experiment, unit_id: str) -> Assignment:
    """The variant by the hash alone, as if the experiment ran."""
    fraction = hash_fraction(experiment.seed or experiment.name, unit_id, experiment.hash_version)
    if not unit_id or fraction is None:
        return Assignment(experiment.control, included=False)
    if experiment.namespace is not None and not is_in_namespace(unit_id, experiment.namespace):
        return Assignment(experiment.control, included=False)
    weights = [variant.weight for variant in experiment.variants]
    chosen = range_index(fraction, variant_ranges(len(weights), experiment.coverage, weights))
    if chosen < 0:
        return Assignment(experiment.control, included=False)
    return Assignment(experiment.variants[chosen], included=True)


# GrowthBook's arithmetic, in its own floating point


def hash_fraction(seed: str, value: str, version: int) -> float | None:
    """0 to below 1, in thousandths (version 1) or ten-thousandths (2); None for any other version."""
    match version:
        case 1:
            return fnv1a(value + seed) % 1000 / 1000
        case 2:
            return fnv1a(str(fnv1a(seed + value))) % 10_000 / 10_000
        case _:
            return None


def fnv1a(text: str) -> int:
    """FNV-1a of 32 bits over UTF-16 units, as a browser counts characters."""
    encoded = text.encode("utf-16-le", "surrogatepass")
    digest = _FNV_START
    for unit in unpack(f"<{len(encoded) // 2}H", encoded):
        digest = (digest ^ unit) * _FNV_PRIME & _FNV_MASK
    return digest


def equal_weights(count: int) -> list[float]:
    return [1 / count] * count if count > 0 else []


def variant_ranges(
    count: int, coverage: float = 1.0, weights: Sequence[float] | None = None
) -> list[HashRange]:
    """The range of each variant. It begins where the weights before it end, and coverage shortens it. Weights that
    are too many or too few, or do not sum to 1, are replaced by equal ones.
    """
    share = min(max(coverage, 0.0), 1.0)
    shares = equal_weights(count) if weights is None or len(weights) != count else list(weights)
    if not 0.99 <= sum(shares) <= 1.01:
        shares = equal_weights(count)
    begins = accumulate(shares, initial=0.0)
    return [(begin, begin + share * weight) for begin, weight in zip(begins, shares, strict=False)]


def range_index(fraction: float, ranges: Sequence[HashRange]) -> int:
    """The index of the range that contains the fraction; -1: none does."""
    return next((n for n, (start, end) in enumerate(ranges) if start <= fraction < end), -1)


def is_in_namespace(value: str, namespace: ExperimentNamespace) -> bool:
    fraction = hash_fraction(f"__{namespace.name}", value, 1)
    return fraction is not None and namespace.start <= fraction < namespace.end


# Built-in experiments


@lru_cache(maxsize=1)
def built_in_experiments() -> dict[str, str]:
    """The texts of the experiments that come with Leadstream, by name."""
    folder = files("scoring") / "experiments"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in names}

"""Experiments: who gets which variant, by a hash alone, exactly as the SDKs of GrowthBook decide it.

Nothing is stored to remember an assignment: name, seed, hash version and weights say it again at any
time, here and in a browser that runs GrowthBook's own SDK. Less coverage only leaves people out; it
moves nobody from one variant to another. What became of them is in `experiment_results`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate
from struct import unpack
from typing import Any, Literal, NamedTuple

RUNNING = "running"
STOPPED = "stopped"
Status = Literal["running", "stopped"]

VISITOR = "visitor"
LEAD = "lead"
Unit = Literal["visitor", "lead"]
"""Whose id is hashed: whoever is the same on every visit from one browser, or the person everywhere."""

HASH_VERSIONS = (1, 2)
MODEL = "model"
"""The key of a variant's config that names a scoring model: champion and challenger."""

_FNV_START, _FNV_PRIME, _FNV_MASK = 0x811C9DC5, 0x01000193, 0xFFFFFFFF

Range = tuple[float, float]
"""From (counted in) and to (not counted in) of the buckets 0 to 1."""


class Variant(NamedTuple):
    name: str
    weight: float
    config: Any
    """What the caller does with it: any JSON value."""


class GoalEvent(NamedTuple):
    """An event by which a goal is reached."""

    event: str
    named: str | None = None
    """Of `conversion_recorded` its conversion type, of `custom` its name; None: any."""


class Goal(NamedTuple):
    """What counts as a conversion: any one of the signs."""

    name: str
    signs: tuple[GoalEvent, ...]
    about: str = ""

    def counts(self, event: str, named: str | None) -> bool:
        return GoalEvent(event, named) in self.signs or GoalEvent(event) in self.signs


class Namespace(NamedTuple):
    """Experiments in one namespace with ranges that do not meet never share a visitor."""

    name: str
    start: float
    end: float


class Experiment(NamedTuple):
    """`experiment_text.compile_experiment` makes one from a file. The first variant is the control."""

    name: str
    variants: tuple[Variant, ...]
    goals: tuple[Goal, ...]
    about: str = ""
    status: Status = "running"
    unit: Unit = "visitor"
    seed: str = ""
    hash_version: int = 2
    coverage: float = 1.0
    namespace: Namespace | None = None
    window_days: int = 30
    winner: str | None = None
    """The variant that everybody gets once the experiment is stopped; None: the control."""

    @property
    def control(self) -> Variant:
        return self.variants[0]


class Assignment(NamedTuple):
    variant: Variant
    included: bool
    """False: not in the experiment, the variant is only what is shown instead. Nobody is exposed."""


def assign(experiment: Experiment, unit_id: str) -> Assignment:
    """The variant of a visitor (or lead, as the experiment's `unit` says)."""
    if experiment.status == STOPPED:
        shown = next((v for v in experiment.variants if v.name == experiment.winner), experiment.control)
        return Assignment(shown, included=False)
    bucket = hash_fraction(experiment.seed or experiment.name, unit_id, experiment.hash_version)
    if not unit_id or bucket is None:
        return Assignment(experiment.control, included=False)
    if experiment.namespace is not None and not in_namespace(unit_id, experiment.namespace):
        return Assignment(experiment.control, included=False)
    weights = [variant.weight for variant in experiment.variants]
    chosen = choose_range(bucket, bucket_ranges(len(weights), experiment.coverage, weights))
    if chosen < 0:
        return Assignment(experiment.control, included=False)
    return Assignment(experiment.variants[chosen], included=True)


def model_for(experiment: Experiment, lead_id: str) -> str | None:
    """The scoring model by which this lead is worked, champion or challenger; None where the variants
    name no model.
    """
    config = assign(experiment, lead_id).variant.config
    named = config.get(MODEL) if isinstance(config, Mapping) else None
    return named if isinstance(named, str) else None


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
    found = _FNV_START
    for unit in unpack(f"<{len(encoded) // 2}H", encoded):
        found = (found ^ unit) * _FNV_PRIME & _FNV_MASK
    return found


def equal_weights(count: int) -> list[float]:
    return [1 / count] * count if count > 0 else []


def bucket_ranges(count: int, coverage: float = 1.0, weights: Sequence[float] | None = None) -> list[Range]:
    """Of each variant its range: it begins where the weights before it end, and coverage shortens it.
    Weights that do not fit in number, or do not sum to 1, are taken as equal.
    """
    share = min(max(coverage, 0.0), 1.0)
    taken = equal_weights(count) if weights is None or len(weights) != count else list(weights)
    if not 0.99 <= sum(taken) <= 1.01:
        taken = equal_weights(count)
    begins = accumulate(taken, initial=0.0)
    return [(begin, begin + share * weight) for begin, weight in zip(begins, taken, strict=False)]


def choose_range(bucket: float, ranges: Sequence[Range]) -> int:
    """Which range the bucket is in; -1: in none."""
    return next((n for n, (start, end) in enumerate(ranges) if start <= bucket < end), -1)


def in_namespace(value: str, namespace: Namespace) -> bool:
    bucket = hash_fraction(f"__{namespace.name}", value, 1)
    return bucket is not None and namespace.start <= bucket < namespace.end


# What comes with Leadstream


@lru_cache(maxsize=1)
def built_in_experiments() -> dict[str, str]:
    """The texts of the experiments that come with Leadstream, by name."""
    folder = files("scoring") / "experiments"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in found}

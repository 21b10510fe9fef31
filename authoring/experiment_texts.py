"""The texts of experiments as the gateway and the command line read them: what is published, and before that the initial
text, of a file or built in. Pure.

The version of an initial text is 0. It counts until the tenant publishes an experiment of the same name.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from authoring.problem import Conflict, Invalid, NotFound
from schemas.publications import EXPERIMENT_PREFIX
from scoring.experiments.assignment import Experiment, built_in_experiments
from scoring.experiments.changes import refused_change
from scoring.experiments.experiment_text import ExperimentError, compiled_experiment


class ExperimentVersion(NamedTuple):
    """The active text of an experiment."""

    text: str
    version: int = 0
    since: datetime | None = None
    by: str | None = None
    note: str | None = None
    change: str | None = None

    @property
    def experiment(self) -> Experiment:
        return compiled_experiment(self.text)


class PublishedText(Protocol):
    """What is read of a publication (`projections.authoring.PublishedVersion`): this module knows no database."""

    @property
    def model(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def version(self) -> int: ...
    @property
    def recorded_at(self) -> datetime | None: ...
    @property
    def by(self) -> str | None: ...
    @property
    def note(self) -> str | None: ...
    @property
    def change(self) -> str | None: ...


ExperimentsOf = Callable[[str], Awaitable[Mapping[str, ExperimentVersion]]]
"""(tenant) -> its experiments by name."""


async def initial_experiments(_tenant: str) -> Mapping[str, ExperimentVersion]:
    """Those that come with Leadstream."""
    return active_experiments(built_in_experiments(), [])


def publication_name(experiment: str) -> str:
    return f"{EXPERIMENT_PREFIX}{experiment}"


def active_experiments(
    initial: Mapping[str, str], published: Iterable[PublishedText]
) -> dict[str, ExperimentVersion]:
    """By name: what one tenant has published, else the initial texts. A text that cannot be read is left out: only a
    program of another version can have published it.
    """
    versions = {name: ExperimentVersion(text) for name, text in initial.items()}
    for each in published:
        name = each.model.removeprefix(EXPERIMENT_PREFIX)
        versions[name] = ExperimentVersion(
            each.text or "", each.version, each.recorded_at, each.by, each.note, each.change
        )
    return {name: versions[name] for name in sorted(versions) if _is_readable(versions[name].text)}


def experiments_by_name(
    initial: Mapping[str, str], published: Iterable[PublishedText]
) -> dict[str, Experiment]:
    return {name: each.experiment for name, each in active_experiments(initial, published).items()}


def _is_readable(text: str) -> bool:
    try:
        compiled_experiment(text)
    except ExperimentError:
        return False
    return True


def publishable_text(name: str, text: str, current: str | None, now: datetime) -> str:
    """The text, if it may follow the current one. Raises Invalid for a mistake, and Conflict for a change that would move
    visitors from one variant to another.
    """
    after = checked_experiment(name, text)
    refused = current and refused_change(compiled_experiment(current), after, now)
    if refused:
        raise Conflict(refused[1], field=refused[0])
    return text


def checked_experiment(name: str, text: str) -> Experiment:
    try:
        experiment = compiled_experiment(text)
    except ExperimentError as refusal:
        raise Invalid(str(refusal), field="text") from refusal
    if experiment.name != name:
        raise Invalid(f"the text is of the experiment {experiment.name!r}, not of {name!r}", field="text")
    return experiment


def unknown_experiment() -> NotFound:
    return NotFound("no experiment has this name: GET /api/experiments lists them", field="name")

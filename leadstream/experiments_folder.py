"""The active experiments: the built-in ones, and those in a folder of your own.

A file replaces the built-in experiment of the same name. A wrong file is rejected with its name,
the line and the reason.
"""

from collections.abc import Mapping
from pathlib import Path

from scoring.experiments.assignment import Experiment
from scoring.experiments.experiment_text import (
    ExperimentError,
    built_in_experiments_by_name,
    compile_experiment,
)


def active_experiments(folder: Path | None) -> Mapping[str, Experiment]:
    """By name. Raises ExperimentError."""
    return (
        built_in_experiments_by_name()
        if folder is None
        else {**built_in_experiments_by_name(), **read_experiments(folder)}
    )


def read_experiments(folder: Path) -> dict[str, Experiment]:
    """The experiments of a folder's .toml files, by name. Raises ExperimentError."""
    experiments: dict[str, Experiment] = {}
    for path in _experiment_files(folder):
        try:
            experiment = compile_experiment(path.read_text(encoding="utf-8"))
        except ExperimentError as wrong:
            raise ExperimentError(f"{path.name}, {wrong}") from None
        except UnicodeDecodeError:
            raise ExperimentError(f"{path.name}: it is not UTF-8 text") from None
        except OSError as cause:
            raise ExperimentError(f"{path.name}: it cannot be read ({cause.strerror})") from None
        if experiment.name in experiments:
            raise ExperimentError(
                f"{path.name}, name: another file has the experiment {experiment.name}, too"
            )
        experiments[experiment.name] = experiment
    return experiments


def _experiment_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as cause:
        raise ExperimentError(f"the folder cannot be read ({cause.strerror})") from None

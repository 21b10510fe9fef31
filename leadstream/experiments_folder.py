"""The experiments in force: those that come with Leadstream, and those in a folder of one's own.

A file of the same name as a shipped experiment takes its place. A wrong file is refused with its name,
the line and the reason.
"""

from collections.abc import Mapping
from pathlib import Path

from scoring.experiments.assignment import Experiment
from scoring.experiments.experiment_text import ExperimentError, built_in, compile_experiment


def active_experiments(folder: Path | None) -> Mapping[str, Experiment]:
    """By name. Raises ExperimentError."""
    return built_in() if folder is None else {**built_in(), **read_folder(folder)}


def read_folder(folder: Path) -> dict[str, Experiment]:
    """The experiments of a folder's .toml files, by name. Raises ExperimentError."""
    found: dict[str, Experiment] = {}
    for path in _files(folder):
        try:
            experiment = compile_experiment(path.read_text(encoding="utf-8"))
        except ExperimentError as wrong:
            raise ExperimentError(f"{path.name}, {wrong}") from None
        except UnicodeDecodeError:
            raise ExperimentError(f"{path.name}: it is no UTF-8 text") from None
        except OSError as cause:
            raise ExperimentError(f"{path.name}: it cannot be read ({cause.strerror})") from None
        if experiment.name in found:
            raise ExperimentError(
                f"{path.name}, name: another file has the experiment {experiment.name}, too"
            )
        found[experiment.name] = experiment
    return found


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as cause:
        raise ExperimentError(f"it is no folder that can be read ({cause.strerror})") from None

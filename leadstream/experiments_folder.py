"""The initial texts of experiments: the built-in ones, and those in a folder of your own. What a tenant publishes under the
same name comes instead of them.

A file replaces the built-in experiment of the same name. A wrong file is rejected with its name,
the line and the reason.
"""

from collections.abc import Mapping
from pathlib import Path

from scoring.experiments.assignment import built_in_experiments
from scoring.experiments.experiment_text import ExperimentError, compiled_experiment


def initial_texts(folder: Path | None) -> Mapping[str, str]:
    """By name of the experiment. Raises ExperimentError."""
    return built_in_experiments() if folder is None else {**built_in_experiments(), **read_texts(folder)}


def read_texts(folder: Path) -> dict[str, str]:
    """The texts of a folder's .toml files, by name of the experiment. Raises ExperimentError."""
    texts: dict[str, str] = {}
    for path in _experiment_files(folder):
        try:
            text = path.read_text(encoding="utf-8")
            name = compiled_experiment(text).name
        except ExperimentError as wrong:
            raise ExperimentError(f"{path.name}, {wrong}") from None
        except UnicodeDecodeError:
            raise ExperimentError(f"{path.name}: it is not UTF-8 text") from None
        except OSError as cause:
            raise ExperimentError(f"{path.name}: it cannot be read ({cause.strerror})") from None
        if name in texts:
            raise ExperimentError(f"{path.name}, name: another file has the experiment {name}, too")
        texts[name] = text
    return texts


def _experiment_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as cause:
        raise ExperimentError(f"the folder cannot be read ({cause.strerror})") from None

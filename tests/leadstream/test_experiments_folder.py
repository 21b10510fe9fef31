"""One's own experiments: a folder beside the shipped ones, checked before anything starts."""

import re
from pathlib import Path

import pytest
from command_line import leadstream_here

from leadstream.experiments_folder import initial_texts
from leadstream.settings import SettingError, read_settings
from scoring.experiments.assignment import built_in_experiments
from scoring.experiments.experiment_text import built_in_experiments_by_name, compile_experiment

MINE = """
name = "{name}"
about = "Mine."
[variants.old]
[variants.new]
[goals.bought]
event = "purchase_made"
"""


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    (tmp_path / "README.md").write_text("no experiment", encoding="utf-8")
    return tmp_path


def test_without_a_folder_the_shipped_ones_are_in_force():
    assert initial_texts(None) == built_in_experiments()
    assert sorted(built_in_experiments_by_name()) == ["greeting_message", "question_flow"]


def test_a_folder_adds_experiments_and_replaces_shipped_ones(tmp_path: Path):
    given = folder(tmp_path, page=MINE.format(name="page"), x=MINE.format(name="question_flow"))
    found = initial_texts(given)
    assert sorted(found) == ["greeting_message", "page", "question_flow"]
    assert [each.name for each in compile_experiment(found["question_flow"]).variants] == ["old", "new"]
    assert found["greeting_message"] == built_in_experiments()["greeting_message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINE.format(name="Page"), "page.toml, line 2, name: 'Page' is not a name"),
        (MINE.format(name="twin"), "twin.toml, name: another file has the experiment twin, too"),
        ("\udcff", "page.toml: it is not UTF-8 text"),
    ],
)
def test_a_wrong_file_is_named_with_line_reason_and_remedy(tmp_path: Path, text: str, said: str):
    folder(tmp_path, twin=MINE.format(name="twin"))
    (tmp_path / "page.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingError) as refused:
        read_settings(experiments=tmp_path)
    told = str(refused.value)
    assert told.startswith(f"LEADSTREAM_EXPERIMENTS: {said}")
    assert "scoring/experiments" in told


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(SettingError, match="LEADSTREAM_EXPERIMENTS: the folder cannot be read"):
        read_settings(experiments=tmp_path / "none")


def test_a_wrong_file_stops_a_command_before_anything_starts(tmp_path: Path):
    given = folder(tmp_path, page="name = ")
    ended = leadstream_here(
        "serve", LEADSTREAM_EXPERIMENTS=str(given), LEADSTREAM_DATA_DIR=str(tmp_path / "d")
    )
    assert ended.returncode == 2
    assert b"LEADSTREAM_EXPERIMENTS: page.toml, line 1" in ended.stderr
    assert not (tmp_path / "d").exists()


def test_the_command_lists_the_experiments(tmp_path: Path):
    given = folder(tmp_path, page=MINE.format(name="page"))
    ended = leadstream_here("experiment", LEADSTREAM_EXPERIMENTS=str(given))
    lines = [re.split(" {2,}", line) for line in ended.stdout.decode().splitlines()]
    assert lines[0][:2] == ["experiment", "status"]
    assert [line[0] for line in lines[1:]] == ["greeting_message", "page", "question_flow"]
    assert lines[2] == ["page", "running", "old 50% / new 50%", "100%", "Mine."]


def test_a_name_that_no_experiment_has_is_answered_with_those_there_are(tmp_path: Path):
    ended = leadstream_here("experiment", "greting", LEADSTREAM_DATA_DIR=str(tmp_path / "d"))
    assert ended.returncode == 1
    assert b"greeting_message, question_flow" in ended.stderr

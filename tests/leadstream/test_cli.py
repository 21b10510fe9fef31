"""The command line: its manual page, its exit codes, and one line with the remedy for each mistake."""

import gzip
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import leadstream, leadstream_here
from typer.testing import CliRunner

from leadstream.cli.root import app
from tests.ports import free_port

COMMANDS = {
    (): {
        "serve",
        "demo",
        "import",
        "simulate",
        "publish",
        "rebuild",
        "dead-letters",
        "skip",
        "doctor",
        "settings",
    },
    ("import",): {"access-log", "events"},
    ("dead-letters",): {"list", "show", "retry"},
}


def complaint(*arguments: object, code: int = 1, **settings: str) -> str:
    """What a command that fails says: exactly one line, and no trace."""
    done = leadstream_here(*arguments, **settings)
    said = done.stderr.decode().strip()
    assert done.returncode == code, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, said
    return lines[0]


@pytest.mark.parametrize(("group", "names"), COMMANDS.items())
def test_the_manual_names_every_command(group: tuple[str, ...], names: set[str]):
    told = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "120"})
    assert told.exit_code == 0
    assert all(re.search(rf"^\W*{name} ", told.output, re.MULTILINE) for name in names), told.output


def test_the_manual_shows_examples_environment_and_exit_codes():
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).output
    for part in (
        "Examples",
        "leadstream import access-log",
        "Environment",
        "LEADSTREAM_DATA_DIR",
        "Exit codes",
    ):
        assert part in told


@pytest.mark.parametrize(
    "command",
    [
        [*group, name]
        for group, names in COMMANDS.items()
        for name in sorted(names)
        if name not in {"import", "dead-letters"}
    ],
    ids=" ".join,
)
def test_every_command_and_every_option_is_explained(command: list[str]):
    told = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0
    assert re.search(r"Usage:.*\n\s*\n\s+[A-Z].*\.", told.output), told.output


def test_the_readme_tells_of_every_command():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for (*group,), names in COMMANDS.items():
        for name in names:
            assert name in readme, [*group, name]


def test_the_manual_and_the_version_load_nothing_heavy():
    asked = (
        "import sys; from leadstream.cli.root import app; app(['--help'], standalone_mode=False); "
        "print(*(name for name in ('fastapi', 'sqlalchemy', 'psycopg', 'uvicorn', 'pydantic') if name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert "Usage: " in told.stdout
    assert told.stdout.splitlines()[-1] == ""
    assert leadstream_here("--version").stdout == f"leadstream {version('leadstream')}\n".encode()


def test_a_worker_loads_no_gateway_and_no_read_models():
    program = (
        "import sys, leadstream.worker; print(*(name for name in ('fastapi', 'uvicorn', 'sqlalchemy', 'alembic', "
        "'phonenumbers', 'projections') if name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout == "\n"


def test_a_wrong_option_is_a_usage_error():
    done = leadstream_here("serve", "--prot", "1")
    assert done.returncode == 2
    assert b"--port" in done.stderr


def test_a_wrong_setting_stops_a_command_before_anything_starts(tmp_path: Path):
    said = complaint("serve", "--data-dir", tmp_path / "store", code=2, LEADSTREAM_PORT="eighty")
    assert "LEADSTREAM_PORT" in said
    assert "1 to 65535" in said
    assert not (tmp_path / "store").exists()


def test_an_open_house_is_refused_with_the_remedy(tmp_path: Path):
    said = complaint("serve", "--host", "0.0.0.0", "--data-dir", tmp_path / "store", code=2)
    assert "LEADSTREAM_WRITE_KEYS=TENANT:KEY" in said
    assert not (tmp_path / "store").exists()


def test_a_misspelt_variable_is_warned_about():
    done = leadstream_here("settings", LEADSTREAM_DATADIR="/tmp")
    assert done.returncode == 0
    assert b"did you mean LEADSTREAM_DATA_DIR?" in done.stderr


def test_settings_shows_values_but_no_secret():
    done = leadstream_here("settings", LEADSTREAM_PORT="9001", LEADSTREAM_WRITE_KEYS="default:hunter2hunter2")
    assert b"LEADSTREAM_PORT = 9001" in done.stdout
    assert b"hunter2" not in done.stdout + done.stderr


def test_a_host_that_is_not_ours_is_named(tmp_path: Path):
    said = complaint(
        "serve", "--host", "192.0.2.1", "--port", free_port(), "--data-dir", tmp_path / "s",
        LEADSTREAM_WRITE_KEYS="default:abcdefgh",
    )  # fmt: skip
    assert "192.0.2.1" in said


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path):
    url = f"postgresql://me:hunter2@127.0.0.1:{free_port()}/db"
    said = complaint("rebuild", "--data-dir", tmp_path / "s", LEADSTREAM_DATABASE_URL=url)
    assert "LEADSTREAM_DATABASE_URL" in said
    assert "hunter2" not in said


def test_a_file_that_is_not_there_is_named_before_anything_starts(tmp_path: Path):
    said = complaint("import", "access-log", tmp_path / "none.log", "--data-dir", tmp_path / "s")
    assert "none.log" in said
    assert "No such file" in said
    assert not (tmp_path / "s").exists()


def test_a_model_with_a_mistake_is_refused_with_its_line_before_anything_starts(tmp_path: Path):
    model = tmp_path / "mine.toml"
    model.write_text('model = "mine"\nbonus = 3\n', encoding="utf-8")
    said = complaint("publish", model, "--data-dir", tmp_path / "s")
    assert "line 2" in said
    assert "bonus" in said
    assert not (tmp_path / "s").exists()


def test_what_is_no_model_names_those_that_there_are(tmp_path: Path):
    said = complaint("publish", "temprature", "--data-dir", tmp_path / "s")
    assert "temperature" in said
    assert "web_session" in said


def test_a_topic_that_nobody_folds_cannot_be_skipped(tmp_path: Path):
    said = complaint("skip", "lead-scores", 0, 0, "--reason", "x", "--data-dir", tmp_path / "s")
    assert "events and lead-activity" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["events", "0", "1", "--all"],
        ["--replacement", "x", "--all"],
        ["--mended", "x", "--all"],
        ["events", "0"],
    ],
)
def test_which_letters_to_retry_must_be_said(arguments: list[str]):
    done = leadstream_here("dead-letters", "retry", *arguments)
    assert done.returncode == 2
    assert b"--all" in done.stderr


def test_simulate_writes_the_same_lines_to_a_pipe_and_to_a_file(tmp_path: Path):
    arguments = ("simulate", "--leads", 5, "--days", 3, "--seed", 7, "--until", "2026-06-30")
    piped = leadstream(*arguments)
    assert piped.returncode == 0, piped.stderr.decode()
    assert len(piped.stdout.splitlines()) > 20
    leadstream_here(*arguments, "--output", tmp_path / "e.ndjson")
    assert (tmp_path / "e.ndjson").read_bytes() == piped.stdout
    leadstream_here(*arguments, "--output", tmp_path / "e.ndjson.gz")
    packed = (tmp_path / "e.ndjson.gz").read_bytes()
    assert gzip.decompress(packed) == piped.stdout
    leadstream_here(*arguments, "--output", tmp_path / "again.ndjson.gz")
    assert (tmp_path / "again.ndjson.gz").read_bytes() == packed


def test_the_doctor_says_how_to_begin_where_nothing_is(tmp_path: Path):
    done = leadstream_here("doctor", "--data-dir", tmp_path / "s")
    assert done.returncode == 0
    assert b"`leadstream serve` creates it" in done.stdout
    assert not (tmp_path / "s").exists()


def test_the_doctor_fails_when_a_directory_cannot_be_used(tmp_path: Path):
    (tmp_path / "file").write_text("no directory")
    done = leadstream_here("doctor", "--data-dir", tmp_path / "file")
    assert done.returncode == 1
    assert b"fail Data directory" in done.stdout
    assert b"--data-dir" in done.stdout

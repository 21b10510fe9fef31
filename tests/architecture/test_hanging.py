"""What the plugin `tests.hanging` makes of tests that hang, and of errors of pytest, in several processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SECONDS = 180
TESTS = """
import asyncio, gc, subprocess, sys, traceback
from pathlib import Path

HERE = Path(__file__).parent

def note(name):
    with (HERE / "ran").open("a") as file:
        file.write(f"{name}\\n")

def test_before(tmp_path_factory):
    note("before")

async def never():
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass

def test_hangs(tmp_path_factory):
    note("hangs")
    tmp_path_factory.mktemp("server").joinpath("data").write_text("large")
    daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (HERE / "daemon").write_text(str(daemon.pid))
    print("said before it hung")
    asyncio.run(never())

def test_between():
    note("between")


def test_breaks_pytest(record_property):
    note("breaks")
    record_property("no", object())

class Forgotten:
    # Formats its error when it is collected, as a future of asyncio does.
    def __init__(self):
        self.itself = self
        try:
            1 / 0 + 1
        except ZeroDivisionError as error:
            self.error = error

    def __del__(self):
        traceback.format_exception(self.error)
        Forgotten()

def test_fails_among_garbage():
    note("fails")
    gc.set_threshold(50)
    Forgotten()
    assert 1 + 1 == 3

def test_after():
    gc.set_threshold(700)
    note("after")
"""


def pytest_on(directory: Path, *options: str) -> tuple[int, str]:
    """(the exit code of pytest, what it said)"""
    (directory / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.hanging", "-p", "no:schemathesis", *options),
            *("--dist", "loadfile", "--timeout", "2", "--rootdir", directory),
            *(f"--basetemp={directory / 'temporary'}", directory),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        check=False,
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, str]:
    """(the directory of the tests, what pytest said)"""
    directory = tmp_path_factory.mktemp("hanging")
    (directory / "test_some.py").write_text(TESTS)
    (directory / "test_other.py").write_text("def test_other(): pass\n")
    code, said = pytest_on(directory, "-n", "2")
    assert code == 1, said
    return directory, said


def test_each_is_one_failed_test_and_every_other_test_runs_once(run: tuple[Path, str]):
    directory, said = run
    assert (directory / "ran").read_text().split() == [
        "before",
        "hangs",
        "between",
        "breaks",
        "fails",
        "after",
    ]
    assert "3 failed, 4 passed" in said
    failed = (directory / ".pytest_cache/v/cache/lastfailed").read_text()
    assert set(re.findall(r"::(\w+)", failed)) == {
        "test_hangs",
        "test_breaks_pytest",
        "test_fails_among_garbage",
    }


def test_the_failure_shows_why_with_stacks_and_output(run: tuple[Path, str]):
    _, said = run
    assert "It did not end in 2 s." in said
    assert re.search(r"Stack for <Task .*never", said)
    assert re.search(r'File ".*test_some.py", line \d+ in test_hangs', said)
    assert "said before it hung" in said
    assert "DumpError" in said
    assert "assert (1 + 1) == 3" in said
    assert "SystemError" not in said


def test_nothing_of_the_ended_process_stays(run: tuple[Path, str]):
    directory, _ = run
    process = Path("/proc", (directory / "daemon").read_text(), "stat")
    assert not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z"
    assert not list((directory / "temporary").glob("*/server0"))


def test_a_run_that_leaves_tests_out_has_another_exit_code_than_one_with_failures(tmp_path: Path):
    (tmp_path / "test_few.py").write_text(
        "import os\ndef test_ends(): os._exit(1)\ndef test_left_out(): pass\n"
    )
    code, said = pytest_on(tmp_path, "-n", "1", "--max-worker-restart", "0")
    assert code == 3, said

"""The commands of README.md and of docs/tutorial.md, in their order, in one shell session that begins with a fresh copy and no data.

The session has a network of its own, so that the ports which the README names are free. Only the installation by
`make setup` is replaced, by the environment that runs this test and the pages that it has built, and the invented company has fewer people.
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.kafka.broker import find_jars

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
STARTING_SECONDS = 240
LEADS = "250"
"""Of the invented company. Scoring 400 would be half of the time that the walk takes."""
ON_KAFKA = "## On Kafka"
"""Where the part begins that only a long walk takes: tests of `make kafka` and of `serve --kafka` have shorter ways."""
NEEDED = ("unshare", "ip", "bash", "curl", "make", "java", "git")

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.timeout(1_500),
    pytest.mark.skipif(
        any(shutil.which(each) is None for each in NEEDED)
        or subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode != 0,
        reason="no network of its own for the session",
    ),
]


def commands(text):
    """Each command of the shell blocks, without its comment."""
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        command = ""
        for line in block.splitlines():
            command += re.sub(r"(^|\s+)# .*$", "", line) + "\n"
            if command.count("'") % 2 == 0 and not command.rstrip("\n").endswith("\\"):
                if command.strip():
                    yield command.strip()
                command = ""


class Job(NamedTuple):
    """A program in the background of the session."""

    group: int
    output: Path


class ShellSession:
    """A shell in `directory`, and a network that only it has."""

    def __init__(self, directory: Path) -> None:
        # The environment has compiled modules already: a cache of the session's own would compile them once more.
        own = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
        self._directory = directory
        self._shell = subprocess.Popen(
            ["unshare", "-n", "bash", "--norc", "--noprofile"],
            cwd=directory,
            env={**own, "COLUMNS": "120", "LEADS": LEADS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.jobs: list[Job] = []
        self._numbers = itertools.count(1)
        self.run("set -m; ip link set lo up")  # each job gets a group of its own, as at a terminal

    def run(self, command: str) -> str:
        """What it writes."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\necho; echo the-end-of-it $?\n")
        self._shell.stdin.flush()
        lines = []
        while not (line := self._shell.stdout.readline()).startswith("the-end-of-it "):
            assert line, f"the shell ended in: {command}\n{''.join(lines)}"
            lines.append(line)
        written = "".join(lines)
        assert line.split()[1] == "0", f"{command}\n{written}"
        return written

    def start(self, command: str, until: str) -> Job:
        """Runs it in the background, and returns when it has written `until`."""
        output = self._directory / f"job-{next(self._numbers)}.log"
        output.touch()
        group = int(self.run(f"{command} > {output} 2>&1 < /dev/null &\necho group $!").split()[-1])
        job = Job(group, output)
        self.jobs.append(job)
        deadline = time.monotonic() + STARTING_SECONDS
        while until not in (written := output.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, f"{command}\n{written}"
            os.kill(group, 0)
            time.sleep(0.1)
        return job

    def interrupt(self, job: Job) -> None:
        """Ctrl-C."""
        if job in self.jobs:
            self.jobs.remove(job)
            os.killpg(job.group, signal.SIGINT)
            self.run(f"wait {job.group} || true")

    def close(self) -> None:
        for job in reversed(self.jobs):
            self.interrupt(job)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.wait(60)
        self._shell.stdout.close()


@pytest.fixture
def session(tmp_path):
    directory = tmp_path / "leadstream"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    built = Path("dashboard") / "static" / "dist"
    shutil.copytree(ROOT / built, directory / built)  # packages of the pages would need a network
    environment = directory / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (environment / part.name).symlink_to(part)
    (environment / ".ready").touch()
    tmp_path.chmod(0o755)  # PostgreSQL has a user of its own
    session = ShellSession(directory)
    try:
        yield session
    finally:
        session.close()


LOG = """\
192.0.2.7 - - [30/Jan/2030:10:00:00 +0000] "GET /pricing HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11; Linux) Firefox/130.0"
192.0.2.7 - - [30/Jan/2030:10:02:00 +0000] "GET /demo HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11; Linux) Firefox/130.0"
192.0.2.8 - - [30/Jan/2030:10:05:00 +0000] "GET / HTTP/1.1" 200 512 "-" "Mozilla/5.0 (Macintosh) Safari/605.1.15"
192.0.2.7 - - [30/Jan/2030:18:00:00 +0000] "GET /pricing HTTP/1.1" 200 512 "-" "Mozilla/5.0 (X11; Linux) Firefox/130.0"
""".replace("2030", "2020")


def facts(written):
    """The lines `name: value` of a report."""
    return {
        name.strip(): value.strip()
        for name, colon, value in (line.partition(":") for line in written.splitlines())
        if colon
    }


def board(session, query=""):
    return json.loads(session.run(f"curl --silent 'localhost:8000/api/leads{query}'"))


class Walk:
    """The commands of a text, one after the other."""

    def __init__(self, text):
        self._left = list(commands(text))

    def __call__(self, pattern):
        """The next command, which must match."""
        command = self._left.pop(0)
        assert re.search(pattern, command), f"expected {pattern}, the README has: {command}"
        return command

    def end(self):
        assert not self._left


def test_the_readme_works_from_top_to_kafka(session):
    walk_embedded(session)


def test_the_tutorial_works_from_top_to_bottom(session):
    the = Walk(TUTORIAL)
    session.start(the("leadstream serve$"), until="Leadstream serves http://127.0.0.1:8000")
    sent = json.loads(session.run(f"{the('^curl .*v1/events')} 2>/dev/null"))
    assert [each["outcome"] for each in sent["events"]] == ["applied"] * 4
    explain = the("explain ada$")
    demo = r"^    Asked for a demo +\+{} "
    assert re.search(demo.format(25), session.run(explain), re.MULTILINE)
    assert '"rule":"Asked for a demo"' in session.run(the("^curl localhost:8000/api/leads/ada$"))

    session.run(the("models show rules > rules.toml$"))
    session.run(the("^sed .*rules.toml$"))
    assert facts(session.run(the("what-if rules.toml$")))["that rise"] == "1"
    assert re.search(demo.format(25), session.run(explain), re.MULTILINE), "what-if changes nothing"
    assert "Model rules, version 2, is active." in session.run(the("publish rules.toml --based-on 1"))
    assert re.search(r"^\+.*points = 35", session.run(the("models diff rules 1 2$")), re.MULTILINE)
    assert re.search(demo.format(35), session.run(the("explain ada$")), re.MULTILINE)

    stream = session.start(the("^curl -N localhost:8000/api/changes"), until="event: reset")
    session.run(the("> visits.jsonl$"))
    assert session.run(the("produce.py < visits.jsonl$")).strip() == ""
    deadline = time.monotonic() + STARTING_SECONDS
    while '"lead_id":"bo","model":"rules"' not in stream.output.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, "the subscriber receives the score of bo"
        time.sleep(0.1)
    the.end()


@pytest.mark.soak
@pytest.mark.kafka
def test_the_readme_works_from_top_to_bottom(session):
    find_jars()  # the session itself has no network
    walk_embedded(session)
    walk_on_kafka(session)


def test_kafka_is_the_last_thing_that_the_readme_starts():
    _, heading, rest = README.partition(f"\n{ON_KAFKA}\n")
    assert heading
    assert len(list(commands(rest))) == 2


def walk_embedded(session):
    the = Walk(README.partition(f"\n{ON_KAFKA}\n")[0])
    # A company that is invented
    demo = session.start(the("^make demo$"), until="Open http://127.0.0.1:8000")
    shown = board(session)
    assert len(shown["leads"]) == 50
    assert shown["leads"][0]["temperature"] == "burning"
    session.interrupt(demo)

    # Ten minutes as a producer
    serve = session.start(the("leadstream serve$"), until="Leadstream serves http://127.0.0.1:8000")
    assert board(session)["leads"] == []
    sent = json.loads(session.run(f"{the('^curl .*v1/events')} 2>/dev/null"))
    assert [each["outcome"] for each in sent["events"]] == ["applied"] * 4
    assert '"name":"Ada Obi"' in session.run(the("^curl localhost:8000/api/leads$"))
    assert '"rule":"Asked for a demo"' in session.run(the("^curl localhost:8000/api/leads/ada$"))
    explained = session.run(the("explain ada$"))
    assert re.search(r"^    Asked for a demo +\+25 ", explained, re.MULTILINE)

    session.run(f"gzip > access.log.gz <<'LINES'\n{LOG}LINES")
    imported = session.run(the("import access-log access.log.gz$"))
    assert facts(imported)["New leads"] == "2"
    assert "http://127.0.0.1:8000/#visitors" in imported
    assert [lead["name"] for lead in board(session)["leads"]] == ["Ada Obi"]
    everybody = board(session, "?include_anonymous=true&sort=web_session")["leads"]
    visitors = [(lead["sessions"], lead["page_views"]) for lead in everybody if not lead["identified"]]
    assert visitors == [(2, 3), (1, 1)]
    session.run(".venv/bin/leadstream simulate --leads 5 --days 20 --output events.ndjson")
    assert int(facts(session.run(the("import events events.ndjson$")))["New leads"]) > 0
    assert len(board(session)["leads"]) > 1
    session.interrupt(serve)

    opened = session.start(the("serve --host 0.0.0.0$"), until="Leadstream serves")
    status = "curl --silent --output /dev/null --write-out '%{http_code}\\n' localhost:8000/api/leads"
    assert "401" in session.run(status)
    assert "200" in session.run(f"{status} -H 'Authorization: Bearer a-secret'")
    session.interrupt(opened)

    # As a marketer
    session.run(the("^export LEADSTREAM_DATA_DIR=.leadstream/demo$"))
    session.run(the("models show rules > rules.toml$"))
    session.run(the("^sed .*rules.toml$"))
    assert int(facts(session.run(the("what-if rules.toml$")))["that change a band"]) > 0
    tested = session.run(the("backtest rules.toml --against rules$"))
    assert int(facts(tested)["Cutoffs"]) > 1
    assert int(facts(tested)["Of them converted"].split()[0]) >= 10
    assert "no model can differ" not in tested
    assert "Model rules, version 2, is active." in session.run(the("publish rules.toml --based-on 1"))
    compared = session.run(the("models diff rules 1 2$"))
    assert re.search(r"^--- rules version 1, .*Z, by Leadstream: built in$", compared, re.MULTILINE)
    assert re.search(r"^\+\+\+ rules version 2, .*Z, by .+: demos count more$", compared, re.MULTILINE)
    assert re.search(r"^-.*points = 25", compared, re.MULTILINE)
    assert re.search(r"^\+.*points = 35", compared, re.MULTILINE)
    session.run(the("^unset LEADSTREAM_DATA_DIR$"))
    assert "Ada Obi" in session.run(".venv/bin/leadstream explain ada")
    the.end()


def walk_on_kafka(session):
    the = Walk(README.partition(f"\n{ON_KAFKA}\n")[2])
    session.start(the("^make kafka$"), until="Kafka answers at 127.0.0.1:9092")
    on_kafka = session.start(the("serve --kafka$"), until="Everything runs.")
    assert on_kafka.output.read_text().startswith("Starting (1 s): ")
    assert board(session)["leads"] == []
    sent = json.loads(session.run(f"{next(commands(README[README.index('curl') - 6 :]))} 2>/dev/null"))
    assert [each["outcome"] for each in sent["events"]] == ["applied"] * 4
    assert "Asked for a demo" in session.run(".venv/bin/leadstream explain ada")
    the.end()

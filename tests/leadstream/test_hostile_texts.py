"""Texts of strangers, full of what a terminal obeys, through every command that prints them."""

import io
import json
import logging
import re
import sys
import time
import timeit
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from command_line import leadstream_here
from hypothesis import given
from hypothesis import strategies as st

from leadstream import console as show
from leadstream import logs
from leadstream.embedded_postgres import create_database
from leadstream.operations.open_store import open_store
from leadstream.settings import read_settings
from schemas import examples
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.models.model import built_in_models

HOSTILE = (
    "\x1b[2J\x1b]0;t\x07\x1b]8;;x\x1b\\a\x1b[35;7m\x9bK\x9d0;t\x9c\x08\x7f\x0c\r\u202eb\u2066\u2028"
    "[bold][link=x]:x:"
)
"""As JSON and TOML escape it; no NUL, which nothing takes."""
LEAD = "lead\x9b35;7m\u202e[bold]x"
"""Ids have no control characters below U+0080."""
STYLING = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\r?\x1b\[(2K|1A)")
"""What rich writes to a terminal: styles, and a bar that moves. The sequences of HOSTILE are others."""
MODEL = built_in_models()["temperature"].replace('"QR scans"', json.dumps(HOSTILE))
NOW = datetime.now(UTC)


def dangerous(text: str) -> list[str]:
    """By Unicode's own classes: controls but newline (and tab, between fields), overrides, separators."""
    bad = {"Cc", "Zl", "Zp", "Cs"}
    return [
        each
        for each in text
        if (unicodedata.category(each) in bad and each not in "\n\t")
        or "\u202a" <= each <= "\u202e"
        or "\u2066" <= each <= "\u2069"
    ]


def hostile_events() -> Iterator[dict[str, Any]]:
    """Every example of an event, each of its free texts hostile."""
    for number, line in enumerate(examples.events()):
        event = spoiled(json.loads(line))
        at = NOW - timedelta(days=70) + timedelta(minutes=number)
        yield event | {"event_id": f"hostile-{number}", "occurred_at": at.isoformat(), "tenant": "default"}


def spoiled(value: Any, name: str = "") -> Any:
    kept = {
        "type",
        "event_id",
        "visitor_id",
        "source",
        "tenant",
        "currency",
        "v",
        "kind",
        "session_id",
        "experiment",
    }
    if isinstance(value, dict):
        return {key: spoiled(entry, key) for key, entry in value.items()}
    if isinstance(value, list):
        return [spoiled(entry, name) for entry in value]
    if name == "lead_id":
        return LEAD
    if isinstance(value, str) and name not in kept and not re.match(r"\d{4}-\d\d-\d\d", value):
        return HOSTILE
    return value


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a store in which everything is hostile that may be."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database("hostile"))
    folder = tmp_path_factory.mktemp("hostile")
    variables = {
        "LEADSTREAM_DATABASE_URL": postgres_url.replace("/leadstream?", "/hostile?"),
        "LEADSTREAM_DATA_DIR": str(folder),
        "LEADSTREAM_PARTITIONS": "2",
        "LEADSTREAM_EXPERIMENTS": str(folder / "experiments"),
    }
    (folder / "experiments").mkdir()
    (folder / "experiments/mine.toml").write_text(
        f"""name = "mine"
about = {json.dumps(HOSTILE)}
[variants.old]
[variants.new]
[goals.bought]
event = "purchase_made"
""",
        encoding="utf-8",
    )
    (folder / "model.toml").write_text(MODEL, encoding="utf-8")
    (folder / "next.toml").write_text(
        MODEL.replace("points = 3, max = 15", "points = 9, max = 40"), encoding="utf-8"
    )
    (folder / "broken.toml").write_text(MODEL.replace("points = 3", json.dumps(HOSTILE)), encoding="utf-8")
    events = [json.dumps(event) for event in hostile_events()]
    scans = [
        {
            "type": "qr_scanned",
            "event_id": f"scan-{n}",
            "lead_id": LEAD,
            "occurred_at": (NOW - timedelta(days=10 * n)).isoformat(),
        }
        for n in range(3)
    ]
    bad = [
        json.dumps({"type": HOSTILE}),
        json.dumps({"type": "qr_scanned", HOSTILE: HOSTILE, "visitor_id": HOSTILE}),
    ]
    (folder / "events.jsonl").write_text(
        "\n".join([*bad, *events, *map(json.dumps, scans)]), encoding="utf-8"
    )
    agent = HOSTILE.replace('"', "") + "Googlebot" + HOSTILE
    (folder / "access.log").write_text(
        f'203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET /{LEAD} HTTP/1.1" 200 5 "{LEAD}" "{agent}"\n'
        f'203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET //[{HOSTILE} HTTP/1.1" 200 5 "-" "x"\n',
        encoding="utf-8",
    )
    yield variables
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("drop database hostile with (force)")


def test_no_command_lets_a_text_of_others_command_the_terminal(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """Each command to a pipe and to a terminal; the text itself is there, and markup stays text."""
    folder = Path(settings["LEADSTREAM_DATA_DIR"])
    printed: dict[str, str] = {}

    def run(*arguments: object, code: int = 0, exact: bool = False, once: bool = False) -> None:
        """`exact`: to a pipe, a file's bytes. `once`: the command changes something."""
        for terminal in (False,) if once else (False, True):
            done = leadstream_here(*arguments, **settings, **({"FORCE_COLOR": "1"} if terminal else {}))
            told = (b"" if exact and not terminal else done.stdout).decode() + done.stderr.decode()
            assert done.returncode == code, told
            assert "Traceback" not in told
            plain = STYLING.sub("", told) if terminal else told
            assert not dangerous(plain), (arguments, plain)
            assert "\x1b[35;7m" not in told
            printed[" ".join(map(str, arguments[:2]))] = plain

    run("import", "events", folder / "events.jsonl", once=True)
    run("import", "access-log", folder / "access.log", once=True)
    run("publish", folder / "model.toml", "--note", HOSTILE, "--by", HOSTILE, once=True)
    run(
        "publish",
        folder / "next.toml",
        "--note",
        HOSTILE,
        "--by",
        HOSTILE,
        "--at",
        "2099-01-01T00:00:00",
        once=True,
    )
    run("publish", folder / "broken.toml", code=1)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with open_store(read_settings()) as store:
        letters = [json.dumps({"type": HOSTILE}).encode(), HOSTILE.encode()]
        store.append([Outgoing(EVENTS, "default/v/x", letter, 1) for letter in letters])
        store.settle(lambda _: None)
    for words in (("--model", "temperature"), ("--as-of", "2099-01-01"), ("--changes", "500")):
        run("explain", LEAD, *words)
    run("explain", LEAD)
    run("explain", LEAD[:5], code=1)
    run("explain", HOSTILE, code=1)
    run("explain", LEAD, "--model", HOSTILE, code=1)
    run("dead-letters", "list")
    place = printed["dead-letters list"].split()[:3]
    run("dead-letters", "show", *place, exact=True)
    run("dead-letters", "retry", "--all", code=1)
    for command in ((), ("drafts",), ("versions", "temperature"), ("diff", "temperature", 1, 2)):
        run("models", *command)
    run("models", "show", "temperature", exact=True)
    run("what-if", folder / "next.toml")
    run("what-if", folder / "next.toml", "--json")
    run("backtest", folder / "next.toml", "--conversion", "qr_scanned", "--every", "20d", "--horizon", "20d")
    run(
        "backtest",
        folder / "next.toml",
        "--conversion",
        "qr_scanned",
        "--every",
        "20d",
        "--horizon",
        "20d",
        "--json",
    )
    run("experiment")
    run("experiment", "mine")
    run("experiment", HOSTILE, code=1)
    run("export", "-")
    run("doctor")
    run("settings")
    run("skip", "events", 0, 0, "--reason", HOSTILE, code=1)
    run("publish", folder / "next.toml", "--note", HOSTILE, once=True)
    run("retire", "chatbot", "--note", HOSTILE, "--force", once=True)
    for command in (f"explain {LEAD}", "models", "what-if " + str(folder / "next.toml"), "experiment"):
        assert "[bold]" in printed[command], printed[command]
    assert "publish " + str(folder / "next.toml") in printed
    assert "lead35;7m" not in printed[f"explain {LEAD}"]


@given(st.text() | st.text(st.sampled_from(HOSTILE)))
def test_what_is_printable_commands_nothing(text: str):
    assert not dangerous(show.printable_text(text))
    assert not {"\n", "\t", *dangerous(show.one_line(text))} & set(show.one_line(text))
    escaped = show.printable_json(
        json.dumps({"a": text.encode(errors="replace").decode()}, ensure_ascii=False).encode()
    )
    assert not dangerous(escaped.decode())
    assert json.loads(escaped) == {"a": text.encode(errors="replace").decode()}


@pytest.mark.parametrize("start", ["\x1b]", "\x9d", "\x1b[", "\x1b[0;", "\x1b", "\x1b]\x1b[ ", "\x90x"])
def test_making_text_printable_takes_linear_time(start: str):
    """Sixteen times the text takes sixteen times as long, and not 256 times."""

    def seconds(length: int) -> float:
        text = start * length
        return min(
            timeit.repeat(lambda: show.printable_text(text), timer=time.process_time, number=1, repeat=7)
        )

    assert seconds(320_000) < 80 * seconds(20_000)


def fail() -> None:
    raise ZeroDivisionError(HOSTILE)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_line_commands_no_terminal(terminal, monkeypatch: pytest.MonkeyPatch):
    written = io.StringIO()
    written.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure_logs("info")
    try:
        try:
            fail()
        except ZeroDivisionError:
            structlog.get_logger().exception(HOSTILE, where=HOSTILE, nested={HOSTILE: [HOSTILE]})
            logging.getLogger("library").warning("%s", HOSTILE, exc_info=True)
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    assert "[bold]" in written.getvalue()
    assert "\x1b[35;7m" not in written.getvalue()
    assert not dangerous(STYLING.sub("", written.getvalue()))


def test_a_fault_of_the_program_commands_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys):
    try:
        fail()
    except ZeroDivisionError:
        show.print_trace(*sys.exc_info())
    told = capsys.readouterr().err
    assert "ZeroDivisionError: " in told
    assert "[bold]" in told
    assert not dangerous(told)


def test_only_one_module_prints():
    """So that there is one border: no other module of the command line, nor of bench, prints or knows rich."""
    root = Path(__file__).parents[2]
    modules = [each for folder in ("leadstream", "bench") for each in (root / folder).rglob("*.py")]
    printing = re.compile(
        r"^\s*(from rich|import rich)|(?<![\w.])print\(|sys\.std(out|err)\b|typer\.(secho|echo)", re.MULTILINE
    )
    found = {
        str(each.relative_to(root)) for each in modules if printing.search(each.read_text(encoding="utf-8"))
    }
    assert found - {"leadstream/console.py"} == {
        "bench/__main__.py",  # its own help
        "bench/measures.py",  # a line of JSON
        "bench/processes.py",  # a comment
        "bench/report.py",  # a line of JSON
        "leadstream/cli/root.py",  # a pipe that is closed early
        "leadstream/logs.py",
        "leadstream/operations/export.py",  # bytes of simulate and export
        "leadstream/settings.py",  # makes a page of the documentation
        "leadstream/simulation/demo.py",  # asks only whether there is a screen
    }

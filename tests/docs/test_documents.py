"""What the documents claim is true."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from leadstream.cli.root import app
from schemas.decode import MAX_EVENT_BYTES
from schemas.topics import DAY_MS, TOPICS
from scoring.features import identity, sessions
from streams.track_sessions import visitor_state

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_that_a_document_names_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-zA-Z_.]*)`", text)) | set(re.findall(r"\]\(([^)#:]+)\)", text))
    missing = [p for p in named if not (ROOT / p).exists() and not ((ROOT / name).parent / p).exists()]
    assert not missing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_shell_commands_quote_what_a_shell_expands(name):
    """In zsh at a terminal a bare `?` must match a file, and `#` begins no comment. Every shell ends a command at `&`."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (?:curl|leadstream) .*$", text, re.MULTILINE)
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", "\n".join([*blocks, *indented]))
    assert not re.findall(r"\S*(?:[?*]|\S&\S|#)\S*", bare)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_has_a_chapter_twice(name):
    chapters = re.findall(r"^## .*$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(chapters) == len(set(chapters))


def test_the_index_of_documents_has_every_document():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", index))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_every_picture_is_shown_and_all_of_them_are_small():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert [each.name for each in pictures if f"pictures/{each.name})" not in text] == []
    assert max(each.stat().st_size for each in pictures) < 150_000
    assert sum(each.stat().st_size for each in pictures) < 1_500_000


@pytest.mark.parametrize("name", ["README.md", "docs/README.md", "docs/tutorial.md", "docs/pages.md"])
def test_every_link_to_a_chapter_leads_to_one(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        linked = (ROOT / name).parent / target if target else ROOT / name
        headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
        chapters = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
        assert anchor in chapters, f"{target}#{anchor}"


def test_the_map_has_every_package_and_only_those():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "root_packages"
    ]
    table = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE, re.MULTILINE)
    assert sorted(table) == sorted(packages)
    rooms = {
        path.parent.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("__init__.py")
    }
    paragraphs = dict(
        re.findall(r"^- \*\*`([\w/]+)`\*\*(.*?)(?=^$|^- )", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    )
    assert set(paragraphs) == rooms
    assert not [room for room, text in paragraphs.items() if len(text.split()) < 8]


@pytest.mark.parametrize(
    ("what", "figure"),
    [
        ("one event", f"{MAX_EVENT_BYTES // 1024} KB"),
        ("repetitions recognised", f"{visitor_state.SEEN_IDS_PER_PART * visitor_state.MOST_SEEN_PARTS:,}"),
        ("events kept per visitor", str(sessions.MOST_EVENTS_KEPT)),
        ("sessions in a lead's features", str(sessions.MOST_SESSIONS_COUNTED)),
        ("persons behind one visitor key", str(identity.MOST_SEGMENTS)),
        ("identities of one lead", str(identity.MOST_IDENTITIES)),
    ],
)
def test_bounds_in_the_architecture_page_are_those_of_the_code(what, figure):
    (row,) = re.findall(rf"^\| {re.escape(what)}[^|]*\|([^|]*)\|", ARCHITECTURE, re.MULTILINE)
    assert figure in row


def test_readme_names_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(get_command(app).commands)
    assert not {c for c in commands - {"version"} if f"leadstream {c}" not in readme}


def test_an_example_in_a_document_is_the_very_file():
    shown = re.findall(
        r"^<!-- (examples/\S+) -->\n```\w+\n(.*?)^```$",
        "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS),
        re.MULTILINE | re.DOTALL,
    )
    assert {Path(name).suffix for name, _ in shown} == {".py", ".js"}
    assert not [name for name, text in shown if text != (ROOT / name).read_text(encoding="utf-8")]


def test_the_subscribers_page_says_how_long_each_topic_is_kept():
    page = (ROOT / "docs/consuming.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    years = {365: "a year", 90: "90 days", 30: "30 days"}
    for topic in TOPICS:
        if topic.name in told:
            kept = told.pop(topic.name)
            assert (
                "forever (compacted)" in kept
                if topic.compacted
                else kept == years[topic.retention_ms // DAY_MS]
            )
    assert not told


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_holds_a_machine_path_or_the_address_of_a_package_registry():
    found = []
    forbidden = re.compile(
        r"(?<![\w.])/(work|root|home)/|pypi\.org|pythonhosted|registry\.npmjs|repo1?\.maven"
    )
    for path in tracked():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if forbidden.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found


def test_no_module_is_a_drawer():
    drawers = {
        "utils",
        "util",
        "helpers",
        "common",
        "misc",
        "base",
        "manager",
        "service",
        "handler",
        "processor",
    }
    assert not [p for p in tracked() if p.suffix == ".py" and p.stem in drawers]


def test_every_module_says_what_it_promises():
    modules = [p for p in tracked() if p.suffix == ".py" and p.stat().st_size and "tests" not in p.parts]
    assert not [p for p in modules if not p.read_text(encoding="utf-8").lstrip().startswith(('"""', "#!"))]


def test_every_guarantee_names_tests_that_exist():
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    assert len(named) > 20
    assert not [f"{p}::{t}" for p, t in named if f"def {t}(" not in (ROOT / p).read_text(encoding="utf-8")]
    rows = [line for line in page.splitlines() if line.startswith("| ") and "what happens" not in line]
    assert all("::test_" in row for row in rows)


@pytest.mark.parametrize(
    ("heading", "module"),
    [
        ("The commit of a batch in embedded mode, step by step", "streams/embedded/writer.py"),
        ("A commit on Kafka, step by step", "streams/kafka/transactions.py"),
    ],
)
def test_the_steps_of_a_commit_are_numbered_in_the_code_that_takes_them(heading, module):
    """Comments `# 2. ...`, or lines `2. ...` of the module's docstring, for steps that other modules take."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    steps = set(re.findall(r"^(\d)\. ", section, re.MULTILINE))
    code = (ROOT / module).read_text(encoding="utf-8")
    assert len(steps) >= 5
    assert set(re.findall(r"^ *(?:# )?(\d)\. ", code, re.MULTILINE)) == steps

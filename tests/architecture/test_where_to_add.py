"""ARCHITECTURE.md's "Where to add" names the files that an addition really needs.

A file that lists (nearly) all event types has to list the next one, too. So for each kind of addition this finds
the files that list the existing ones, and compares them with those that the page names.
"""

import re
from functools import cache

import pytest
from product_code import ROOT, tracked_texts

from gateway.app import ROUTED_MODULES
from leadstream.settings import Settings
from projections import rows
from projections.table_sets import READ_MODEL_TABLES
from schemas.envelope import tag_of
from schemas.events import EVENT_TYPES

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Where to add\n")[2].partition("\n## ")[0]
ENTRIES = {
    name: " ".join(text.split())
    for name, text in re.findall(r"^- \*\*(.+?)\*\*:(.*?)(?=^- \*\*|\Z)", SECTION, re.MULTILINE | re.DOTALL)
}
ROUTERS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted((ROOT / "gateway/api").rglob("*.py"))
    if "= APIRouter(" in path.read_text("utf-8")
]


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


Spellings = tuple[str, ...]
EXISTING: dict[str, list[Spellings]] = {
    "An event type": [(tag_of(kind), kind.__name__) for kind in EVENT_TYPES],
    "A table": [(table.name,) for table in READ_MODEL_TABLES],
    "A kind of row": [
        (name,) for name, kind in vars(rows).items() if isinstance(kind, type) and hasattr(kind, "_fields")
    ],
    "A setting": [(name, f"LEADSTREAM_{name.upper()}") for name in Settings.model_fields],
}
ENTRY_OF = {"A table": "A projection", "A kind of row": "A projection"}
NEARLY_ALL = 0.85
"""Some lists leave a few out for a reason: no simulated person asks to be forgotten."""


def paths_in(text: str) -> list[str]:
    return re.findall(r"`((?:[a-z_.]+/)*[\w-]+(?:\.\w+)+|(?:[a-z_]+/)+)`", text)


@cache
def words_of_files() -> dict[str, set[str]]:
    """Of each file, its words, and dotted names as a whole."""
    return {
        path: set(re.findall(r"\w+(?:\.\w+)+|\w+", text)) | set(re.findall(r"\w+", text))
        for path, text in tracked_texts().items()
    }


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_path_that_an_entry_names_exists(entry):
    assert not [path for path in paths_in(ENTRIES[entry]) if not (ROOT / path).exists()]


@pytest.mark.parametrize("kind", EXISTING)
def test_an_entry_names_every_file_that_lists_the_existing_ones(kind):
    names = EXISTING[kind]
    assert len(names) > 5
    listing = [
        path
        for path, words in words_of_files().items()
        if sum(not words.isdisjoint(spellings) for spellings in names) >= NEARLY_ALL * len(names)
    ]
    assert listing
    entry = ENTRIES[ENTRY_OF.get(kind, kind)]
    assert not [path for path in listing if path not in paths_in(entry)]


def test_a_module_of_endpoints_is_listed_where_the_entry_says():
    assert {module_of(path) for path in ROUTERS} <= {module.__name__ for module in ROUTED_MODULES}
    assert "gateway/app.py" in paths_in(ENTRIES["An endpoint"])


def test_the_commands_that_write_files_are_named():
    assert "`make schemas`" in ENTRIES["An event type"]
    assert "`.venv/bin/python -m leadstream.settings > docs/settings.md`" in ENTRIES["A setting"]


def test_an_event_type_is_decided_about_in_every_fold():
    """What the counting of names above cannot see while a fold lists only some types."""
    assert "streams/track_sessions/web_sessions.py" in paths_in(ENTRIES["An event type"])

"""How track.js is shortened, what its page says of it, and the types that it sends."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from gateway.producers.minified import minified
from schemas.envelope import tag_of
from schemas.events import EVENT_TYPES

SOURCE = (files("gateway.producers") / "track.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("// a comment\nconst first = 1;\nuse(first);\n", "const a=1;use(a);"),
        ("const text = (value) => { return value + 1; };", "const b=a=>{return a+1};"),
        ("let count = 0;\ncount = count + +a - -b;", "let c=0;c=c+ +a- -b;"),
        ('const word = "const word // = 1";', 'const a="const word // = 1";'),
        (
            'const rest = line.replace(/[/"]word (x)/g, word) / rest;',
            'const a=line.replace(/[/"]word (x)/g,word)/a;',
        ),
        ("const half = (a + b) / 2 / c;", "const d=(a+b)/2/c;"),
    ],
)
def test_a_script_keeps_its_meaning_in_fewer_bytes(source, short):
    assert minified(source) == short


def test_a_name_that_is_also_a_property_keeps_its_letters():
    source = "const size = 1; const name = 2; const key = 3; const z = 4; f({ name, key: z }); g.size = z ? name : key;"
    assert minified(source) == (
        "const size=1;const name=2;const key=3;const a=4;f({name,key:a});g.size=a?name:key;"
    )


@pytest.mark.parametrize("source", ["a(); // why\n", "a(); /* why */ b();\n"])
def test_a_comment_in_a_line_of_code_is_refused(source):
    with pytest.raises(ValueError, match="a line of its own"):
        minified(source)


def test_the_page_about_the_script_has_every_option_mark_and_call():
    page = (Path(__file__).parents[2] / "docs/track-js.md").read_text(encoding="utf-8")
    options = {f"data-{name}" for name in re.findall(r'option\("([\w-]+)"\)', SOURCE)}
    marks = set(re.findall(r"data-ls-[a-z]+", SOURCE))
    calls = re.findall(
        r"^    (\w+)(?:: |,$)", SOURCE.partition("const commands = {")[2].partition("\n  };")[0], re.MULTILINE
    )
    assert options | marks == set(re.findall(r"^\| `(data-[a-z-]+)", page, re.MULTILINE))
    assert set(calls) == {"page", "visitor", "track", "identify", "consent"}
    assert not [call for call in calls if f'leadstream("{call}"' not in page]
    assert set(re.findall(r"leadstream-[a-z]+", SOURCE)) == set(re.findall(r"`(leadstream-[a-z]+)", page))


def test_the_script_emits_only_types_that_exist():
    types = {tag_of(kind) for kind in EVENT_TYPES}
    emitted = set(re.findall(r'"([a-z]+_[a-z]+)"', SOURCE))
    assert emitted <= types
    assert {
        "page_viewed",
        "element_clicked",
        "form_submitted",
        "content_downloaded",
        "session_heartbeat",
    } <= emitted

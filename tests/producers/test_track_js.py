"""GET /track.js as browsers ask for it, its size, and how the script is shortened."""

import gzip
import re
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from gateway.access import read_access
from gateway.app import create_app
from gateway.ports import Ports
from gateway.producers.minified import minified
from schemas.envelope import tag_of
from schemas.events import EVENT_TYPES

LARGEST = 3_072
SOURCE = (files("gateway.producers") / "track.js").read_text(encoding="utf-8")


async def unused(*_: object, **__: object) -> None:
    raise AssertionError("the script needs nothing")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def http():
    ports = Ports(append=unused, database_url="", access=read_access(["acme:acme-write-key"]))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(ports)),
        base_url="http://leadstream.example",
        headers={"Accept-Encoding": "identity", "Origin": "https://shop.example"},
    )


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/track.js", "/track.js/"])
async def test_a_page_of_any_site_loads_the_script_without_a_key(http, path):
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.text == minified(SOURCE)
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/track.js", "/track.js/"])
async def test_another_method_is_refused_with_the_right_one(http, path):
    answer = await http.post(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.anyio
async def test_what_is_sent_is_smaller_than_3_kilobytes_with_gzip(http):
    async with http.stream("GET", "/track.js", headers={"Accept-Encoding": "gzip, br"}) as answer:
        sent = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(sent).decode() == minified(SOURCE)
    assert len(sent) < LARGEST
    assert len(gzip.compress(gzip.decompress(sent), 9)) < LARGEST


@pytest.mark.anyio
@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity, gzip; q=0.0"])
async def test_a_client_that_takes_no_gzip_gets_none(http, accepted):
    answer = await http.get("/track.js", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers


@pytest.mark.anyio
async def test_an_unchanged_script_is_not_sent_again(http):
    etag = (await http.get("/track.js")).headers["etag"]
    for names in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = await http.get("/track.js", headers={"If-None-Match": names})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "public, max-age=3600"
    answer = await http.get("/track.js", headers={"If-None-Match": '"other"'})
    assert answer.status_code == 200


def test_the_script_is_es2018_and_runs_no_text_as_code():
    code = "\n".join(line for line in SOURCE.splitlines() if not line.strip().startswith("//"))
    assert not re.findall(
        r"\?\.(?!\d)|\?\?|catch \{|`|\*\*=|\beval\b|new Function|innerHTML|document\.write", code
    )
    assert not re.findall(r"\.(?:flat|flatMap|matchAll|replaceAll|at|fromEntries)\(", code)


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

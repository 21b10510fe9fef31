"""GET /track.js and /chat.js as browsers ask for them, their sizes, and what they may not contain."""

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

LARGEST = {"track.js": 3_072, "chat.js": 15_000}
"""Bytes with gzip."""


def source_of(script: str) -> str:
    return (files("gateway.producers") / script).read_text(encoding="utf-8")


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
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("script", LARGEST)
async def test_a_page_of_any_site_loads_the_script_without_a_key(http, script, slash):
    path = f"/{script}{slash}"
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.text == minified(source_of(script))
    head = await http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.anyio
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("script", LARGEST)
async def test_another_method_is_refused_with_the_right_one(http, script, slash):
    answer = await http.post(f"/{script}{slash}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.anyio
@pytest.mark.parametrize(("script", "largest"), LARGEST.items())
async def test_what_is_sent_with_gzip_is_small(http, script, largest):
    async with http.stream("GET", f"/{script}", headers={"Accept-Encoding": "gzip, br"}) as answer:
        sent = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(sent).decode() == minified(source_of(script))
    assert len(sent) < largest
    assert len(gzip.compress(gzip.decompress(sent), 9)) < largest


@pytest.mark.anyio
@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity, gzip; q=0.0"])
async def test_a_client_that_takes_no_gzip_gets_none(http, accepted):
    answer = await http.get("/track.js", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers


@pytest.mark.anyio
@pytest.mark.parametrize("script", LARGEST)
async def test_an_unchanged_script_is_not_sent_again(http, script):
    etag = (await http.get(f"/{script}")).headers["etag"]
    for names in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = await http.get(f"/{script}", headers={"If-None-Match": names})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "public, max-age=3600"
    answer = await http.get(f"/{script}", headers={"If-None-Match": '"other"'})
    assert answer.status_code == 200


@pytest.mark.parametrize("script", LARGEST)
def test_a_script_is_es2018_and_runs_no_text_as_code(script):
    code = "\n".join(line for line in source_of(script).splitlines() if not line.strip().startswith("//"))
    assert not re.findall(
        r"\?\.(?!\d)|\?\?|catch \{|`|\*\*=|\beval\b|new Function|innerHTML|document\.write", code
    )
    assert not re.findall(r"\.(?:flat|flatMap|matchAll|replaceAll|at|fromEntries)\(", code)


def test_the_page_about_the_chat_has_every_option_and_what_it_keeps():
    source = source_of("chat.js")
    page = (Path(__file__).parents[2] / "docs/chat-widget.md").read_text(encoding="utf-8")
    options = {f"data-{name}" for name in re.findall(r'option\("([\w-]+)"\)', source)}
    assert options == set(re.findall(r"^\| `(data-[a-z-]+)", page, re.MULTILINE))
    kept = set(re.findall(r'"(leadstream-chat[a-z-]*)"', source))
    assert kept == set(re.findall(r"^\| `(leadstream-[a-z-]+)", page, re.MULTILINE))


def test_the_chat_has_the_same_words_in_every_language():
    words = source_of("chat.js").partition("const WORDS = {")[2].partition("\n  };")[0]
    languages = [re.findall(r"(\w+): \"", line) for line in words.strip().splitlines()]
    assert len(languages) == 5
    assert all(each == languages[0] for each in languages)

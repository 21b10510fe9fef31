"""The files of the pages: how they are served and built."""

import gzip
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from dashboard import pages

APP = Path(pages.__file__).parent / "app"
STATIC = Path(pages.__file__).parent / "static"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def http():
    app = FastAPI(docs_url=None)
    app.include_router(pages.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


def built_script() -> str:
    (script,) = (STATIC / "dist" / "assets").glob("index-*.js")
    return f"dist/assets/{script.name}"


@pytest.mark.anyio
async def test_a_built_file_is_compressed_and_kept_for_good(http):
    name = built_script()
    packed = await http.get(f"/static/{name}", headers={"Accept-Encoding": "gzip, br"})
    plain = await http.get(f"/static/{name}", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content == plain.content == (STATIC / name).read_bytes()
    assert int(packed.headers["Content-Length"]) == len(gzip.compress(plain.content, mtime=0))
    assert "Content-Encoding" not in plain.headers
    assert {each.headers["Vary"] for each in (packed, plain)} == {"Accept-Encoding"}
    assert {each.headers["Cache-Control"] for each in (packed, plain)} == {
        "public, max-age=31536000, immutable"
    }


@pytest.mark.anyio
async def test_what_has_no_hash_in_its_name_is_asked_for_again(http):
    answers = [await http.get(path) for path in ("/", "/docs", "/static/docs.js", "/static/icon.svg")]
    assert {(each.status_code, each.headers["Cache-Control"]) for each in answers} == {(200, "no-cache")}


@pytest.mark.anyio
async def test_without_the_build_a_page_says_how_to_build_it(http, monkeypatch):
    without = {name: content for name, content in pages._CONTENT_BY_NAME.items() if "dist/" not in name}
    monkeypatch.setattr(pages, "_CONTENT_BY_NAME", without)
    for path in (
        "/",
        "/leads/ada",
        "/leads/anon%3Aa%2Fb",
        "/models",
        "/models/rules",
        "/admin/lead_qualification/",
    ):
        answer = await http.get(path)
        assert (answer.status_code, "make setup" in answer.text) == (503, True)
    assert (await http.get("/docs")).status_code == 200


def test_the_first_page_is_small_and_loads_neither_charts_nor_the_editor():
    assets = STATIC / "dist" / "assets"
    sizes = {each.name.partition("-")[0]: len(gzip.compress(each.read_bytes())) for each in assets.iterdir()}
    page = (STATIC / "dist" / "index.html").read_text()
    files = set(re.findall(r"/static/dist/assets/([\w.-]+)", page))
    assert len(files) >= 2, "a script and a style sheet, and what they share with other pages"
    first = sum(len(gzip.compress((assets / name).read_bytes())) for name in files)
    assert first < 80_000
    assert sizes["charts"] > 100_000, "charts are a file of their own"
    assert sizes["TextEditor"] > 50_000, "and so is the editor"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "..%2fpages.py",
        "dist/../../pages.py",
        "dist",
        "dist/",
        "dist/assets/",
        "",
        "dist/.built-from",
        "/etc/passwd",
    ],
)
async def test_only_files_of_pages_are_served(http, name):
    assert (await http.get(f"/static/{name}")).status_code == 404


def test_the_lock_of_the_pages_names_no_address_and_checks_every_package():
    lock = json.loads((APP / "package-lock.json").read_text())
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert len(packages) > 10
    assert [name for name, each in packages.items() if "integrity" not in each] == []
    assert [name for name, each in packages.items() if "resolved" in each] == []


def test_building_again_without_a_change_takes_no_time():
    started = time.monotonic()
    built = subprocess.run([sys.executable, APP / "build.py"], capture_output=True, text=True, check=True)
    assert (built.stdout, built.stderr) == ("", "")
    assert time.monotonic() - started < 5.0

"""The page /docs in a real Chromium: it shows every operation, and tries a GET and a POST with a token, all under the
policy that allows no other host and no inline script.
"""

import base64
import json
import os
from pathlib import Path

import pytest

from gateway.openapi import METHODS
from tests.leadstream.command_line import serving
from tests.producers.chromium import Tab, chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-secret-api-token"
WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective + " " + event.blockedURI));
addEventListener("error", (event) => refused.push(event.message));
"""


def opened(tab: Tab, address: str) -> str:
    """Opens the operation by a click on its line, and returns its selector."""
    name = tab.run(
        "[...document.querySelectorAll('details.model')].find((each) => each.firstChild.innerText"
        f".replace(/\\s+/g, ' ').startsWith({json.dumps(address)})).id"
    )
    tab.click(f"#{name} > summary")
    until(lambda: tab.run(f"!!document.querySelector('#{name} .send button')"), f"{address} opens")
    return f"#{name}"


def sent(tab: Tab, operation: str) -> str:
    tab.click(f"{operation} .send button")
    until(
        lambda: tab.run(f"/^[0-9]/.test(document.querySelector('{operation} .status')?.innerText)"),
        "an answer",
    )
    return tab.run(f"document.querySelector('{operation} .result').innerText")


def test_the_page_tries_a_get_and_a_post_with_a_token_and_loads_nothing_from_elsewhere(tmp_path):
    settings = {
        "LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN}",
        "LEADSTREAM_WRITE_KEYS": "default:a-public-write-key",
    }
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        openapi = server.client.get("/openapi.json").json()
        tab = browser.person().tab()
        tab.before_pages(WATCH)
        tab.go(f"{address}/docs")
        operations = sum(len(METHODS & methods.keys()) for methods in openapi["paths"].values())
        until(
            lambda: tab.run("document.querySelectorAll('details.model').length") == operations,
            "all operations",
        )

        leads = opened(tab, "GET /api/leads ")
        assert sent(tab, leads).startswith("401 ")

        tab.click("#token")
        tab.call("Input.insertText", text=TOKEN)
        events = opened(tab, "POST /v1/events ")
        answer = sent(tab, events)
        assert answer.startswith("200 ")
        assert '"accepted": 1' in answer
        assert TOKEN not in answer, "the command that is shown names no secret"

        until(lambda: '"lead_id": "anon:browser-7"' in sent(tab, leads), "the lead that was sent")
        assert tab.run("refused") == []
        assert {
            each["request"]["url"].startswith(address) for each in tab.seen("Network.requestWillBeSent")
        } == {True}
        if folder := os.environ.get("SCREENSHOTS"):
            shot = tab.call("Page.captureScreenshot", captureBeyondViewport=True)
            (Path(folder) / "docs.png").write_bytes(base64.b64decode(shot["data"]))

"""`leadstream demo`: from nothing to moving scores in well under two minutes, on a store of its own."""

import re
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from command_line import environment

from leadstream.console import Failure
from leadstream.settings import read_settings
from leadstream.simulation.demo import free_port_from
from tests.forked_programs import Program
from tests.producers.chromium import chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ALLOWED_SECONDS = 110
WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective + " " + event.blockedURI));
addEventListener("error", (event) => refused.push(event.message));
"""


def board(client: httpx.Client) -> dict[str, int]:
    leads = client.get("/api/leads", params={"limit": 200}).json()["leads"]
    return {lead["lead_id"]: lead["lead_score"] for lead in leads}


def walk_the_shop(address: str, folder: Path) -> None:
    """The six steps of the shop's page, in a real browser; each ticks itself."""
    with chromium(folder / "profile") as browser:
        tab = browser.person().tab()
        tab.before_pages(WATCH)
        tab.go(f"{address}/demo")

        def done(step: int) -> None:
            until(
                lambda: tab.run("document.querySelectorAll('.steps .done').length") >= step,
                f"step {step}",
                90,
            )

        done(1)
        tab.click("[data-ls-click='Watch the video']")
        done(2)
        tab.click("[data-ls-click='Get a Demo']")
        done(3)
        chat = "document.querySelector('div[lang]').shadowRoot"
        tab.run(f"{chat}.querySelector('.launch').click()")
        until(lambda: tab.run(f"!!{chat}.querySelector('.choices button')"), "the first question")
        tab.run(f"{chat}.querySelector('.choices button').click()")
        done(4)
        tab.run("leadstreamChat.close()")
        for field, text in (("name", "Eve"), ("email", "eve@acme.example")):
            tab.click(f".shop [name={field}]")
            tab.call("Input.insertText", text=text)
        tab.click(".shop form button")
        done(5)
        assert tab.run("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the page"
        tab.click(".watched .primary")
        until(lambda: "/leads/c-" in tab.run("location.pathname"), "the page of the lead")
        until(lambda: "Eve" in tab.run("document.title"), "her page")
        assert not tab.run("'leadstreamChat' in window"), "the chat is the shop's, not that of our pages"
        tab.go(f"{address}/demo/pricing")
        done(6)
        assert tab.run("refused") == []


def test_the_demo_shows_moving_scores_within_two_minutes_and_stops_when_told(tmp_path: Path):
    began = time.monotonic()
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = Program(
            [sys.executable, "-m", "leadstream", "demo", "--no-browser", "--leads", "100"],
            stdout=output,
            stderr=output,
            env=environment(LEADSTREAM_DATA_DIR=str(tmp_path / "data")),
        )
    try:
        while not (found := re.search(r"Open (http://[^/\s]+)/demo ", said.read_text())):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() - began < ALLOWED_SECONDS, said.read_text()
            time.sleep(0.2)
        with httpx.Client(base_url=found[1], timeout=20) as client:
            before = board(client)
            assert len(before) > 30
            while board(client) == before:
                assert time.monotonic() - began < ALLOWED_SECONDS
                time.sleep(0.5)
            assert "Leadstream" in client.get("/").text
            walk_the_shop(found[1], tmp_path)
            [you] = client.get("/api/leads", params={"q": "eve@acme.example"}).json()["leads"]
            # Asked for a demo, and everything else that a first visit gives by the model `rules`.
            assert (you["name"], you["identified"], you["scores"]["rules"]["rounded"]) == ("Eve", True, 35)
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0
    assert "Traceback" not in said.read_text()
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["demo"]
    assert not (tmp_path / "data/demo/server.json").exists()


def test_the_demo_takes_the_next_port_if_the_usual_one_is_taken():
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        taken = first.getsockname()[1]
        usual = read_settings(port=taken)
        with free_port_from(usual, insist=False) as (settings, port):
            assert settings.port == port.getsockname()[1] > taken


def test_a_port_that_was_asked_for_is_insisted_on():
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        asked = read_settings(port=first.getsockname()[1])
        with pytest.raises(Failure, match="choose another with --port"), free_port_from(asked, insist=True):
            pass

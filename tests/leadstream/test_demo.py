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

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ALLOWED_SECONDS = 110


def board(client: httpx.Client) -> dict[str, int]:
    leads = client.get("/api/leads", params={"limit": 200}).json()["leads"]
    return {lead["lead_id"]: lead["lead_score"] for lead in leads}


def test_the_demo_shows_moving_scores_within_two_minutes_and_stops_when_told(tmp_path: Path):
    began = time.monotonic()
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = Program(
            [sys.executable, "-m", "leadstream", "demo", "--no-browser", "--leads", "150"],
            stdout=output,
            stderr=output,
            env=environment(LEADSTREAM_DATA_DIR=str(tmp_path / "data")),
        )
    try:
        while not (found := re.search(r"Open (http://\S+) ", said.read_text())):
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

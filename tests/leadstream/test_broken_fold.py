"""A fold with a bug, as an operator meets it: scoring is halted, events are accepted, and a skip lets it continue."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from command_line import Server, leadstream, serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

T = TypeVar("T")
BROKEN = """
from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions
Broken = {stage}
sound = Broken.evolve
def evolve(self, shared, state, message, origin, emit):
    if state.key.endswith("/poison"):
        raise ZeroDivisionError("a bug")
    return sound(self, shared, state, message, origin, emit)
Broken.evolve = evolve
from leadstream.cli.root import main
main()
"""
STOPPING_SECONDS = 10.0
PERSON = "ada.obi@example.com"


def scan(server: Server, lead_id: str, wait: int = 0) -> int:
    said = {"type": "contact_shared", "lead_id": lead_id, "email": PERSON}
    return server.client.post("/v1/events", params={"wait": wait}, json=said).status_code


def eventually(found: Callable[[], T]) -> T:
    """The driver tries the record again every few seconds, and is ready while it tries."""
    deadline = time.monotonic() + 30
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def failure_found_in(server: Server) -> str:
    """The line in which the doctor says what fails."""
    told = leadstream("doctor", "--data-dir", server.data_dir)
    lines = [each for each in told.stdout.decode().splitlines() if each.startswith("fail")]
    assert told.returncode == (1 if lines else 0)
    return lines[0] if lines else ""


def leads_on(server: Server) -> set[str]:
    return {lead["lead_id"] for lead in server.client.get("/api/leads").json()["leads"]}


@pytest.mark.parametrize(
    ("stage", "topic"),
    [("TrackSessions", "events"), ("ScoreLeads", "lead-activity")],
    ids=["first", "second"],
)
def test_a_record_that_no_fold_survives_is_named_passed_over_and_kept(tmp_path: Path, stage: str, topic: str):
    program = BROKEN.replace("{stage}", stage)
    with serving(tmp_path / "store", program=("-c", program)) as server:
        assert scan(server, "ada", wait=10) == 200
        assert scan(server, "poison", wait=1) == 202
        assert scan(server, "berta", wait=1) == 202
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/health").status_code == 200
        assert server.client.get("/api/leads/ada").status_code == 200

        line = eventually(lambda: failure_found_in(server))
        assert "Scoring: halted" in line
        assert "leadstream skip" in line
        place = re.search(rf"({topic})/(\d+) at position (\d+)", line)
        assert place, line

        done = leadstream("skip", *place.groups(), "--reason", "known bug", "--data-dir", server.data_dir)
        assert done.returncode == 0, done.stderr.decode()
        assert eventually(lambda: leads_on(server) == {"ada", "berta"})
        assert server.client.get("/ready").status_code == 200
        listed = leadstream("dead-letters", "list", "--data-dir", server.data_dir).stdout.decode()
        assert " ".join(place.groups()) in listed
        assert "known bug" in listed
        assert PERSON not in server.said.read_text()


def test_who_waits_when_the_server_stops_is_told_that_the_event_is_in_the_log(tmp_path: Path):
    with serving(tmp_path / "store", program=("-c", BROKEN.replace("{stage}", "TrackSessions"))) as server:
        told: list[int] = []
        waiting = threading.Thread(target=lambda: told.append(scan(server, "poison", wait=10)))
        waiting.start()
        time.sleep(1)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < STOPPING_SECONDS
        waiting.join()
        assert told == [202]
        assert "Exception in ASGI application" not in server.said.read_text()

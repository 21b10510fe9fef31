"""`leadstream serve` as a producer, an analyst and an operator meet it: over HTTP, killed, stopped, beside
other commands.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from chats import answers_of_concurrent_callers, right_answers
from command_line import Server, leadstream, serving, serving_once

from tests.ports import free_port
from tests.producers.chromium import until

README = Path(__file__).parents[2] / "README.md"

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_once(tmp_path_factory, new=True) as running:
        yield running


def visit(visitor_id: str, session_id: str) -> list[dict[str, Any]]:
    """Eight minutes, four pages, three clicks and an important one: 35 + 20 + 11 points."""
    begin = datetime.now(UTC) - timedelta(minutes=30)
    steps: list[tuple[float, dict[str, Any]]] = [
        (0, {"type": "session_started"}),
        (0, {"type": "page_viewed", "url": "/"}),
        (60, {"type": "element_clicked", "text": "More"}),
        (120, {"type": "page_viewed", "url": "/features"}),
        (150, {"type": "element_clicked", "text": "Video"}),
        (240, {"type": "page_viewed", "url": "/pricing"}),
        (300, {"type": "element_clicked", "text": "Compare"}),
        (360, {"type": "page_viewed", "url": "/demo"}),
        (420, {"type": "element_clicked", "text": " GET A DEMO "}),
        (480, {"type": "session_ended"}),
    ]
    return [
        {
            "event_id": f"{session_id}-{number}",
            "occurred_at": (begin + timedelta(seconds=after)).isoformat(),
            "visitor_id": visitor_id,
            "session_id": session_id,
            **said,
        }
        for number, (after, said) in enumerate(steps)
    ]


def send(server: Server, events: list[dict[str, Any]]) -> None:
    answer = server.client.post("/v1/events", params={"wait": 10}, json=events)
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == len(events)


def analytics(server: Server, session_id: str) -> dict[str, Any]:
    answer = server.client.get(f"/api/lead-score/session/{session_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


CHATS = Path(__file__).parents[2] / "../shared/data/field-cases/message-id-of-each-chat.ndjson"


def test_callers_whose_event_ids_are_alike_each_get_their_own_answer(server: Server):
    for times in range(3):
        assert answers_of_concurrent_callers(server, f"chat{times}") == right_answers(f"chat{times}")


@pytest.mark.skipif(not CHATS.exists(), reason=f"{CHATS.name} is not there")
def test_two_chats_with_a_message_of_the_same_id_in_one_request_each_get_their_own_lead(server: Server):
    answer = server.client.post(
        "/v1/events?wait=10",
        content=CHATS.read_bytes(),
        headers={"Content-Type": "application/x-ndjson"},
    )
    found = [(each["lead_id"], each["scores"]["rules"]) for each in answer.json()["events"]]
    assert found == [("anon:f31-chat-a", 10), ("anon:f31-chat-b", 35)]
    unclear = server.client.get("/api/events/7")
    assert unclear.status_code == 409
    assert {"/api/events/7?visitor_id=f31-chat-a", "/api/events/7?visitor_id=f31-chat-b"} <= set(
        unclear.json()["choices"]
    )


EXPECTED = {
    "analytics": {
        "duration_seconds": 480,
        "page_views_count": 4,
        "regular_clicks": 3,
        "important_clicks": 1,
    },
    "score_breakdown": {
        "duration_score": "35/40",
        "page_score": "20/30",
        "click_score": "11/30",
        "total_score": "66/100",
    },
}


def test_a_visit_is_scored_and_told_by_all_five_session_endpoints(server: Server):
    send(server, visit("browser-1", "visit-1"))
    assert analytics(server, "visit-1") == {"success": True, "session_id": "visit-1", **EXPECTED}
    for path in ("session", "session/update"):
        answer = server.client.post(f"/api/lead-score/{path}", json={"sessionId": "visit-1"})
        assert (answer.status_code, answer.json()["lead_score"]) == (200, 66)
    for path in ("user", "user/update"):
        answer = server.client.post(f"/api/lead-score/{path}", json={"userId": "browser-1"})
        assert (answer.status_code, answer.json()["lead_score"]) == (200, 66)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_the_first_steps_of_the_readme_work_as_they_stand(server: Server):
    steps = re.findall(
        r"^```sh\n(curl .*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    here = f"localhost:{server.client.base_url.port}"
    said = [
        subprocess.run(
            ["bash", "-c", step.replace("localhost:8000", here)], capture_output=True, check=True
        ).stdout
        for step in steps
    ]
    sent = json.loads(said[0])
    assert (sent["accepted"], sent["refused"]) == (4, 0)
    assert {each["outcome"] for each in sent["events"]} == {"applied"}
    assert b"Ada Obi" in said[1]


def test_everything_answered_is_there_after_a_kill(server: Server):
    send(server, visit("browser-2", "visit-2"))
    send(
        server, [{"type": "lead_identified", "visitor_id": "browser-2", "lead_id": "ada", "event_id": "who"}]
    )
    before = server.client.get("/api/leads/ada").json()["lead"]
    server.kill()
    server.start()
    after = server.client.get("/api/leads/ada").json()["lead"]
    assert after["lead_id"] == "ada"
    assert after["created_at"] == before["created_at"]
    answer = server.client.post("/api/lead-score/user", json={"userId": "ada"})
    assert answer.json()["lead_score"] == 66
    assert analytics(server, "visit-2")["score_breakdown"] == EXPECTED["score_breakdown"]
    leads = server.client.get("/api/leads").json()["leads"]
    assert "ada" in [lead["lead_id"] for lead in leads]


def test_a_retry_after_a_kill_counts_nothing_twice(server: Server):
    events = visit("browser-3", "visit-3")
    send(server, events)
    server.kill()
    server.start()
    send(server, events)
    assert analytics(server, "visit-3")["analytics"] == EXPECTED["analytics"]


def test_an_import_runs_beside_the_server_and_is_scored_by_it(server: Server):
    events = visit("browser-4", "visit-4")
    told = "\n".join(map(json.dumps, events)).encode()
    done = leadstream("import", "events", "-", "--data-dir", server.data_dir, stdin=told)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Events imported: 10" in done.stdout
    assert analytics(server, "visit-4")["analytics"] == EXPECTED["analytics"]


def test_a_published_model_scores_what_was_there_before(server: Server, tmp_path: Path):
    send(server, visit("browser-5", "visit-5"))
    changed = tmp_path / "web_session.toml"
    shipped = (Path(__file__).parents[2] / "scoring/models/web_session.toml").read_text(encoding="utf-8")
    assert "[60, 5]" in shipped
    changed.write_text(shipped.replace("[600, 35]", "[600, 36]"), encoding="utf-8")
    done = leadstream("publish", changed, "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Model web_session, version 2, is active." in done.stdout

    def score() -> int:
        return server.client.post("/api/lead-score/user", json={"userId": "browser-5"}).json()["lead_score"]

    until(lambda: score() == 67, "the gateway reads what is published now and then")
    back = leadstream("publish", "web_session", "--data-dir", server.data_dir)
    assert b"version 3" in back.stdout
    until(lambda: score() == 66, "the shipped model is back")


def test_the_inlet_for_commands_is_shut_to_others(server: Server):
    for headers in ({}, {"Authorization": "Bearer guess"}):
        assert server.client.post("/internal/append", headers=headers, content=b"\x90").status_code == 404
    note = server.data_dir / "server.json"
    assert note.stat().st_mode & 0o077 == 0


def test_a_second_server_on_the_same_store_is_refused_with_the_remedy(server: Server):
    done = leadstream("serve", "--port", free_port(), "--data-dir", server.data_dir)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"in use by another Leadstream process" in done.stderr
    assert b"--data-dir" in done.stderr


def test_a_taken_port_is_named_with_the_remedy(server: Server, tmp_path: Path):
    port = server.client.base_url.port
    done = leadstream("serve", "--port", port, "--data-dir", tmp_path / "other")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert f"Port {port} ".encode() in done.stderr
    assert b"--port" in done.stderr


def test_the_doctor_finds_a_running_server_healthy(server: Server):
    done = leadstream("doctor", "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stdout.decode()
    told = done.stdout.decode()
    assert "Server: runs at" in told
    assert "fail" not in told


def test_a_rebuild_beside_the_server_changes_nothing_that_is_seen(server: Server):
    send(server, visit("browser-6", "visit-6"))
    before = analytics(server, "visit-6")
    done = leadstream("rebuild", "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr.decode()
    assert analytics(server, "visit-6") == before


def test_being_told_to_stop_is_no_error_and_leaves_nothing_running(tmp_path: Path):
    with serving(tmp_path / "store") as server:
        send(server, visit("browser-1", "visit-1"))
        assert server.stop() == 0
        assert not (server.data_dir / "server.json").exists()
        assert not (server.data_dir / "postgres/postmaster.pid").exists()
        assert "Traceback" not in server.said.read_text()
        done = leadstream("doctor", "--data-dir", server.data_dir)
        assert done.returncode == 0, done.stdout.decode()
        assert "Server: none runs" in done.stdout.decode()

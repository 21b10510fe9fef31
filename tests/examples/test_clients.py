"""The producers and chats of `examples/`, run as their README says, against a real server."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from leadstream.embedded_postgres import create_database
from tests.gateway.fake_telegram import SECRET, TOKEN
from tests.leadstream.command_line import Server, environment, serving_once

EXAMPLES = Path(__file__).parents[2] / "examples"
BOTS = f"default:realty:{SECRET}:{TOKEN}"
NODE = shutil.which("node")
PRODUCERS = [
    pytest.param([sys.executable, str(EXAMPLES / "python-producer/produce.py")], id="python"),
    pytest.param(
        [NODE or "node", str(EXAMPLES / "node-producer/produce.mjs")],
        id="node",
        marks=pytest.mark.skipif(NODE is None, reason="node is not there"),
    ),
]


@pytest.fixture(scope="module")
def server(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database("examples"))
    url = postgres_url.replace("/leadstream?", "/examples?")
    with serving_once(
        tmp_path_factory,
        LEADSTREAM_DATABASE_URL=url,
        LEADSTREAM_PARTITIONS="2",
        LEADSTREAM_TELEGRAM_BOTS=BOTS,
    ) as running:
        yield running


def run(command: list[str], url: object, typed: str = "", **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(LEADSTREAM_URL=str(url).rstrip("/"), LEADSTREAM_TELEGRAM_BOTS=BOTS, **more),
    )


def test_every_example_is_short_and_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for folder in (path for path in EXAMPLES.iterdir() if path.is_dir()):
        assert f"`{folder.name}`" in readme
    for path in (*EXAMPLES.glob("*-producer/*"), EXAMPLES / "chat/chat.py", EXAMPLES / "telegram/talk.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path


@pytest.mark.parametrize("command", PRODUCERS)
def test_a_producer_sends_what_is_right_and_prints_what_is_not(
    server: Server, command: list[str], request: pytest.FixtureRequest
) -> None:
    lead = f"producer-{request.node.callspec.id}"
    scans = [{"type": "qr_scanned", "lead_id": lead, "event_id": f"{lead}-{number}"} for number in range(3)]
    lines = [*scans, scans[0], {"type": "page_view", "lead_id": lead}]
    done = run(command, server.client.base_url, "\n".join(map(json.dumps, lines)) + "\n\n")
    assert done.returncode == 1, done.stderr
    (refused,) = map(json.loads, done.stdout.splitlines())
    assert (refused["index"], refused["field"]) == (4, "type")
    waited = {"type": "page_viewed", "lead_id": lead, "event_id": f"{lead}-last"}
    outcome = server.client.post("/v1/events?wait=10", json=waited).json()["events"][0]
    assert outcome["scores"]["temperature"] == 3 * 3 + 20


class Unsteady(BaseHTTPRequestHandler):
    """Breaks the first connection, then is busy, then takes events."""

    bodies: list[Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        if len(self.bodies) == 1:
            self.connection.close()
            return
        busy = len(self.bodies) == 2
        answer = json.dumps(
            {"refused": 0, "events": [{"status": "accepted"} for _ in body]} if not busy else {}
        ).encode()
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("command", PRODUCERS)
def test_a_producer_sends_the_same_again_until_the_server_has_it(command: list[str]) -> None:
    handler = type("Own", (Unsteady,), {"bodies": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = run(command, url, '{"type": "page_viewed", "visitor_id": "v"}\n')
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert len(handler.bodies) == 3
    assert handler.bodies[0] == handler.bodies[1] == handler.bodies[2]
    assert handler.bodies[0][0]["event_id"]


def test_a_chat_asks_the_flow_and_is_gone_on_with(server: Server) -> None:
    """Opened 5, greeting 5, five answers 25, all of them 10, contact 10, five answers within two minutes 25; "Retail Store" is
    detailed 5: 85.
    """
    chat = [sys.executable, str(EXAMPLES / "chat/chat.py")]
    first = run(chat, server.client.base_url, "Yes\n2\nMumbai\n")
    assert "2. Retail Store" in first.stdout
    session = first.stderr.strip().rpartition(" ")[2]
    again = run([*chat, session], server.client.base_url, "2\n₹2L–₹10L\n1\nAda Obi, ada@example.com\n")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("How many people work there?")
    lines = again.stdout.partition("Score ")[2].splitlines()
    assert lines[0] == "85 (SQL)"
    assert [line.split() for line in lines[1:]] == [
        ["5", "session_opened"],
        ["5", "replied_to_greeting"],
        ["25", "answered_question"],
        ["10", "answered_all_questions"],
        ["10", "shared_contact"],
        ["25", "quick_reply"],
        ["5", "detailed_answer"],
    ]


def test_the_talk_of_the_expo_visitor_scores_as_its_timeline(server: Server) -> None:
    talk = run([sys.executable, str(EXAMPLES / "telegram/talk.py")], server.client.base_url)
    assert talk.returncode == 0, talk.stdout + talk.stderr
    assert [int(line.split()[0]) for line in talk.stdout.splitlines()] == [23, 25, 26, 36, 46, 61, 67]

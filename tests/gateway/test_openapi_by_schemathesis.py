"""Schemathesis tries every operation of /openapi.json at a real server: its examples, the edges of its schemas, and what
they forbid.

No request gets a 5xx. Every status and content type is documented, every answer fits its schema, what the schema
forbids is refused, other methods get 405, and nothing is answered without a key.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leadstream.command_line import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-secret-api-token"
KEYS = {
    "LEADSTREAM_WRITE_KEYS": "default:a-public-write-key",
    "LEADSTREAM_API_TOKENS": f"default:read+write+metrics:{TOKEN}",
}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
)
MOST_SECONDS = 600
"""A stop for a run that hangs. The number of cases ends it before, so that a busy machine tries the same ones."""
EVENTS = [
    {"type": "session_started", "event_id": "e1", "visitor_id": "browser-7", "session_id": "abc123"},
    {"type": "page_viewed", "event_id": "e2", "visitor_id": "browser-7", "session_id": "abc123"},
    {"type": "lead_identified", "event_id": "e3", "visitor_id": "browser-7", "lead_id": "123"},
    {"type": "qr_scanned", "event_id": "3f0c", "lead_id": "123"},
    {"type": "profile_updated", "event_id": "e5", "lead_id": "123", "fields": {"name": "Ada", "phone": "+971501234567"}},
    {"type": "purchase_made", "event_id": "e6", "lead_id": "123", "order_id": "o-1", "value": 120.5, "currency": "AED"},
    {"type": "session_started", "event_id": "c1", "visitor_id": "sess_abc123", "source": "chatbot"},
]  # fmt: skip


def test_schemathesis_finds_nothing(tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    hooks = Path(__file__).with_name("schemathesis_hooks.py")
    with serving(tmp_path / "store", **KEYS) as server:
        sent = server.client.post(
            "/v1/events",
            params={"wait": 10},
            json=EVENTS,
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        assert sent.json()["accepted"] == len(EVENTS), sent.text
        # The server makes it once; schemathesis waits for ten seconds only, and a busy machine may need more.
        assert server.client.get("/openapi.json").status_code == 200
        address = str(server.client.base_url).rstrip("/")
        run = subprocess.run(
            [
                program,
                "run",
                f"{address}/openapi.json",
                f"--url={address}",
                f"--header=Authorization: Bearer {TOKEN}",
                "--phases=examples,coverage",
                f"--checks={','.join(CHECKS)}",
                f"--max-time={MOST_SECONDS}",
                "--request-timeout=60",
                "--seed=1",
                "--generation-deterministic",
                "--no-shrink",
                "--continue-on-failure",
                "--warnings=off",
                "--no-color",
            ],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(hooks.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        ready = server.client.get("/ready").json()
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    assert ready["ready"], "the server is well afterwards, and has scored everything that it was sent"

"""A producer of Leadstream in Python, without any package: `python produce.py < events.jsonl`.

It sends the events of its input, one JSON object a line, in batches. It sends a batch again until the server has it in
its log, so a restart of the server loses nothing; an event that comes twice counts once, since it keeps its event_id.
Events that the server refuses are printed with the reason. Exit code 1: some were refused.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from itertools import islice

URL = os.environ.get("LEADSTREAM_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("LEADSTREAM_WRITE_KEY", "")
BATCH = 500
SECONDS = 30


def named(line):
    """The event with an id and a time, before it is sent for the first time."""
    now = datetime.now(UTC).isoformat()
    return {"event_id": str(uuid.uuid4()), "occurred_at": now} | json.loads(line)


def send(events):
    """Returns the server's answer once all of them are in the log, or refused."""
    headers = {"Content-Type": "application/json"} | ({"X-Write-Key": KEY} if KEY else {})
    request = urllib.request.Request(f"{URL}/v1/events", json.dumps(events).encode(), headers)
    while True:
        pause = 1.0
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 422:  # all were refused
                return json.load(error)
            if error.code not in {408, 429, 500, 502, 503, 504}:
                sys.exit(f"{error.code}: {error.read().decode()}")
            pause = float(error.headers.get("Retry-After", pause))
        except OSError as error:  # the server cannot be reached, or the connection broke
            print(f"waiting for {URL}: {error}", file=sys.stderr)
        time.sleep(pause)


lines, refused = iter(line for line in sys.stdin if line.strip()), 0
while batch := [named(line) for line in islice(lines, BATCH)]:
    answer = send(batch)
    refused += answer["refused"]
    for event in answer["events"]:
        if event["status"] != "accepted":
            print(json.dumps(event))
sys.exit(1 if refused else 0)

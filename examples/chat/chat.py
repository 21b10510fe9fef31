"""A chat with Leadstream's capture bot in the terminal, without any package: `python chat.py`.

It asks what the flow asks, and prints the score with the reason for every point. `python chat.py SESSION` goes on with a
session that was left. With keys, set LEADSTREAM_API_TOKEN to a token with the scopes read and write.
"""

import json
import os
import sys
import time
from urllib.request import Request, urlopen

URL = os.environ.get("LEADSTREAM_URL", "http://127.0.0.1:8000")
TOKEN = os.environ.get("LEADSTREAM_API_TOKEN", "")
HEADERS = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {TOKEN}"} if TOKEN else {})


def call(path, body=None):
    content = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(f"{URL}/api/{path}", content, HEADERS), timeout=30) as answer:
            return json.load(answer)
    except OSError as error:
        sys.exit(f"{URL}/api/{path}: {error}")


def ask(text, options=()):
    """What the person types, or the option of the number that they type; how long it took."""
    print(text, *(f"  {number}. {option}" for number, option in enumerate(options, 1)), sep="\n")
    began, typed = time.monotonic(), ""
    while not typed:
        print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            sys.exit(f"\nGo on with: python chat.py {session}")
        typed = line.strip()
    chosen = typed.isdecimal() and 1 <= int(typed) <= len(options)
    return (options[int(typed) - 1] if chosen else typed), round(time.monotonic() - began, 1)


start = {"session_id": sys.argv[1]} if len(sys.argv) > 1 else {"utm_source": "example"}
session = call("session/start", start)["session_id"]
flow = state = call(f"questions?session_id={session}")
if not state["answered"]:
    reply, _ = ask(flow["greeting"]["text"])
    greeting = {"session_id": session, "question_id": flow["greeting"]["id"], "answer_text": reply}
    state = call("answer", greeting)
while state["asks"]:
    question = state["next_question"] or flow["contact"]
    text, seconds = ask(state["reply"], question.get("options", ()))
    answer = {"session_id": session, "question_id": question["id"], "answer_text": text}
    state = call("answer", answer | {"time_taken": seconds})
print(state["reply"])
score = call(f"score/{session}")
print(f"\nScore {score['lead_score']} ({score['classification']})")
for line in score["score_breakdown"]:
    print(f"{line['score']:>4}  {line['action']}")

"""A talk with a Telegram bot, played to the webhook of a running server, without Telegram and without any package.

Somebody at an expo scans a code, opens a catalogue, writes, shares the phone, presses buttons and sends a voice message.
After each step the lead's temperature score is printed: 23, 25, 26, 36, 46, 61, 67.
"""

import json
import os
import sys
import time
from urllib.request import Request, urlopen

URL = os.environ.get("LEADSTREAM_URL", "http://127.0.0.1:8000")
TOKEN = os.environ.get("LEADSTREAM_API_TOKEN", "")
TENANT, BOT, SECRET = os.environ["LEADSTREAM_TELEGRAM_BOTS"].split(":")[:3]
USER = int(time.time())  # somebody new each time
PERSON = {"id": USER, "is_bot": False, "first_name": "Ahmad", "last_name": f"Rezaei {USER}"}
CHAT = {"id": USER, "type": "private"}
CHOICES = ("property_type:Living", "location:Dubai Marina", "transaction_type:Buy")


def message(**content):
    return {"message": {"message_id": 1, "date": USER, "chat": CHAT, "from": PERSON, **content}}


def press(data):
    return {"callback_query": {"id": "1", "from": PERSON, "data": data}}


STEPS = [
    ("scans the code of the stand", [message(text="/start qr_stand-7")], 23),
    ("opens a catalogue", [press("catalog:towers")], 25),
    ("writes", [message(text="I'm interested in 2BR")], 26),
    ("shares the phone", [message(contact={"phone_number": f"971{USER % 10**9}", "user_id": USER})], 36),
    ("chooses a budget", [press("budget_max:2000000")], 46),
    ("chooses type, location, transaction", [press(data) for data in CHOICES], 61),
    ("sends a voice message", [message(voice={"file_id": "AwADBAADbXX", "duration": 12})], 67),
]


def call(path, headers, body=None):
    content = None if body is None else json.dumps(body).encode()
    with urlopen(Request(URL + path, content, headers), timeout=30) as answer:
        return json.load(answer)


update_id = USER * 100
for step, updates, expected in STEPS:
    for update in updates:
        update_id += 1
        headers = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
        call(f"/v1/telegram/{BOT}", headers, {"update_id": update_id, **update})
    score, until = None, time.monotonic() + 10
    while score != expected and time.monotonic() < until:  # it follows within a moment
        path = f"/api/tenants/{TENANT}/leads?q={USER}&include_anonymous=true"
        score = next((lead["lead_score"] for lead in call(path, {"Authorization": f"Bearer {TOKEN}"})), 0)
    print(f"{score:>3}  {step}", flush=True)
    if score != expected:
        sys.exit(f"expected {expected}")

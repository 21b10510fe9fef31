"""`leadstream explain`, on a store that scored the expo visitor of the lead temperature guide."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from command_line import leadstream_here

pytestmark = pytest.mark.postgres

NOBODY = "no call made, SMS sent, e-mail sent or meeting scheduled"
START = datetime(2024, 3, 2, 10, 0, tzinfo=UTC)
TELEGRAM = {"visitor_id": "tg-7", "source": "telegram"}
CRM = {"visitor_id": "tg-7", "source": "crm"}
"""Of the same visitor, so that everything comes in this order."""

EXPO = [
    (0, "qr_scanned", TELEGRAM, {"place": "Expo"}),
    (5, "catalog_viewed", TELEGRAM, {"title": "Towers"}),
    (10, "message_received", TELEGRAM, {"text": "I'm interested in 2BR"}),
    (11, "lead_identified", TELEGRAM, {"lead_id": "ahmad"}),
    (11, "profile_updated", CRM, {"fields": {"name": "Ahmad Rezaei", "phone": "+971501234567"}}),
    (15, "profile_updated", CRM, {"fields": {"budget_max": 2_000_000}}),
    (
        20,
        "profile_updated",
        CRM,
        {"fields": {"property_type": "2BR", "location": "Dubai Marina", "transaction_type": "buy"}},
    ),
    (25, "message_received", TELEGRAM, {"kind": "voice", "text": "Which payment plans are there?"}),
]


WARM_TASK = """
[[workflow]]
id = 1
name = "Call warm leads"
trigger = { type = "score_threshold", model = "temperature", score = 60 }
action = { type = "create_task", title = "Call" }
"""


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The settings of a store that has scored it all."""
    settings = {
        "LEADSTREAM_DATABASE_URL": database_url,
        "LEADSTREAM_DATA_DIR": str(tmp_path),
        "LEADSTREAM_PARTITIONS": "2",
    }
    workflows = tmp_path / "workflows.toml"
    workflows.write_text(WARM_TASK)
    done = leadstream_here("publish-workflows", workflows, **settings)
    assert done.returncode == 0, done.stderr.decode()
    told = tmp_path / "expo.jsonl"
    with told.open("w") as file:
        for number, (minute, kind, whose, fields) in enumerate(EXPO):
            at = (START + timedelta(minutes=minute)).isoformat()
            event = {"event_id": f"expo-{number}", "type": kind, "occurred_at": at} | whose | fields
            file.write(json.dumps(event) + "\n")
    done = leadstream_here("import", "events", told, **settings)
    assert done.returncode == 0, done.stderr.decode()
    return settings


def test_a_lead_is_explained_now_then_and_in_time_to_come(store: dict[str, str]):
    def said(*words: str) -> list[str]:
        done = leadstream_here("explain", *words, **store)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().splitlines()

    def refused(*words: str) -> str:
        done = leadstream_here("explain", *words, **store)
        assert (done.returncode, done.stdout) == (1, b"")
        return done.stderr.decode().strip()

    # now: long after the expo nothing is left of recency
    now = said("ahmad", "--model", "temperature", "--changes", "2")
    assert now[0] == "Ahmad Rezaei (ahmad)"
    assert "  Stage: new" in now
    assert "  Known as visitor tg-7" in now
    at = now.index("temperature: 47, warm")
    assert now[at : now.index("Latest changes")] == [
        "temperature: 47, warm",
        f"  red flag: Phone shared, and no follow-up: call immediately (has phone; {NOBODY} since the last contact shared)",
        (
            "  red flag: Voice message, and no response: listen and reply "
            f"(voice message has happened; {NOBODY} since the last voice message)"
        ),
        "  green flag: Voice message, budget and phone: ready to close (voice message has happened; has budget max; has phone)",
        "  engagement",
        "    QR scans        +3  1 x 3 points",
        "    Catalog views   +2  1 x 2 points",
        "    Messages        +2  2 x 1 point",
        "    Voice message   +5",
        "  qualification",
        "    Phone          +10",
        "    Budget         +10  has budget max",
        "    Transaction     +5  has transaction type",
        "    Property type   +5",
        "    Location        +5",
        "",
    ]
    latest = now.index("Latest workflows")
    assert now[now.index("Latest changes") : latest - 1] == [
        "Latest changes",
        "  5 Mar 2024, 10:25  Time passed, 4 changes since 2 Mar 2024, 11:25",
        "    temperature 67 -> 47: Last interaction -20, now warm",
        "  2 Mar 2024, 10:25  Message received (telegram): Which payment plans are there?",
        "    temperature 61 -> 67: Messages +1, Voice message +5",
    ]
    # 51 + 10 points of the profile's last three fields: the only rise through 60
    assert now[latest:] == [
        "Latest workflows",
        "  2 Mar 2024, 10:20  Call warm leads: temperature rose from 46 to 61, through 60",
        "    create task: nothing is done: it was imported",
    ]

    # then: the guide's total, with recency, and the message that made it
    then = said("ahmad", "--model", "temperature", "--as-of", "2024-03-02T10:25:00Z", "--changes", "1")
    assert "  As it was 2 Mar 2024, 10:25" in then
    assert "temperature: 67, hot" in then
    assert then[-6:-4] == [
        "  2 Mar 2024, 10:25  Message received (telegram): Which payment plans are there?",
        "    temperature 61 -> 67: Messages +1, Voice message +5",
    ]

    # in time to come: as if nothing happened
    later = said("ahmad", "--model", "composite", "--as-of", "2100-01-01", "--changes", "0")
    assert "  As it will be, if nothing happens, 1 Jan 2100, 00:00" in later
    assert not [line for line in later if line == "Latest changes"]

    everything = said("ahmad", "--changes", "100")
    headings = [line.partition(",")[0] for line in everything if line and line[0] != " "]
    assert headings[:2] == ["Ahmad Rezaei (ahmad)", "temperature: 47"]
    assert {"chatbot: 0", "rules: 0", "web session: 0"} < set(headings)
    assert "  2 Mar 2024, 10:11  The events of visitor tg-7 were added to this lead" in everything
    assert not [line for line in everything if " 0 -> 0" in line]

    # the commands that made the store left rows in its audit log
    with psycopg.connect(store["LEADSTREAM_DATABASE_URL"]) as connection:
        rows = connection.execute(
            "select split_part(action, ' ', 2), tenant, target, before, after, outcome from audit_log order by entry_id"
        ).fetchall()
    assert rows == [
        ("publish-workflows", "default", "workflows", None, "version 1", "done"),
        ("import", "*", None, None, None, "done"),
    ]

    # what cannot be explained says what to do
    assert refused("ahmet") == "Error: There is no lead 'ahmet'; did you mean ahmad (Ahmad Rezaei)?"
    assert refused("anon:tg-7") == ("Error: tg-7 is a visitor of the lead ahmad: leadstream explain ahmad")
    assert "ids are on the board" in refused("nobody")
    assert "There is no lead 'ahmad' of tenant 'acme'" in refused("ahmad", "--tenant", "acme")
    assert "active are chatbot, composite, rules" in refused("ahmad", "--model", "heat")
    assert "is no moment" in refused("ahmad", "--as-of", "soon")
    assert "it was first seen 2 Mar 2024, 10:00" in refused("ahmad", "--as-of", "2024-03-01")


def test_two_visitors_of_a_lead_who_sent_the_same_event_id_are_told_apart(
    store: dict[str, str], tmp_path: Path
):
    said = tmp_path / "same.jsonl"
    with said.open("w") as file:
        for minute, visitor in ((1, "chat-1"), (2, "chat-2")):
            at = (START + timedelta(hours=1, minutes=minute)).isoformat()
            event = {"event_id": "1", "type": "message_received", "visitor_id": visitor, "lead_id": "zoe"}
            file.write(json.dumps({**event, "text": f"Hello from {visitor}", "occurred_at": at}) + "\n")
    assert leadstream_here("import", "events", said, **store).returncode == 0
    done = leadstream_here("explain", "zoe", "--model", "temperature", **store)
    assert done.returncode == 0, done.stderr.decode()
    causes = [line for line in done.stdout.decode().splitlines() if "Hello from" in line]
    assert ["11:02" in causes[0], "chat-2" in causes[0]] == [True, True], causes
    assert ["11:01" in causes[1], "chat-1" in causes[1]] == [True, True], causes

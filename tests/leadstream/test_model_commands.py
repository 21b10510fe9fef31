"""Models at the command line: published with a reason, listed, shown, compared, retired."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from command_line import leadstream, leadstream_here, serving

from leadstream.active_models import active_by_shard
from scoring.models.model import built_in_models

pytestmark = pytest.mark.postgres

SECONDS = 180.0

CHATBOT = built_in_models()["chatbot"]


@pytest.fixture
def command(database_url, tmp_path):
    def run(*arguments, code=0, error=False):
        """What it writes to standard output; to standard error, if it fails or that is asked for."""
        done = leadstream_here(
            *arguments,
            LEADSTREAM_DATABASE_URL=database_url,
            LEADSTREAM_DATA_DIR=str(tmp_path),
            LEADSTREAM_PARTITIONS="2",
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return (done.stderr if code or error else done.stdout).decode()

    return run


def test_a_model_from_its_publication_to_its_retirement(command, database_url, tmp_path):
    changed = tmp_path / "changed.toml"
    changed.write_text(f"{CHATBOT}# ours\n", encoding="utf-8")
    told = command("publish", changed, "--note", "for the expo", "--by", "ada")
    assert "Model chatbot, version 2, is active." in told

    listed = command("models").splitlines()
    assert listed[0].split("\t") == ["Model", "Version", "For", "Since", "By", "Reason"]
    assert [line.split("\t")[:3] for line in listed if line.startswith("chatbot")] == [["chatbot", "2", "*"]]
    [line] = [line for line in listed if line.startswith("chatbot")]
    assert line.endswith("\tada\tfor the expo")

    assert command("models", "show", "chatbot") == f"{CHATBOT}# ours\n"
    assert command("models", "show", "chatbot", "--version", 1) == CHATBOT
    before, after, *_, last = command("models", "diff", "chatbot", 1, 2).splitlines()
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.fullmatch(rf"--- chatbot version 1, {moment}, by Leadstream: built in", before)
    assert re.fullmatch(rf"\+\+\+ chatbot version 2, {moment}, by ada: for the expo", after)
    assert last == "+# ours"
    assert "unchanged" in command("publish", changed)
    told = command("models", "show", "chatbot", "--version", 1, error=True)
    assert "This is version 1 of chatbot; the newest is 2." in told
    assert "leadstream publish FILE --based-on 2" in told
    late = command("publish", "chatbot", "--based-on", 1, code=1)
    assert "`leadstream models diff chatbot 1 2`" in late
    assert "--based-on 2" in late
    assert "no version 7" in command("models", "show", "chatbot", "--version", 7, code=1)
    assert "No model nothing is active" in command("models", "show", "nothing", code=1)

    later = command("publish", "chatbot", "--at", "2099-01-01T00:00:00", "--by", "ben")
    assert "takes effect at 2099-01-01" in later
    second = command("publish", "chatbot", "--at", "2098-01-01T00:00:00", code=1)
    [_, line] = command("models", "drafts").splitlines()
    number = line.split("\t")[0]
    assert line.split("\t")[1:4] == ["chatbot", "*", "ben"]
    assert line.endswith("takes effect at 2099-01-01 00:00:00Z")
    assert f"`leadstream models discard {number}`" in second
    assert f"Draft {number} of chatbot is discarded." in command("models", "discard", number)
    assert "leadstream models drafts" in command("models", "discard", number, code=1)
    assert command("models", "drafts") == ""
    assert "Model chatbot is retired, as version 3." in command("retire", "chatbot", "--note", "nobody chats")
    assert not [line for line in command("models").splitlines() if line.startswith("chatbot")]
    assert [line.split("\t")[0] for line in command("models", "versions", "chatbot").splitlines()] == [
        "Version",
        "3",
        "2",
        "1",
    ]
    command("publish", "composite", "--tenant", "acme")
    assert "lifecycle reads the model rules" in command("retire", "rules", code=1)

    with psycopg.connect(database_url) as connection:
        states = connection.execute(
            "select state, version, by from public.model_drafts order by id"
        ).fetchall()
    assert states[:2] == [("published", 2, "ada"), ("discarded", None, "ben")]


def test_a_server_publishes_what_has_come_due(command, database_url, tmp_path):
    command("publish", "chatbot", "--at", "2099-01-01T00:00:00", "--by", "ada")
    with psycopg.connect(database_url) as connection:
        connection.execute("update public.model_drafts set effective_from = now() - interval '1 hour'")
    with serving(tmp_path, LEADSTREAM_DATABASE_URL=database_url) as server:
        deadline = time.monotonic() + SECONDS
        while (told := server.client.get("/api/models/chatbot").json())["version"] == 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert (told["version"], told["by"]) == (2, "ada")


def test_two_who_publish_settings_at_once_lose_neither_change(database_url, tmp_path):
    where = {"LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_DATA_DIR": str(tmp_path)}
    changes = [("--time-zone", "Europe/Berlin"), ("--idle-minutes", "20")]
    with serving(tmp_path, LEADSTREAM_DATABASE_URL=database_url), ThreadPoolExecutor(2) as both:
        asked = [
            both.submit(leadstream, "publish-settings", "--tenant", "acme", *change, **where)
            for change in changes
        ]
        assert [each.result().returncode for each in asked] == [0, 0]
    held = [shard.settings["acme"] for shard in active_by_shard(database_url)]
    assert {(each.version, each.time_zone, each.idle_minutes) for each in held} == {(2, "Europe/Berlin", 20)}


def test_a_note_that_the_log_would_refuse_is_refused_at_once(command):
    assert "note" in command("publish", "chatbot", "--note", "n" * 513, code=1).lower()
    [line] = [line for line in command("models").splitlines() if line.startswith("chatbot")]
    assert line.startswith("chatbot\t1\t")

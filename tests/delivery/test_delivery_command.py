"""`leadstream delivery`: status, retry, check and try, as an operator meets them."""

import json

import pytest
from outboxes import WEBHOOK_SECRET, deliver, lead, triggered, webhook_channel
from receivers import Answer

from tests.leadstream.command_line import leadstream_here

CONFIGURATION = '[channels.hook]\ntype = "webhook"\nurl = "env:HOOK_URL"\nsecrets = ["env:HOOK_SECRET"]\n'


def command(*arguments: object, code: int = 0, **settings: str) -> tuple[str, str]:
    done = leadstream_here("delivery", *arguments, **settings)
    said, told = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, said + told
    assert "Traceback" not in told
    return said, told


@pytest.fixture
def configured_settings(tmp_path, receiver) -> dict[str, str]:
    file = tmp_path / "delivery.toml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    return {"LEADSTREAM_DELIVERY": str(file), "HOOK_URL": receiver.url, "HOOK_SECRET": WEBHOOK_SECRET}


@pytest.mark.postgres
def test_an_operator_sees_dead_letters_and_sends_them_again(outbox, receiver):
    assert "No workflow has sent anything yet" in command("status", "--database-url", outbox.url)[1]
    receiver.otherwise = Answer(410)
    outbox.project(lead(), triggered("send_webhook"))
    (row,) = deliver(outbox, webhook_channel(receiver.url))
    said, told = command("status", "--database-url", outbox.url)
    assert "webhook\t0\t0\t0\t1\t0\t0" in said
    assert (
        f"{row['execution_id']}  webhook  Notify on hot lead: the webhook 'webhook' answers with status 410"
        in said
    )
    assert "leadstream delivery retry --all" in told
    found = json.loads(command("status", "--json", "--database-url", outbox.url)[0])
    assert (found["channels"][0]["dead"], found["dead_letters"][0]["attempts"]) == (1, 1)

    assert "give the numbers" in command("retry", "--database-url", outbox.url, code=2)[1]
    assert "No dead letter fits" in command("retry", "7", "--database-url", outbox.url, code=1)[1]
    assert (
        "No dead letter fits"
        in command("retry", "--all", "--channel", "x", "--database-url", outbox.url, code=1)[1]
    )
    assert command("retry", row["execution_id"], "--database-url", outbox.url)[0] == "1 will be sent again.\n"
    assert outbox.statuses() == ["waiting"]


def test_the_configuration_is_checked_and_its_channels_are_listed(configured_settings):
    said, _ = command("check", **configured_settings)
    assert said.splitlines()[1:] == ["lead\tlead", "notifications\tnotifications", "hook\twebhook"]
    wrong = {**configured_settings, "HOOK_SECRET": "hunter2"}
    _, told = command("check", code=2, **wrong)
    assert "LEADSTREAM_DELIVERY: " in told
    assert "channels.hook: secrets: number 1 is not whsec_" in told
    assert "hunter2" not in told


def test_without_a_file_the_channels_that_are_always_there_are_listed():
    said, told = command("check")
    assert said.splitlines()[1:] == ["lead\tlead", "notifications\tnotifications"]
    assert "LEADSTREAM_DELIVERY is not set" in told


def test_a_channel_is_tried_with_an_invented_lead(configured_settings, receiver):
    assert command("try", "hook", **configured_settings)[0] == "Delivered.\n"
    assert receiver.requests[0].json()["data"]["lead"]["name"] == "Ada Lovelace"
    receiver.otherwise = Answer(500)
    assert (
        "It was not delivered: the webhook 'hook' answers with status 500."
        in command("try", "hook", code=1, **configured_settings)[1]
    )
    assert "There is no channel 'none'" in command("try", "none", code=1, **configured_settings)[1]

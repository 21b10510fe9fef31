"""`leadstream crm` and `leadstream enrichment` as an operator meets them."""

import json

import pytest
from crm_readings import NOON, SECRET, Reading, channel, empty
from fake_crms import TOKEN
from readable_crms import ReadableHubspot

from tests.leadstream.command_line import leadstream_here

pytestmark = pytest.mark.postgres


def command(*arguments: object, code: int = 0, **settings: str) -> tuple[str, str]:
    done = leadstream_here(*arguments, **settings)
    printed, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, printed + errors
    assert "Traceback" not in errors
    return printed, errors


def test_an_operator_sees_how_far_a_crm_was_read(outbox, receiver, tmp_path):
    empty(outbox)
    assert "No CRM was read yet" in command("crm", "status", "--database-url", outbox.url)[1]
    receiver.otherwise = crm = ReadableHubspot()
    crm.put("contacts", "1", NOON, email="ada@example.com", hubspot_owner_id="71")
    text = channel("hubspot", receiver.url)
    Reading(outbox.url, text, {"ada@example.com": "ada"}).pull()
    printed, _ = command("crm", "status", "--database-url", outbox.url)
    assert "crm\tcontact\t2026-03-02 12:00:00" in printed
    (contact, deal) = json.loads(command("crm", "status", "--json", "--database-url", outbox.url)[0])["crms"]
    assert (contact["records"], deal["records"], contact["failures"]) == (1, 0, 0)

    file = tmp_path / "delivery.toml"
    file.write_text(text, encoding="utf-8")
    settings = {"LEADSTREAM_DELIVERY": str(file), "TOKEN": TOKEN, "SECRET": SECRET}
    _, errors = command("crm", "pull", "other", "--database-url", outbox.url, code=1, **settings)
    assert "'other' cannot be read. Those that can be read are crm" in errors
    _, errors = command("enrichment", "preview", "ada", "--database-url", outbox.url, code=1, **settings)
    assert "No source is configured" in errors
    assert "Persons who wait" in command("enrichment", "status", "--database-url", outbox.url)[1]

"""The operations page as an administrator uses it."""

import json

import pytest
from test_pages_in_chromium import ADMIN_TOKEN, TOKEN, shown, walk

from leadstream.operations.open_store import open_store
from leadstream.settings import read_settings
from schemas.record import Outgoing
from schemas.topics import EVENTS
from tests.leadstream.command_line import serving
from tests.producers.chromium import chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HOSTILE = "<img src=x onerror=alert(1)>"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
TYPE_INTO = """
(([selector, text]) => {
  const field = document.querySelector(selector);
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})
"""


def test_an_administrator_mends_a_dead_letter_makes_and_revokes_a_key_and_reads_who_did_what(tmp_path):
    settings = {"LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN},default:admin:{ADMIN_TOKEN}"}
    broken = {
        "type": "demo_requested",
        "tenant": "default",
        "event_id": "d1",
        "visitor_id": "v1",
        "occurred_at": HOSTILE,
    }
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        signed_in = f"sessionStorage.setItem('token', '{ADMIN_TOKEN}'); window.confirm = () => true;"
        with open_store(read_settings(data_dir=tmp_path / "store")) as store:
            store.append([
                Outgoing(EVENTS, "default/v/v1", json.dumps(broken).encode()),
                Outgoing(EVENTS, f"default/v/{'w' * 120}", b"\xff" * 50),
            ])  # fmt: skip
            store.settle(lambda _: None)

        with walk(browser, address, "operations, not allowed") as tab:
            tab.before_pages(f"sessionStorage.setItem('token', '{TOKEN}')")
            tab.go(f"{address}/operations")
            until(lambda: "Only administrators" in str(shown(tab, "main p")), "who may see it")
            assert "Operations" not in shown(tab, ".pages a")

        with walk(browser, address, "operations") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/")
            until(lambda: "Operations" in shown(tab, ".pages a"), "it is in the bar")
            tab.click("a[href='/operations']")
            until(
                lambda: "scores follow" in str(shown(tab, "section[aria-labelledby=how-far] .up")), "how far"
            )
            until(lambda: len(shown(tab, ".arrival.refused")) == 2, "both dead letters")
            assert HOSTILE not in str(shown(tab, "h2"))
            tab.run("document.querySelector('.arrival.refused:has(textarea) button').click()")
            until(lambda: "occurred_at: " in str(shown(tab, "[role=alert]")), "as it is it cannot be sent")
            mended = json.dumps({**broken, "occurred_at": "2030-01-31T12:00:00Z"})
            tab.run("document.querySelector('.arrival.refused:has(textarea) details').open = true")
            tab.run(f"{TYPE_INTO}({json.dumps(['.arrival textarea', mended])})")
            until(
                lambda: "Send the corrected one" in shown(tab, ".arrival button"),
                "the button says what it does",
            )
            tab.run("document.querySelector('.arrival.refused:has(textarea) button').click()")
            until(lambda: len(shown(tab, ".arrival.refused")) == 1, "it is gone")
            lead = server.client.get("/api/leads/anon:v1", headers=ADMIN).json()
            assert [each["type"] for each in lead["engagements"]] == ["demo_requested"]

            tab.run(f"{TYPE_INTO}(['section[aria-labelledby=keys] input[name=name]', 'Shop'])")
            tab.click("section[aria-labelledby=keys] button[type=submit]")
            until(lambda: len(shown(tab, ".secret")) == 1, "the secret, once")
            (secret,) = shown(tab, ".secret")
            event = {"type": "page_viewed", "visitor_id": "v2"}
            sent = server.client.post("/v1/events", json=event, headers={"X-Write-Key": secret})
            assert sent.status_code == 200, sent.text
            until(
                lambda: any("Shop" in each for each in shown(tab, "section[aria-labelledby=keys] tbody th")),
                "it is listed",
            )
            tab.click("section[aria-labelledby=keys] tbody button")
            until(lambda: not shown(tab, "section[aria-labelledby=keys] tbody tr"), "it is revoked")
            assert (
                server.client.post("/v1/events", json=event, headers={"X-Write-Key": secret}).status_code
                == 401
            )

            tab.run(f"{TYPE_INTO}(['section[aria-labelledby=people] input[name=email]', 'ada@firm.example'])")
            tab.click("section[aria-labelledby=people] button[type=submit]")
            until(
                lambda: "ada@firm.example" in str(shown(tab, "section[aria-labelledby=people] tbody th")),
                "a colleague",
            )
            tab.run("location.reload()")
            until(
                lambda: "key.revoke" in str(shown(tab, "section[aria-labelledby=audit] td")), "who did what"
            )
            assert secret not in tab.run("document.body.innerText")

        for name, width, scheme, language in [
            ("operations, phone", 390, "light", "en"),
            ("operations, dark", 1280, "dark", "de"),
            ("operations, right to left", 390, "light", "fa"),
        ]:
            with walk(browser, address, name, width=width, scheme=scheme) as tab:
                tab.before_pages(f"{signed_in} localStorage.setItem('language', '{language}')")
                tab.go(f"{address}/operations")
                until(lambda tab=tab: len(shown(tab, ".arrival.refused")) == 1, "a dead letter")
                until(
                    lambda tab=tab: len(shown(tab, "section[aria-labelledby=audit] tbody tr")) >= 3, "the log"
                )

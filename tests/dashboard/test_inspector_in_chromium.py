"""The inspector as a developer uses it who connects a producer."""

import pytest
from test_pages_in_chromium import TOKEN, shown, walk

from tests.leadstream.command_line import serving
from tests.producers.chromium import chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HOSTILE = "<img src=x onerror=alert(1)>"
KEY = {"X-Write-Key": "a-public-write-key"}


def test_a_developer_finds_the_fault_of_a_producer_and_sees_what_the_mended_one_does(tmp_path):
    settings = {
        "LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN}",
        "LEADSTREAM_WRITE_KEYS": "default:a-public-write-key",
    }
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        signed_in = f"sessionStorage.setItem('token', '{TOKEN}')"

        with walk(browser, address, "inspector, empty") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/")
            until(lambda: "Inspector" in shown(tab, ".pages a"), "it is in the bar")
            tab.click("a[href='/inspector']")
            until(
                lambda: any("/v1/events" in each for each in shown(tab, "pre")), "how to send the first event"
            )

        with walk(browser, address, "inspector") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/inspector")
            broken = {"type": "demo_requested", "lead_id": "ada", "visitor_id": "v1", "occurred_at": HOSTILE}
            assert server.client.post("/v1/events", json=broken, headers=KEY).status_code == 422
            until(
                lambda: "occurred_at: " in str(shown(tab, ".arrival .wrong")), "why it was refused, by itself"
            )
            tab.click(".arrival summary")
            until(lambda: HOSTILE in str(shown(tab, ".arrival pre")), "what was sent")

            mended = {**broken, "occurred_at": None, "event_id": "d1"}
            mended.pop("occurred_at")
            assert server.client.post("/v1/events?wait=10", json=mended, headers=KEY).status_code == 200
            until(lambda: shown(tab, ".arrival a") == ["ada"], "whom it counted for")
            headers = {"Authorization": f"Bearer {TOKEN}"}
            lead = server.client.get("/api/leads/ada", headers=headers).json()
            total = lead["scores"]["temperature"]["total"]
            until(lambda: f"temperature +{total} = {total}" in shown(tab, ".score-effect"), "what it did")
            assert len(shown(tab, ".arrival")) == 2

            tab.click(".arrival-filters .chip:nth-child(2)")
            until(lambda: len(shown(tab, ".arrival")) == 1, "only those that were refused")
            assert tab.run("location.search") == "?outcome=refused"
            assert tab.run("document.querySelector('.arrival').classList.contains('refused')")

        for number in range(60):
            page = {"type": "page_viewed", "visitor_id": f"{number}-{'w' * 100}", "event_id": "p"}
            assert server.client.post("/v1/events", json=page, headers=KEY).status_code == 200
        for name, width, scheme, language in [
            ("inspector, phone", 390, "light", "en"),
            ("inspector, dark", 1280, "dark", "de"),
            ("inspector, right to left", 390, "light", "fa"),
        ]:
            with walk(browser, address, name, width=width, scheme=scheme) as tab:
                tab.before_pages(f"{signed_in}; localStorage.setItem('language', '{language}')")
                tab.go(f"{address}/inspector")
                until(lambda tab=tab: len(shown(tab, ".arrival")) == 50, "a page of them")
                tab.run("document.querySelector('.choices button:last-child').click()")
                until(lambda tab=tab: len(shown(tab, ".arrival")) == 12, "the older ones")
                tab.run("scrollTo(0, document.body.scrollHeight)")

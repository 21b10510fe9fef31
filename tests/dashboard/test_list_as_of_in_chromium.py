"""The call list as of a moment that is over: the slider, the address, no live updates, and back to now by one key."""

from datetime import UTC, datetime

import pytest
from test_pages_in_chromium import press, shown, walk

from tests.leadstream.command_line import serving
from tests.producers.chromium import chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-secret-api-token"


def test_the_list_of_then_stands_still_until_a_key_leads_back_to_now(tmp_path):
    settings = {
        "LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN}",
    }
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        signed_in = f"sessionStorage.setItem('token', '{TOKEN}')"

        def happen(*events: dict) -> None:
            answer = server.client.post(
                "/v1/events?wait=10", json=list(events), headers={"Authorization": f"Bearer {TOKEN}"}
            )
            assert answer.status_code == 200, answer.text

        happen({"type": "qr_scanned", "lead_id": "ada", "event_id": "1"})
        then = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        happen(
            {"type": "profile_updated", "lead_id": "ada", "event_id": "2", "fields": {"phone": "+971501234567", "budget_max": 2500000}},
            {"type": "stage_changed", "lead_id": "ada", "event_id": "3", "stage": "qualified", "source": "crm"},
            {"type": "qr_scanned", "lead_id": "bob", "event_id": "4"},
        )  # fmt: skip

        with walk(browser, address, "the list of then") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/?as_of={then}")
            until(lambda: len(shown(tab, ".row")) == 1, "bob came later")
            assert shown(tab, ".past"), "the page says that it is of then"
            (row,) = shown(tab, ".row")
            assert "971" not in row
            assert "new" in row.casefold()
            assert not shown(tab, ".call-next"), "nobody is called in the past"
            until(lambda: "scan" in str(shown(tab, ".row .reason")).casefold(), "why, as of then")
            assert "2.5M" not in str(shown(tab, ".row"))
            happen({"type": "qr_scanned", "lead_id": "curie", "event_id": "5"})
            tab.run("new Promise((done) => setTimeout(done, 1500))")
            assert len(shown(tab, ".row")) == 1, "the past stands still"
            assert tab.run("document.querySelector('.row a.name').search").startswith("?as_of="), (
                "the lead opens as of then"
            )

        with walk(browser, address, "back to now", scheme="dark") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/?as_of={then}")
            until(lambda: len(shown(tab, ".row")) == 1, "the list of then")
            press(tab, "n")
            until(lambda: len(shown(tab, ".row")) == 3, "the list of now")
            assert tab.run("location.search") == ""
            assert not shown(tab, ".past")
            happen({"type": "qr_scanned", "lead_id": "dora", "event_id": "6"})
            until(lambda: len(shown(tab, ".row")) == 4, "and it is live again")
            tab.run("document.querySelector('.when input').focus()")
            press(tab, "ArrowLeft")
            until(lambda: tab.run("location.search.includes('as_of=')"), "an arrow key moves the slider")
            until(lambda: shown(tab, ".past"), "the list of two hours ago, which had nobody")
            until(lambda: not shown(tab, ".row"), "nobody was there")
            press(tab, "n")
            until(lambda: len(shown(tab, ".row")) == 4, "the key works on the slider, too")
            tab.go(f"{address}/?as_of={then}")
            until(lambda: len(shown(tab, ".row")) == 1, "the list of then, at night")

        with walk(browser, address, "the list of then, on a phone, in Persian", width=390) as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/?lang=fa&as_of={then}")
            until(lambda: len(shown(tab, ".row")) == 1, "the list of then")
            assert shown(tab, ".past")

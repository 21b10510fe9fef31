"""The pages as their reader uses them, in a real Chromium over a real server: no violation of the policy, no request elsewhere, and
nothing that axe finds.
"""

import base64
import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboard import pages
from tests.leadstream.command_line import serving
from tests.producers.chromium import Tab, chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TOKEN = "a-secret-api-token"
ADMIN_TOKEN = "a-secret-admin-token"
AXE = Path(pages.__file__).parent / "app" / "node_modules" / "axe-core" / "axe.min.js"
WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective + " " + event.blockedURI));
addEventListener("error", (event) => refused.push(event.message));
addEventListener("unhandledrejection", (event) => refused.push(String(event.reason)));
"""
# The chat in the frame of its preview has a test of its own.
FOUND_BY_AXE = """
axe.run(document, { preload: false, iframes: false, resultTypes: ["violations"] })
  .then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes[0].html.slice(0, 200)))
"""
KEYS = {"ArrowDown": 40, "ArrowLeft": 37, "Enter": 13, "/": 191, " ": 32, "n": 78}


def press(tab: Tab, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key], **text)


def shown(tab: Tab, selector: str) -> list[str]:
    """The texts of the elements, from top to bottom."""
    return tab.run(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map((each) => each.textContent)"
    )


@contextmanager
def walk(browser, address: str, name: str, *, width: int = 1280, scheme: str = "light"):
    """A tab that fails at its end if anything was refused, or came from elsewhere."""
    tab = browser.person().tab()
    tab.before_pages(WATCH)
    tab.before_pages(AXE.read_text(encoding="utf-8"))
    tab.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
    )
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    tab.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": feature, "value": value} for feature, value in features.items()],
    )
    yield tab
    if folder := os.environ.get("SCREENSHOTS"):
        shot = tab.call("Page.captureScreenshot")
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
    found = tab.run(FOUND_BY_AXE)
    assert not found, "\n".join(found)
    assert tab.run("refused") == []
    for element in ("document.documentElement", "document.querySelector('main')"):
        assert tab.run(f"{element}.scrollWidth <= {element}.clientWidth"), "nothing is wider than the page"
    requested = [each["request"]["url"] for each in tab.seen("Network.requestWillBeSent")]
    assert [each for each in requested if not each.startswith((address, "data:"))] == []


def test_a_sales_person_is_told_whom_to_call_and_why(tmp_path):
    settings = {
        "LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN},default:admin:{ADMIN_TOKEN}",
        "LEADSTREAM_WRITE_KEYS": "default:a-public-write-key",
    }
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        signed_in = f"sessionStorage.setItem('token', '{TOKEN}')"

        def happen(*events: dict) -> None:
            answer = server.client.post(
                "/v1/events?wait=10", json=list(events), headers={"X-Write-Key": "a-public-write-key"}
            )
            assert answer.status_code == 200, answer.text

        with walk(browser, address, "first run") as tab:
            tab.go(f"{address}/")
            until(lambda: tab.run("!!document.querySelector('.gate input')"), "the page asks for a token")
            tab.click(".gate input")
            tab.call("Input.insertText", text=TOKEN)
            tab.click(".gate button")
            until(lambda: "No leads yet" in str(shown(tab, "h2")), "the first-run card")
            assert any("/v1/events" in each for each in shown(tab, "pre"))

            until(lambda: shown(tab, ".live") == ["live"], "the stream is open")
            happen(
                {"type": "qr_scanned", "lead_id": "ada", "event_id": "1"},
                {"type": "profile_updated", "lead_id": "ada", "event_id": "2",
                 "fields": {"name": "Ada <img src=x onerror=alert(1)>", "phone": "+971501234567", "budget_max": 2500000}},
                {"type": "qr_scanned", "lead_id": "bob", "event_id": "3"},
                {"type": "qr_scanned", "visitor_id": "browser-7", "event_id": "4"},
            )  # fmt: skip
            until(lambda: len(shown(tab, ".row")) == 2, "both leads come without a reload, and no visitor")
            until(lambda: "2.5M" in str(shown(tab, ".row .reason")), "why to call")
            assert "onerror" in shown(tab, ".row .name")[0], "what somebody typed is text"
            assert tab.run("document.querySelector('.call-next .primary').href") == "tel:+971501234567"
            tab.click(".call-next h2")  # nobody points at a row

            happen({"type": "demo_requested", "lead_id": "bob", "event_id": "5", "text": "Get a Demo"},
                   *({"type": "message_received", "lead_id": "bob", "event_id": f"m{n}"} for n in range(9)))  # fmt: skip
            until(
                lambda: (
                    "Message received" in str(shown(tab, ".row"))
                    or "message received" in str(shown(tab, ".row"))
                ),
                "the reason is new",
            )
            until(lambda: len(shown(tab, ".recent li")) > 0, "the log of changes")

        with walk(browser, address, "several leads") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/?owner=@nobody")
            until(lambda: len(shown(tab, ".row")) == 2, "nobody owns either lead")
            tab.run("document.querySelector('[role=grid]').focus()")
            for key in ("ArrowDown", " ", "ArrowDown", " "):
                press(tab, key)
            until(lambda: "2 chosen" in str(shown(tab, ".several b")), "the keyboard chooses both")
            tab.run("document.querySelector('.several form input').focus()")
            tab.call("Input.insertText", text="Sara")
            tab.run("document.querySelector('.several form button').click()")
            until(lambda: shown(tab, ".row") == [], "both have an owner now")
            until(
                lambda: tab.run(
                    "(() => { const undo = [...document.querySelectorAll('.several > button')].find((each) => each.textContent === 'Undo');"
                    "undo?.click(); return !!undo; })()"
                ),
                "it can be undone, though the list is empty",
            )
            until(lambda: len(shown(tab, ".row")) == 2, "nobody owns them again")

        with walk(browser, address, "merge and undo") as tab:
            tab.before_pages(signed_in)
            happen({"type": "qr_scanned", "lead_id": "bobby", "event_id": "6"})
            tab.go(f"{address}/leads/bobby")
            until(lambda: shown(tab, ".actions details summary"), "the actions")
            tab.run(
                "(() => { const into = document.querySelector('.actions input[name=into]'); into.closest('details').open = true;"
                "into.value = 'bob'; into.form.requestSubmit(); })()"
            )
            until(
                lambda: "Merged into bob" in str(shown(tab, ".notice")), "the page says where the lead went"
            )
            tab.run("document.querySelector('.notice button').click()")
            until(lambda: shown(tab, ".notice") == [], "it is a lead of its own again")

        with walk(browser, address, "the inbox") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/")
            until(lambda: shown(tab, ".bell"), "the bell")
            tab.click(".bell")
            until(lambda: "No messages." in str(shown(tab, ".inbox")), "no workflow has written")

        with walk(browser, address, "the lead, at night", scheme="dark") as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/?q=ada")
            until(lambda: len(shown(tab, ".row")) == 1, "the search in the address")
            tab.run("document.querySelector('[role=grid]').focus()")
            press(tab, "ArrowDown")
            press(tab, "Enter")
            until(lambda: tab.run("location.pathname") == "/leads/ada", "the keyboard opens the lead")
            until(lambda: tab.run("!!document.querySelector('.chart svg path')"), "the chart")
            # docs/scoring.md: 3 for a scan, 10 for a phone, 10 for a budget, 20 for the last hour
            assert sum(map(float, shown(tab, ".model[open] tbody td.up"))) == 43
            assert shown(tab, ".lead-head .total") == ["[43]"]
            tab.click(".actions button")
            until(
                lambda: "The call is in the lead" in str(shown(tab, ".actions [role=status]")),
                "the call is recorded",
            )
            until(lambda: "contacted" in str(shown(tab, ".lead-head")), "the call moves the stage")
            tab.run(
                "(() => { const slider = document.querySelector('.when input'); slider.value = 0;"
                "slider.dispatchEvent(new Event('input', { bubbles: true })); })()"
            )
            until(lambda: tab.run("location.search.includes('as_of=')"), "the moment is in the address")
            until(lambda: shown(tab, ".past"), "the page as it was then")

        with walk(browser, address, "on a phone, in Persian", width=390) as tab:
            tab.before_pages(signed_in)
            tab.go(f"{address}/?lang=fa&anonymous=true")
            until(lambda: len(shown(tab, ".row")) == 4, "visitors are listed, too")
            assert tab.run("[document.documentElement.dir, document.documentElement.lang]") == ["rtl", "fa"]

        with walk(browser, address, "an old address") as tab:
            tab.before_pages(signed_in)
            tab.call("Page.navigate", url=f"{address}/#lead=bob")
            until(lambda: tab.run("location.pathname") == "/leads/bob", "links of older versions lead on")
            until(lambda: shown(tab, ".lead-head"), "the lead")

        for role, may_act in (("sales", True), ("viewer", False)):
            email = f"{role}@acme.example"
            entered = server.client.post(
                "/api/users",
                json={"email": email, "name": f"Kim, {role}", "role": role, "generate_password": True},
                headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
            )
            assert entered.is_success, entered.text
            with walk(browser, address, f"signed in as {role}") as tab:
                tab.go(f"{address}/leads/ada")
                until(lambda tab=tab: shown(tab, ".gate a.primary"), "the page asks to sign in")
                tab.click(".gate a.primary")
                until(lambda tab=tab: tab.run("!!document.querySelector('input[name=email]')"), "the sign-in")
                for name, typed in (("email", email), ("password", entered.json()["password"])):
                    tab.run(f"document.querySelector('input[name={name}]').focus()")
                    tab.call("Input.insertText", text=typed)
                press(tab, "Enter")
                until(lambda tab=tab: shown(tab, ".lead-head"), "the lead that the person came for")
                until(lambda tab=tab, role=role: f"Kim, {role}" in str(shown(tab, ".who-am-i")), "who is it")
                assert bool(shown(tab, ".actions")) is may_act
                if may_act:
                    tab.run(
                        "[...document.querySelectorAll('.actions button')].find((each) => each.textContent === 'Assign to me').click()"
                    )
                    until(lambda tab=tab: "sales@acme.example" in str(shown(tab, ".facts")), "it is theirs")
                    tab.go(f"{address}/?owner=@me")
                    until(lambda tab=tab: len(shown(tab, ".row")) == 1, "my leads")

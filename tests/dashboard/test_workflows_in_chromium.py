"""The pages of workflows as a marketer uses them: made, tried, run, switched off, changed and deleted."""

import pytest
from test_pages_in_chromium import TOKEN, shown, walk

from tests.leadstream.command_line import serving
from tests.producers.chromium import Tab, chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def fill(tab: Tab, name: str, text: str) -> None:
    tab.run(f"document.getElementById('{name}').select()")
    tab.call("Input.insertText", text=text)


def test_a_marketer_makes_tries_runs_and_changes_a_workflow(tmp_path):
    settings = {"LEADSTREAM_API_TOKENS": f"default:read+write+author:{TOKEN}"}
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        server.client.headers["Authorization"] = f"Bearer {TOKEN}"
        sent = server.client.post(
            "/v1/events?wait=10",
            json={"type": "profile_updated", "lead_id": "ada", "event_id": "1", "fields": {"name": "Ada"}},
        )
        assert sent.status_code == 200, sent.text
        with walk(browser, address, "workflows") as tab:
            tab.before_pages(f"sessionStorage.setItem('token', '{TOKEN}'); window.confirm = () => true;")
            tab.go(f"{address}/workflows")
            until(lambda: "No workflows yet" in str(shown(tab, "h2")), "there are none")
            until(lambda: shown(tab, "a.primary") == ["New workflow"], "one may be made")
            tab.click("a.primary")
            until(lambda: tab.run("!!document.getElementById('name')"), "the form")
            fill(tab, "name", "Call hot leads")
            fill(tab, "trigger_config.score", "0")
            fill(tab, "action_config.title", "Call {{ lead.name }}")
            tab.click(".workflow-form .primary")
            until(lambda: "0 is no score" in str(shown(tab, ".wrong")), "what is wrong is said")
            assert tab.run("document.getElementById('trigger_config.score').ariaInvalid") == "true"
            fill(tab, "trigger_config.score", "75")
            tab.click(".workflow-form .primary")
            until(
                lambda: tab.run("location.pathname + location.search") == "/workflows/1?tab=try", "it is made"
            )

            until(lambda: tab.run("!!document.getElementById('lead-to-try')"), "it is tried on a lead next")
            tab.run("document.getElementById('lead-to-try').focus()")
            tab.call("Input.insertText", text="ada")
            tab.click("section form button")
            until(lambda: "it would not fire" in str(shown(tab, "section b")), "Ada has no 75 points")
            until(lambda: tab.run("!!document.querySelector('[role=status] button')"), "it may be run")
            tab.click("[role=status] button")
            until(lambda: "It runs" in str(shown(tab, "[role=status] p")), "it runs all the same")

            tab.go(f"{address}/workflows")
            until(lambda: "Ada" in str(shown(tab, "table td a")), "what it did, and for whom")
            until(lambda: shown(tab, "[role=switch]") == ["on"], "it is on")
            tab.click("[role=switch]")
            until(lambda: shown(tab, "[role=switch]") == ["off"], "it is off")
            [listed] = server.client.get("/api/lead-qualification/workflows/").json()
            assert (listed["name"], listed["is_active"], listed["trigger_config"]) == (
                "Call hot leads",
                False,
                {"score": 75},
            )
            tab.go(f"{address}/workflows/1?tab=history")
            until(lambda: len(shown(tab, ".entries > li")) == 2, "made, and switched off")
        with walk(browser, address, "a workflow on a phone, in Persian", width=390, scheme="dark") as tab:
            tab.before_pages(f"sessionStorage.setItem('token', '{TOKEN}'); window.confirm = () => true;")
            tab.go(f"{address}/workflows/1?lang=fa")
            until(lambda: tab.run("!!document.getElementById('name')"), "the form")
            tab.run("document.querySelector('.workflow-form .choices button:last-child').click()")
            until(lambda: tab.run("location.pathname") == "/workflows", "it is deleted")
            assert server.client.get("/api/lead-qualification/workflows/").json() == []

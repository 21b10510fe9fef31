"""track.js in a real Chromium: a site on 127.0.0.1, a real `leadstream serve` on localhost. The points are those of
requirement 1's tables, counted by hand.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.leadstream.command_line import Server, serving_once
from tests.producers.chromium import Chromium, Person, Tab, chromium, until
from tests.producers.own_site import Site, own_site

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

KEY = "a-public-write-key"
TOKEN = "a-secret-api-token"
MINUTE = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture(scope="module")
def server(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "LEADSTREAM_WRITE_KEYS": f"default:{KEY}",
        "LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN}",
        "LEADSTREAM_LINK_KEYS": "a-key-for-links-of-24-characters",
    }
    with serving_once(tmp_path_factory, **settings) as running:
        running.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield running


@pytest.fixture
def site(server: Server) -> Iterator[Site]:
    with own_site(f"http://localhost:{server.client.base_url.port}/track.js", KEY) as running:
        yield running


@pytest.fixture
def person(browser: Chromium) -> Iterator[Person]:
    somebody = browser.person()
    yield somebody
    somebody.leave()


def visitor_of(tab: Tab) -> str:
    return until(
        lambda: tab.run("window.leadstream && leadstream.ready && leadstream('visitor')"), "the script runs"
    )


def lead(server: Server, lead_id: str) -> dict[str, Any]:
    answer = server.client.get(f"/api/leads/{lead_id}")
    return answer.json() if answer.status_code == 200 else {"sessions": [], "engagements": []}


def sessions(server: Server, visitor: str) -> list[dict[str, Any]]:
    return lead(server, f"anon:{visitor}")["sessions"]


def types(server: Server, lead_id: str) -> list[str]:
    return [each["type"] for each in lead(server, lead_id)["engagements"]][::-1]


def event_types(server: Server, lead_id: str, *expected: str) -> list[str]:
    """The types of the lead's events in their order, as soon as there are as many as expected."""
    until(lambda: len(types(server, lead_id)) >= len(expected), f"{expected}, not {types(server, lead_id)}")
    return types(server, lead_id)


def scored(server: Server, visitor: str, *breakdown: str) -> dict[str, Any]:
    """The analytics of the visitor's only session, once its score is this."""
    names = ("duration_score", "page_score", "click_score", "total_score")
    expected = dict(zip(names, breakdown, strict=True))
    answer: dict[str, Any] = {}

    def is_so() -> bool:
        if visits := sessions(server, visitor):
            assert len(visits) == 1
            answer.update(server.client.get(f"/api/lead-score/session/{visits[0]['session_id']}").json())
        return answer.get("score_breakdown") == expected

    try:
        until(is_so, f"{expected}")
    except AssertionError:
        assert answer.get("score_breakdown") == expected
    return answer["analytics"]


def test_eight_minutes_on_four_pages_with_four_clicks_score_66_and_each_step_as_the_tables_say(
    server, site, person
):
    tab = person.tab()
    tab.clock(-20 * MINUTE)
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    scored(server, visitor, "5/40", "5/30", "0/30", "10/100")
    tab.clock(-19 * MINUTE + 5)
    tab.click("#more")
    scored(server, visitor, "15/40", "5/30", "2/30", "22/100")
    tab.click("#features")  # a link of the site is a click, and its page a page
    tab.arrived(f"{site.origin}/features")
    scored(server, visitor, "15/40", "10/30", "4/30", "29/100")
    tab.clock(-16 * MINUTE)
    tab.click("#video")
    scored(server, visitor, "25/40", "10/30", "6/30", "41/100")
    tab.go(f"{site.origin}/pricing")
    scored(server, visitor, "25/40", "15/30", "6/30", "46/100")
    tab.clock(-12 * MINUTE)
    tab.go(f"{site.origin}/demo")
    scored(server, visitor, "35/40", "20/30", "6/30", "61/100")
    tab.click("#demo")  # GET A DEMO
    seen = scored(server, visitor, "35/40", "20/30", "11/30", "66/100")
    assert 480 <= seen.pop("duration_seconds") < 540
    assert seen == {"page_views_count": 4, "regular_clicks": 3, "important_clicks": 1}


def test_twelve_minutes_in_a_single_page_application_score_90_and_so_does_the_user(server, site, person):
    tab = person.tab()
    tab.clock(-20 * MINUTE)
    tab.go(f"{site.origin}/app")
    visitor = visitor_of(tab)
    for number in range(1, 6):
        tab.run(f"history.pushState({{}}, '', '/app/{number}')")
    scored(server, visitor, "5/40", "30/30", "0/30", "35/100")
    for selector in ("#more", "#video", "#compare", "#chat", "#more", "#demo", "#bird"):
        tab.click(selector)
    scored(server, visitor, "5/40", "30/30", "20/30", "55/100")
    tab.clock(-8 * MINUTE)
    tab.run("leadstream('track', 'session_ended')")
    seen = scored(server, visitor, "40/40", "30/30", "20/30", "90/100")
    assert (seen["regular_clicks"], seen["important_clicks"]) == (5, 2)
    answer = server.client.post("/api/lead-score/user", json={"userId": visitor})
    assert answer.json() == {"success": True, "user_id": visitor, "lead_score": 90}


def test_forty_five_seconds_with_a_page_and_a_click_score_12_when_the_tab_is_closed(server, site, person):
    tab = person.tab()
    tab.clock(-10 * MINUTE)
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#more")
    tab.clock(-10 * MINUTE + 45)
    tab.close()
    until(lambda: duration(server, visitor) >= 44, "the beacon")
    seen = scored(server, visitor, "5/40", "5/30", "2/30", "12/100")
    assert 44 <= seen["duration_seconds"] <= 50


def duration(server: Server, visitor: str) -> int:
    visits = sessions(server, visitor)
    if not visits:
        return -1
    answer = server.client.get(f"/api/lead-score/session/{visits[0]['session_id']}").json()
    return answer["analytics"]["duration_seconds"]


def test_a_link_to_another_site_is_a_click_too_and_only_clicks_of_a_person_on_controls_count(
    server, site, person
):
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#elsewhere")  # Get a Demo, on a calendar of another site
    tab.click("#elsewhere", button="middle")
    tab.click("#plain")
    tab.click("#private")
    tab.run("document.querySelector('#more').click()")
    scored(server, visitor, "5/40", "5/30", "10/30", "20/100")


def test_a_new_path_or_query_is_a_page_and_a_fragment_or_the_same_address_is_none(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/?utm_source=news&utm_medium=email&utm_campaign=spring")
    visitor = visitor_of(tab)
    for change in (
        "history.replaceState({}, '', location.href)",
        "location.hash = 'prices'",
        "history.pushState({}, '', '/products?colour=red')",
        "history.replaceState({}, '', '/products?colour=blue')",
        "history.back()",
    ):
        tab.run(change)
        until(lambda: tab.run("document.readyState === 'complete'"), change)
    until(lambda: tab.run("location.hash === '#prices'"), "back")
    tab.click("#more")
    scored(server, visitor, "5/40", "20/30", "2/30", "27/100")
    assert lead(server, f"anon:{visitor}")["engagements"][-1]["channel_group"] == "Email"


def test_a_form_sends_only_fields_that_the_site_names_and_never_a_secret(server, site, person):
    site.attributes = 'data-form-fields="email, company password csrf card note news"'
    tab = person.tab()
    tab.go(f"{site.origin}/contact")
    visitor_of(tab)
    tab.click("#send")
    sent = until(
        lambda: [
            each
            for request in tab.requests("/v1/events")
            for each in json.loads(request["postData"])["events"]
            if each["type"] == "form_submitted"
        ],
        "the form is sent",
    )
    assert sent[0]["form_id"] == "contact"
    assert sent[0]["form_name"] == "Contact us"
    assert sent[0]["fields"] == {
        "email": "jane@acme.example",
        "name": "Jane",
        "company": "Acme",
        "news": "yes",
    }
    found = until(
        lambda: server.client.get("/api/leads", params={"q": "jane@acme.example"}).json()["leads"], "Jane"
    )
    assert (found[0]["identified"], found[0]["name"]) == (True, "Jane")


def test_a_download_is_a_click_and_a_download(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#brochure")
    expected = "page_viewed", "element_clicked", "content_downloaded"
    assert sorted(event_types(server, f"anon:{visitor}", *expected)) == sorted(expected)
    scored(server, visitor, "5/40", "5/30", "2/30", "12/100")


def test_what_a_killed_tab_had_not_sent_comes_with_the_next_page_and_counts_once(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    scored(server, visitor, "5/40", "5/30", "0/30", "10/100")
    tab.call("Network.setBlockedURLs", urls=["*/v1/events*"])
    tab.click("#demo")
    tab.crash()
    tab = person.tab()
    tab.go(f"{site.origin}/pricing")
    assert visitor_of(tab) == visitor
    scored(server, visitor, "5/40", "10/30", "5/30", "20/100")


def test_events_from_offline_come_in_their_order_and_with_their_times_when_the_network_is_back(
    server, site, person
):
    tab = person.tab()
    tab.clock(-20 * MINUTE)
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    scored(server, visitor, "5/40", "5/30", "0/30", "10/100")
    tab.online(False)
    tab.clock(-16 * MINUTE)
    tab.click("#more")
    tab.run("history.pushState({}, '', '/offline')")
    tab.clock(-10 * MINUTE)
    tab.click("#demo")
    tab.clock(0)
    until(lambda: len(tab.seen("Network.loadingFailed")) >= 1, "a request fails")
    assert duration(server, visitor) < 10
    tab.online(True)
    seen = scored(server, visitor, "40/40", "10/30", "7/30", "57/100")
    assert 600 <= seen["duration_seconds"] < 620
    until(lambda: tab.run("Object.keys(localStorage).length") == 0, "the queue is empty")


def test_a_page_from_the_back_forward_cache_is_seen_again(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.run("window.kept = 'in memory'")
    tab.go(f"{site.origin}/pricing")
    scored(server, visitor, "5/40", "10/30", "0/30", "15/100")
    tab.run("history.back()")
    tab.arrived(f"{site.origin}/")
    assert tab.run("window.kept") == "in memory"
    scored(server, visitor, "5/40", "15/30", "0/30", "20/100")
    tab.click("#more")
    scored(server, visitor, "5/40", "15/30", "2/30", "22/100")


def test_a_prepared_page_counts_when_it_is_shown(server, site, person):
    site.body = """<script type="speculationrules">{"prerender": [{"urls": ["/next"], "eagerness": "immediate"}]}</script>
<script>if (location.pathname === "/") setTimeout(() => { location.href = "/next"; }, 4000);</script>"""
    tab = person.unattended_tab(f"{site.origin}/")  # DevTools in a tab switches preparing off
    until(lambda: tab.url() == f"{site.origin}/next", "the next page is shown")
    tab.attach()
    assert tab.run("performance.getEntriesByType('navigation')[0].activationStart") > 1000
    visitor = visitor_of(tab)
    scored(server, visitor, "5/40", "10/30", "0/30", "15/100")
    shown = [
        datetime.fromisoformat(each["occurred_at"])
        for each in lead(server, f"anon:{visitor}")["engagements"]
        if each["type"] == "page_viewed"
    ]
    assert (shown[0] - shown[1]).total_seconds() > 3


STORED = "JSON.stringify([document.cookie, Object.keys(localStorage), Object.keys(sessionStorage)])"
NOTHING = '["",[],[]]'


def test_before_consent_and_after_a_refusal_nothing_is_sent_or_stored(server, site, person):
    site.attributes = 'data-consent="required" data-heartbeat="0.2"'
    tab = person.tab()
    tab.go(f"{site.origin}/")
    until(lambda: tab.run("window.leadstream && leadstream.ready"), "the script runs")
    tab.click("#demo")
    tab.run("leadstream('identify', 'lead-consent', {email: 'a@acme.example'})")
    tab.go(f"{site.origin}/pricing")
    until(lambda: tab.run("window.leadstream && leadstream.ready"), "the script runs")
    assert tab.run(STORED) == NOTHING
    assert tab.requests("/v1/events") == []

    tab.run("leadstream('consent', true)")
    visitor = visitor_of(tab)
    tab.click("#more")
    scored(server, visitor, "5/40", "5/30", "2/30", "12/100")
    tab.go(f"{site.origin}/features")
    assert visitor_of(tab) == visitor
    scored(server, visitor, "5/40", "10/30", "2/30", "17/100")

    other = person.tab()
    other.go(f"{site.origin}/other")
    scored(server, visitor, "5/40", "15/30", "2/30", "22/100")
    tab.run("leadstream('consent', false)")
    assert tab.run(STORED) == NOTHING
    before = len(tab.requests("/v1/events")), len(other.requests("/v1/events"))
    for each in (tab, other):
        each.click("#demo")
    tab.go(f"{site.origin}/pricing")
    until(lambda: tab.run("window.leadstream && leadstream.ready"), "the script runs")
    other.run("new Promise((done) => setTimeout(done, 1000))")
    assert (len(tab.requests("/v1/events")), len(other.requests("/v1/events"))) == before
    assert tab.run(STORED) == NOTHING
    assert tab.run("leadstream('visitor')") is None


def test_where_nobody_asks_a_refusal_is_kept_and_so_is_a_change_of_mind(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    scored(server, visitor, "5/40", "5/30", "0/30", "10/100")
    tab.run("leadstream('consent', false)")
    tab.go(f"{site.origin}/pricing")
    until(lambda: tab.run("window.leadstream && leadstream.ready"), "the script runs")
    assert tab.run("document.cookie") == "leadstream-consent=no"
    assert tab.run("leadstream('visitor')") is None
    tab.run("leadstream('consent', true)")
    assert visitor_of(tab) != visitor
    scored(server, visitor_of(tab), "5/40", "5/30", "0/30", "10/100")


def test_identify_gives_the_visit_of_both_tabs_to_the_lead(server, site, person):
    site.head = """<script>
window.leadstream = window.leadstream || function () { (leadstream.q = leadstream.q || []).push(arguments); };
if (location.pathname === "/account") leadstream("identify", 7001, {company: "Acme", staff_size: 12});
</script>"""
    first, second = person.tab(), person.tab()
    first.go(f"{site.origin}/")
    visitor = visitor_of(first)
    second.go(f"{site.origin}/pricing")
    assert visitor_of(second) == visitor
    first.click("#more")
    scored(server, visitor, "5/40", "10/30", "2/30", "17/100")
    second.go(f"{site.origin}/account")
    second.run(
        "leadstream('track', 'demo_requested', {text: 'soon'}); leadstream('custom:video_watched', {seconds: 9})"
    )
    card = until(
        lambda: (found := lead(server, "7001")) and len(found["engagements"]) >= 6 and found, "the lead"
    )
    assert [each["type"] for each in card["engagements"]].count("page_viewed") == 3
    assert {"demo_requested", "custom"} <= {each["type"] for each in card["engagements"]}
    assert (card["lead"]["identified"], card["profile"]["company"]) == (True, "Acme")
    (visit,) = card["sessions"]
    assert (visit["pages"], visit["clicks"]) == (3, 1)


def test_a_page_whose_storage_is_forbidden_still_reports(server, site, person):
    site.headers = {"Content-Security-Policy": "sandbox allow-scripts allow-forms"}
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#more")
    scored(server, visitor, "5/40", "5/30", "2/30", "12/100")
    assert tab.seen("Runtime.exceptionThrown") == []


def test_a_strict_content_security_policy_needs_the_server_in_two_places(server, site, person):
    origin = site.script.removesuffix("/track.js")
    site.headers = {
        "Content-Security-Policy": f"default-src 'none'; script-src {origin}; connect-src {origin}"
    }
    tab = person.tab()
    tab.call("Log.enable")
    tab.go(f"{site.origin}/")
    scored(server, visitor_of(tab), "5/40", "5/30", "0/30", "10/100")
    reports = [each["entry"]["text"] for each in tab.seen("Log.entryAdded")]
    assert not [each for each in reports if "track.js" in each or "v1/events" in each]


def test_without_storage_nothing_is_kept(server, site, person):
    site.attributes = 'data-storage="none"'
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#more")
    scored(server, visitor, "5/40", "5/30", "2/30", "12/100")
    assert tab.run(STORED) == NOTHING


def test_heartbeats_lengthen_the_visit_only_while_the_page_is_visible(server, site, person):
    site.attributes = 'data-heartbeat="0.3"'
    tab = person.tab()
    tab.clock(-10 * MINUTE)
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.clock(-8 * MINUTE)
    scored(server, visitor, "15/40", "5/30", "0/30", "20/100")
    tab.run("Object.defineProperty(document, 'hidden', {get: () => true})")
    tab.clock(-2 * MINUTE)
    tab.run("new Promise((done) => setTimeout(done, 1500))")
    assert duration(server, visitor) < 150


def test_a_page_in_a_frame_adds_its_clicks_and_no_page(server, site, person):
    site.body = '<iframe src="/inside" width="900" height="600"></iframe>'
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    until(
        lambda: tab.run("!!(frames[0].leadstream && frames[0].leadstream.ready)"), "the frame's script runs"
    )
    scored(server, visitor, "5/40", "5/30", "0/30", "10/100")


def test_the_debug_parameter_shows_in_the_console_what_leadstream_answered(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/?ls_debug")
    visitor_of(tab)
    tab.run("leadstream('page_view')")

    def shown() -> str:
        parts = []
        for event in tab.seen("Runtime.consoleAPICalled"):
            for argument in event["args"]:
                if "objectId" in argument:
                    answer = tab.call(
                        "Runtime.callFunctionOn",
                        objectId=argument["objectId"],
                        functionDeclaration="function () { return JSON.stringify(this); }",
                        returnByValue=True,
                    )
                    parts.append(answer["result"]["value"])
        return "\n".join(parts)

    until(lambda: "perhaps page_viewed is meant" in shown(), "the refusal is shown")
    assert '"accepted":1' in shown()


def test_a_page_that_loads_the_script_twice_reports_once(server, site, person):
    site.body = f'<script src="{site.script}" data-key="{KEY}"></script>'
    tab = person.tab()
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#more")
    scored(server, visitor, "5/40", "5/30", "2/30", "12/100")


def test_a_visitor_who_returns_to_an_open_page_after_the_visit_sees_it_in_a_new_one(server, site, person):
    tab = person.tab()
    tab.clock(-45 * MINUTE)
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    scored(server, visitor, "5/40", "5/30", "0/30", "10/100")
    tab.clock(-14 * MINUTE)
    tab.click("#more")
    until(lambda: [each["clicks"] for each in sessions(server, visitor)] == [1, 0], "a second visit")
    assert [each["pages"] for each in sessions(server, visitor)] == [1, 1]
    assert [each["score"] for each in sessions(server, visitor)] == [12, 10]


def test_events_wait_while_leadstream_does_not_answer_and_are_sent_again_by_themselves(server, site, person):
    tab = person.tab()
    tab.call("Network.setBlockedURLs", urls=["*/v1/events*"])
    tab.go(f"{site.origin}/")
    visitor = visitor_of(tab)
    tab.click("#more")
    until(lambda: len(tab.requests("/v1/events")) >= 2, "it is tried again")
    tab.call("Network.setBlockedURLs", urls=[])
    scored(server, visitor, "5/40", "5/30", "2/30", "12/100")
    until(lambda: tab.run("Object.keys(localStorage).length") == 0, "the queue is empty")


def test_where_the_site_wants_it_a_visitor_with_privacy_control_is_not_reported(server, site, person):
    site.attributes = 'data-dnt="on"'
    tab = person.tab()
    tab.before_pages("Object.defineProperty(navigator, 'globalPrivacyControl', {get: () => true})")
    tab.go(f"{site.origin}/")
    until(lambda: tab.run("window.leadstream && leadstream.ready"), "the script runs")
    tab.click("#more")
    tab.run("new Promise((done) => setTimeout(done, 600))")
    assert tab.requests("/v1/events") == []
    assert tab.run(STORED) == NOTHING


def test_the_id_may_be_in_local_storage_where_the_snippet_of_the_documents_kept_it(server, site, person):
    site.attributes = 'data-storage="local"'
    site.head = (
        "<script>localStorage.setItem('leadstream-visitor', '0123456789abcdef0123456789abcdef')</script>"
    )
    tab = person.tab()
    tab.go(f"{site.origin}/")
    assert visitor_of(tab) == "0123456789abcdef0123456789abcdef"
    assert tab.run("document.cookie") == ""


def test_secrets_in_an_address_are_not_sent(server, site, person):
    tab = person.tab()
    tab.go(f"{site.origin}/reset?user=7&reset_token=s3cret&utm_source=mail#access_token=s3cret")
    visitor_of(tab)
    (request, *_) = until(lambda: tab.requests("/v1/events"), "the page is sent")
    assert "s3cret" not in request["postData"]
    assert "user=7&reset_token=&utm_source=mail#access_token=" in request["postData"]


def test_who_scans_a_code_and_reads_the_page_behind_it_is_one_lead(server, site, person):
    """The server is reached on the site's own host, so the cookie of the scan is the page's."""
    link = {"kind": "qr", "qr_id": "stand-7", "target": f"{site.origin}/expo?utm_source=expo"}
    code = server.client.post("/api/links", json=link).json()["url"]
    tab = person.tab()
    tab.call("Page.navigate", url=code)
    tab.arrived(link["target"])
    visitor = visitor_of(tab)
    assert event_types(server, f"anon:{visitor}", "qr_scanned", "page_viewed") == [
        "qr_scanned",
        "page_viewed",
    ]
    tab.go(f"{site.origin}/pricing")
    scored(server, visitor, "5/40", "10/30", "0/30", "15/100")

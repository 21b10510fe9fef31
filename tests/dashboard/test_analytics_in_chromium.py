"""The page Lead Analytics has every tab, card, chart and column that requirement 5 names, and its numbers are the API's."""

import json

import pytest
from test_pages_in_chromium import TOKEN, shown, walk

from tests.leadstream.command_line import serving
from tests.producers.chromium import chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PERSON_EVENTS = [
    {"type": "page_viewed", "lead_id": "ada", "url": "/pricing"},
    {"type": "email_sent", "lead_id": "ada"},
    {"type": "form_submitted", "lead_id": "ada", "fields": {"email": "ada@acme.example", "company": "=HYPERLINK(1)"}},
    {"type": "purchase_made", "lead_id": "ada", "order_id": "o-1", "value": 500, "currency": "EUR"},
    {"type": "page_viewed", "lead_id": "bob", "url": "/"},
    {"type": "qr_scanned", "lead_id": "cy"},
]  # fmt: skip
# Requirement 5, "LeadAnalyticsPage": what each tab has, by hand.
CARDS = {
    "overview": ["Total journeys", "Average duration", "Leads at high risk", "Average lifetime value"],
    "quality": ["Average score", "Hot leads", "Warm leads"],
    "engagement": ["Engagements", "Revenue", "Types of engagement"],
    "attribution": ["Conversions", "Revenue", "Average journey"],
    "journeys": ["Total journeys", "Average duration", "Leads at high risk", "Average lifetime value"],
}
CHARTS = {
    "overview": ["Lifecycle funnel", "Leads by grade", "Engagement by type", "Conversions by type"],
    "funnel": ["Lifecycle funnel", "Stages in numbers", "Conversion rates between stages"],
    "quality": ["Leads by grade", "Leads by temperature"],
    "engagement": ["Engagement by type", "Engagement by channel"],
    "attribution": ["Conversions by type"],
    "journeys": ["Engagement trends", "Risk of churn"],
    "cohorts": ["Leads and customers by month", "Conversion rate over time", "Months in numbers"],
}
COLUMNS = {
    "funnel": ["Stage", "Reached", "Share of all"],
    "attribution": ["Conversion", "Conversions", "Value", "Average value"],
    "cohorts": ["Month", "Leads", "Customers", "Conversion rate", "Revenue", "Average score"],
}
CSV = """
new Promise((resolve) => {
  const original = URL.createObjectURL;
  URL.createObjectURL = (blob) => { blob.text().then(resolve); return original(new Blob([])); };
  [...document.querySelectorAll("button")].find((each) => each.textContent === "Download CSV" && each.closest("section").querySelector("h3").textContent === %s).click();
})
"""


def test_an_analyst_reads_each_tab_compares_and_takes_the_numbers_along(tmp_path):
    settings = {"LEADSTREAM_API_TOKENS": f"default:read+write:{TOKEN}"}
    with chromium(tmp_path / "profile") as browser, serving(tmp_path / "store", **settings) as server:
        address = str(server.client.base_url).rstrip("/")
        server.client.headers["Authorization"] = f"Bearer {TOKEN}"
        for number, event in enumerate(PERSON_EVENTS):
            sent = server.client.post("/v1/events?wait=10", json=event | {"event_id": f"e{number}"})
            assert sent.status_code == 200, sent.text

        def api(path):
            return server.client.get(f"/api/lead-tracking/{path}", params={"days": 30}).json()

        until(lambda: api("journey/stats/overview")["total_journeys"] == 3, "the analytics are made")
        until(lambda: api("attribution/stats/summary")["total_conversions"] > 0, "the credits, too")
        with walk(browser, address, "analytics") as tab:
            tab.before_pages(f"sessionStorage.setItem('token', '{TOKEN}')")
            tab.go(f"{address}/")
            until(lambda: "Lead Analytics" in shown(tab, ".pages a"), "it is in the bar")
            tab.click("a[href='/lead-analytics']")
            until(lambda: len(shown(tab, "nav[aria-label='Lead Analytics'] a")) == 7, "seven tabs")
            assert tab.run(
                "[...document.querySelectorAll('.window .chip')].map((each) => parseInt(each.textContent))"
            ) == [7, 30, 90, 180, 365]

            for name in ("overview", "funnel", "quality", "engagement", "attribution", "journeys", "cohorts"):
                tab.go(f"{address}/lead-analytics?tab={name}&days=30&compare=before")
                for title in CARDS.get(name, []):
                    until(
                        lambda title=title: title in shown(tab, "dt"),
                        f"{name}: the card {title!r}, not {shown(tab, 'dt')}",
                    )
                for title in CHARTS[name]:
                    until(
                        lambda title=title: title in shown(tab, "h3"),
                        f"{name}: {title!r}, not {shown(tab, 'h3')}",
                    )
                for column in COLUMNS.get(name, []):
                    assert column in shown(tab, "thead th"), (name, column)

            tab.go(f"{address}/lead-analytics?tab=quality&days=30")
            quality = api("analytics/lead-quality")
            until(
                lambda: shown(tab, ".figure b")[:1] == [f"{quality['average_score']:g}"],
                "the API's average score",
            )
            tab.go(f"{address}/lead-analytics?tab=engagement&days=30")
            engagement = api("engagement/stats/summary")
            until(
                lambda: shown(tab, ".figure b")[:1] == [str(engagement["total_engagements"])],
                "the API's count",
            )
            assert shown(tab, ".figure b")[1] == "€500.00"
            until(lambda: tab.run("document.querySelectorAll('.chart svg').length") == 2, "two charts")

            tab.go(f"{address}/lead-analytics?tab=funnel&days=30")
            until(lambda: "Stages in numbers" in shown(tab, "h3"), "the table")
            funnel = api("analytics/funnel")
            taken = tab.run(CSV % json.dumps("Stages in numbers")).lstrip("\ufeff").split("\r\n")
            assert taken[0].startswith("Stage,Reached,Share of all")
            assert taken[1].split(",")[:3] == ["new", str(funnel["stages"][0]["reached"]), "1"]
            tab.click("section.part:not(.chart-part) table a")
            until(
                lambda: tab.run("location.pathname + location.search") == "/?stage=new",
                "from a stage to its leads",
            )

        with walk(
            browser, address, "analytics of no leads, on a phone, in Persian", width=390, scheme="dark"
        ) as tab:
            tab.before_pages(f"sessionStorage.setItem('token', '{TOKEN}')")
            tab.go(f"{address}/lead-analytics?from=2001-01-01&to=2001-02-01&lang=fa")
            until(
                lambda: len(shown(tab, ".chart-part .soft")) == 3,
                "nothing in this period; grades are those of now",
            )
            tab.go(f"{address}/lead-analytics?from=2001-02-01&to=2001-01-01")
            until(lambda: shown(tab, "[role=alert]"), "what is wrong with the period is said")

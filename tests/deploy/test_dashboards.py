"""Every query of both dashboards, run by what they are for: a real PostgreSQL by the role that only reads, and a real Prometheus
that scrapes what the four kinds of process give.
"""

import json
import re
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

from delivery import metrics as delivery
from delivery.metrics import delivery_exposition
from gateway.metrics import exposition as gateway
from leadstream.operations.imports import append_all
from leadstream.operations.store_access import store_of_system
from leadstream.settings import Settings
from leadstream.wiring import open_system
from projections.metrics import UnprojectedRecords
from projections.metrics import exposition as projection
from scoring.features.signals import EVENT_TYPE_BY_TAG
from streams.kafka.metrics import WorkerMetrics
from streams.kafka.topics import STAGE_NAMES
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
SOURCES = ROOT / "deploy" / "grafana" / "provisioning" / "datasources"
SECONDS = 60.0

NOW = datetime.now(UTC).replace(microsecond=0)


def panels(name):
    every = json.loads((DASHBOARDS / f"{name}.json").read_text("utf-8"))["panels"]
    return [panel for panel in every if panel["type"] != "row"]


def event(kind, lead_id, days_ago, **fields):
    at = NOW - timedelta(days=days_ago)
    name = f"{kind}-{lead_id}-{days_ago}"
    return EVENT_TYPE_BY_TAG[kind](
        event_id=name,
        occurred_at=at,
        recorded_at=at,
        lead_id=lead_id,
        source=fields.pop("source", "crm"),
        **fields,
    )


HISTORY = [
    event("page_viewed", "7", 20, source="web"),
    event("email_sent", "7", 19),
    event("purchase_made", "7", 10, value=100, currency="EUR", order_id="a"),
    event("purchase_refunded", "7", 9, value=40, currency="EUR", order_id="a"),
    event("page_viewed", "8", 20, source="web"),
    event("sms_sent", "8", 17),
    event("page_viewed", "9", 5, source="web"),
]
"""Lead 7 became a customer for 60 EUR and was contacted after a day, lead 8 after three, lead 9 not at all."""


def grafana_sql(query):
    """As Grafana fills in its macros and variables."""
    since, until = (NOW - timedelta(days=90)).isoformat(), (NOW + timedelta(hours=1)).isoformat()
    query = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 BETWEEN '{since}' AND '{until}'", query)
    return query.replace("${tenant:sqlstring}", "'default'")


@pytest.mark.postgres
def test_every_query_of_the_business_dashboard_runs_as_the_role_that_only_reads(database_url):
    [script] = re.findall(
        r"```sql\n(create role .*?)```", (ROOT / "docs" / "reports.md").read_text("utf-8"), re.DOTALL
    )
    role = f"grafana_{database_url.partition('/test_')[2].partition('?')[0]}"
    with open_system(Settings(database_url=database_url, partitions=2)) as system:
        store = store_of_system(system)
        append_all(iter(HISTORY), store.append)
        store.settle(lambda _: None)
    shown = {}
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(script.replace("reports_reader", role))
        try:
            connection.execute(f"set role {role}; set search_path = reports; set timezone = 'UTC'")
            for panel in panels("business"):
                (target,) = panel["targets"]
                cursor = connection.execute(grafana_sql(target["rawSql"]))
                columns = [each.name for each in cursor.description]
                assert (columns[0] == "time") == (target["format"] == "time_series")
                shown[panel["title"]] = [row[columns[0] == "time" :] for row in cursor]
        finally:
            connection.execute("reset role")
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")
    assert shown["Leads"] == [(3,)]
    assert shown["Stages"] == [("new", 1), ("contacted", 1), ("customer", 1)]
    assert sum(leads for _, leads in shown["Temperature"]) == sum(leads for _, leads in shown["Grades"]) == 3
    assert shown["Funnel"] == [
        ("new", 3), ("contacted", 2), ("qualified", 1), ("engaged", 1), ("opportunity", 1), ("customer", 1)
    ]  # fmt: skip
    assert shown["Revenue by currency"] == [("EUR", 60)]
    assert [amount for _, amount in shown["Revenue by first channel"]] == [60]
    # Of two leads, after one day and after three: two days. They may have come in two weeks.
    minutes = [each for (each,) in shown["Speed to first contact"]]
    assert minutes in ([2 * 24 * 60], [1 * 24 * 60, 3 * 24 * 60])
    assert {stage: stays for stage, stays, *_ in shown["Days in each stage"]}["new"] == 2
    conversions = Counter[str]()
    for stage, leads in shown["Conversions"]:
        conversions[stage] += leads
    assert conversions == {"contacted": 2, "customer": 1}
    assert sum(events for _, events in shown["Engagements by channel"]) == len(HISTORY)
    assert all(shown.values()), "every panel shows something"


def test_grafana_finds_the_reports_by_the_role_of_the_documents():
    (source,) = yaml.safe_load((SOURCES / "reports.yml").read_text("utf-8"))["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels("business")} == {source["uid"]}
    assert f"create role {source['user']} " in (ROOT / "docs" / "reports.md").read_text("utf-8")
    assert source["secureJsonData"]["password"] == "$REPORTS_PASSWORD"
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]
    assert "REPORTS_PASSWORD" in grafana["environment"]


def test_panels_of_both_dashboards_have_their_own_places_and_say_what_they_show():
    for name in ("leadstream", "business"):
        every = json.loads((DASHBOARDS / f"{name}.json").read_text("utf-8"))["panels"]
        places = [
            (x, y)
            for panel in every
            for place in [panel["gridPos"]]
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(places) == len(set(places))
        assert max(x for x, _ in places) < 24
        assert len({panel["id"] for panel in every}) == len(every)
        assert all(panel["title"] and panel["description"] for panel in panels(name))


@pytest.mark.slow  # it needs prometheus, which `make check` does without
def test_every_query_of_the_operators_dashboard_runs_in_a_real_prometheus(tmp_path):
    with exposing() as port, prometheus(tmp_path, port) as ask:
        deadline = time.monotonic() + SECONDS
        while len(ask("count_over_time(up[1m]) >= 2")) < len(JOBS):  # rates need two scrapes
            assert time.monotonic() < deadline, "Prometheus scrapes nothing"
            time.sleep(0.2)
        for panel in panels("leadstream"):
            for target in panel["targets"]:
                ask(target["expr"].replace("$__rate_interval", "1m"))
        assert ask("min(leadstream_ready)"), "what the panels ask for is there"
        shown = ask("max by (channel) (leadstream_delivery_waiting)")
        assert {"channel": "crm"} in [each["metric"] for each in shown]


JOBS = ("gateway", "worker", "projection", "delivery")


@contextmanager
def exposing():
    """A server with the metrics of all four kinds of process, each at /JOB."""
    UnprojectedRecords().set_remaining({("events", 0): 0})
    delivery.WAITING.labels("crm").set(3)
    status = {"ready": True, "behind": {"track_sessions": 0}, "ages": {"track_sessions": 0.0}}
    pages = {
        "/gateway": gateway(status),
        "/projection": projection(),
        "/worker": WorkerMetrics(STAGE_NAMES, list, dict, dict).exposition(),
        "/delivery": delivery_exposition(),
    }

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages[self.path]
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def prometheus(directory, port):
    """Asks a query of a Prometheus that scrapes the pages; it fails unless the query runs."""
    own = free_port()
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": job,
                "metrics_path": f"/{job}",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
            for job in JOBS
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with (
        (directory / "log").open("wb") as log,
        httpx.Client(base_url=f"http://127.0.0.1:{own}", timeout=30) as http,
    ):
        server = subprocess.Popen(command, stdout=log, stderr=log)

        def ask(query):
            try:
                answer = http.get("/api/v1/query", params={"query": query})
            except httpx.TransportError:
                assert server.poll() is None, (directory / "log").read_text()
                return []
            assert answer.status_code in {200, 503}, f"{query}: {answer.text}"
            return answer.json()["data"]["result"] if answer.status_code == 200 else []

        try:
            yield ask
        finally:
            server.kill()
            server.wait()

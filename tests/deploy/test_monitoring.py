"""Prometheus and Grafana: files that they take, alerts that fire, and metrics that really are given."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from delivery.metrics import delivery_exposition
from gateway.metrics import exposition as gateway
from leadstream.settings import Settings
from projections.metrics import UnprojectedRecords
from projections.metrics import exposition as projection
from streams.kafka.metrics import WorkerMetrics
from streams.kafka.topics import STAGE_NAMES

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # promtool is needed, which `make check` does without

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "leadstream.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def promtool(*arguments):
    program = shutil.which("promtool")
    assert program, "install promtool (Debian: apt-get install prometheus)"
    answer = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


SERIES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def given():
    """Every series that a gateway, a worker, a projection and a delivery give, as Prometheus reads them."""
    UnprojectedRecords().set_remaining({("events", 0): 0})
    pages = (
        gateway({}),
        projection(),
        WorkerMetrics(STAGE_NAMES, list, dict, dict).exposition(),
        delivery_exposition(),
    )
    families = [family for page in pages for family in text_string_to_metric_families(page.decode())]
    return {family.name + part for family in families for part in SERIES[family.type]}


def asked():
    alerts = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert len(rules) == 24
    assert len(queries) > 15
    return sorted(
        {name for text in rules + queries for name in re.findall(r"\b(?:leadstream|process)_\w+", text)}
    )


@pytest.mark.parametrize("metric", asked())
def test_every_metric_that_is_asked_for_is_given(metric):
    assert metric in given()


def test_prometheus_takes_its_configuration_and_rules():
    promtool("check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml"))
    promtool("check", "rules", str(PROMETHEUS / "alerts.yml"))


def test_every_alert_fires_when_it_should_and_not_before():
    promtool("test", "rules", str(Path(__file__).with_name("alerts_fire.yml")))
    tried = (Path(__file__).with_name("alerts_fire.yml")).read_text()
    alerts = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        assert f"alertname: {rule['alert']}\n        exp_alerts:" in tried


def test_prometheus_looks_where_the_services_listen():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    found = {
        job["job_name"]: (each["names"], each["port"])
        for job in config["scrape_configs"]
        for each in job["dns_sd_configs"]
    }
    fields = Settings.model_fields
    assert found == {
        "gateway": (["gateway"], fields["port"].default),
        "worker": (["worker"], fields["worker_port"].default),
        "projection": (["projections"], fields["projection_port"].default),
        "delivery": (["delivery"], fields["delivery_port"].default),
    }
    assert {name for names, _ in found.values() for name in names} <= set(SERVICES)


def test_the_token_of_prometheus_is_where_it_looks_for_it():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (gateway,) = (job for job in config["scrape_configs"] if job["job_name"] == "gateway")
    (secret,) = SERVICES["prometheus"]["secrets"]
    assert gateway["authorization"]["credentials_file"] == f"/run/secrets/{secret}"


def test_grafana_finds_prometheus_and_its_dashboard():
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    used = {panel["datasource"]["uid"] for panel in PANELS}
    used |= {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert used == {source["uid"]}

    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "leadstream.yml").read_text())[
        "providers"
    ]
    mounts = dict(reversed(volume.split(":")[:2]) for volume in SERVICES["grafana"]["volumes"])
    where = provider["options"]["path"]
    assert mounts[where] == "./deploy/grafana/dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{where}/leadstream.json"


def test_panels_have_their_own_places_and_say_what_they_show():
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"] for panel in PANELS)


def test_no_metric_has_two_definitions_and_each_has_its_help():
    """`process_...` is each process's own, `leadstream_analytics_...` that of whichever process computes them."""
    pages = (
        gateway({}),
        projection(),
        WorkerMetrics(STAGE_NAMES, list, dict, dict).exposition(),
        delivery_exposition(),
    )
    defined = [
        family
        for page in pages
        for family in text_string_to_metric_families(page.decode())
        if not family.name.startswith(("process_", "leadstream_analytics_"))
    ]
    assert len(defined) == len({family.name for family in defined})
    assert all(len(family.documentation) > 20 for family in defined)


def test_prometheus_understands_every_panel(tmp_path):
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(file))


def test_a_backlog_that_cannot_be_found_out_is_no_number():
    def found(status):
        lines = gateway(status).decode().splitlines()
        return {line.split()[0]: line.split()[1] for line in lines if line.startswith("leadstream_backlog")}

    known = {
        "ready": True,
        "behind": {"track_sessions": 7, "projection": None},
        "ages": {"track_sessions": 1.5},
    }
    assert found(known)['leadstream_backlog_records{stage="track_sessions"}'] == "7.0"
    assert found(known)['leadstream_backlog_age_seconds{stage="track_sessions"}'] == "1.5"
    assert found(known)['leadstream_backlog_records{stage="projection"}'] == "NaN"
    assert set(found({"ready": False, "behind": None}).values()) == {"NaN"}, "and not what was known before"

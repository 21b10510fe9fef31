"""Writes docs/endpoints.md and docs/metrics.md: every address of the API with the scope that it needs, every metric and alert.

`python -m leadstream.operations.reference_pages` writes. The same program gives the same bytes; nothing here is read at run
time.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from delivery.metrics import delivery_exposition
from gateway.app import create_app
from gateway.metrics import exposition as gateway_exposition
from gateway.ports import Ports
from gateway.scopes import ADMIN_SCOPE, ROUTE_SCOPES
from projections.metrics import UnprojectedRecords
from projections.metrics import exposition as projection_exposition
from scoring.editing.describe import markdown_table
from streams.kafka.metrics import WorkerMetrics
from streams.kafka.topics import STAGE_NAMES

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN_BY = "This page is written by `make schemas`."


def endpoints_page() -> str:
    """By tag, in the order in which the API describes them."""

    async def append(_records: object) -> None: ...

    app = create_app(Ports(append=append, database_url="", now=lambda: datetime(2030, 1, 31, tzinfo=UTC)))
    rows: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    scopes = {re.sub(r":\w+}", "}", route): scope for route, scope in ROUTE_SCOPES.items()}
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            address = f"{method.upper()} {path}"
            scope = scopes.get(address.rstrip("/"), ADMIN_SCOPE)
            rows[operation["tags"][0]].append((f"`{address}`", scope, operation["summary"]))
    chapters = [f"## {tag}\n\n{markdown_table(('address', 'scope', 'what'), rows[tag])}" for tag in rows]
    about = (
        "Every address of the API, with the scope that a caller needs ([access.md](access.md)). `/docs` of a running server describes "
        f"parameters, bodies and answers, and `/openapi.json` is the same for programs. {WRITTEN_BY}"
    )
    return "\n\n".join(["# Addresses of the API", about, *chapters]) + "\n"


def metrics_page() -> str:
    chapters = [
        f"## {process}\n\n{markdown_table(('metric', 'meaning'), rows)}" for process, rows in _metrics()
    ]
    about = (
        "What each process gives to Prometheus at `/metrics`. In embedded mode one process gives those of the gateway, of the projection "
        "and of delivery. `deploy/prometheus/alerts.yml` has the alerts, `deploy/grafana` the dashboards. A counter's series end in "
        f"`_total`, a histogram's in `_bucket`, `_count` and `_sum`. {WRITTEN_BY}"
    )
    return "\n\n".join(["# Metrics", about, *chapters]) + "\n"


def _metrics() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    UnprojectedRecords().set_remaining({("events", 0): 0})
    pages = {
        "Gateway": gateway_exposition({}),
        "Worker": WorkerMetrics(STAGE_NAMES, list, dict, dict).exposition(),
        "Projection": projection_exposition(),
        "Delivery": delivery_exposition(),
    }
    for process, page in pages.items():
        families = text_string_to_metric_families(page.decode())
        yield (
            process,
            [
                (f"`{family.name}`", family.documentation)
                for family in families
                if family.name.startswith("leadstream_") and not family.name.endswith("_created")
            ],
        )


def main() -> None:
    (DOCS / "endpoints.md").write_text(endpoints_page(), encoding="utf-8")
    (DOCS / "metrics.md").write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

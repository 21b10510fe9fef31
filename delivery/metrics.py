"""Every metric of delivery, with a help text that an operator understands. The process that delivers exposes them at /metrics.

Labels have few, fixed values: kinds of channels, outcomes, and the names of channels in the configuration.
"""

import time
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY: Final = CollectorRegistry()
_gauge = partial(Gauge, registry=REGISTRY)

ATTEMPTS = Counter(
    "leadstream_delivery_attempts",
    "Attempts to carry out actions of workflows, by kind of channel (email, webhook, apprise, hubspot, pipedrive, odoo, "
    "notifications, lead) and outcome (delivered, failed: it is tried again, dead).",
    ["kind", "outcome"],
    registry=REGISTRY,
)
ATTEMPT_SECONDS = Histogram(
    "leadstream_delivery_attempt_seconds",
    "Time of one attempt, by kind of channel.",
    ["kind"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
WAITING = _gauge(
    "leadstream_delivery_waiting",
    "Actions of workflows that were not carried out yet, those that wait for a repetition or for the end of quiet hours "
    "included; by the channel's name in the configuration. A process that delivers nothing gives none.",
    ["channel"],
)
DEAD = _gauge(
    "leadstream_delivery_dead_letters",
    "Actions of workflows that were given up, by the channel's name in the configuration; `(not configured)` for every other "
    "name. `leadstream delivery status` shows why, `leadstream delivery retry` sends them again. A process that delivers nothing "
    "gives none.",
    ["channel"],
)
OLDEST_SECONDS = _gauge(
    "leadstream_delivery_oldest_seconds",
    "For how long the oldest action that was not carried out yet has been due; 0 when none is; by the channel's name in the "
    "configuration. A process that delivers nothing gives none.",
    ["channel"],
)
RESTING = _gauge(
    "leadstream_delivery_channel_resting",
    "1 while a channel rests after failures in a row, or because its receiver asked for a pause; by the channel's name in the "
    "configuration.",
    ["channel"],
)
NOT_CONFIGURED: Final = "(not configured)"
"""The label of every channel that the configuration does not have: published texts may name any."""
CRM_RECORDS = Counter(
    "leadstream_crm_records",
    "Records of CRMs that were read or reported, by channel and result: events (something changed for a lead), unchanged "
    "(nothing new, or our own change), unknown (no lead is this contact), refused (the log takes no such event).",
    ["channel", "result"],
    registry=REGISTRY,
)
CRM_EVENTS = Counter(
    "leadstream_crm_events",
    "Events that changes in CRMs have made, by channel.",
    ["channel"],
    registry=REGISTRY,
)
CRM_FAILURES = Counter(
    "leadstream_crm_failures",
    "Attempts to read a CRM that failed and are tried again, by channel. `leadstream crm status` shows the reason.",
    ["channel"],
    registry=REGISTRY,
)
CRM_PULL_SECONDS = _gauge(
    "leadstream_crm_pull_age_seconds",
    "How long ago all changes of a CRM had been read, by channel. It grows while the CRM cannot be read.",
    ["channel"],
)
ENRICHMENT = Counter(
    "leadstream_enrichment_answers",
    "What sources of enrichment were good for, by source and result: asked, cache (an answer that was still good), file, budget "
    "(put off: the budget is used up), failed (tried again), rejected (no repetition helps).",
    ["source", "result"],
    registry=REGISTRY,
)


class FailingTimes:
    """Sets a gauge, by its labels, to the seconds since the first failure after the last success; 0: it does not fail."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._since: dict[tuple[str, ...], float] = {}
        self._shown = set[tuple[str, ...]]()

    def failed(self, *labels: str) -> None:
        self._since.setdefault(labels, time.monotonic())
        self._show(labels)

    def succeeded(self, *labels: str) -> None:
        self._since.pop(labels, None)
        self._show(labels)

    def _show(self, labels: tuple[str, ...]) -> None:
        if labels not in self._shown:
            self._shown.add(labels)
            self._gauge.labels(*labels).set_function(partial(self._seconds, labels))

    def _seconds(self, labels: tuple[str, ...]) -> float:
        since = self._since.get(labels)
        return 0.0 if since is None else time.monotonic() - since


CRM_FAILING: Final = FailingTimes(
    _gauge(
        "leadstream_crm_failing_seconds",
        "For how long every attempt to read a CRM has failed, by channel and kind of record (contact, deal); 0: the last one succeeded. `leadstream crm status` and "
        "GET /api/crm show the reason.",
        ["channel", "kind"],
    )
)
ENRICHMENT_FAILING: Final = FailingTimes(
    _gauge(
        "leadstream_enrichment_failing_seconds",
        "For how long every request to a source of enrichment has failed, by source; 0: the last one succeeded.",
        ["source"],
    )
)


def delivery_exposition() -> bytes:
    """The text that Prometheus scrapes; the gateway exposes it, too, since it may be the process that delivers."""
    return generate_latest(REGISTRY)

"""Every metric that the gateway gives at /metrics, with a help text that an operator understands.

Labels take few, fixed values: never an id, a path as it was typed, or anything a producer sent.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

STAGES = ("track_sessions", "score_leads", "projection")
PROCESSES = ("worker", "projection")
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # process_start_time_seconds shows restarts
_SECONDS_STEPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_counter = partial(Counter, registry=REGISTRY)
_gauge = partial(Gauge, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY, buckets=_SECONDS_STEPS)

REQUESTS = _counter(
    "leadstream_http_requests_total",
    "Requests answered, by method, route and status.",
    ["method", "route", "status"],
)
REQUEST_SECONDS = _histogram(
    "leadstream_http_request_seconds",
    "Time from a request's first byte to the end of its answer, by route.",
    ["route"],
)
ACCEPTED_EVENTS = _counter(
    "leadstream_events_accepted_total",
    "Events that the log has taken from the collector, by whether a crawler made them.",
    ["bot"],
)
REFUSED = _counter(
    "leadstream_events_refused_total",
    "Refusals at the collector. event: one event was wrong; body: a whole body could not be read; "
    "access: no or wrong key; rate: too many; log: the log could not take them; consent: an event was not stored, since "
    "the visitor had not consented.",
    ["reason"],
)
TELEGRAM_UPDATES = _counter(
    "leadstream_telegram_updates_total",
    "Updates of Telegram bots, by what became of them. events: recorded; refused: an event of it was wrong; skipped as "
    "other_kind (edited, inline, channels), not_private (groups), no_person (bots) or unreadable.",
    ["result"],
)
LINKS_FOLLOWED = _counter(
    "leadstream_links_followed_total",
    "Requests for signed links and for pictures of mails, by the event and what became of it. person, bot: recorded; "
    "unrecorded: the log did not take it; limited: more than LEADSTREAM_EVENTS_PER_SECOND; ahead: a browser loaded the "
    "page ahead, which records nothing. Whatever the result, the person went on.",
    ["event", "result"],
)
TELEGRAM_REPLIES = _counter(
    "leadstream_telegram_replies_total",
    "Replies of Telegram bots, by what became of them. sent; not sent: old (the update waited for minutes), repeated (it "
    "came twice), busy or late (what is recorded could not be read in time), blocked (by the person), limited (429), "
    "refused or unavailable (Telegram), failed (a fault: the log has it).",
    ["result"],
)
ADDRESS_LOOKUPS = _counter(
    "leadstream_contacts_asked_total",
    "E-mails and phones of visitors whose lead was looked up. unanswered: the database did not answer in time, "
    "and the visitor stays whom it was.",
    ["answer"],
)
APPEND_SECONDS = _histogram(
    "leadstream_append_seconds",
    "Time until the log confirmed a request's events.",
)
WAITING_CALLERS = _gauge(
    "leadstream_waiting_callers",
    "Callers that wait until their events show in the scores.",
)
OPEN_CONNECTIONS = _gauge(
    "leadstream_connections",
    "Connections that are open, of at most LEADSTREAM_MAX_CONNECTIONS.",
)
CLOSED_CONNECTIONS = _counter(
    "leadstream_connections_closed_total",
    "Connections that the server closed or refused. address, all, files: one more was too many, of one address, in "
    "all, or for want of file descriptors; head, body, stalled: the client took too long to send its request or to "
    "take the answer; rest, closing, idle: nothing was lost.",
    ["reason"],
)
BACKLOG_RECORDS = _gauge(
    "leadstream_backlog_records",
    "Records that a step has yet to take, as this gateway finds them: track_sessions and score_leads fold, projection "
    "writes what people read. NaN while that cannot be found out.",
    ["stage"],
)
BACKLOG_AGE_SECONDS = _gauge(
    "leadstream_backlog_age_seconds",
    "For how long the oldest record that a step has yet to take has been in the log; 0 when none waits, NaN while that "
    "cannot be found out.",
    ["stage"],
)
UNOWNED_BACKLOG_RECORDS = _gauge(
    "leadstream_backlog_unowned_records",
    "Of the records that a step has yet to take, those in partitions that no worker (or projection) owns just now, so "
    "that nobody takes them. On Kafka only.",
    ["stage"],
)
RECENT_STARTS = _gauge(
    "leadstream_recent_starts",
    "How often, within the last 30 minutes, the worker (the projection) was started that was started most often. More than "
    "a few: it ends again and again; `leadstream doctor` says which one. On Kafka only.",
    ["process"],
)
RECENT_FENCINGS = _gauge(
    "leadstream_recent_fencings",
    "How many workers have ended within the last 30 minutes because another had taken over their partitions. On Kafka only.",
)
READY = _gauge(
    "leadstream_ready",
    "1 if events are taken and scores follow, else 0; /ready says why.",
)
RECALCULATION_DIFFERENCES = _gauge(
    "leadstream_recalculation_differences",
    "Leads whose stored score or stage differed when they were last recalculated, of all tenants; none are expected. "
    "`leadstream recalculate` names them.",
)
LISTENING = _gauge(
    "leadstream_listening",
    "1 while this process hears from Postgres which events were applied; else it polls.",
)


def exposition(status: Mapping[str, Any]) -> bytes:
    """What Prometheus scrapes; `status` as `gateway.ports` has it."""
    READY.set(bool(status.get("ready")))
    for stage in STAGES:
        for gauge, name in (
            (BACKLOG_RECORDS, "behind"),
            (BACKLOG_AGE_SECONDS, "ages"),
            (UNOWNED_BACKLOG_RECORDS, "unowned"),
        ):
            gauge.labels(stage).set(_number_or_nan((status.get(name) or {}).get(stage)))
    restarts = status.get("restarts") or {}
    for process in PROCESSES:
        RECENT_STARTS.labels(process).set(_number_or_nan(restarts.get(process)))
    RECENT_FENCINGS.set(_number_or_nan(restarts.get("fenced")))
    return generate_latest(REGISTRY)


def _number_or_nan(value: float | None) -> float:
    return math.nan if value is None else value

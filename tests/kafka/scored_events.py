"""Events of visitors whose partition a test chooses, a worker with the real stages, and what came of them."""

import itertools
import json

import psycopg
from faust_counting import PARTITIONS, backlog, make_topics, until, working

from leadstream.clock import utc_now
from leadstream.settings import Settings
from leadstream.stages import STAGES
from leadstream.wiring import genesis
from projections.table_definition import READ_OPTIONS
from schemas.topics import EVENTS, LEAD_ACTIVITY, partition_of, visitor_key


def scored_topics(cluster):
    make_topics(cluster, [stage() for stage in STAGES], genesis=genesis(utc_now()))


def visitor_in(partition, named="w"):
    names = (f"{named}-{number}" for number in itertools.count())
    return next(name for name in names if partition_of(visitor_key("default", name), PARTITIONS) == partition)


def event(visitor, number, **more):
    said = {
        "type": "qr_scanned",
        "event_id": f"{visitor}-{number}",
        "visitor_id": visitor,
        "occurred_at": f"2026-06-01T00:00:{number:02}Z",
    }
    return visitor_key("default", visitor).encode(), json.dumps(said | more).encode()


def settings_of(cluster, url):
    return Settings(kafka=cluster.brokers, kafka_prefix=cluster.prefix, database_url=url)


def counts(url):
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        rows = connection.execute("select lead_id, counts from leads").fetchall()
    return {lead.removeprefix("anon:"): count["qr_scanned"] for lead, count in rows}


def letters(url):
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        rows = connection.execute("select topic, partition, position, reason, original from dead_letters")
        return {row[:3]: row[3:] for row in rows.fetchall()}


def work(cluster, tmp_path):
    """A worker until everything is folded, or until it fails; why it failed."""
    with working(cluster, tmp_path, stages=[stage() for stage in STAGES], fail=lambda _: None) as (_, thread):
        failed = []

        def ended():
            if thread.failed is not None:
                failed.append(thread.failed)
            return failed or _is_settled(cluster)

        until(ended, "it folds everything, or fails")
        return failed[0] if failed else None


def _is_settled(cluster):
    return not backlog(cluster, EVENTS) and not backlog(cluster, LEAD_ACTIVITY)

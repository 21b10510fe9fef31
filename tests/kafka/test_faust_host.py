"""Workers on Faust over a real broker: what they fold, share, survive, and say of themselves."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from faust_counting import (
    PARTITIONS,
    CountEvents,
    backlog,
    counted,
    flood,
    make_topics,
    owned,
    produce,
    read,
    ready,
    settled,
    until,
    working,
)
from prometheus_client.parser import text_string_to_metric_families

from schemas import events
from schemas.decode import encode_source
from schemas.topics import EVENTS, LEAD_ACTIVITY, SESSION_SCORES, visitor_key
from streams.engine.shard import FoldFailed
from streams.kafka import faust_host
from streams.kafka.faust_host import MOST_WAITING_CHUNKS, LeadstreamApp
from streams.kafka.restoring import KafkaChangelogStorage
from streams.kafka.transactions import KafkaTransactions
from tests.ports import free_port

pytestmark = pytest.mark.kafka

KEYS = [f"default/v/{name}" for name in ("ada", "bob", "cyd", "dan", "eva", "fay", "gus", "hal")]
"""In every partition at least one: 3, 0, 1, 2 and so on."""


def rounds(times):
    return [(key, b"click") for _ in range(times) for key in KEYS]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.status, refused.headers.get_content_type(), refused.read().decode()


def test_events_become_session_scores(cluster, tmp_path):
    """Web session scoring: 480 s with 4 pages, 3 clicks and an important one score 66."""
    from leadstream.stages import STAGES

    stages = [stage() for stage in STAGES]
    make_topics(cluster, stages, genesis=shipped())
    begin = datetime.now(UTC) - timedelta(hours=1)

    def happened(kind, number, second, **fields):
        at = begin + timedelta(seconds=second)
        event = kind(
            event_id=f"e{number}", occurred_at=at, recorded_at=at, visitor_id="ada", source="web", **fields
        )
        return visitor_key("default", "ada"), encode_source(event)

    visit = [happened(events.PageViewed, n, 10 * n) for n in range(4)]
    visit += [happened(events.ElementClicked, 4 + n, 100 + n, text="Read more") for n in range(3)]
    visit += [
        happened(events.ElementClicked, 7, 200, text=" get a demo "),
        happened(events.SessionEnded, 8, 480),
    ]
    with working(cluster, tmp_path, stages=stages):
        produce(cluster, visit)
        settled(cluster, EVENTS, LEAD_ACTIVITY)
    said = [json.loads(value) for values in read(cluster, SESSION_SCORES).values() for value in values]
    final = [one for one in said if one["model"] == "web_session"][-1]
    assert (final["score"], final["ended"], final["pages"], final["important_clicks"]) == (66, True, 4, 1)


def shipped():
    from leadstream import wiring

    return wiring.genesis(datetime.now(UTC))


def test_two_workers_share_the_buckets_and_the_one_that_stays_takes_over(cluster, tmp_path):
    make_topics(cluster, [CountEvents()])
    with working(cluster, tmp_path) as (first, _):
        ready(first)
        assert owned(first) == {0, 1}
        produce(cluster, rounds(5))
        with working(cluster, tmp_path) as (second, thread):
            until(lambda: len(owned(first)) == 1 and len(owned(second)) == 1, "each owns a bucket")
            assert owned(first) | owned(second) == {0, 1}
            ready(first, second)
            produce(cluster, rounds(5))
            settled(cluster)
            assert folded(first) + folded(second) == 80
            begun = time.monotonic()
            assert thread.stop(10)
            assert time.monotonic() - begun < 10
        until(lambda: owned(first) == {0, 1}, "the first takes over")
        before = folded(first)
        produce(cluster, rounds(5))
        settled(cluster)
        assert folded(first) == before + 40
        assert thread.failed is None
    counted(cluster, KEYS, 15)


def test_a_worker_that_stops_amid_work_loses_and_repeats_nothing(cluster, tmp_path):
    make_topics(cluster, [CountEvents()])
    produce(cluster, rounds(2_000))
    with working(cluster, tmp_path) as (app, thread):
        until(lambda: sum(shard.folded for shard in app.status()) > 100, "it works")
        begun = time.monotonic()
        assert thread.stop(10)
        assert time.monotonic() - begun < 10
    with working(cluster, tmp_path):
        settled(cluster)
    counted(cluster, KEYS, 2_000)


def test_a_worker_that_restarts_under_its_name_disturbs_nobody(cluster, tmp_path):
    make_topics(cluster, [CountEvents()])
    with working(cluster, tmp_path, worker_id="stays") as (stays, _):
        with working(cluster, tmp_path, worker_id="restarts") as (before, _):
            until(lambda: len(owned(stays)) == 1 and len(owned(before)) == 1, "each owns a bucket")
            ready(stays, before)
            held, assignments = owned(before), stays.assignments
        with working(cluster, tmp_path, worker_id="restarts") as (after, _):
            ready(after)
            assert owned(after) == held
            assert stays.assignments == assignments
            produce(cluster, rounds(3))
            settled(cluster)
    counted(cluster, KEYS, 3)


def test_what_is_full_is_not_read_on(cluster, tmp_path, monkeypatch):
    """A queue of 10,000 records is full; one read more, of at most 20,000, may be on its way."""
    make_topics(cluster, [CountEvents()])
    committing, commit = threading.Event(), KafkaTransactions.commit

    async def gated(transactions, made):
        while not committing.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.02)
        return await commit(transactions, made)

    monkeypatch.setattr(KafkaTransactions, "commit", gated)
    flood(cluster, KEYS[0], 60_000)
    with working(cluster, tmp_path) as (app, _):

        def queued():
            return max((shard.queued for shard in app.status()), default=0)

        until(lambda: queued() >= 10_000, "the queue is full")
        most, until_then = 0, time.monotonic() + 1
        while time.monotonic() < until_then:
            most = max(most, queued())
            time.sleep(0.02)
        assert most <= 30_000
        committing.set()
        settled(cluster)
    counted(cluster, KEYS[:1], 60_000)


class Gate:
    """Restoring waits before it, as a very long one would take; it is counted who has come."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        self.waiting = 0
        restore = KafkaChangelogStorage.restore

        async def gated(backing, memories, opened):
            self.waiting += 1
            while not self.open.is_set():  # noqa: ASYNC110 - another thread opens it
                await asyncio.sleep(0.02)
            await restore(backing, memories, opened)

        monkeypatch.setattr(KafkaChangelogStorage, "restore", gated)


def test_a_rebalance_does_not_wait_for_a_restore(cluster, tmp_path, monkeypatch):
    make_topics(cluster, [CountEvents()])
    produce(cluster, rounds(5))
    gate, port = Gate(monkeypatch), free_port()
    with working(cluster, tmp_path, port=port) as (first, _):
        until(lambda: gate.waiting == 1, "the first restores")
        assert get(port, "/ready") == (
            503,
            "application/json",
            '{"ready":false,"reason":"restoring 4 of 4 shards"}',
        )
        assert {row["state"] for row in json.loads(get(port, "/tables.json")[2])["tables"]} == {"restoring"}
        assert "restoring 0 %" in get(port, "/tables")[2]
        with working(cluster, tmp_path) as (second, _):
            until(lambda: len(owned(first)) == 1 and len(owned(second)) == 1, "they share while they restore")
            gate.open.set()
            ready(first, second)
            assert get(port, "/ready")[0] == 200
            settled(cluster)
    counted(cluster, KEYS, 5)


def test_the_pages_tell_how_far_every_shard_is(cluster, tmp_path):
    make_topics(cluster, [CountEvents()])
    produce(cluster, rounds(7))
    port = free_port()
    with working(cluster, tmp_path, port=port, worker_id="w<1>") as (app, _):
        ready(app)
        settled(cluster)
        until(lambda: "count_events" in get(port, "/")[2], "the page answers")
        told = json.loads(get(port, "/tables.json")[2])
        assert {name: told[name] for name in ("group", "worker", "buckets", "ready", "reason")} == {
            "group": cluster.group, "worker": "w<1>", "buckets": 2, "ready": True, "reason": None,
        }  # fmt: skip
        assert [(row["partition"], row["bucket"]) for row in told["tables"]] == [
            (0, 0),
            (1, 1),
            (2, 0),
            (3, 1),
        ]
        assert {row["table"] for row in told["tables"]} == {"count_events"}
        assert sum(row["folded"] for row in told["tables"]) == 56
        assert sum(row["keys"] for row in told["tables"]) == 8
        assert {row["lag"] for row in told["tables"]} == {0}
        status, kind, page = get(port, "/tables")
        assert (status, kind) == (200, "text/html")
        assert page.count('<tr class="ready">') == PARTITIONS
        assert "w&lt;1&gt;" in page
        assert "w<1>" not in page
        samples = {
            (
                sample.name,
                *(sample.labels[name] for name in sorted(sample.labels, reverse=True)),
            ): sample.value
            for family in text_string_to_metric_families(get(port, "/metrics")[2])
            for sample in family.samples
        }
        assert samples["leadstream_worker_folded_total", "count_events"] == 56
        assert samples["leadstream_worker_keys", "count_events"] == 8
        assert samples["leadstream_worker_state_bytes", "count_events"] == 8  # one digit each
        assert samples["leadstream_worker_shards", "count_events"] == 4
        assert samples["leadstream_worker_restoring_shards",] == 0
        assert [samples["leadstream_worker_lag_records", EVENTS, str(p)] for p in range(4)] == [0, 0, 0, 0]
        assert samples["leadstream_worker_round_seconds_count",] >= 1
        assert get(port, "/router/")[0] == 404


def folded(app):
    text = app.metrics.exposition().decode()
    (total,) = [
        line.split()[1] for line in text.splitlines() if line.startswith("leadstream_worker_folded_total")
    ]
    return float(total)


def test_a_fold_that_raises_ends_the_worker_and_stores_nothing(cluster, tmp_path):
    make_topics(cluster, [CountEvents()])
    told = []
    with working(cluster, tmp_path, fail=told.append) as (app, thread):
        ready(app)
        produce(cluster, [("k", b"boom")])
        failed = until(lambda: thread.failed, "the worker fails")
        until(lambda: not thread._thread.is_alive(), "its thread ends")
    assert isinstance(failed, FoldFailed)
    assert (failed.record.topic, failed.record.key) == (EVENTS, "k")
    assert told == [failed]
    assert read(cluster) == {}
    assert backlog(cluster) == 1


def test_an_agent_that_ends_ends_its_stage_and_no_other(cluster, tmp_path):
    """The agents are what calls the engine, and what one of them does not take is not read on without bound."""
    make_topics(cluster, [CountEvents(), CountActivity()])
    with working(cluster, tmp_path, stages=[CountEvents(), CountActivity()]) as (app, thread):
        ready(app)
        produce(cluster, rounds(2))
        settled(cluster)
        agent = app.agents["count_events"]
        asyncio.run_coroutine_threadsafe(agent.stop(), thread._loop).result(10)
        for _ in range(MOST_WAITING_CHUNKS + 10):
            produce(cluster, rounds(1))
            produce(cluster, rounds(1), LEAD_ACTIVITY)
        settled(cluster, LEAD_ACTIVITY)
        assert {shard.stage: shard.folded for shard in app.status() if shard.partition == 0} == {
            "count_events": 4,
            "count_activity": 2 * (MOST_WAITING_CHUNKS + 10),
        }
        assert backlog(cluster) >= 8 * (MOST_WAITING_CHUNKS + 10)
        assert app._waiting[EVENTS] < MOST_WAITING_CHUNKS + PARTITIONS
        assert thread.failed is None
    with working(cluster, tmp_path, stages=[CountEvents(), CountActivity()]):
        settled(cluster, EVENTS, LEAD_ACTIVITY)
    assert {len(values) for values in read(cluster).values()} == {2 + 2 * (MOST_WAITING_CHUNKS + 10)}


class CountActivity(CountEvents):
    name = "count_activity"
    source = LEAD_ACTIVITY


def test_an_agent_that_raises_ends_the_worker(cluster, tmp_path, monkeypatch):
    """Faust would log it, restart the agent, and go on with the next chunk."""
    make_topics(cluster, [CountEvents()])
    with working(cluster, tmp_path, fail=lambda _: None) as (app, thread):
        ready(app)

        def offer(chunk):
            raise ZeroDivisionError

        monkeypatch.setattr(app._worker, "offer", offer)
        produce(cluster, [("k", b"click")])
        assert isinstance(until(lambda: thread.failed, "the worker fails"), ZeroDivisionError)


def test_a_worker_that_counts_buckets_otherwise_is_refused_with_the_remedy(cluster, tmp_path, capsys):
    make_topics(cluster, [CountEvents()])
    with working(cluster, tmp_path) as (first, _):
        ready(first)
        with working(cluster, tmp_path, buckets=3, fail=lambda _: None) as (_, other):
            until(lambda: other.failed, "it is refused")
        assert owned(first) == {0, 1}
    assert "LEADSTREAM_BUCKETS must be the same for all" in capsys.readouterr().out


def test_a_worker_waits_for_topics_that_are_being_created(cluster, tmp_path, capfd):
    said = ""

    def waits():
        nonlocal said
        said += "".join(capfd.readouterr())
        return "waiting for Kafka" in said and "events is missing" in said

    with working(cluster, tmp_path) as (app, _):
        until(waits, "it says that it waits")
        make_topics(cluster, [CountEvents()])
        ready(app)


def test_missing_topics_are_named_with_the_remedy(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(faust_host, "TOPICS_SECONDS", 0.0)
    with working(cluster, tmp_path, fail=lambda _: None) as (_, thread):
        assert "leadstream topics create" in str(until(lambda: thread.failed, "it fails"))


def test_a_topic_that_is_missing_beside_the_others_is_named(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(faust_host, "TOPICS_SECONDS", 0.0)
    make_topics(cluster, [])
    with working(cluster, tmp_path, fail=lambda _: None) as (_, thread):
        assert cluster.changelog("count_events") in str(until(lambda: thread.failed, "it fails"))


def test_a_port_that_is_taken_is_named_with_the_remedy(cluster, tmp_path):
    make_topics(cluster, [CountEvents()])
    port = free_port()
    with working(cluster, tmp_path, port=port) as (first, _):
        ready(first)
        with working(cluster, tmp_path, port=port, fail=lambda _: None) as (_, thread):
            failed = until(lambda: thread.failed, "it fails")
    assert f"127.0.0.1:{port}" in str(failed)
    assert "LEADSTREAM_WORKER_PORT" in str(failed)


def test_an_app_that_was_not_started_says_that_it_waits(cluster, tmp_path):
    app = LeadstreamApp(cluster, [CountEvents()], buckets=2, data_dir=tmp_path, now=lambda: 0)
    assert app.status() == []
    assert app.unready() == "waiting for partitions"

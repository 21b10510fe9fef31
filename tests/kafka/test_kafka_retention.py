"""Retention deletes the topics' beginning on a real broker; worker, projection and `leadstream rebuild` go on."""

from typing import Any

import psycopg
import pytest
from projected_topics import await_all, let_go, wait_until
from projection_records import contents

from deploy.kafka.broker import free_port
from leadstream.postgres import find_postgres
from schemas.topics import TOPICS
from streams.kafka.cluster import Cluster
from tests.leadstream.command_line import Server, leadstream, serving

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

PEOPLE = 12
KEPT = [topic.name for topic in TOPICS if not topic.compacted]


def visit(person: int, number: int) -> dict[str, Any]:
    return {
        "type": ("page_viewed", "element_clicked", "form_submitted")[number % 3],
        "visitor_id": f"v{person}",
        "event_id": f"e{person}-{number}",
        "url": "/pricing",
    }


def known(person: int) -> dict[str, Any]:
    return {
        "type": "lead_identified",
        "visitor_id": f"v{person}",
        "event_id": f"k{person}",
        "lead_id": f"lead-{person}",
    }


def merged(number: int, lead: int, into: int) -> dict[str, Any]:
    return {
        "type": "leads_merged",
        "event_id": f"m{number}",
        "lead_id": f"lead-{lead}",
        "into": f"lead-{into}",
    }


def take(server: Server, cluster: Cluster, events: list[dict[str, Any]]) -> str:
    """Sends the events, and waits until every table contains what came of them; returns the database."""
    answer = server.client.post("/v1/events", json=events)
    assert answer.status_code in {200, 202}, answer.text
    assert "refused" not in {event.get("status") for event in answer.json()["events"]}
    url = find_postgres(server.data_dir)
    assert url is not None
    for _ in range(2):  # what one stage has done may be on its way to the next
        wait_until(lambda: server.client.get("/ready").json().get("backlog") == 0, "all is scored")
        await_all(cluster, url)
    return url


def rows(url: str) -> dict[str, list[str]]:
    with psycopg.connect(url) as connection:
        return contents(connection)


def test_a_rebuild_after_retention_keeps_every_row_and_later_merges_rewrite_them(kafka_broker, tmp_path):
    cluster = Cluster(kafka_broker.address, prefix="retention-")
    settings = {
        "LEADSTREAM_KAFKA": cluster.brokers,
        "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
        "LEADSTREAM_PARTITIONS": "3",
        "LEADSTREAM_WORKER_PORT": str(free_port()),
    }
    said = [visit(person, number) for number in range(6) for person in range(PEOPLE)]
    said += [known(person) for person in range(PEOPLE)] + [merged(1, 1, 0), merged(2, 2, 0)]
    with serving(tmp_path / "store", arguments=("--kafka",), **settings) as server:
        url = take(server, cluster, said)
        before = rows(url)
        assert len(before["engagement_history"]) == len(said)
        for topic in KEPT:
            let_go(cluster, topic)

        done = leadstream("rebuild", "--data-dir", server.data_dir, **settings)
        assert done.returncode == 0, done.stderr.decode()
        assert "engagement_history, identities" in (done.stdout + done.stderr).decode()
        assert rows(url) == before

        undone = {"type": "merge_undone", "event_id": "u1", "lead_id": "lead-1"}
        take(server, cluster, [undone, merged(3, 4, 3), *(visit(person, 9) for person in range(PEOPLE))])
        with psycopg.connect(url) as connection:
            owners = dict(connection.execute("select home, lead_id from live.identities").fetchall())
            totals = connection.execute(
                """select count(*), count(*) filter (where total = changes) from live.lead_scores join
                   (select lead_key, model, sum(change) as changes from live.score_history group by 1, 2) h
                   using (lead_key, model)"""
            ).fetchone()
        expected = {"lead-0": "lead-0", "lead-1": "lead-1", "lead-2": "lead-0", "lead-4": "lead-3"}
        assert owners.items() >= expected.items()
        assert totals is not None
        assert totals[0] == totals[1] > 0, "the ledger still sums to each total"
        after = rows(url)
        assert len(after["engagement_history"]) == len(said) + PEOPLE + 2

        let_go(cluster, "lead-activity")
        done = leadstream("rebuild", "--data-dir", server.data_dir, **settings)
        assert done.returncode == 0, done.stderr.decode()
        assert rows(url) == after

"""Retention deletes the topics' beginning on a real broker; worker, projection and `leadstream rebuild` go on."""

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from projected_topics import Writer, await_all, let_go, make_topics, projecting, wait_until
from projection_records import batch, contents, page_view
from psycopg.sql import SQL, Identifier

from leadstream.embedded_postgres import create_database, find_postgres
from leadstream.operations.backup import dump_database, load_dump
from leadstream.operations.kafka_projection import rebuild_from_kafka, run_projection
from projections.rebuild import HistoryLostError
from schemas.decode import encode_source
from schemas.record import Outgoing
from schemas.topics import EVENTS, SCORE_CHANGED, TOPICS
from streams.kafka.cluster import Cluster
from streams.kafka.following import PositionOutOfRange
from tests.leadstream.command_line import Server, leadstream, serving
from tests.ports import free_port

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


@pytest.fixture
def empty_machine(postgres_url: str, database_url: str):
    """Another database, empty."""
    name = f"{database_url.rpartition('/')[2].partition('?')[0]}_restored"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database(name))
    yield postgres_url.replace("/leadstream?", f"/{name}?")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))


def written(cluster: Cluster, url: str, outgoing: list[Outgoing]) -> None:
    with Writer(cluster) as writer, projecting(cluster, lambda: url) as projection:
        writer.write(outgoing)
        await_all(cluster, url, projection)
        projection.stop()


def test_restored_read_models_go_on_where_they_were_and_say_when_retention_was_faster(
    cluster, database_url, empty_machine, tmp_path: Path
):
    """Events that only the archive still has come back with it, and no rebuild makes anything of them."""
    make_topics(cluster)
    said = [said for n in range(40) for said in batch(n)]
    events = [Outgoing(EVENTS, "default/v/v", encode_source(page_view(f"archived-{n}"))) for n in range(5)]
    written(cluster, database_url, [*said[:150], *events])
    dump_database(database_url, tmp_path / "dump")
    let_go(cluster, EVENTS)
    written(cluster, database_url, said[150:])
    expected = rows(database_url)

    load_dump(empty_machine, tmp_path / "dump")
    assert rows(empty_machine) != expected
    written(cluster, empty_machine, [])
    assert rows(empty_machine) == expected
    rebuild_from_kafka(cluster, empty_machine)
    assert rows(empty_machine) == expected
    with psycopg.connect(empty_machine) as connection:
        assert connection.execute("select count(*) from public.event_archive").fetchone() == (5,)
        made = connection.execute(
            "select from live.engagement_history where event_id like 'archived-%'"
        ).fetchall()
        assert made == []
        for schema in ("reports", "live", "public"):
            connection.execute(SQL("drop schema {} cascade").format(Identifier(schema)))
        connection.execute("create schema public")

    load_dump(empty_machine, tmp_path / "dump")
    let_go(cluster, SCORE_CHANGED)
    with pytest.raises(
        PositionOutOfRange, match=r"score-changed/\d: Kafka no longer holds .*leadstream rebuild"
    ):
        run_projection(cluster, lambda: empty_machine, stop=threading.Event(), failing=lambda _: None)
    with pytest.raises(HistoryLostError, match=r"score_history \(up to \d+ rows\)"):
        rebuild_from_kafka(cluster, empty_machine)
    rebuild_from_kafka(cluster, empty_machine, accept_loss=["score_history"])
    written(cluster, empty_machine, [])
    after = rows(empty_machine)
    assert {table for table in expected if after[table] != expected[table]} == {"score_history"}
    assert set(after["score_history"]) < set(expected["score_history"])
    assert after["score_history"]

"""A person is erased on Kafka: nothing is left in PostgreSQL, what Kafka keeps is listed, and then deleted."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from leadstream.embedded_postgres import find_postgres
from leadstream.wiring import STAGES
from schemas.topics import TOPICS
from streams.kafka.cluster import Cluster
from streams.kafka.scanning import Scanner
from tests.leadstream.command_line import Server, leadstream, serving_once
from tests.leadstream.erasable_person import (
    LEAD,
    SHARED_BROWSER,
    VALUES,
    found_values,
    of_others,
    of_person,
    read_rows,
)
from tests.ports import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

SECONDS = 240.0
COMPACTED = {topic.name for topic in TOPICS if topic.compacted}


@pytest.fixture
def settings(cluster: Cluster) -> dict[str, str]:
    return {
        "LEADSTREAM_KAFKA": cluster.brokers,
        "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
        "LEADSTREAM_PARTITIONS": "2",
        "LEADSTREAM_WORKER_PORT": str(free_port()),
        "LEADSTREAM_WORKER_ID": "only",
    }


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Server]:
    with serving_once(tmp_path_factory, arguments=("--kafka",), **settings) as running:
        yield running


def topics_with_values(cluster: Cluster) -> dict[str, set[str]]:
    """Topic -> values in any of its records; of compacted topics in the newest record of each key."""
    changelogs = [cluster.name_of(cluster.changelog(stage.name)) for stage in STAGES]
    found: dict[str, set[str]] = {}
    with Scanner(cluster, [*(topic.name for topic in TOPICS), *changelogs]) as scanner:
        starts, ends = scanner.starts(), scanner.ends()
        for (topic, partition), end in ends.items():
            position, newest, every = starts[topic, partition], {}, []
            while position < end:
                chunk = scanner.read((topic, partition), position, 1_000)
                every += chunk.records
                newest |= {record.key: record for record in chunk.records}
                position = chunk.next
            compacted = topic in COMPACTED or topic in changelogs
            kept = [each for each in newest.values() if each.value is not None] if compacted else every
            texts = [record.key.encode() + (record.value or b"") for record in kept]
            if values := {value for value in VALUES if any(value.encode() in text for text in texts)}:
                found.setdefault(topic, set()).update(values)
    return found


def test_a_person_is_erased_and_what_kafka_keeps_is_listed_and_then_deleted(
    server: Server, cluster: Cluster, settings: dict[str, str]
):
    http = server.client
    sent_events = [
        {"event_id": f"{name}-{number}", **event}
        for name, events in (("zq", of_person()), ("o", of_others()))
        for number, event in enumerate(events)
    ]
    for event in sent_events:
        assert http.post("/v1/events", json=event).status_code == 200, event
    until(lambda: http.get("/ready").json()["backlog"] == 0)
    url = find_postgres(server.data_dir)
    assert url is not None
    assert {value for values in found_values(url).values() for value in values} == set(VALUES)

    begun = http.post("/api/erasures", json={"lead_id": LEAD})
    assert begun.status_code == 202, begun.text
    server.kill()  # amid the erasure: the next start goes on
    server.start()
    until(lambda: http.get(begun.json()["location"]).json()["done"])
    erasure = http.get(begun.json()["location"]).json()
    assert found_values(url) == {}
    assert {row["lead_id"] for row in read_rows(url)["leads"]} >= {"lead-brother", "lead-0", "lead-3"}

    # Everything that Kafka still has is listed, with the day on which it is gone.
    left = topics_with_values(cluster)
    assert left.keys() <= {each["topic"] for each in erasure["remains"]} - COMPACTED
    gone_by = {each["topic"]: each["gone_by"] for each in erasure["remains"]}
    events_gone = datetime.fromisoformat(gone_by["events"])
    assert timedelta(days=29) < events_gone - datetime.now(UTC) <= timedelta(days=30)

    # A rebuild reads these topics, and brings nobody back. Who shares the browser goes on.
    done = leadstream("rebuild", "--data-dir", server.data_dir, **settings)
    assert done.returncode == 0, done.stderr.decode()
    assert found_values(url) == {}
    late = [
        {"type": "page_viewed", "visitor_id": SHARED_BROWSER, "lead_id": "lead-brother"},
        {"type": "page_viewed", "visitor_id": "browser-zq-1"},
    ]
    answer = http.post("/v1/events", json=late).json()
    assert [event["status"] for event in answer["events"]] == ["accepted", "refused"]

    done = leadstream(
        "erase", "--delete-records", erasure["erasure_id"], "--yes", "--data-dir", server.data_dir, **settings
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"of everybody" in done.stderr
    assert topics_with_values(cluster) == {}


def until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)

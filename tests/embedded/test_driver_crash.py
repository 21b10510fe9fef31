"""kill -9 of the process and of the PostgreSQL server in mid-load: every count equals the log."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import counting
import psycopg
from counting import stages, visit

from leadstream.embedded_postgres import start_postgres, stop_postgres
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_SCORES, SCORE_CHANGED
from streams.embedded import log
from streams.embedded.driver import Driver
from streams.embedded.waiting import AppendQueueFull
from tests.forked_programs import Program


def folded_once(reader):
    """The state of both stages and what they said, against a count of the log itself."""
    events = list(log.scan_topic(reader, EVENTS))
    visits = Counter(record.key for record in events)
    leads = Counter(record.key[0] for record in events)
    stored = {
        stage: {key: int(value) for key, value in rows}
        for stage in ("count_visits", "count_leads")
        for rows in [
            reader.execute("select key, value from state where stage = %s and part = 'count'", (stage,))
        ]
    }
    assert stored["count_visits"] == visits
    assert stored["count_leads"] == leads
    assert {r.key: int(r.value) for r in log.scan_topic(reader, LEAD_SCORES)} == leads
    said = {}
    for record in log.scan_topic(reader, SCORE_CHANGED):
        said.setdefault(record.key, []).append(int(record.value))
    assert said == {lead: list(range(1, count + 1)) for lead, count in leads.items()}
    for topic in (EVENTS, LEAD_ACTIVITY, SCORE_CHANGED):
        for (name, partition), head in log.read_heads(reader).items():
            if name == topic:
                positions = [r.position for r in log.read_records(reader, topic, partition, 0, 1_000_000)]
                assert positions == list(range(head))
    return visits


def drained(database):
    """Lets a driver fold what a killed one left over."""
    driver = Driver(lambda: database, stages(), now=lambda: 0)
    driver.start()
    deadline = time.monotonic() + 60
    while any(driver.status().backlog.values()) or driver.status().failing:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.stop()


def test_a_process_killed_in_mid_load_counts_everything_exactly_once(database_url):
    chance = random.Random(11)
    acknowledged = set()
    for round_ in range(6):
        with Program(
            [sys.executable, counting.__file__, database_url, str(round_ * 1_000_000)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        ) as child:
            acknowledged.add(child.stdout.readline().strip())  # it is under way
            threading.Timer(chance.uniform(0.02, 0.6), child.kill).start()
            acknowledged |= {line.strip() for line in child.stdout if line.endswith("\n")}
    drained(database_url)
    with psycopg.connect(database_url, autocommit=True) as reader:
        visits = folded_once(reader)
    assert len(acknowledged) > 100
    assert all(visits[key] == 2 for key in acknowledged)
    assert set(visits.values()) == {2}, "the two records of one append came apart"


def test_a_server_killed_in_mid_load_loses_nothing_and_doubles_nothing(tmp_data_dir):
    """The driver has the server started again by itself, and goes on."""
    driver = Driver(lambda: start_postgres(tmp_data_dir), stages(), now=lambda: 0, partitions=4)
    driver.start()
    futures, stopping = {}, threading.Event()

    def produce():
        number = 0
        while not stopping.is_set():
            key = f"{'abc'[number % 3]}{number}"
            try:
                futures[key] = driver.append([visit(key), visit(key)])
            except AppendQueueFull as busy:
                time.sleep(min(busy.retry_after, 0.1))
                continue
            number += 1
            if number % 20 == 0:
                time.sleep(0.005)

    producer = threading.Thread(target=produce)
    producer.start()
    for _ in range(3):
        time.sleep(0.7)
        os.kill(int((tmp_data_dir / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        before = driver.status().last_commit_at, sum(driver.status().positions.values())
        deadline = time.monotonic() + 60
        while sum(driver.status().positions.values()) <= before[1] + 50 or driver.status().failing:
            assert time.monotonic() < deadline, driver.status().failing
            time.sleep(0.05)
    stopping.set()
    producer.join()
    stored = {key: future.result(60) for key, future in futures.items()}
    driver.stop()
    database = start_postgres(tmp_data_dir)
    drained(database)
    with psycopg.connect(database, autocommit=True) as reader:
        visits = folded_once(reader)
        assert visits == dict.fromkeys(futures, 2)
        places = {(r.partition, r.position): r.key for r in log.scan_topic(reader, EVENTS)}
    assert all(places[r.partition, r.position] == key for key, records in stored.items() for r in records)
    stop_postgres(tmp_data_dir)

"""The real folds under the embedded driver: killed again and again, the log tells what a pure fold of
its own recorded order says, and nothing else.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import islice

import psycopg
import pytest
import scoring_process
from scoring_process import company, driver_of

from leadstream.stages import STAGES
from schemas.activity import ModelChanged, SettingsChanged, TimePassed
from schemas.decode import decode_activity
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_CHANGES, LEAD_SCORES, SCORE_CHANGED, SESSION_SCORES
from streams.embedded import log
from streams.engine.shard import Shard
from tests.forked_programs import Program


class Memory:
    """Parts in a dictionary."""

    def __init__(self):
        self.parts = {}

    def load(self, keys):
        return {key: dict(self.parts.get(key, {})) for key in keys}

    def keys_after(self, after, limit):
        keys = sorted(k for k, parts in self.parts.items() if parts and k > after and not k.startswith("~"))
        return keys[:limit]

    def put(self, changes):
        for (key, part), value in changes.items():
            parts = self.parts.setdefault(key, {})
            if value is None:
                parts.pop(part, None)
            else:
                parts[part] = value


def folded(stage, partition, records):
    """Everything the stage says about these records, and the state it ends with."""
    memory, said = Memory(), []
    shard = Shard(stage, partition, memory)
    rest = list(records)
    while rest:
        outcome = shard.fold(rest[:100])
        changes = shard.changes()
        memory.put(changes.parts)
        said += [*outcome.outputs, *changes.outputs]
        rest = rest[outcome.applied :]
    return said, {key: parts for key, parts in memory.parts.items() if parts}


def stored_state(reader, stage, partition):
    state = {}
    query = "select key, part, value from state where stage = %s and partition = %s"
    for key, part, value in reader.execute(query, (stage, partition)):
        state.setdefault(key, {})[part] = value
    return state


def assert_log_equals_pure_folds(reader, partitions=4):
    track, score = (stage() for stage in STAGES)
    forwarded, statements, newest = Counter(), {}, {}
    done = log.read_checkpoints(reader)  # a last tick may have left wake-up records for the next start
    for partition in range(partitions):
        events = log.read_records(reader, EVENTS, partition, 0, done.get((track.name, partition), 0))
        said, state = folded(track, partition, events)
        assert state == stored_state(reader, track.name, partition)
        forwarded.update((out.topic, out.key, out.value) for out in said)
        activity = log.read_records(reader, LEAD_ACTIVITY, partition, 0, done.get((score.name, partition), 0))
        said, state = folded(score, partition, activity)
        assert state == stored_state(reader, score.name, partition)
        for out in said:
            if out.topic == LEAD_SCORES:
                newest[out.key] = out.value
            elif out.topic != EVENTS:
                statements.setdefault((out.topic, out.key), []).append(out.value)

    came_in = Counter()
    for record in log.scan_topic(reader, LEAD_ACTIVITY):
        if not isinstance(decode_activity(record.value), ModelChanged | SettingsChanged | TimePassed):
            came_in[record.topic, record.key, record.value] += 1
    assert came_in == Counter({said: n for said, n in forwarded.items() if said[0] == LEAD_ACTIVITY})
    recorded = {}
    for topic in (SCORE_CHANGED, LEAD_CHANGES, SESSION_SCORES):
        for record in log.scan_topic(reader, topic):
            recorded.setdefault((topic, record.key), []).append(record.value)
    assert {topic for topic, _ in recorded} == {SCORE_CHANGED, LEAD_CHANGES, SESSION_SCORES}
    assert recorded == statements
    assert {r.key: r.value for r in log.scan_topic(reader, LEAD_SCORES)} == {
        k: v for k, v in newest.items() if v
    }


def finish(driver):
    deadline = time.monotonic() + 120
    while any(driver.status().backlog.values()) or driver.status().waiting:
        assert driver.status().failing is None, driver.status().failing
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.stop()


def test_the_log_tells_what_a_pure_fold_of_it_says(database_url):
    driver = driver_of(database_url)
    driver.start()
    for future in [driver.append([record]) for record in islice(company(), 1_500)]:
        future.result(60)
    finish(driver)
    with psycopg.connect(database_url, autocommit=True) as reader:
        assert_log_equals_pure_folds(reader)


@pytest.mark.slow
def test_killed_at_random_the_log_still_tells_what_a_pure_fold_of_it_says(database_url):
    chance, stored = random.Random(3), 0
    for _ in range(10):
        with Program(
            [sys.executable, scoring_process.__file__, database_url, str(stored)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        ) as process:
            for line in islice(process.stdout, 1):
                stored = int(line)
            threading.Timer(chance.uniform(0.0, 0.3), process.kill).start()
            for line in process.stdout:
                stored = int(line) if line.endswith("\n") else stored
    assert stored > 0
    driver = driver_of(database_url)
    driver.start()
    rest = [driver.append([record]) for record in company()[stored:]]
    for future in rest:
        future.result(60)
    finish(driver)
    with psycopg.connect(database_url, autocommit=True) as reader:
        assert_log_equals_pure_folds(reader)
        assert {record.value for record in company()} <= {
            record.value for record in log.scan_topic(reader, EVENTS)
        }

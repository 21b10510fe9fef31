"""An operator kills the process at any moment and loses nothing."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from chat_sessions import assert_chat_sessions, chat_sessions
from entangled import CROWD_EVENTS, GROUP_EVENTS, assert_entangled, entangled, mixed_in
from recorded_order import EmbeddedLog, assert_equals_the_fold, digest
from workflow_people import (
    assert_delivered,
    assert_fired,
    expected_firings,
    moment_of_schedule,
    moody_receiver,
    publications,
    scattered_in,
    started_now,
    wait_until_delivered,
    workflow_events,
    write_channels,
)

from leadstream.delivering import delivery_beside
from leadstream.settings import Settings
from leadstream.simulation.simulate import simulated_events
from leadstream.wiring import open_system, repeated_for_every_partition
from projections.rebuild import rebuild
from projections.row_keys import lead_row_key
from schemas.decode import encode_source
from schemas.events import LeadIdentified, PageViewed
from schemas.moment import moment
from schemas.topics import lead_key, partition_of
from scoring.models.model import built_in_models
from tests.forked_programs import Program

PROCESS = Path(__file__).with_name("embedded_process.py")
TURNS = int(os.environ.get("CHAOS_TURNS", "1"))
EVENTS = 2_500 * TURNS
PARTITIONS = 6
GROUPS, CROWDS = 12 * TURNS, 1
MOVING = GROUPS * GROUP_EVENTS + CROWDS * CROWD_EVENTS
"""Of them, events of people who are merged, split, and share devices."""
CHATS = 12 * TURNS
"""Sessions of a chat, besides."""
KILLS = 6 * TURNS


class Running:
    """The process under test; a thread notes how far it says it is."""

    def __init__(self, *arguments):
        self.process = Program(
            [sys.executable, str(PROCESS), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("LEADSTREAM_")},
        )
        self.acknowledged, self.words = 0, []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            word = line.strip()
            if word.isdigit():
                self.acknowledged = int(word)
            else:
                self.words.append(word)

    def wait_for(self, word, seconds=120):
        end = time.monotonic() + seconds
        while word not in self.words:
            assert self.process.poll() is None or word in self.words, "the process ended by itself"
            assert time.monotonic() < end, f"no word of {word!r}"
            time.sleep(0.005)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return self.finish()

    def finish(self):
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        return self.acknowledged


def write_events(path, events):
    with path.open("wb") as file:
        for event in events:
            file.write(encode_source(event) + b"\n")


def recorded(event):
    """Simulated events as the door would have recorded them."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**(fields | {"recorded_at": event.recorded_at or event.occurred_at}))


@pytest.mark.slow
def test_killed_at_random_it_equals_the_pure_fold_of_the_recorded_order(database_url, tmp_path):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**31)))
    print(f"CHAOS_SEED={seed}")
    rng = random.Random(seed)
    file = tmp_path / "events.ndjson"
    events = []
    for event in simulated_events(seed=7, leads=500 * TURNS, days=60, until=datetime.now(UTC)):
        events.append(recorded(event))
        if len(events) == EVENTS - MOVING:
            break
    moving = entangled(seed, GROUPS, events[0].recorded_at, events[-1].recorded_at, crowds=CROWDS)
    events = mixed_in(events, moving)
    assert len(events) == EVENTS
    events = mixed_in(events, chat_sessions(rng, CHATS, events[0].recorded_at, events[-1].recorded_at))
    now, scheduled_for = started_now()
    people = list(workflow_events(seed, now))
    events = scattered_in(events, people, rng)
    write_events(file, events)
    settings = Settings(database_url=database_url, partitions=PARTITIONS)
    with open_system(settings) as system:
        system.driver.append(repeated_for_every_partition(publications(now), PARTITIONS)).result()

    with moody_receiver() as receiver:
        channels = write_channels(tmp_path, receiver)
        kill_at_random(rng, database_url, file, channels)
        settings = Settings(database_url=database_url, partitions=PARTITIONS, delivery=channels)
        with open_system(settings) as system, delivery_beside(system, settings):
            for _ in range(2):  # a moment that is recorded twice changes nothing
                moment = moment_of_schedule(now, scheduled_for)
                system.driver.append(repeated_for_every_partition(moment, PARTITIONS)).result()
            firings = list(expected_firings(people, scheduled_for))
            wait_until_delivered(database_url, len(firings))
            while any(system.driver.status().backlog.values()):
                time.sleep(0.05)

    cards = assert_equals_the_fold(database_url)
    assert len(cards) > 150
    assert_entangled(cards)
    assert_chat_sessions(database_url, CHATS)
    assert_fired(EmbeddedLog(database_url), firings)
    assert_delivered(database_url, EmbeddedLog(database_url), receiver, firings)


def kill_at_random(rng, database_url, file, channels):
    """KILLS times, then it may end."""
    kills, at, stride = 0, 0, EVENTS // (KILLS + 2)
    while kills < KILLS:
        running = Running(database_url, file, at, "", 0, channels)
        goal = at + rng.randint(1, stride)
        if rng.random() < 0.2:
            time.sleep(rng.random())  # while it starts
        else:
            running.wait_for("ready")
            while running.acknowledged < goal and "folded" not in running.words:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.05)
        at = max(at, running.kill())
        kills += 1
    last = Running(database_url, file, at, "", 0, channels)
    last.wait_for("folded", 300)
    last.finish()


@pytest.mark.slow
def test_a_publication_over_thousands_of_leads_survives_a_kill_in_mid_sweep(database_url, tmp_path):
    leads, now = 1_500 * TURNS, int(time.time() * 1000)
    first, more, model = tmp_path / "first.ndjson", tmp_path / "more.ndjson", tmp_path / "temperature.toml"
    write_events(first, (visit(i, f"e{i}", now - 3_600_000) for i in range(leads)))
    write_events(more, (visit(i * 7 % leads, f"f{i}", now) for i in range(leads // 4)))
    text = built_in_models()["temperature"]
    changed = text.replace("points = 10", "points = 9")
    assert changed != text
    model.write_text(changed, encoding="utf-8")

    running = Running(database_url, first, 0)
    running.wait_for("folded", 300)
    running.finish()
    with locked_score(database_url, last_swept(leads)):  # the sweep goes in small commits, and stops there
        running = Running(database_url, more, 0, model, 5)
        running.wait_for("published")
        while not swept(database_url):
            time.sleep(0.005)
        at = running.kill()
    assert 0 < swept(database_url) < leads
    running = Running(database_url, more, at)
    running.wait_for("folded", 300)
    running.finish()

    assert swept(database_url) >= leads
    cards = assert_equals_the_fold(database_url)
    assert {card.scores["temperature"].version for card in cards.values()} == {5}
    before = digest(database_url)
    rebuild(database_url)
    assert digest(database_url) == before


def visit(number, event_id, at):
    envelope = {
        "event_id": event_id,
        "occurred_at": moment(at + number),
        "recorded_at": moment(at + number),
        "visitor_id": f"v{number}",
        "lead_id": f"L{number:05d}",
    }
    return PageViewed(**envelope) if number % 3 else LeadIdentified(**envelope)


def last_swept(leads):
    """A sweep goes from partition to partition, and in each by key."""
    ids = [f"L{number:05d}" for number in range(leads)]
    return max(lead for lead in ids if partition_of(lead_key("default", lead), PARTITIONS) == PARTITIONS - 1)


@contextmanager
def locked_score(url, lead):
    with psycopg.connect(url) as connection:
        locked = connection.execute(
            "select from live.lead_scores where lead_key = %s and model = 'temperature' for update",
            (lead_row_key("default", lead),),
        )
        assert locked.rowcount == 1
        yield


def swept(url):
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select count(*) from live.lead_scores where model = 'temperature' and version = 5"
        ).fetchone()[0]

"""Authors of models before a log of two partitions that is projected, and a clock that the test sets."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg

from authoring.active_models import built_in_shards
from authoring.authoring import Authoring
from projections.worker import project_records
from schemas.decode import decode_source
from schemas.record import Record
from schemas.topics import EVENTS

START = datetime(2030, 1, 31, 10, tzinfo=UTC)
PARTITIONS = 2


def text(points=1, *, name="house"):
    return f'model = "{name}"\nabout = "Ours."\n[groups.g]\nrules = [{{ name = "Scan", each = "qr_scanned", points = {points} }}]\n'


class Desks:
    """The log, the database and the clock that any number of authors share."""

    def __init__(self, url):
        self.url = url
        self.time = START
        self.events = []
        """What was appended to one partition of `events`, decoded."""
        self._positions = Counter()
        self._turn = threading.Lock()

    def now(self):
        return self.time

    def pass_time(self, **given):
        self.time += timedelta(**given)

    async def append(self, records):
        with self._turn, psycopg.connect(self.url) as connection:
            placed = []
            for record in records:
                for partition in range(PARTITIONS):
                    slot = record.topic, partition
                    placed.append(Record(*slot, self._positions[slot], record.key, record.value))
                    self._positions[slot] += 1
            project_records(connection, placed)
            self.events += [decode_source(record.value) for record in records if record.topic == EVENTS]

    def authoring(self, append=None, shards=built_in_shards):
        return Authoring(self.url, append or self.append, shards, self.now)

"""Producers that lose nothing: what was not acknowledged is sent again, however often.

One speaks to Kafka, one to the gateway; each is a thread that sends as much of its events as it is let.
"""

import asyncio
import http.client
import threading
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.decode import encode_source, key_of
from schemas.topics import EVENTS

GROUP = 100
"""Events that are sent, and acknowledged, at once."""


class Producer(threading.Thread):
    """`allow` says which share of its events may be sent by now."""

    def __init__(self, name, events):
        super().__init__(name=name, daemon=True)
        self.events = events
        self.acknowledged = set()
        """(key, event id)"""
        self.failed = None
        self.sent = 0
        self._share = 0.0
        self._changed = threading.Condition()
        self._over = False

    def allow(self, share):
        with self._changed:
            self._share = share
            self._changed.notify_all()

    def close(self):
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if self.ident is not None:
            self.join(60)

    @property
    def complete(self):
        assert self.failed is None, self.failed
        return self.sent == len(self.events)

    def run(self):
        try:
            for begin in range(0, len(self.events), GROUP):
                with self._changed:
                    while not (self._over or begin < self._share * len(self.events)):
                        self._changed.wait()
                group = self.events[begin : begin + GROUP]
                while not (self._over or self.send(group)):
                    time.sleep(0.1)
                if self._over:
                    return
                self.note(group)
                self.sent = begin + len(group)
        except Exception as error:
            self.failed = error
            raise

    def note(self, group):
        self.acknowledged.update((key_of(event), event.event_id) for event in group if event.bot is None)

    def send(self, group):
        """Whether the group is acknowledged."""
        raise NotImplementedError


class ToKafka(Producer):
    def __init__(self, name, events, cluster):
        super().__init__(name, events)
        self._cluster = cluster
        self._loop = asyncio.new_event_loop()
        self._turning = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._turning.start()
        self._producer = self._do(self._open())

    def send(self, group):
        try:
            return self._do(self._send(group))
        except (KafkaError, TimeoutError):
            return False

    def close(self):
        super().close()
        self._do(self._producer.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._turning.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self):
        producer = AIOKafkaProducer(**self._cluster.client(), enable_idempotence=True, linger_ms=2)
        await producer.start()
        return producer

    async def _send(self, group):
        topic = self._cluster.topic(EVENTS)
        sent = [
            await self._producer.send(topic, encode_source(event), key=key_of(event).encode())
            for event in group
        ]
        await asyncio.gather(*sent)
        return True


class ToGateway(Producer):
    def __init__(self, name, events, port):
        super().__init__(name, events)
        self._port = port
        self.turned_away = 0
        """Answers 503."""

    def send(self, group):
        body = b"[" + b",".join(map(encode_source, group)) + b"]"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("POST", "/v1/events", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if answer.status == 503:
            assert answer.getheader("retry-after"), "503 without Retry-After"
            self.turned_away += 1
            return False
        assert answer.status == 200, (answer.status, said[:2_000])
        return True

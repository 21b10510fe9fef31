"""A proxy between a client and a broker that reads Kafka's frames and does to them what networks do.

Knows of a request its kind, its correlation id and its transactional id, nothing more. What happens to which
request a plan decides; the broker sends clients here by its advertised listener.
"""

import asyncio
import random
import struct
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from typing import NamedTuple

from kafka_system import LEAST

KINDS = {
    0: "Produce",
    22: "InitProducerId",
    24: "AddPartitionsToTxn",
    25: "AddOffsetsToTxn",
    26: "EndTxn",
    28: "TxnOffsetCommit",
}
"""Of requests that a transactional producer sends; all begin with their transactional id, if they have one."""
LATEST_SECONDS = 5.0
"""A frame that was held goes out then at the latest."""


class Frame(NamedTuple):
    kind: str | None
    correlation: int
    transactional_id: str | None
    raw: bytes


def frame_of(raw):
    """Of a request, without its length."""
    api, version, correlation, client = struct.unpack_from(">hhih", raw)
    kind = KINDS.get(api)
    if kind is None or (kind == "Produce" and version < 3):
        return Frame(None, correlation, None, raw)
    at = 10 + max(client, 0)
    (length,) = struct.unpack_from(">h", raw, at)
    name = None if length < 0 else raw[at + 2 : at + 2 + length].decode()
    return Frame(kind, correlation, name, raw)


async def read_raw(reader):
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def write_raw(writer, raw):
    writer.write(struct.pack(">i", len(raw)) + raw)


class Connection:
    """One of a client's, and ours to the broker behind it; either may live longer than the other."""

    def __init__(self, proxy, client, broker):
        self.proxy = proxy
        self._from_client, self._to_client = client
        self._from_broker, self._to_broker = broker
        self._sent = {}
        self._repeated = set()
        """Correlation ids of which the client gets the first answer only."""
        self.mute = False
        """No answer reaches the client any more."""
        self.deaf = False
        """No request reaches the broker any more."""
        self.answered = asyncio.Condition()
        self.answers = Counter()
        self.kept = False
        """The broker's side is needed after the client has gone."""

    def forward(self, frame):
        self._sent[frame.correlation] = frame
        write_raw(self._to_broker, frame.raw)

    def repeat(self, frame):
        self._repeated.add(frame.correlation)
        self.forward(frame)
        self.forward(frame)

    def cut(self):
        """The client sees the connection break; the broker does not."""
        self._to_client.transport.abort()

    def end(self):
        for writer in (self._to_client, self._to_broker):
            writer.transport.abort()

    async def answer(self, frame):
        """Until the broker has answered it."""
        async with self.answered:
            await self.answered.wait_for(lambda: self.answers[frame.correlation])

    async def run(self):
        back = asyncio.create_task(self._answers())
        try:
            await self._requests()
            while self.kept:  # noqa: ASYNC110 - what keeps it gives it free
                await asyncio.sleep(0.02)
        finally:
            back.cancel()
            self.end()

    async def _requests(self):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = frame_of(await read_raw(self._from_client))
                if self.deaf:
                    continue
                fault = self.proxy.plan(frame) if frame.transactional_id else None
                if fault is None:
                    self.forward(frame)
                else:
                    await fault(self, frame)

    async def _answers(self):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw = await read_raw(self._from_broker)
                (correlation,) = struct.unpack_from(">i", raw)
                first = not self.answers[correlation]
                async with self.answered:
                    self.answers[correlation] += 1
                    self.answered.notify_all()
                if (frame := self._sent.get(correlation)) is not None:
                    await self.proxy.saw_answer(frame)
                if not self.mute and (first or correlation not in self._repeated):
                    write_raw(self._to_client, raw)
        if not self.kept:
            self.cut()


class Proxy:
    """`plan` says what happens to a request: None, or one of the functions below. `late` is called with a frame
    that was held, just before it goes out amid the next transaction.
    """

    def __init__(self, plan, late):
        self.plan = plan
        self.late = late
        self._held = defaultdict(list)
        """Transactional id -> what is to go out late."""
        self._server = None
        self._tasks = set()

    async def start(self, port, upstream):
        """Serves at `port` what is at the port `upstream`."""
        self._upstream = upstream
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def close(self):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def saw_answer(self, frame):
        """The producer has written something more, which it does in its next transaction: it learns of that once
        the late frames have gone out.
        """
        if frame.kind == "Produce":
            for late in self._held.pop(frame.transactional_id, ()):
                await late.go()

    def hold(self, late):
        self._held[late.frame.transactional_id].append(late)
        self.later(late.go_at_last())

    def later(self, work):
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, *client):
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            broker = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            client[1].transport.abort()
            return
        await Connection(self, client, broker).run()


async def delay(connection, frame, seconds=0.2):
    """What comes behind it waits, too."""
    await asyncio.sleep(seconds)
    connection.forward(frame)


async def repeat(connection, frame):
    """Twice in a row; the client gets one answer."""
    connection.repeat(frame)


async def cut_before(connection, _frame):
    """It is lost, and the connection breaks."""
    connection.end()


async def cut_after(connection, frame):
    """The broker has done it; the answer is lost, and the connection breaks."""
    connection.mute = connection.deaf = connection.kept = True
    connection.forward(frame)
    connection.proxy.later(_cut_once_answered(connection, frame))


async def _cut_once_answered(connection, frame):
    try:
        async with asyncio.timeout(LATEST_SECONDS):
            await connection.answer(frame)
    finally:
        connection.cut()
        connection.kept = False


async def hold(connection, frame):
    """The connection breaks for the client; the frame goes out late, amid the next transaction."""
    _keep_back(connection, frame)
    connection.cut()


async def stall(connection, frame):
    """Half open: nothing more comes through, and nobody is told. The frame goes out late all the same."""
    _keep_back(connection, frame)


async def mute(connection, frame):
    """Half open: the broker gets what is sent, and its answers do not come back."""
    connection.mute = True
    connection.forward(frame)


def _keep_back(connection, frame):
    connection.mute = connection.deaf = connection.kept = True
    connection.proxy.hold(Late(connection, frame))


class Late:
    def __init__(self, connection, frame):
        self.frame = frame
        self._connection = connection
        self._gone = False

    async def go(self):
        if self._gone:
            return
        self._gone = True
        try:
            self._connection.proxy.late(self.frame)
            self._connection.forward(self.frame)
            with suppress(TimeoutError):
                async with asyncio.timeout(LATEST_SECONDS):
                    await self._connection.answer(self.frame)
        finally:
            self._connection.kept = False

    async def go_at_last(self):
        await asyncio.sleep(LATEST_SECONDS)
        await self.go()


FAULTS = (delay, repeat, cut_before, cut_after, hold, stall, mute)


class Strike(NamedTuple):
    kind: str
    fault: str
    outstanding: int
    """Events that were accepted and not scored yet."""


class Plan:
    """A number of faults per kind of request, none while nothing is to be done. The seed decides which request
    of a kind, and which fault.
    """

    def __init__(self, seed, faults, outstanding, chance=0.3):
        self.left = dict(faults)
        self.strikes = []
        self.outstanding = outstanding
        self._chance = chance
        self._rngs = {kind: random.Random(f"{seed}/{kind}") for kind in faults}
        self._next = {kind: self._shuffled(kind) for kind in faults}

    def __call__(self, frame):
        if not self.left.get(frame.kind) or self._rngs[frame.kind].random() >= self._chance:
            return None
        if (outstanding := self.outstanding()) < LEAST:
            return None
        self.left[frame.kind] -= 1
        if not self._next[frame.kind]:
            self._next[frame.kind] = self._shuffled(frame.kind)
        fault = self._next[frame.kind].pop()
        self.strikes.append(Strike(frame.kind, fault.__name__, outstanding))
        return fault

    @property
    def over(self):
        return not any(self.left.values())

    def _shuffled(self, kind):
        """Each fault once, so that none is left out."""
        faults = list(FAULTS)
        self._rngs[kind].shuffle(faults)
        return faults


class ProxyThread:
    """A proxy on a loop of its own."""

    def __init__(self, port, upstream, plan, late=lambda _frame: None):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.proxy = Proxy(plan, late)
        self._do(self.proxy.start(port, upstream))

    def close(self):
        self._do(self.proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

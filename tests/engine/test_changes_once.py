"""A commit encodes each changed state once, and ends with the state that a commit per record ends with."""

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st
from simulated_log import NOON, SAID, SOURCE, Counting

from schemas.record import Chunk, Record
from streams.engine import task_group
from streams.engine.state_store import StateStore
from streams.engine.task import Task, TaskCounts
from streams.engine.task_group import TaskGroup

words = st.sampled_from(["seen", "time", f"due:{NOON}", f"due:{NOON + 7}"])
histories = st.lists(st.tuples(st.sampled_from("abcd"), words), max_size=30)


def task_with(history, skips=()):
    task = Task(Counting(), 0, StateStore(), TaskCounts())
    task.restored(0, dict.fromkeys(skips, "it fails"))
    records = [Record(SOURCE, 0, n, key, word.encode(), NOON) for n, (key, word) in enumerate(history)]
    task.offer(Chunk(SOURCE, 0, 0, len(records), records))
    return task


def folded(task, most, collect_each):
    """Everything emitted, and the changelog records, of folding what waits."""
    outputs, changes = [], []
    while True:
        work, output = task.fold(most)
        outputs += output.outputs
        changes += output.changes
        if not work or collect_each:
            rest = task.changes()
            outputs += rest.outputs
            changes += rest.changes
        if not work:
            return outputs, changes


@example([("a", f"due:{NOON}"), ("a", "seen")], 9, {1})
@given(histories, st.integers(1, 9), st.sets(st.integers(0, 29), max_size=3))
def test_collecting_once_emits_and_stores_what_collecting_after_each_record_does(history, most, skips):
    late, often = task_with(history, skips), task_with(history, skips)
    late_outputs, late_changes = folded(late, most, collect_each=False)
    often_outputs, often_changes = folded(often, 1, collect_each=True)
    assert late_outputs == often_outputs
    stored = dict.fromkeys("abcd")
    assert late.store.load(stored) == often.store.load(stored)
    assert late.store.due_keys(NOON + 9, 9) == often.store.due_keys(NOON + 9, 9)
    assert newest(late_changes) == newest(often_changes)


def newest(changes):
    by_key = {change.key: change.value for change in changes}
    return {key: value for key, value in by_key.items() if value is not None}


class CountingCommits:
    def __init__(self):
        self.commits = []

    async def open(self): ...

    async def close(self): ...

    async def commit(self, made):
        self.commits.append(made)
        return {}


def test_a_key_that_changes_in_many_chunks_of_a_commit_is_written_once(monkeypatch):
    monkeypatch.setattr(task_group, "CHUNK_RECORDS", 2)
    task, transactions, errors = task_with([("a", "seen"), ("b", "seen")] * 10), CountingCommits(), []

    async def play():
        group = TaskGroup(
            transactions,
            [task],
            now=lambda: NOON,
            drained=lambda _: None,
            fail=errors.append,
            observe=lambda *_: None,
        )
        group.wake()
        while task.queue:  # noqa: ASYNC110 - the group sets no event
            await asyncio.sleep(0)
        await group.close()

    asyncio.run(play())
    assert not errors
    (commit,) = transactions.commits
    assert len([out for out in commit.outputs if out.topic == SAID]) == 20
    written = [change.key for change in commit.changes[task.task_id] if change.key.startswith((b"a", b"b"))]
    assert sorted(written) == [b"a\0due", b"a\0n", b"b\0due", b"b\0n"]


def test_a_timer_that_a_commit_folds_before_it_ticks_is_the_one_that_fires():
    """The old timer would wake the key again, although its record has moved the timer."""
    task, transactions, errors = task_with([("a", f"due:{NOON + 9_999}")]), CountingCommits(), []
    list(task.store.put_timers({"a": NOON - 1}))

    async def play():
        group = TaskGroup(
            transactions,
            [task],
            now=lambda: NOON,
            drained=lambda _: None,
            fail=errors.append,
            observe=lambda *_: None,
        )
        group.tick()
        await asyncio.sleep(0.05)
        await group.close()

    asyncio.run(play())
    assert not errors
    assert "woken" not in [out.key for commit in transactions.commits for out in commit.outputs]

"""A worker as `leadstream worker` runs it, which says what it comes through, and dies or halts where a
test wants it to.

Settings come from the environment, as everywhere. CHAOS_AT=STEP:N:ACT: when STEP of a transaction is
reached for the N-th time, `kill` dies there, `stop` halts there until it is woken (SIGCONT). CHAOS_HOLD:
while there is a file of this name, restoring does not end. CHAOS_ROUND: how many records a round folds;
CHAOS_REQUEST_MS: how long a producer waits for an answer; CHAOS_BATCH_BYTES: how large its batches are.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from leadstream.settings import read_settings
from leadstream.worker import worker_app
from streams.engine import task_group as bucket
from streams.kafka import transactions
from streams.kafka.faust_host import run_worker
from streams.kafka.restoring import KafkaChangelogStorage

ACTS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def reach(asked):
    """What is called at each step of a transaction."""
    step_asked, number, act = asked.split(":") if asked else ("", "0", "")
    left = int(number)

    def reached(step):
        nonlocal left
        if step == "committed":
            say("committed")
        if step == step_asked:
            left -= 1
            if left == 0:
                say(f"{act} at {step}")
                os.kill(os.getpid(), ACTS[act])

    return reached


def hold_restoring(file):
    restore = KafkaChangelogStorage.restore

    async def held(self, memories, opened):
        say("restoring")
        while file.exists():  # noqa: ASYNC110 - the test that holds it is another process
            await asyncio.sleep(0.05)
        await restore(self, memories, opened)
        say("restored")

    KafkaChangelogStorage.restore = held


if __name__ == "__main__":
    transactions.reached_step = reach(os.environ.get("CHAOS_AT"))
    bucket.COMMIT_RECORDS = int(os.environ.get("CHAOS_ROUND", bucket.COMMIT_RECORDS))
    bucket.CHUNK_RECORDS = min(bucket.CHUNK_RECORDS, bucket.COMMIT_RECORDS // 2)
    transactions.REQUEST_MS = int(os.environ.get("CHAOS_REQUEST_MS", transactions.REQUEST_MS))
    transactions.BATCH_BYTES = int(os.environ.get("CHAOS_BATCH_BYTES", transactions.BATCH_BYTES))
    hold_restoring(Path(os.environ["CHAOS_HOLD"]))
    say("started")
    run_worker(worker_app(read_settings()), log_level="info")

"""A worker that another one has fenced says so, whatever aiokafka raises; and the numbered steps of a commit."""

import asyncio
import re
from pathlib import Path

import pytest
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerIdMapping,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from schemas.record import Outgoing
from schemas.topics import LEAD_ACTIVITY, LEAD_CHANGES
from streams.engine.state_store import ChangelogRecord
from streams.engine.task_group import Commit
from streams.kafka import transactions
from streams.kafka.failures import explain_failure
from streams.kafka.topics import create_topics
from streams.kafka.transactions import KafkaTransactions, root_cause

PARTITIONS = 3
STAGE = "score_leads"
NOT_IN_TRANSACTION = IllegalOperation("Can't send messages while not in transaction")


def wrapped(cause):
    """As aiokafka's background task wraps what it does not know as final."""
    error = KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ProducerFenced(), None),
        (NOT_IN_TRANSACTION, ProducerFenced()),
        (AssertionError("Invalid state transition FATAL_ERROR -> COMMITTING"), ProducerFenced()),
        (wrapped(InvalidProducerIdMapping()), None),
        (NOT_IN_TRANSACTION, wrapped(InvalidProducerIdMapping())),
    ],
)
def test_a_fenced_producer_is_called_fenced(error, failure):
    cause = root_cause(error, failure)
    assert isinstance(cause, ProducerFenced)
    assert "Another worker has taken over" in explain_failure(cause)


def test_other_failures_are_not_called_fenced():
    unknown = wrapped(OutOfOrderSequenceNumber())
    assert root_cause(unknown, None) is unknown
    assert root_cause(NOT_IN_TRANSACTION, unknown) is unknown
    assert root_cause(NOT_IN_TRANSACTION, None) is NOT_IN_TRANSACTION


@pytest.mark.kafka
@pytest.mark.parametrize("size", [1, 500_000])
@pytest.mark.parametrize(
    "call", ["begin_transaction", "send_batch", "send_offsets_to_transaction", "commit_transaction"]
)
def test_a_worker_that_is_fenced_before_any_call_of_a_commit_learns_that_it_is(cluster, call, size):
    commit = Commit(
        [Outgoing(LEAD_CHANGES, f"k{n}", b"x" * size, n % PARTITIONS) for n in range(12)],
        {(STAGE, p): [ChangelogRecord(b"key", b"value")] for p in range(PARTITIONS)},
        {(LEAD_ACTIVITY, 0): 1},
        None,
    )

    async def run():
        await create_topics(cluster, partitions=PARTITIONS, genesis=[])
        first, second = (KafkaTransactions(cluster, 0, PARTITIONS) for _ in range(2))
        await first.open()
        await first.commit(commit)
        original = getattr(first._producer, call)

        async def fenced_first(*arguments, **options):
            setattr(first._producer, call, original)
            await second.open()
            return await original(*arguments, **options)

        setattr(first._producer, call, fenced_first)
        with pytest.raises(ProducerFenced):
            await first.commit(commit)
        await second.commit(commit)
        await first.close()
        await second.close()

    asyncio.run(run())


def test_the_guarantees_list_the_very_steps_of_the_code():
    page = Path("docs/guarantees.md").read_text(encoding="utf-8")
    listed = page.split("## A commit on Kafka, step by step")[1].split("`make soak`")[0]
    assert steps_of(listed) == steps_of(transactions.__doc__) != []


def steps_of(text):
    steps = re.findall(r"^\d\. .*(?:\n   .*)*", text, re.MULTILINE)
    return [" ".join(step.split()) for step in steps]

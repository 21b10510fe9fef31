"""All private names of aiokafka that we use, and what for. A test names what an installed version lacks."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

PRIVATE_NAMES_BY_PURPOSE = {
    "closing a client whose own stop would wait for a broker, or fail": {
        AIOKafkaProducer: ("_sender", "_closed"),
        AIOKafkaConsumer: ("_client",),
    },
    "reading bytes that aiokafka cannot decode": {AIOKafkaConsumer: ("_client",)},
    "failing a transaction whose end is in doubt, and learning why one has failed": {
        AIOKafkaProducer: ("_txn_manager",)
    },
}
"""Purpose -> the attributes that instances have once they are made."""


async def close_consumer(consumer: AIOKafkaConsumer, patience: float | None = None) -> None:
    """Stops a consumer, also while the cluster does not answer: aiokafka's own stop then fails with a cancellation
    of its own making. After `patience` seconds it gives up leaving the group, which then notices by itself.
    """
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(patience):
            await consumer.stop()
    except (KafkaError, TimeoutError):
        pass  # the group has removed it already, or no broker answers
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise
    await consumer._client.close()  # noqa: SLF001 - what stop() did not reach; a second time does nothing


async def discard_producer(producer: AIOKafkaProducer, patience: float) -> None:
    """Closes a producer without writing what it still holds; its own `stop` would wait for that."""
    sender = producer._sender.sender_task  # noqa: SLF001 - nothing public ends it without a flush
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=patience)  # for the answers to requests in flight
    producer._closed = True  # noqa: SLF001 - else it warns when it is collected
    await producer.client.close()


def client_of(consumer: AIOKafkaConsumer) -> Any:
    """The consumer's connections to the brokers, for our own requests."""
    return consumer._client  # noqa: SLF001 - there is no public way to read bytes


def fail_transaction(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Everything that waits for the producer's transaction gets the error, and nothing more is sent in it."""
    producer._txn_manager.fatal_error(error)  # noqa: SLF001 - what aiokafka itself calls for a final error


def transaction_failure(producer: AIOKafkaProducer) -> BaseException | None:
    """Why aiokafka's background task has ended the producer's transaction. None: it has not."""
    end = producer._txn_manager.wait_for_transaction_end()  # noqa: SLF001 - other calls hide the reason
    return end.exception() if end is not None and end.done() and not end.cancelled() else None

"""All that we use of aiokafka without its promise: it is here, and listed. A test names what a version lacks."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

PRIVATE = {
    "ending a client whose own way out would wait for a broker, or fail": {
        AIOKafkaProducer: ("_sender", "_closed"),
        AIOKafkaConsumer: ("_client",),
    },
    "reading bytes that aiokafka cannot decode": {AIOKafkaConsumer: ("_client",)},
    "failing a transaction whose end is in doubt": {AIOKafkaProducer: ("_txn_manager",)},
}
"""For what, and the attributes that instances have once they are made."""


async def close(consumer: AIOKafkaConsumer, patience: float | None = None) -> None:
    """Also while the cluster does not answer, when aiokafka's own way out ends at what it has itself cancelled.

    After `patience` seconds it leaves the group to find out by itself.
    """
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(patience):
            await consumer.stop()
    except (KafkaError, TimeoutError):
        pass  # it was told already, or no broker answers
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise
    await consumer._client.close()  # noqa: SLF001 - what stop() did not come to; a second time does nothing


async def discard(producer: AIOKafkaProducer, patience: float) -> None:
    """Ends a producer without writing what it still holds, which its own `stop` would wait to do."""
    sender = producer._sender.sender_task  # noqa: SLF001 - nothing public ends it without a flush
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=patience)  # for the answers to what is on the wire
    producer._closed = True  # noqa: SLF001 - else it complains when it is collected
    await producer.client.close()


def client_of(consumer: AIOKafkaConsumer) -> Any:
    """Its connections to the brokers, for requests of our own."""
    return consumer._client  # noqa: SLF001 - there is no public way to read bytes


def fail_transaction(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Whatever waits for the producer's transaction gets the error, and nothing more is sent in it."""
    producer._txn_manager.fatal_error(error)  # noqa: SLF001 - what aiokafka itself calls for an error that is final

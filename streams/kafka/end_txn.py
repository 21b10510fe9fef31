"""The end of a transaction is sent once, so that a late one cannot end the next transaction half-way.

aiokafka sends an EndTxn again, under the same epoch, when no answer comes. The first frame may still be on
its way; if it arrives amid the next transaction, the broker ends that one (KIP-890). A guarded producer
fails instead and can send nothing more. InitProducerId of the next producer raises the epoch, after which
the broker refuses the late frame: so open a new producer, or end the process, before anything else is sent.
"""

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.transaction import EndTxnRequest

from streams.kafka.private_names import fail_transaction


class EndTxnInDoubt(KafkaError):  # type: ignore[misc] # aiokafka is untyped
    """Nobody knows yet whether the transaction was committed; only a new producer may go on."""

    retriable = True

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"Kafka did not answer the end of a transaction ({cause!r}). The transaction is committed as a whole or "
            "not at all. Look at the network to the transaction coordinator and at the brokers' logs."
        )


def end_once(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """The producer, guarded: commit and abort raise EndTxnInDoubt where aiokafka would send them again.

    An EndTxn that was answered is no longer on its way, whatever the answer, and aiokafka may repeat it.
    """
    send = producer.client.send

    async def guarded(node: int, request: Any, **group: Any) -> Any:
        try:
            return await send(node, request, **group)
        except NodeNotReadyError:  # there was no connection, so nothing was sent
            raise
        except Exception as cause:
            if isinstance(request, EndTxnRequest):
                fail_transaction(producer, EndTxnInDoubt(cause))
            raise

    producer.client.send = guarded
    return producer

"""Sends the end of a transaction once: a late repetition could end the next transaction too early.

aiokafka sends an EndTxn again, under the same epoch, when no answer comes. The first frame may still be on its way. If
it arrives during the next transaction, the broker ends that one (KIP-890). A guarded producer fails instead and sends
nothing more. InitProducerId of the next producer raises the epoch; then the broker refuses the late frame. So open a new
producer, or end the process, before anything else is sent.
"""

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.transaction import EndTxnRequest

from streams.kafka.private_names import fail_transaction


class EndTxnInDoubt(KafkaError):  # type: ignore[misc] # aiokafka is untyped
    """It is not known whether the transaction was committed. Only a new producer may go on."""

    retriable = True

    def __init__(self, cause: BaseException) -> None:
        super().__init__(
            f"Kafka did not answer the end of a transaction ({cause!r}). The transaction is committed as a whole or "
            "not at all. Look at the network to the transaction coordinator and at the brokers' logs."
        )


def end_once(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """Guards the producer: commit and abort raise EndTxnInDoubt where aiokafka would send them again.

    After any answer, the EndTxn is no longer on its way, and aiokafka may repeat it.
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

"""How a worker ends when it fails: the reason and its remedy in the log, then the process.

Crash-only: nothing more is written, and a restarted worker goes on from what is committed.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import structlog
from aiokafka.errors import (
    InconsistentGroupProtocolError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    ProducerFenced,
)

from schemas.record import LogUnreadableError
from scoring.features.features import NewerCodec
from streams.engine.shard import FoldFailed
from streams.kafka.end_txn import EndTxnInDoubt
from streams.kafka.topics import TopicsRefused
from streams.kafka.transactions import TaskGroupUnopened

FAILED_EXIT_CODE = 3
"""The exit code of a process that failed."""

OnFailure = Callable[[BaseException], None]

_log = structlog.get_logger(__name__)


class PortTakenError(Exception):
    """The message names address and remedy."""


def end_process(error: BaseException) -> NoReturn:
    """The default `fail`."""
    explained = explain_failure(error)
    if explained is None:
        _log.critical("the worker ends", error=repr(error), exc_info=error)
    else:
        _log.critical("the worker ends", reason=explained)
    sys.stderr.flush()
    os._exit(FAILED_EXIT_CODE)


def explain_failure(error: BaseException) -> str | None:
    """What a known failure means and its remedy; None: only the traceback explains it."""
    if isinstance(error, FoldFailed):
        cause = f" ({error.__cause__!r})" if error.__cause__ else ""
        return f"{error}{cause}; nothing of it is stored. `leadstream skip` skips the record."
    if isinstance(error, InconsistentGroupProtocolError):
        return "Another worker of this app has another number of buckets: LEADSTREAM_BUCKETS must be the same for all."
    if isinstance(error, OffsetOutOfRangeError):
        return (
            f"The log does not hold the record that must be folded next ({error}). If retention deleted it, a restart goes "
            "on with what is there. If the topic was deleted and created again, delete the changelogs, too, or set "
            "another LEADSTREAM_KAFKA_APP."
        )
    if isinstance(error, ProducerFenced):
        return (
            "Another worker has taken over these partitions: this one paused for too long, or did not reach the brokers. "
            "Started again, it gets its share. If this happens often, it has too little CPU."
        )
    if isinstance(error, MessageSizeTooLargeError):
        return f"A record is larger than its topic accepts ({error}): `leadstream topics check` names the wrong setting."
    if isinstance(
        error,
        TopicsRefused | PortTakenError | TaskGroupUnopened | EndTxnInDoubt | LogUnreadableError | NewerCodec,
    ):
        return str(error)
    return None

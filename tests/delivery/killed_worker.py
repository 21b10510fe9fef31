"""A worker that kills its own process at one step, as kill -9 does. Arguments: URL of the database, step, address of
the receiver, file of the log.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "projections")]

from outboxes import ports, webhook_channel

from delivery import outbox, worker


def dies(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after(function):
    async def wrapped(*arguments, **options):
        await function(*arguments, **options)
        dies()

    return wrapped


def dies_after_writing(function):
    def wrapped(*arguments, **options):
        function(*arguments, **options)
        dies()

    return wrapped


class AppendedFile:
    """An append port whose records outlive the process."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def __call__(self, records):
        with Path(self.path).open("ab") as file:  # noqa: ASYNC230 - a short line
            file.writelines(record.value + b"\n" for record in records)


def main(url: str, step: str, address: str, appended: str) -> None:
    match step:
        case "in the claim, before it commits":
            worker.preparation = lambda *_: dies
        case "after the claim":
            worker.send_message = worker.append_event = worker.notification_texts = dies
        case "after sending":
            worker.send_message = dies_after(worker.send_message)
            worker.append_event = dies_after(worker.append_event)
            worker.add_notification = dies_after_writing(worker.add_notification)
        case "before the mark":
            outbox.mark_delivered = dies
        case "after the mark":
            outbox.mark_delivered = dies_after_writing(outbox.mark_delivered)
    delivering = worker.DeliveryWorker(webhook_channel(address), ports(url, AppendedFile(appended)))
    asyncio.run(delivering.run(threading.Event(), until_idle=True))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A worker in a thread with its own event loop, inside a process that does other work too."""

import asyncio
import threading
from contextlib import suppress

import structlog
import uvloop

from streams.engine.worker import ShardStatus
from streams.kafka.failures import OnFailure, end_process, explain_failure
from streams.kafka.faust_host import LeadstreamApp, quieten_libraries

STARTING_SECONDS = 5.0
"""For a start in progress, when stopping."""

_log = structlog.get_logger(__name__)


class WorkerThread:
    def __init__(self, app: LeadstreamApp) -> None:
        self._app = app
        self._others: OnFailure | None = None if app.on_failure is end_process else app.on_failure
        app.on_failure = self._fail
        self.failed: BaseException | None = None
        """Why it ended by itself."""
        self._loop = uvloop.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        quieten_libraries()
        self._app.finalize()
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Whether it has stopped within that time. If not, it ends with the process, and nothing is lost."""
        with suppress(RuntimeError):  # the loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._ending.set)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def status(self) -> list[ShardStatus]:
        """The status of each shard, as it was a moment ago."""
        for _ in range(3):
            with suppress(RuntimeError):  # an assignment changed it meanwhile
                return self._app.status()
        return []

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        except BaseException as error:  # noqa: BLE001 - nothing else reports an exception of a thread
            self._fail(error)
        finally:
            with suppress(OSError):  # what a failed stop left open ends with the process
                self._loop.close()

    async def _live(self) -> None:
        app = self._app
        app.in_worker = True
        starting = asyncio.ensure_future(app.start())
        ending = asyncio.ensure_future(self._ending.wait())
        crashed = asyncio.ensure_future(app.wait_until_stopped())
        try:
            await asyncio.wait({starting, ending, crashed}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await asyncio.wait({ending, crashed}, return_when=asyncio.FIRST_COMPLETED)
            if app.crash_reason is not None:
                app.fail(app.crash_reason)
        finally:
            await asyncio.wait({starting}, timeout=STARTING_SECONDS)  # stopped amid its start, Faust hangs
            await app.stop()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fail(self, error: BaseException) -> None:
        """Runs in the thread's event loop. The thread ends; nothing more is committed."""
        if self.failed is not None:
            return
        self.failed = error
        _log.critical("the worker ends", reason=explain_failure(error) or repr(error))
        self._ending.set()
        if self._others is not None:
            self._others(error)

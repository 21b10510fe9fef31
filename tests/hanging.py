"""A test that hangs is one failed test, with its stacks, and the other tests go on; a plugin of pytest.

pytest-timeout raises an exception in the test. But event loops and clients swallow exceptions, or wait again when they are
closed, and what is raised between two phases of a test ends the whole run. So one of several processes ends itself
instead, also after an error of pytest itself. xdist reports the test that ran there as failed, and starts another process.
"""

import asyncio
import faulthandler
import gc
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

SERVER_DIRECTORY = "server"
"""Directories of servers in a process's temporary directory begin so."""
_DEADLOCKED_SECONDS = 60
"""After so many more, the process is ended even if the test keeps the interpreter's lock."""


@contextmanager
def server_directory(directories: pytest.TempPathFactory) -> Iterator[Path]:
    """Removed with its server: it is large. The controller removes that of a process that has ended itself."""
    directory = directories.mktemp(SERVER_DIRECTORY)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report of a failure parses code, and `ast.parse` of CPython 3.11 raises SystemError if it is called again meanwhile.
    A garbage collection does so: it logs exceptions of forgotten futures with their tracebacks, which parse code, too.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(_OneOfSeveral(config))
    elif config.getoption("dist", "no") != "no":
        config.pluginmanager.register(_Controller())


class _OneOfSeveral:
    """In each of several processes."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        path = Path(config.workerinput["report"])
        self._report = path.open("w", encoding="utf-8", errors="backslashreplace")
        self._testing = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, bool, bool]:
        self._testing = True
        done = yield
        self._testing = False
        return done

    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
        """In the place of pytest-timeout's own."""
        timer = threading.Timer(settings.timeout, self._end, [f"It did not end in {settings.timeout:g} s."])
        timer.daemon = True
        faulthandler.dump_traceback_later(
            settings.timeout + _DEADLOCKED_SECONDS, exit=True, file=self._report
        )

        def cancel() -> None:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()

        item.cancel_timeout = cancel
        timer.start()
        return True

    @pytest.hookimpl(tryfirst=True)  # xdist would end the whole run
    def pytest_internalerror(self, excrepr: object) -> None:
        if self._testing:
            self._end(str(excrepr))

    def _end(self, why: str) -> None:
        try:
            print(why, file=self._report)
            for task in [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]:
                if not task.done():
                    task.print_stack(file=self._report)
            self._report.flush()
            faulthandler.dump_traceback(self._report, all_threads=True)
            self._capture.suspend_global_capture()
            print(*self._capture.read_global_capture(), sep="\n", file=self._report, flush=True)
        finally:
            os._exit(1)


class _Controller:
    """In the process that starts the others."""

    def __init__(self) -> None:
        self._reports: list[Path] = []
        self._scheduler: LoadFileScheduling | None = None

    def pytest_configure_node(self, node: Any) -> None:
        name = f"leadstream-tests-{node.workerinput['testrunuid']}-{node.gateway.id}"
        self._reports.append(Path(tempfile.gettempdir()) / name)
        node.workerinput["report"] = str(self._reports[-1])

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LoadFileScheduling | None:
        if config.getoption("dist") != "loadfile":
            return None
        self._scheduler = _EachOnce(config, log)
        return self._scheduler

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After too many ended processes xdist gives up, as if tests that did not run were no matter."""
        if (
            session.exitstatus == pytest.ExitCode.TESTS_FAILED
            and self._scheduler
            and self._scheduler.has_pending
        ):
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Removes what a killed process could not: its servers and their directories."""
        if error is None:
            return
        for pid in _descendants(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        temporary = node.config._tmp_path_factory.getbasetemp() / f"popen-{node.gateway.id}"
        for directory in temporary.glob(f"{SERVER_DIRECTORY}*"):
            shutil.rmtree(directory, ignore_errors=True)

    def pytest_handlecrashitem(self, report: Any) -> None:
        with suppress(OSError):
            said = Path(report.node.workerinput["report"]).read_text(encoding="utf-8", errors="replace")
            report.longrepr = f"{report.longrepr}\n\n{said}"

    def pytest_unconfigure(self) -> None:
        for report in self._reports:
            report.unlink(missing_ok=True)


def _descendants(node: Any) -> Iterator[int]:
    """The processes that have the environment of the node's tests, also daemons."""
    mine = {
        f"PYTEST_XDIST_TESTRUNUID={node.workerinput['testrunuid']}".encode(),
        f"PYTEST_XDIST_WORKER={node.gateway.id}".encode(),
    }
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mine <= set((process / "environ").read_bytes().split(b"\0")):
                yield int(process.name)


class _EachOnce(LoadFileScheduling):
    """xdist gives the rest of a file to another process, and with it the test that ended the first one."""

    def remove_node(self, node: Any) -> str | None:
        for tests in self.assigned_work[node].values():
            for test, done in tests.items():
                if not done:
                    tests[test] = True
                    super().remove_node(node)
                    return test
        return super().remove_node(node)

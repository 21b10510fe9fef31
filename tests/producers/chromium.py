"""A real Chromium, driven by its DevTools protocol: tabs, trusted clicks, no network, crashes.

https://chromedevtools.github.io/devtools-protocol/
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PERSON = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
)
"""A headless browser names itself HeadlessChrome, and then nothing that it does scores."""
PATIENCE = 30.0
STARTED = 60.0
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
    f"--user-agent={PERSON}",
)  # fmt: skip
CLOCK = """
{
  const Real = Date;
  let ahead = %d;
  window.advance = (to) => { ahead = to; };
  window.Date = class extends Real {
    constructor(...parts) { parts.length ? super(...parts) : super(Real.now() + ahead); }
    static now() { return Real.now() + ahead; }
  };
}
"""
"""A page's clock that a test sets: twelve minutes pass at once."""


def until(look: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer of `look`."""
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return result


class Chromium:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = self.send(method, session, **parameters)
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> int:
        """The number of the call, whose answer nobody awaits."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message | ({"sessionId": session} if session else {})))
        return self._number

    def person(self) -> "Person":
        return Person(self, self.call("Target.createBrowserContext")["browserContextId"])


class Person:
    """Somebody with a browser profile of their own: cookies and storage."""

    def __init__(self, browser: Chromium, context: str) -> None:
        self.browser = browser
        self._context = context

    def tab(self) -> "Tab":
        tab = self.unattended_tab("about:blank")
        tab.attach()
        return tab

    def unattended_tab(self, url: str) -> "Tab":
        """A tab that no DevTools are attached to yet."""
        created = self.browser.call("Target.createTarget", url=url, browserContextId=self._context)
        return Tab(self.browser, created["targetId"])

    def leave(self) -> None:
        self.browser.call("Target.disposeBrowserContext", browserContextId=self._context)


class Tab:
    def __init__(self, browser: Chromium, target: str) -> None:
        self.browser = browser
        self.target = target
        self._session = ""
        self._ahead: str | None = None

    def url(self) -> str:
        return self.browser.call("Target.getTargetInfo", targetId=self.target)["targetInfo"]["url"]

    def attach(self) -> None:
        attached = self.browser.call("Target.attachToTarget", targetId=self.target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self._session, **parameters)

    def before_pages(self, script: str) -> str:
        """Runs the script in every document before its own."""
        return self.call("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]

    def clock(self, seconds: float) -> None:
        """Sets the clock of this page and the next ones to so many seconds from now."""
        if self._ahead is not None:
            self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=self._ahead)
        self._ahead = self.before_pages(CLOCK % (seconds * 1000))
        self.run(f"window.advance && advance({seconds * 1000:.0f})")

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.arrived(url)

    def arrived(self, url: str) -> None:
        until(
            lambda: self.run(f"location.href === {json.dumps(url)} && document.readyState === 'complete'"),
            url,
        )

    def run(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector: str, button: str = "left") -> None:
        """A click of the mouse in the middle of the element."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button=button, clickCount=1)

    def online(self, connected: bool) -> None:  # noqa: FBT001
        self.call(
            "Network.emulateNetworkConditions",
            offline=not connected, latency=0, downloadThroughput=-1, uploadThroughput=-1,
        )  # fmt: skip

    def crash(self) -> None:
        """The tab's process dies without a word to the page."""
        self.browser.send("Page.crash", self._session)
        until(lambda: self.seen("Inspector.targetCrashed"), "the tab has crashed")

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)

    def seen(self, method: str) -> list[dict[str, Any]]:
        """The protocol's events of that name in this tab so far."""
        self.browser.call("Browser.getVersion")  # what came before its answer is read
        return [
            each["params"]
            for each in self.browser.events
            if each["method"] == method and each.get("sessionId") == self._session
        ]

    def requests(self, path: str) -> list[dict[str, Any]]:
        return [
            each["request"]
            for each in self.seen("Network.requestWillBeSent")
            if path in each["request"]["url"]
        ]


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("CI"):
            raise AssertionError("install Chromium (Debian: apt-get install chromium)")
        pytest.skip("chromium is not there")
    with (profile.with_name(profile.name + ".log")).open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
        )
    try:
        port_file = profile / "DevToolsActivePort"
        until(
            lambda: port_file.exists() and len(port_file.read_text().splitlines()) == 2,
            "Chromium starts",
            STARTED,
        )
        port, path = port_file.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as connection:
            yield Chromium(connection)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

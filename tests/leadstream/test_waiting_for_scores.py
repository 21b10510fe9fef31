"""Commands wait for scores as long as scoring makes progress, and no longer."""

import itertools
import time

import pytest

from leadstream.console import Failure
from leadstream.operations import store_access
from leadstream.operations.store_access import wait_until_scored

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_access, "STALLED_SECONDS", 1.0)
    monkeypatch.setattr(store_access, "_POLL_SECONDS", 0.01)


@pytest.mark.parametrize("growing", [0, 1])
def test_without_progress_it_ends_and_says_what_is_left(read_models_url: str, growing: int):
    """Also if every part says that it works, and more comes in."""
    left = itertools.count(3, growing)
    with pytest.raises(
        Failure, match=r"Nothing was scored.*\d+ records and leads are left.*leadstream doctor"
    ):
        wait_until_scored(lambda: {"ready": True, "backlog": next(left)}, read_models_url, lambda _: None)


def test_an_unknown_backlog_is_no_progress(read_models_url: str):
    with pytest.raises(Failure, match="how much is left is unknown"):
        wait_until_scored(lambda: {"ready": True, "backlog": None}, read_models_url, lambda _: None)


def test_with_progress_it_takes_as_long_as_it_takes(read_models_url: str):
    began = time.monotonic()

    def status() -> dict[str, object]:
        return {"ready": True, "backlog": max(0, 30 - int(10 * (time.monotonic() - began)))}

    reported: list[int] = []
    wait_until_scored(status, read_models_url, reported.append)
    assert time.monotonic() - began >= 3
    assert reported[-1] == 0

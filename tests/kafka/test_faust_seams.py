"""The parts of Faust, mode and aiokafka that they do not promise are as they were."""

import pytest
from faust.transport.base import Consumer

from streams.kafka import faust_seams
from streams.kafka.faust_seams import SEAMS, gone


def test_every_seam_is_as_it_was():
    assert gone() == []


def test_a_seam_that_is_gone_is_named_with_the_reason(monkeypatch):
    monkeypatch.delattr(Consumer, "_drain_messages")
    (said,) = gone()
    assert said == (
        "faust.transport.consumer.Consumer._drain_messages is gone: "
        "Faust's fetcher runs it: where we read chunks"
    )


def test_a_seam_that_takes_something_else_is_named(monkeypatch):
    def seek_to_committed(self, force):
        return {}

    monkeypatch.setattr(Consumer, "seek_to_committed", seek_to_committed)
    (said,) = gone()
    assert "Consumer.seek_to_committed takes (force), was ()" in said


def test_another_version_is_named(monkeypatch):
    monkeypatch.setitem(dict(faust_seams.PINNED), "aiokafka", "0.13.0")
    monkeypatch.setattr(faust_seams, "PINNED", {"aiokafka": "0.13.0"})
    assert gone() == ["aiokafka is 0.14.0, written for 0.13.0"]


@pytest.mark.parametrize("seam", SEAMS, ids=str)
def test_every_seam_says_why_it_matters(seam):
    assert len(seam.why) > 5

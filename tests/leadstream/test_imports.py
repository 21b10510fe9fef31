"""Archives into the log: what is taken, what is refused, and when it counts as recorded."""

import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.door.addresses import email_of_one_person, phone_of_one_person
from leadstream.console import Failure
from leadstream.operations.imports import archived, import_access_log, import_events, open_source
from leadstream.simulation.simulate import simulated_events
from schemas.decode import MAX_EVENT_BYTES, decode_source, encode_source, key_of, read_event
from schemas.envelope import Event, tag_of
from schemas.events import EVENT_TYPES
from schemas.record import Outgoing
from schemas.topics import EVENTS

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


class Log:
    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.requests = 0

    def append(self, records: Sequence[Outgoing]) -> None:
        self.records += records
        self.requests += 1

    @property
    def events(self) -> list[Event]:
        return [decode_source(record.value) for record in self.records]


def told(**fields: Any) -> bytes:
    said = {"type": "page_viewed", "event_id": "e1", "occurred_at": "2026-06-01T10:00:00Z", "visitor_id": "v"}
    return json.dumps(said | fields).encode()


def test_an_archived_event_is_recorded_when_it_happened_and_fires_nothing():
    log = Log()
    import_events([told(reply=True)], log.append, NOW)
    [event] = log.events
    assert event.recorded_at == event.occurred_at == datetime(2026, 6, 1, 10, tzinfo=UTC)
    assert event.imported
    assert not event.reply
    assert log.records[0].topic == EVENTS
    assert log.records[0].key == key_of(event)


def test_when_it_was_recorded_is_kept_if_the_archive_says_so():
    log = Log()
    import_events([told(recorded_at="2026-06-01T11:30:00Z")], log.append, NOW)
    assert log.events[0].recorded_at == datetime(2026, 6, 1, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "recorded_at", ["2026-06-01T09:59:59Z", "9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"]
)
def test_a_recording_before_the_event_or_after_today_is_not_believed(recorded_at: str):
    log = Log()
    import_events([told(recorded_at=recorded_at)], log.append, NOW)
    assert log.events[0].recorded_at == datetime(2026, 6, 1, 10, tzinfo=UTC)


def test_an_event_from_the_future_happened_now_and_its_own_time_is_kept():
    event = archived(read_event(told(occurred_at="9999-12-31T23:59:59Z")), NOW)
    assert event.occurred_at == event.recorded_at == NOW
    assert event.extra == {"stated_occurred_at": "9999-12-31T23:59:59+00:00"}


def test_a_bad_line_costs_only_itself_and_is_named():
    log = Log()
    lines = [told(event_id="a"), b"{", told(type="page_seen"), b"", told(visitor_id=7), told(event_id="b")]
    tally = import_events(lines, log.append, NOW)
    assert [event.event_id for event in log.events] == ["a", "b"]
    assert (tally.lines, tally.taken, tally.skipped.total()) == (5, 2, 3)
    assert [complaint.line for complaint in tally.complaints] == [2, 3, 5]
    assert tally.complaints[2].reason.startswith("visitor_id: ")


def test_only_the_first_complaints_are_kept():
    tally = import_events([b"{"] * 1000, Log().append, NOW)
    assert tally.skipped["refused"] == 1000
    assert len(tally.complaints) == 5


def test_a_bot_is_flagged_and_counted_by_name():
    log = Log()
    tally = import_events([told(context={"user_agent": GOOGLEBOT}), told(event_id="e2")], log.append, NOW)
    assert [event.bot for event in log.events] == ["Googlebot", None]
    assert tally.bots == {"Googlebot": 1}
    assert tally.people == {("default", "anon:v")}


def test_a_visitor_whose_lead_an_event_names_is_counted_as_that_lead():
    lines = [
        told(),
        told(event_id="e2", lead_id="L"),
        told(event_id="e3"),
        told(visitor_id=None, lead_id="L"),
    ]
    assert import_events(lines, Log().append, NOW).people == {("default", "L")}


def test_order_is_kept_and_the_log_gets_handfuls():
    log = Log()
    import_events((told(event_id=f"e{number}") for number in range(2_500)), log.append, NOW)
    assert [event.event_id for event in log.events] == [f"e{number}" for number in range(2_500)]
    assert log.requests == 3


def test_a_simulated_company_is_taken_whole():
    events = list(simulated_events(5, 20, 30, NOW))
    log = Log()
    tally = import_events(map(encode_source, events), log.append, NOW)
    assert tally.taken == len(events) == tally.lines
    assert [event.recorded_at for event in log.events] == [event.recorded_at for event in events]
    assert [event.bot for event in log.events] == [event.bot for event in events]


def test_an_access_log_is_told_apart_by_reason():
    log = Log()
    row = b'203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET %s HTTP/1.1" 200 5 "-" "%s"\n'
    lines = [
        row % (b"/", b"Mozilla/5.0"),
        row % (b"/a.css", b"x"),
        b"junk\n",
        row % (b"/", GOOGLEBOT.encode()),
    ]
    tally = import_access_log(lines, log.append, NOW, tenant="acme")
    assert (tally.lines, tally.taken) == (4, 2)
    assert tally.skipped == {"asset": 1, "malformed": 1}
    assert [complaint.line for complaint in tally.complaints] == [3]
    assert [event.tenant for event in log.events] == ["acme", "acme"]
    assert tally.bots == {"Googlebot": 1}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({name for kind in EVENT_TYPES for name in kind.__struct_fields__})


@given(
    st.sampled_from(sorted(map(tag_of, EVENT_TYPES))),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4),
    st.binary(max_size=40),
)
@example("page_viewed", {}, b"[" * 5_000)
@example("page_viewed", {}, b'{"type":' * 5_000)
@example("page_viewed", {}, b"9" * 5_000)
@example(
    "purchase_made", {"value": float("inf"), "currency": "EUR"}, b'{"type": "page_viewed", "v": 1e999999999}'
)
def test_no_line_of_strangers_ends_an_import(kind: str, fields: dict[str, Any], junk: bytes):
    """Each is taken or refused; the sound one after them is taken."""
    hostile = json.dumps(json.loads(told(type=kind, lead_id="l")) | fields).encode()
    lines = [hostile, junk.replace(b"\n", b""), told(event_id="sound")]
    log = Log()
    tally = import_events(lines, log.append, NOW, phone_region="AE")
    assert tally.lines == tally.taken + tally.skipped.total() == len([line for line in lines if line.strip()])
    assert log.events[-1].event_id == "sound"


@given(
    st.text() | st.from_regex(r"[+0-9٠-٩(). x#;-]{3,24}", fullmatch=True), st.sampled_from([None, "AE", "US"])
)
def test_what_is_typed_as_an_address_is_one_that_can_be_looked_up_or_none(text: str, region: str | None):
    """A question to the read models that fails makes all others wait."""
    for found in (
        email_of_one_person(text),
        email_of_one_person(f"{text}@shop.example"),
        phone_of_one_person(text, region),
    ):
        assert found is None or "\0" not in found.encode().decode()


def lines_of(name: object) -> list[bytes]:
    with open_source(str(name)) as source:
        return list(source.lines(lambda _: None))


def test_a_packed_file_is_unpacked_whatever_its_name(tmp_path: Path):
    (tmp_path / "plain").write_bytes(b"a\nb\n")
    (tmp_path / "packed.log").write_bytes(gzip.compress(b"a\nb\n"))
    assert lines_of(tmp_path / "plain") == lines_of(tmp_path / "packed.log") == [b"a\n", b"b\n"]


def test_an_empty_file_has_no_lines(tmp_path: Path):
    (tmp_path / "empty").touch()
    assert lines_of(tmp_path / "empty") == []


def test_a_damaged_archive_is_named(tmp_path: Path):
    packed = gzip.compress(b"".join(b"%d\n" % number for number in range(100_000)))
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(Failure, match=r"cut\.gz is damaged"):
        lines_of(tmp_path / "cut.gz")


def test_an_archive_that_is_damaged_in_its_middle_is_named(tmp_path: Path):
    header = gzip.compress(b"")[:10]
    (tmp_path / "bad.gz").write_bytes(header + b"\xff" * 64)  # a block of a kind that there is not
    with pytest.raises(Failure, match=r"bad\.gz is damaged"):
        lines_of(tmp_path / "bad.gz")


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb")))
    assert lines_of("-") == [b"a\n", b"b"]


def test_a_line_without_end_costs_no_memory_and_is_one_line(tmp_path: Path):
    """Of an endless line just enough is read to refuse it as too large."""
    (tmp_path / "endless").write_bytes(b"x" * 5_000_000 + b"\nnext\n")
    first, second = lines_of(tmp_path / "endless")
    assert len(first) == MAX_EVENT_BYTES + 1
    assert second == b"next\n"

"""The features of an identity: what it has done, as far as scores need it. They form a commutative monoid.

`evolve` adds one event's `FeatureDelta` in place; `merge_features` adds whole feature sets. Any order and grouping gives
the same result. Counting is not idempotent: deduplicate before the fold.
Every part is bounded, by rules that do not depend on order: beyond a cap, the names that rank lowest are dropped.
Only a repetition of a keyed event that is no longer remembered depends on order (see scoring.features.keyed_events).
Two writers of a field at one moment are ordered by value, since event ids are unique per key only.
Measured: 0.5 KB after 10 events of a busy lead, 1.2 KB after 1,000 and after 100,000, 0.05 KB more for each
session, 0.1 KB for each keyed event; 138 KB, 22 of them for sessions and 66 for keyed events, if a producer makes
everything as long as possible.
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any
from zlib import crc32

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import astuple

from scoring.features.keyed_events import (
    KeyedEvent,
    KeyedEvents,
    RefundReport,
    count_event_into,
    put_report,
    remove_excess,
)
from scoring.features.profile_fields import PROFILING_CONSENT_FIELD, STANDARD_FIELDS, FieldValue
from scoring.features.sequences import (
    KeptSequence,
    SequenceDelta,
    add_step_event,
    drop_excess_step_events,
    merged_sequence,
    occurrences_of,
)

DAYS_KEPT = 100
FIELDS_KEPT = 64
ITEMS_KEPT = 128
CUSTOM_KEPT = 64
SUMS_KEPT = 32
LARGEST_SUM = 2**62

CUSTOM_PREFIX = "custom:"
ORDER_EVENT_KIND = "purchase_made"
"""The kind of keyed events that refunds lower."""

WrittenField = tuple[int, str, FieldValue]
"""A profile field: (occurred_at, event_id, value); the greatest wins."""


class NewerCodec(ValueError):
    """A newer version of Leadstream wrote the bytes, and this one cannot read them."""


class Signal(Struct, array_like=True, gc=False, frozen=True):
    """How often something happened, and when."""

    count: int
    first: int
    last: int
    last_day: int
    days: bytes
    """One byte for each local day, up to `last_day`; 255 means 255 or more. The first byte is not 0."""


class Session(Struct, array_like=True, gc=False, frozen=True):
    """One session, as stage 1 sees it."""

    revision: int
    opened_at: int
    last_at: int
    closed: bool
    pages: int
    clicks: int
    """Those that are not important clicks."""
    important_clicks: int

    @property
    def seconds(self) -> int:
        return (self.last_at - self.opened_at) // 1000


class Features(Struct, array_like=True):
    signals: dict[str, Signal] = {}
    fields: dict[str, WrittenField] = {}
    sets: dict[str, list[str]] = {}
    """Distinct things, such as questions answered; each list in the order of `_keeping_rank`."""
    sessions: dict[str, Session] = {}
    sums: dict[str, int] = {}
    first_touch: tuple[int, str, str] | None = None
    """(occurred_at, event_id, category); the least wins."""
    keyed: KeyedEvents = {}
    """Events that have a natural key. `signals` and `sums` do not contain them; `with_keyed_events_counted` adds them."""
    sequences: dict[str, KeptSequence] = {}
    """Events in an order in time. `signals` has only the occurrences that are no longer kept; `with_keyed_events_counted`
    adds the others."""


class FeatureDelta(Struct, array_like=True):
    """What one event adds to the features; computed once."""

    at: int
    day: int
    event_id: str
    signals: list[str] = []
    fields: dict[str, FieldValue] = {}
    items: list[tuple[str, str]] = []
    """(set, item)"""
    sums: list[tuple[str, int]] = []
    touchpoint: str | None = None
    key: tuple[str, str] | None = None
    """(kind, digest): the signals and sums are of the event that this key names, and count once."""
    refund: tuple[str, str, RefundReport] | None = None
    """(digest of the order, digest of the refund, refund)"""
    sequences: dict[str, SequenceDelta] = {}


def evolve(features: Features, delta: FeatureDelta) -> None:
    """Add one event to the features, in place."""
    at, day = delta.at, delta.day
    if delta.key is None:
        for name in delta.signals:
            count_signal(features.signals, name, at, day)
        for name, amount in delta.sums:
            _add_to_sum(features.sums, name, amount)
    else:
        kind, key = delta.key
        _put_keyed(features, kind, key, KeyedEvent((at, day), (at, delta.sums, delta.signals)))
    if delta.refund is not None:
        order, refund_id, refund = delta.refund
        _put_keyed(features, ORDER_EVENT_KIND, order, KeyedEvent(refunds={refund_id: refund}))
    for name, step in delta.sequences.items():
        kept = features.sequences.setdefault(name, KeptSequence(step.within, step.length))
        for last_at, _, last_day, _ in add_step_event(kept, (at, step.event_id, day, step.steps)):
            count_signal(features.signals, name, last_at, last_day)
    for name, value in delta.fields.items():
        _write_field(features.fields, name, (at, delta.event_id, value))
    for name, item in delta.items:
        _add_item(features.sets.setdefault(name, []), item)
    if delta.touchpoint is not None:
        touchpoint = (at, delta.event_id, delta.touchpoint)
        if features.first_touch is None or touchpoint < features.first_touch:
            features.first_touch = touchpoint


def settle_sequence(features: Features, name: str) -> None:
    """Count and drop what is more than an identity keeps of a sequence."""
    for last_at, _, last_day, _ in drop_excess_step_events(features.sequences[name]):
        count_signal(features.signals, name, last_at, last_day)


def put_session(features: Features, session_id: str, session: Session) -> None:
    """Store the session, unless a higher revision of it is stored."""
    old = features.sessions.get(session_id)
    if old is None or astuple(session) > astuple(old):
        features.sessions[session_id] = session


def retract_session(features: Features, session_id: str) -> None:
    """Remove a session that a late event joined to another one."""
    features.sessions.pop(session_id, None)


def merge_features(parts: Sequence[Features]) -> Features:
    """The sum of the features, as a new object that shares no mutable part with them."""
    whole = Features()
    for part in parts:
        for name, signal in part.signals.items():
            old = whole.signals.get(name)
            whole.signals[name] = signal if old is None else _merged_signal(old, signal)
        for name, written in part.fields.items():
            _write_field(whole.fields, name, written)
        for name, items in part.sets.items():
            both = {*whole.sets.get(name, ()), *items}
            whole.sets[name] = sorted(both, key=_keeping_rank)[:ITEMS_KEPT]
        for session_id, session in part.sessions.items():
            put_session(whole, session_id, session)
        for name, amount in part.sums.items():
            whole.sums[name] = min(whole.sums.get(name, 0) + amount, LARGEST_SUM)
        if part.first_touch is not None and (
            whole.first_touch is None or part.first_touch < whole.first_touch
        ):
            whole.first_touch = part.first_touch
        for kind, events in part.keyed.items():
            together = whole.keyed.setdefault(kind, {})
            for key, event in events.items():
                put_report(together, key, event)
    for name in {name for part in parts for name in part.sequences}:
        whole.sequences[name] = merged_sequence(
            part.sequences[name] for part in parts if name in part.sequences
        )
    _drop_excess_custom_signals(whole.signals)
    _drop_excess_names(whole.sums, SUMS_KEPT)
    return whole


def with_keyed_events_counted(features: Features) -> Features:
    """The features with every keyed event counted once in signals and sums, and every completed sequence in signals, for
    readers; never stored. It shares the other parts. Count after all identities are merged: two of them may report one
    order, or one step each.
    """
    if not features.keyed and not features.sequences:
        return features
    whole = copy(features)
    whole.signals, whole.sums, whole.keyed = dict(features.signals), dict(features.sums), {}
    for events in features.keyed.values():
        for event in events.values():
            _count_keyed(whole, event)
    for name, kept in features.sequences.items():
        for occurrence in occurrences_of(kept):
            at, _, day, _ = kept.events[occurrence[-1]]
            count_signal(whole.signals, name, at, day)
    return whole


def last_counted(features: Features, signal: str) -> int | None:
    """When the event type of this name last counted, with or without a natural key; None: never."""
    counted = features.signals.get(signal)
    moments = [counted.last] if counted is not None else []
    moments += [
        event.first[0] for event in features.keyed.get(signal, {}).values() if event.first is not None
    ]
    return max(moments, default=None)


def merge_fields(parts: Sequence[tuple[bool, Features]]) -> dict[str, WrittenField]:
    """Profile fields of a lead. Those of identities at home (True) win over those of merged leads; among equals the
    last writer wins. Of the consent to profiling the last writer of all wins: a merge takes back no objection.
    """
    fields = _last_written_fields(part.fields for at_home, part in parts if not at_home)
    fields |= _last_written_fields(part.fields for at_home, part in parts if at_home)
    consent = _profiling_consent(part for _, part in parts)
    if consent is not None:
        fields[PROFILING_CONSENT_FIELD] = consent
    _drop_excess_names(fields, FIELDS_KEPT)
    return fields


def refuses_profiling(parts: Iterable[Features]) -> bool:
    """Does the lead of these features object to profiling? The last word of all its identities counts."""
    consent = _profiling_consent(parts)
    return consent is not None and consent[2] is False


def _profiling_consent(parts: Iterable[Features]) -> WrittenField | None:
    newest = None
    for part in parts:
        written = part.fields.get(PROFILING_CONSENT_FIELD)
        if written is not None and (newest is None or _later_written(written, newest)):
            newest = written
    return newest


def count_in(signal: Signal, after: int, until: int) -> int:
    """How often on the days after `after`, up to and including `until`."""
    return sum(days_in(signal, after, until))


def days_in(signal: Signal, after: int, until: int) -> bytes:
    """The stored days of `after` < day <= `until`, oldest first; may be shorter than the span."""
    before_kept = signal.last_day - len(signal.days)
    return signal.days[max(after - before_kept, 0) : max(until - before_kept, 0)]


def encode_features(features: Features) -> bytes:
    """Equal features have equal bytes."""
    return _CODEC_VERSION + _encoder.encode(features)


def decode_features(raw: bytes) -> Features:
    return _features_decoder.decode(_bytes_behind_codec(raw))


def encode_delta(delta: FeatureDelta) -> bytes:
    return _CODEC_VERSION + _encoder.encode(delta)


def decode_delta(raw: bytes) -> FeatureDelta:
    return _delta_decoder.decode(_bytes_behind_codec(raw))


_CODEC_VERSION = b"\x02"
"""Codec 1 has no keyed events, and is read as it is."""
_encoder = Encoder(order="deterministic")
_features_decoder = Decoder(Features)
_delta_decoder = Decoder(FeatureDelta)


def _bytes_behind_codec(raw: bytes) -> memoryview:
    if not raw:
        raise ValueError("features: no bytes at all")
    if raw[0] > _CODEC_VERSION[0]:
        raise NewerCodec(
            f"features: written by codec {raw[0]}, this version of Leadstream reads up to {_CODEC_VERSION[0]}; "
            "start the newer version"
        )
    if raw[0] == 0:
        raise ValueError(f"features: unknown codec {raw[0]}")
    return memoryview(raw)[1:]


def count_signal(signals: dict[str, Signal], name: str, at: int, day: int) -> None:
    """Count one event of the signal, in place. `at`: when it occurred (ms); `day`: its local day."""
    current = signals.get(name)
    if current is not None:
        signals[name] = _signal_counted_again(current, at, day)
        return
    signals[name] = Signal(1, at, at, day, b"\x01")
    if name.startswith(CUSTOM_PREFIX):
        _drop_excess_custom_signals(signals)


def _add_to_sum(sums: dict[str, int], name: str, amount: int) -> None:
    sums[name] = min(sums.get(name, 0) + amount, LARGEST_SUM)
    _drop_excess_names(sums, SUMS_KEPT)


def _put_keyed(features: Features, kind: str, key: str, reported: KeyedEvent) -> None:
    events = features.keyed.setdefault(kind, {})
    put_report(events, key, reported)
    for event in remove_excess(events):
        _count_keyed(features, event)


def _count_keyed(features: Features, event: KeyedEvent) -> None:
    count_event_into(event, partial(count_signal, features.signals), partial(_add_to_sum, features.sums))


def _signal_counted_again(signal: Signal, at: int, day: int) -> Signal:
    days, last_day = signal.days, signal.last_day
    if day > last_day:
        gap = day - last_day
        days = b"\x01" if gap >= DAYS_KEPT else _newest_days(days + bytes(gap - 1) + b"\x01")
        last_day = day
    else:
        back = last_day - day
        if back < len(days):
            i = len(days) - 1 - back
            days = days[:i] + bytes((min(days[i] + 1, 255),)) + days[i + 1 :]
        elif back < DAYS_KEPT:
            days = b"\x01" + bytes(back - len(days)) + days
    return Signal(signal.count + 1, min(signal.first, at), max(signal.last, at), last_day, days)


def _merged_signal(a: Signal, b: Signal) -> Signal:
    early, late = (a, b) if a.last_day <= b.last_day else (b, a)
    gap = late.last_day - early.last_day
    shifted = early.days + bytes(gap) if gap < DAYS_KEPT else b""
    length = max(len(shifted), len(late.days))
    days = bytes(
        min(x + y, 255)
        for x, y in zip(shifted.rjust(length, b"\0"), late.days.rjust(length, b"\0"), strict=True)
    )
    return Signal(
        a.count + b.count, min(a.first, b.first), max(a.last, b.last), late.last_day, _newest_days(days)
    )


def _newest_days(days: bytes) -> bytes:
    return days[-DAYS_KEPT:].lstrip(b"\0")


def _write_field(fields: dict[str, WrittenField], name: str, written: WrittenField) -> None:
    old = fields.get(name)
    if old is None:
        fields[name] = written
        _drop_excess_names(fields, FIELDS_KEPT)
    elif _later_written(written, old):
        fields[name] = written


def _last_written_fields(several: Iterable[Mapping[str, WrittenField]]) -> dict[str, WrittenField]:
    fields: dict[str, WrittenField] = {}
    for some in several:
        for name, written in some.items():
            if name not in fields or _later_written(written, fields[name]):
                fields[name] = written
    return fields


def _later_written(a: WrittenField, b: WrittenField) -> bool:
    return (a[0], a[1], repr(a[2])) > (b[0], b[1], repr(b[2]))


def _add_item(items: list[str], item: str) -> None:
    if item in items:
        return
    insort(items, item, key=_keeping_rank)
    del items[ITEMS_KEPT:]


def _drop_excess_custom_signals(signals: dict[str, Signal]) -> None:
    custom = [name for name in signals if name.startswith(CUSTOM_PREFIX)]
    for name in sorted(custom, key=_keeping_rank)[CUSTOM_KEPT:]:
        del signals[name]


def _drop_excess_names(named: dict[str, Any], limit: int) -> None:
    while len(named) > limit:
        del named[max(named, key=_keeping_rank)]


def _keeping_rank(name: str) -> tuple[bool, int, str]:
    """Which names stay when there are too many. It depends on the name alone, so that order does not matter."""
    return (name not in STANDARD_FIELDS, crc32(name.encode()), name)

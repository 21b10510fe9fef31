"""The stored state of one visitor: a head, and per segment its features and kept events; ids seen lately.

State per visitor is bounded: 21 segments, 16,384 seen ids.
"""

from hashlib import blake2b

from msgspec import Struct, msgpack

from scoring.features import identity
from scoring.features.features import Features, decode_features, encode_features
from scoring.features.identity import Visitor
from scoring.features.sessions import KeptEvents
from streams.published import (
    body_behind_codec,
)

VISITOR_CODEC = 3
"""2 added the visitor's last word about being tracked, 3 which signals were counted in earlier events."""
SEEN_IDS_PER_PART = 256
MOST_SEEN_PARTS = 64
SEEN_IDS_KEPT_MS = 7 * 86_400_000
"""Repetitions are recognised among at least the last 16,128 events of a key (all parts of seen ids but the newest);
ids older than seven days may be dropped earlier."""


class SegmentBody(Struct):
    """A segment's features, and the events that it keeps for late ones."""

    features: Features
    kept: KeptEvents


_decode_kept = msgpack.Decoder(KeptEvents).decode


class VisitorState:
    """One key: head, per segment its features and kept events, parts of seen ids."""

    def __init__(self, key: str, parts: dict[str, bytes]) -> None:
        self.key = key
        self.tenant = key.partition("/")[0]
        head = parts.get("head")
        self.visitor = (
            msgpack.decode(body_behind_codec(head, VISITOR_CODEC), type=Visitor)
            if head
            else identity.new_visitor(key)
        )
        self.bodies = {
            int(name[9:]): SegmentBody(
                decode_features(value),
                _decode_kept(body_behind_codec(kept, VISITOR_CODEC))
                if (kept := parts.get("kept:" + name[9:]))
                else KeptEvents(),
            )
            for name, value in parts.items()
            if name.startswith("features:")
        }
        self._seen_parts = {int(name[5:]): value for name, value in parts.items() if name.startswith("seen:")}
        self._seen = {
            value[i : i + 8] for value in self._seen_parts.values() for i in range(8, len(value), 8)
        }
        self._changed: set[str] = set()
        self._stored = frozenset(parts)
        self._removed = False

    def body(self, segment: int) -> SegmentBody:
        if segment not in self.bodies:
            self.bodies[segment] = SegmentBody(Features(), KeptEvents())
        return self.bodies[segment]

    def mark_changed(self, segment: int | None = None) -> None:
        self._changed.update(["head"] if segment is None else [f"features:{segment}", f"kept:{segment}"])

    def clear_body(self, segment: int) -> None:
        """Nothing is left of what the segment's events said."""
        self.bodies[segment] = SegmentBody(Features(), KeptEvents())
        self.mark_changed()
        self.mark_changed(segment)

    def remove(self) -> None:
        """Nothing is left of the visitor."""
        self._stored |= self._changed
        self._changed.clear()
        self.visitor = identity.new_visitor(self.key)
        self.bodies, self._seen_parts, self._seen = {}, {}, set()
        self._removed = True

    def remember(self, event_id: str) -> bool:
        """Remembers the id; False if it was seen before."""
        mark = blake2b(event_id.encode(), digest_size=8).digest()
        if mark in self._seen:
            return False
        self._seen.add(mark)
        newest = max(self._seen_parts, default=0)
        seen_part = self._seen_parts.get(newest, b"")
        if len(seen_part) >= 8 * (SEEN_IDS_PER_PART + 1):
            newest, seen_part = newest + 1, b""
            self._drop_old_ids()
        self._seen_parts[newest] = self.visitor.clock.to_bytes(8, "big", signed=True) + seen_part[8:] + mark
        self._changed.add(f"seen:{newest}")
        return True

    def _drop_old_ids(self) -> None:
        """A part of seen ids begins with the clock of its newest id. Drops parts that are too old or too many."""
        oldest = self.visitor.clock - SEEN_IDS_KEPT_MS
        for number in sorted(self._seen_parts):
            value = self._seen_parts[number]
            old = int.from_bytes(value[:8], "big", signed=True) < oldest
            if not old and len(self._seen_parts) < MOST_SEEN_PARTS:
                break
            del self._seen_parts[number]
            self._seen.difference_update(value[i : i + 8] for i in range(8, len(value), 8))
            self._changed.add(f"seen:{number}")

    def changes(self) -> dict[str, bytes | None]:
        changed: dict[str, bytes | None] = {}
        if self._removed:
            changed = dict.fromkeys(sorted(self._stored))
            self._stored, self._removed = frozenset(), False
        self._stored |= self._changed
        for part in sorted(self._changed):
            if part == "head":
                changed[part] = bytes([VISITOR_CODEC]) + msgpack.encode(self.visitor)
            elif part.startswith("seen:"):
                changed[part] = self._seen_parts.get(int(part[5:]))
            elif part.startswith("features:"):
                changed[part] = encode_features(self.bodies[int(part[9:])].features)
            else:
                changed[part] = bytes([VISITOR_CODEC]) + msgpack.encode(self.bodies[int(part[5:])].kept)
        self._changed.clear()
        return changed

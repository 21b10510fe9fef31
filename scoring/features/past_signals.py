"""What signals counted before they were defined, and how that is added to the features of an identity.

Features are a commutative monoid, so the counts of earlier events may be added at any later moment: the sum is what
counting from the first event gives. Keyed events and sequences keep their parts, as in the fold.
"""

from collections.abc import Collection

from msgspec.structs import replace

from scoring.features.features import (
    Features,
    count_signal,
    merge_features,
    settle_sequence,
)
from scoring.features.keyed_events import KeyedEvent


def only_signals(features: Features, names: Collection[str]) -> Features:
    """Of the features, what these signals counted."""
    keyed: dict[str, dict[str, KeyedEvent]] = {}
    for kind, events in features.keyed.items():
        for key, event in events.items():
            if event.latest is None or event.first is None:
                continue
            counted = [name for name in event.latest[2] if name in names]
            if counted:
                at, sums, _ = event.latest
                keyed.setdefault(kind, {})[key] = KeyedEvent(event.first, (at, sums, counted))
    return Features(
        signals={name: each for name, each in features.signals.items() if name in names},
        sets={name: items for name, items in features.sets.items() if name in names},
        keyed=keyed,
        sequences={name: each for name, each in features.sequences.items() if name in names},
    )


def add_past_signals(features: Features, counted: Features) -> None:
    """Add what signals counted before, in place. A keyed event that fell out meanwhile counts at once; of one that was
    reported again since then, the last report says its signals.
    """
    whole = merge_features([features, replace(counted, keyed={})])
    features.signals, features.sets = whole.signals, whole.sets
    features.sequences = whole.sequences
    for kind, events in counted.keyed.items():
        reported = features.keyed.setdefault(kind, {})
        for key, past in events.items():
            if past.first is None or past.latest is None:
                continue
            current = reported.get(key)
            if current is None:
                for name in past.latest[2]:
                    count_signal(features.signals, name, *past.first)
            elif current.latest is not None and current.latest[:2] == past.latest[:2]:
                names = list(dict.fromkeys([*current.latest[2], *past.latest[2]]))
                reported[key] = replace(current, latest=(*current.latest[:2], names))
        if not reported:
            del features.keyed[kind]
    for name in counted.sequences:
        settle_sequence(features, name)

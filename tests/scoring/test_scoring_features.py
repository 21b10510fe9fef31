"""Features are a commutative monoid, bounded whatever arrives, and survive being stored."""

import random

import msgspec
import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from leads_given import DAY_MS, T0, at_of, happened, visit, visits

from schemas.envelope import Event
from scoring.features import features as bounds
from scoring.features import keyed_events
from scoring.features.features import (
    DAYS_KEPT,
    FeatureDelta,
    Features,
    NewerCodec,
    Session,
    Signal,
    decode_delta,
    decode_features,
    encode_delta,
    encode_features,
    evolve,
    merge_features,
    merge_fields,
    put_session,
    retract_session,
)
from scoring.features.signals import SignalCatalogue

NAMES = st.sampled_from(["page_viewed", "interaction", "custom:a", "custom:b", "custom:c", "custom:d"])
FIELDS = st.sampled_from(["email", "phone", "colour", "shape", "size", "weight"])
VALUES = st.sampled_from(["x", "y", None, True, 1, 1.0, 7, ["a"]])
KEYS = st.sampled_from(["order-1", "order-2", "order-3"])
BACK = st.one_of(st.integers(0, 210), st.sampled_from([0, 1, 98, 99, 100, 101, 199, 200]))


@st.composite
def lifts(draw):
    day = T0 // DAY_MS - draw(BACK)
    return FeatureDelta(
        at=day * DAY_MS + draw(st.sampled_from([0, 1, DAY_MS - 1])),
        day=day,
        event_id=draw(st.sampled_from(["e1", "e2", "e3"])),
        signals=draw(st.lists(NAMES, max_size=3)),
        fields=draw(st.dictionaries(FIELDS, VALUES, max_size=3)),
        items=draw(st.lists(st.tuples(st.sampled_from(["q", "r"]), st.sampled_from("abcdefg")), max_size=3)),
        sums=draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["purchase:EUR", "purchase:USD", "purchase:JPY"]), st.integers(0, 2**53)
                ),
                max_size=1,
            )
        ),
        touchpoint=draw(st.sampled_from([None, "ads", "form"])),
        key=draw(st.none() | st.tuples(st.sampled_from(["purchase_made", "email_sent"]), KEYS)),
        refund=draw(
            st.none()
            | st.tuples(
                KEYS,
                KEYS,
                st.tuples(
                    st.integers(T0, T0 + 2),
                    st.sampled_from(["purchase:EUR", "purchase:USD"]),
                    st.integers(0, 9),
                ),
            )
        ),
    )


SESSIONS = st.builds(
    Session,
    st.integers(1, 3),
    st.just(T0),
    st.integers(T0, T0 + 9),
    st.booleans(),
    st.integers(0, 3),
    st.just(0),
    st.just(0),
)


@st.composite
def parts(draw):
    features = fold(draw(st.lists(lifts(), max_size=8)))
    for session_id, session in draw(st.dictionaries(st.sampled_from("stu"), SESSIONS, max_size=2)).items():
        put_session(features, session_id, session)
    return features


@pytest.fixture(autouse=True, scope="module")
def small_caps():
    """Caps so low that random features reach them all."""
    with pytest.MonkeyPatch.context() as patch:
        for name, cap in {"FIELDS_KEPT": 3, "ITEMS_KEPT": 3, "CUSTOM_KEPT": 2, "SUMS_KEPT": 2}.items():
            patch.setattr(bounds, name, cap)
        patch.setattr(keyed_events, "REFUNDS_KEPT", 2)
        yield


def fold(lifted, features=None):
    features = Features() if features is None else features
    for lift in lifted:
        evolve(features, lift)
    return features


def copied(features):
    return merge_features([features])


@given(st.lists(lifts(), max_size=20), st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_and_grouping_do_not_matter(lifted, rnd, groups):
    whole = fold(lifted)
    shuffled = rnd.sample(lifted, len(lifted))
    assert fold(shuffled) == whole
    dealt = [[] for _ in range(groups)]
    for lift in shuffled:
        rnd.choice(dealt).append(lift)
    assert merge_features([fold(hand) for hand in dealt]) == whole


@settings(max_examples=scaled(40))
@given(parts(), parts(), parts())
def test_features_are_a_commutative_monoid(a, b, c):
    assert merge_features([a, b]) == merge_features([b, a])
    assert (
        merge_features([merge_features([a, b]), c])
        == merge_features([a, merge_features([b, c])])
        == merge_features([a, b, c])
    )
    assert merge_features([a, Features()]) == merge_features([a]) == a
    assert merge_features([]) == Features()


@settings(max_examples=scaled(40))
@given(parts(), parts(), lifts())
def test_an_event_may_be_taken_in_before_or_after_merging(a, b, lift):
    merged = merge_features([a, b])
    evolve(merged, lift)
    evolve(a, lift)
    assert merged == merge_features([a, b])


@settings(max_examples=scaled(40))
@given(parts(), parts(), lifts())
def test_a_merge_shares_nothing_that_changes(a, b, lift):
    before = encode_features(merge_features([a, b]))
    merged = merge_features([a, b])
    evolve(a, lift)
    evolve(b, lift)
    put_session(a, "new", visit(1, 1, 1, 1))
    assert encode_features(merged) == before


@settings(max_examples=scaled(40))
@given(parts())
def test_stored_features_come_back_equal(features):
    assert decode_features(encode_features(features)) == features
    assert encode_features(decode_features(encode_features(features))) == encode_features(features)


@given(st.lists(lifts(), max_size=10), st.randoms(use_true_random=False))
def test_equal_features_have_equal_bytes(lifted, rnd):
    assert encode_features(fold(lifted)) == encode_features(fold(rnd.sample(lifted, len(lifted))))


@given(lifts())
def test_a_stored_lift_comes_back_equal(lift):
    assert decode_delta(encode_delta(lift)) == lift


@pytest.mark.parametrize("read", [decode_features, decode_delta])
def test_a_newer_codec_is_refused_with_a_clear_word(read):
    with pytest.raises(NewerCodec, match="written by codec 3, this version of Leadstream reads up to 2"):
        read(b"\x03" + encode_features(Features())[1:])
    for broken in (b"", b"\x00abc"):
        with pytest.raises(ValueError, match="features: "):
            read(broken)


def test_features_of_before_natural_keys_are_read_as_they_are():
    """Codec 1: a purchase counted then stays in the signals."""
    signals, sums = {"purchase_made": [2, T0, T0, 0, b"\x02"]}, {"purchase:EUR": 7990}
    older = decode_features(b"\x01" + msgspec.msgpack.encode([signals, {}, {}, {}, sums, None]))
    assert (older.signals["purchase_made"].count, older.sums, older.keyed) == (2, sums, {})
    delta = decode_delta(
        b"\x01" + msgspec.msgpack.encode([T0, 0, "e", ["purchase_made"], {}, [], [["s", 1]], None])
    )
    assert (delta.signals, delta.sums, delta.key, delta.refund) == (["purchase_made"], [("s", 1)], None, None)


def test_a_signal_keeps_a_byte_per_day():
    days = T0 // DAY_MS
    lifted = [
        FeatureDelta(day * DAY_MS, day, "e", ["x"]) for day in (days, days, days - 3, days - 99, days - 100)
    ]
    signal = fold(lifted).signals["x"]
    assert signal == Signal(
        5, (days - 100) * DAY_MS, days * DAY_MS, days, b"\x01" + bytes(95) + b"\x01\x00\x00\x02"
    )
    assert len(signal.days) == DAYS_KEPT


def test_a_day_counts_to_255_and_the_signal_on():
    signal = fold([FeatureDelta(T0, T0 // DAY_MS, "e", ["x"])] * 300).signals["x"]
    assert (signal.count, signal.days) == (300, b"\xff")


@given(st.permutations(["e1", "e2", "e3"]))
def test_the_last_writer_of_a_field_wins_by_time_and_then_by_event(order):
    written = {"e1": (T0, "first"), "e2": (T0 + 1, "second"), "e3": (T0 + 1, "third")}
    lifted = [FeatureDelta(written[e][0], 0, e, fields={"email": written[e][1]}) for e in order]
    assert fold(lifted).fields["email"] == (T0 + 1, "e3", "third")


def test_null_clears_a_field_and_is_remembered():
    lifted = [
        FeatureDelta(T0 + 1, 0, "e2", fields={"email": None}),
        FeatureDelta(T0, 0, "e1", fields={"email": "a"}),
    ]
    assert fold(lifted).fields == {"email": (T0 + 1, "e2", None)}


def test_fields_given_at_home_stand_before_those_merged_in():
    """Even if they are older; what home never had comes along."""
    home = fold([FeatureDelta(T0, 0, "e1", fields={"assigned_to": "ann"})])
    second = fold([FeatureDelta(T0 + 5, 0, "e2", fields={"assigned_to": "bob"})])
    guest = fold([FeatureDelta(T0 + 9, 0, "e3", fields={"assigned_to": "eve", "email": "x"})])
    assert merge_fields([(True, home), (False, guest)]) == {
        "assigned_to": (T0, "e1", "ann"),
        "email": (T0 + 9, "e3", "x"),
    }
    assert merge_fields([(False, guest), (True, second), (True, home)])["assigned_to"] == (
        T0 + 5,
        "e2",
        "bob",
    )
    assert merge_fields([(False, guest), (False, home)])["assigned_to"] == (T0 + 9, "e3", "eve")


def test_no_flood_of_fields_displaces_an_email():
    lifted = [FeatureDelta(T0, 0, "e", fields={f"junk_{n}": "x"}) for n in range(50)]
    fields = fold([*lifted, FeatureDelta(T0, 0, "e", fields={"email": "a"}), *lifted]).fields
    assert len(fields) == 3
    assert "email" in fields


def test_the_higher_revision_of_a_session_stands():
    features = visits(visit(60, 1, 0, 0))
    newer, older = Session(2, T0, T0 + 5, True, 1, 0, 0), Session(1, T0, T0 + 99_000, True, 9, 9, 9)
    put_session(features, "s0", newer)
    put_session(features, "s0", older)
    assert features.sessions == {"s0": newer}
    assert merge_features([visits(older), features]).sessions == {"s0": newer}
    retract_session(features, "s0")
    retract_session(features, "s0")
    assert features.sessions == {}


def test_the_first_touch_is_the_earliest():
    lifted = [
        FeatureDelta(T0, 0, "e2", touchpoint="form"),
        FeatureDelta(T0 - 1, 0, "e9", touchpoint="ads"),
        FeatureDelta(T0 - 1, 0, "e8", touchpoint="partner"),
    ]
    assert fold(lifted).first_touch == (T0 - 1, "e8", "partner")


def test_a_sum_saturates_instead_of_growing_for_ever():
    assert fold([FeatureDelta(T0, 0, "e", sums=[("purchase:EUR", 2**53)])] * 600).sums == {
        "purchase:EUR": 2**62
    }


def lively(number: int) -> list[Event]:
    """So many events of a lively, ordinary lead over 120 days."""
    rnd = random.Random(number)
    kinds = ["page_viewed"] * 8 + [
        "element_clicked",
        "email_opened",
        "email_clicked",
        "message_received",
        "qr_scanned",
    ]
    events = [happened(rnd.choice(kinds), T0 - rnd.randrange(120 * DAY_MS)) for _ in range(number)]
    fields = {"email": "somebody@example.com", "phone": "+971501234567", "company": "Example Ltd"}
    return [*events, happened("profile_updated", fields=fields)]


@pytest.mark.parametrize(("events", "budget"), [(10, 600), (1_000, 1_500), (100_000, 1_500)])
def test_bytes_of_a_lively_lead_stay_flat(events, budget):
    lifted = [
        SignalCatalogue.of([]).feature_delta_of(event, at_of(event), at_of(event) // DAY_MS)
        for event in lively(min(events, 1_000))
    ]
    features = Features()
    for _ in range(max(events // 1_000, 1)):
        fold(lifted, features)
    assert len(encode_features(features)) <= budget

"""Sharing buckets among workers: evenly, completely, and where they were."""

from collections import Counter

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.assignor import Claim, bucket_assignor, partitions_of, share

NUMBERS = st.integers(1, 40)


@st.composite
def groups(draw):
    """Any number of buckets, and members that claim whatever they like, true or not."""
    buckets = draw(NUMBERS)
    held = st.lists(st.integers(0, buckets + 3), max_size=buckets).map(tuple)
    names = draw(st.lists(st.text(st.characters(codec="ascii"), max_size=3), min_size=1, max_size=8))
    return buckets, {f"id-{i}": Claim(name, draw(held)) for i, name in enumerate(names)}


@given(groups())
def test_every_bucket_has_exactly_one_owner(group):
    buckets, members = group
    assert sorted(b for held in share(buckets, members).values() for b in held) == list(range(buckets))


@given(groups())
def test_shares_differ_by_at_most_one_bucket(group):
    buckets, members = group
    sizes = [len(held) for held in share(buckets, members).values()]
    assert len(sizes) == len(members)
    assert max(sizes) - min(sizes) <= 1


@given(groups(), st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_listed_does_not_matter(group, random):
    buckets, members = group
    shuffled = list(members.items())
    random.shuffle(shuffled)
    assert share(buckets, dict(shuffled)) == share(buckets, members)


@given(groups())
def test_sharing_again_moves_nothing(group):
    buckets, members = group
    first = share(buckets, members)
    again = share(buckets, {m: Claim(c.name, tuple(first[m])) for m, c in members.items()})
    assert again == first


def settled(buckets, names):
    """What members of these names hold after they shared for the first time."""
    shares = share(buckets, {name: Claim(name) for name in names})
    return {name: Claim(name, tuple(held)) for name, held in shares.items()}


@given(NUMBERS, st.integers(1, 8))
def test_who_joins_takes_only_its_own_share(buckets, count):
    before = settled(buckets, [f"w{i}" for i in range(count)])
    after = share(buckets, {**before, "new": Claim("new")})
    moved = sum(len(set(after[name]) - set(claim.held)) for name, claim in before.items())
    assert moved == 0
    assert len(after["new"]) in {buckets // (count + 1), -(-buckets // (count + 1))}


@given(NUMBERS, st.integers(2, 8))
def test_who_leaves_gives_only_what_it_held(buckets, count):
    before = settled(buckets, [f"w{i}" for i in range(count)])
    gone = before.pop("w0")
    after = share(buckets, before)
    given_away = {b for name, held in after.items() for b in held if b not in before[name].held}
    assert given_away == set(gone.held)


@given(NUMBERS, st.integers(1, 8), st.integers(0, 7))
def test_a_worker_that_restarts_under_its_name_moves_nothing(buckets, count, which):
    """It comes back under another member id, and has forgotten what it held."""
    before = settled(buckets, [f"w{i}" for i in range(count)])
    again = f"w{which % count}"
    members = {("restarted" if name == again else name): claim for name, claim in before.items()}
    members["restarted"] = Claim(again)
    after = share(buckets, members)
    assert {members[member].name: tuple(held) for member, held in after.items()} == {
        name: claim.held for name, claim in before.items()
    }


def test_all_workers_that_restart_at_once_share_as_at_first():
    names = ["b", "a", "c"]
    first = share(8, {name: Claim(name) for name in names})
    restarted = share(8, {f"other-{name}": Claim(name) for name in names})
    assert first == {"a": [0, 3, 6], "b": [1, 4, 7], "c": [2, 5]}
    assert {member.removeprefix("other-"): held for member, held in restarted.items()} == first


def test_of_two_that_claim_a_bucket_the_first_by_name_has_it():
    assert share(2, {"x": Claim("b", (0,)), "y": Claim("a", (0,))}) == {"x": [1], "y": [0]}


def test_more_workers_than_buckets_leave_some_without_any():
    shares = share(2, {name: Claim(name) for name in "abc"})
    assert shares == {"a": [0], "b": [1], "c": []}


@given(NUMBERS, st.integers(1, 60), st.integers(1, 60))
def test_no_partition_is_left_out_and_none_is_split_from_its_bucket(buckets, events, activity):
    topics = {"events": events, "lead-activity": activity}
    parts = [partitions_of(buckets, [b], topics) for b in range(buckets)]
    for topic, count in topics.items():
        seen = Counter(p for part in parts for p in part[topic])
        assert seen == Counter(range(count))
    assert all(p % buckets == b for b, part in enumerate(parts) for held in part.values() for p in held)


class Partitions:
    """What aiokafka's metadata answers about topics."""

    def __init__(self, **counts):
        self._counts = {name.replace("_", "-"): set(range(count)) for name, count in counts.items()}

    def partitions_for_topic(self, topic):
        return self._counts.get(topic)


def through_the_wire(message):
    return type(message).decode(message.encode())


def test_the_protocol_carries_names_and_what_is_held():
    one, other = bucket_assignor(2, "one"), bucket_assignor(2, "other")
    cluster, topics = Partitions(events=4, lead_activity=4), ["events", "lead-activity"]
    alone = one.assign(cluster, {"m-1": through_the_wire(one.metadata(topics))})
    one.on_assignment(through_the_wire(alone["m-1"]))
    joined = {
        "m-2": through_the_wire(other.metadata(topics)),
        "m-1": through_the_wire(one.metadata(topics)),
    }
    both = other.assign(cluster, joined)
    assert through_the_wire(both["m-1"]).assignment == [("events", [0, 2]), ("lead-activity", [0, 2])]
    assert through_the_wire(both["m-2"]).assignment == [("events", [1, 3]), ("lead-activity", [1, 3])]
    assert isinstance(both["m-1"], ConsumerProtocolMemberAssignment)
    assert isinstance(one.metadata(topics), ConsumerProtocolMemberMetadata)


def test_workers_that_count_buckets_differently_speak_different_protocols():
    assert bucket_assignor(2).name != bucket_assignor(3).name

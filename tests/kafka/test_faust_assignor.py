"""Sharing buckets among workers: evenly, completely, and where they were."""

from collections import Counter

import msgspec
import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.engine.state_store import STATE_FORMAT
from streams.kafka.assignor import (
    FIRST_STATE_FORMAT,
    MemberClaim,
    partitions_in_task_groups,
    read_claim,
    share_task_groups,
    task_group_assignor,
)

NUMBERS = st.integers(1, 40)


@st.composite
def groups(draw):
    """Any number of buckets, and members that claim whatever they like, true or not."""
    buckets = draw(NUMBERS)
    owned = st.lists(st.integers(0, buckets + 3), max_size=buckets).map(tuple)
    names = draw(st.lists(st.text(st.characters(codec="ascii"), max_size=3), min_size=1, max_size=8))
    return buckets, {f"id-{i}": MemberClaim(name, draw(owned)) for i, name in enumerate(names)}


@given(groups())
def test_every_bucket_has_exactly_one_owner(group):
    buckets, members = group
    assert sorted(b for owned in share_task_groups(buckets, members).values() for b in owned) == list(
        range(buckets)
    )


@given(groups())
def test_shares_differ_by_at_most_one_bucket(group):
    buckets, members = group
    sizes = [len(owned) for owned in share_task_groups(buckets, members).values()]
    assert len(sizes) == len(members)
    assert max(sizes) - min(sizes) <= 1


@given(groups(), st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_listed_does_not_matter(group, random):
    buckets, members = group
    shuffled = list(members.items())
    random.shuffle(shuffled)
    assert share_task_groups(buckets, dict(shuffled)) == share_task_groups(buckets, members)


@given(groups())
def test_sharing_again_moves_nothing(group):
    buckets, members = group
    first = share_task_groups(buckets, members)
    again = share_task_groups(buckets, {m: MemberClaim(c.name, tuple(first[m])) for m, c in members.items()})
    assert again == first


def settled(buckets, names):
    """What members of these names hold after they shared for the first time."""
    shares = share_task_groups(buckets, {name: MemberClaim(name) for name in names})
    return {name: MemberClaim(name, tuple(owned)) for name, owned in shares.items()}


@given(NUMBERS, st.integers(1, 8))
def test_who_joins_takes_only_its_own_share(buckets, count):
    before = settled(buckets, [f"w{i}" for i in range(count)])
    after = share_task_groups(buckets, {**before, "new": MemberClaim("new")})
    moved = sum(len(set(after[name]) - set(claim.owned)) for name, claim in before.items())
    assert moved == 0
    assert len(after["new"]) in {buckets // (count + 1), -(-buckets // (count + 1))}


@given(NUMBERS, st.integers(2, 8))
def test_who_leaves_gives_only_what_it_owned(buckets, count):
    before = settled(buckets, [f"w{i}" for i in range(count)])
    gone = before.pop("w0")
    after = share_task_groups(buckets, before)
    given_away = {b for name, owned in after.items() for b in owned if b not in before[name].owned}
    assert given_away == set(gone.owned)


@given(NUMBERS, st.integers(1, 8), st.integers(0, 7))
def test_a_worker_that_restarts_under_its_name_moves_nothing(buckets, count, which):
    """It comes back under another member id, and has forgotten what it owned."""
    before = settled(buckets, [f"w{i}" for i in range(count)])
    again = f"w{which % count}"
    members = {("restarted" if name == again else name): claim for name, claim in before.items()}
    members["restarted"] = MemberClaim(again)
    after = share_task_groups(buckets, members)
    assert {members[member].name: tuple(owned) for member, owned in after.items()} == {
        name: claim.owned for name, claim in before.items()
    }


def test_all_workers_that_restart_at_once_share_as_at_first():
    names = ["b", "a", "c"]
    first = share_task_groups(8, {name: MemberClaim(name) for name in names})
    restarted = share_task_groups(8, {f"other-{name}": MemberClaim(name) for name in names})
    assert first == {"a": [0, 3, 6], "b": [1, 4, 7], "c": [2, 5]}
    assert {member.removeprefix("other-"): owned for member, owned in restarted.items()} == first


def test_of_two_that_claim_a_bucket_the_first_by_name_has_it():
    assert share_task_groups(2, {"x": MemberClaim("b", (0,)), "y": MemberClaim("a", (0,))}) == {
        "x": [1],
        "y": [0],
    }


def test_more_workers_than_buckets_leave_some_without_any():
    shares = share_task_groups(2, {name: MemberClaim(name) for name in "abc"})
    assert shares == {"a": [0], "b": [1], "c": []}


@given(NUMBERS, st.integers(1, 60), st.integers(1, 60))
def test_no_partition_is_left_out_and_none_is_split_from_its_bucket(buckets, events, activity):
    topics = {"events": events, "lead-activity": activity}
    parts = [partitions_in_task_groups(buckets, [b], topics) for b in range(buckets)]
    for topic, count in topics.items():
        seen = Counter(p for part in parts for p in part[topic])
        assert seen == Counter(range(count))
    assert all(p % buckets == b for b, part in enumerate(parts) for owned in part.values() for p in owned)


class Partitions:
    """What aiokafka's metadata answers about topics."""

    def __init__(self, **counts):
        self._counts = {name.replace("_", "-"): set(range(count)) for name, count in counts.items()}

    def partitions_for_topic(self, topic):
        return self._counts.get(topic)


def through_the_wire(message):
    return type(message).decode(message.encode())


def test_the_protocol_carries_names_and_what_is_owned():
    one, other = task_group_assignor(2, "one"), task_group_assignor(2, "other")
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
    assert task_group_assignor(2).name != task_group_assignor(3).name


# Versions


def of_version(state_format, name):
    """The assignor of a worker that reads so new a state."""
    kind = task_group_assignor(4, name)
    kind.claim = kind.claim._replace(state_format=state_format)
    return kind


def joined(*kinds):
    return {kind.claim.name: through_the_wire(kind.metadata(["events"])) for kind in kinds}


@given(groups(), st.data())
def test_only_members_of_the_newest_format_share_and_they_share_all(group, data):
    buckets, members = group
    members = {
        member: claim._replace(state_format=data.draw(st.integers(1, 3))) for member, claim in members.items()
    }
    shares = share_task_groups(buckets, members)
    newest = max(claim.state_format for claim in members.values())
    assert shares.keys() == members.keys()
    assert all(not shares[member] for member, claim in members.items() if claim.state_format < newest)
    assert sorted(b for owned in shares.values() for b in owned) == list(range(buckets))


@pytest.mark.parametrize("leader", [0, 1])
def test_an_older_worker_gives_everything_up_to_a_newer_one_and_says_why(leader):
    """Whichever of the two shares out."""
    older, newer = of_version(1, "older"), of_version(2, "newer")
    older.claim = older.claim._replace(owned=(0, 1, 2, 3))
    shared = (older, newer)[leader].assign(Partitions(events=4), joined(older, newer))
    assert through_the_wire(shared["newer"]).assignment == [("events", [0, 1, 2, 3])]
    assert through_the_wire(shared["older"]).assignment == [("events", [])]
    with capture_logs() as told:
        newer.on_assignment(through_the_wire(shared["newer"]))
        assert not told
        older.on_assignment(through_the_wire(shared["older"]))
    assert "a newer version of Leadstream works in its group; upgrade this worker" in told[0]["event"]
    assert (told[0]["state_format"], told[0]["newest"]) == (1, 2)
    alone = older.assign(Partitions(events=4), joined(older))
    assert through_the_wire(alone["older"]).assignment == [("events", [0, 1, 2, 3])]


def test_versions_that_know_no_format_share_with_those_that_do():
    """Their claim is [name, [bucket, ...]], and they read ours as one: they ignore a bucket that is none."""
    silent = msgspec.msgpack.encode(("silent", (0, 1)))
    assert read_claim(silent) == MemberClaim("silent", (0, 1), 1)
    ours = task_group_assignor(4, "ours")
    assert ours.claim.state_format == STATE_FORMAT
    ours.claim = ours.claim._replace(owned=(2, 3), state_format=FIRST_STATE_FORMAT)
    name, owned = msgspec.msgpack.decode(
        ours.metadata(["events"]).user_data, type=tuple[str, tuple[int, ...]]
    )
    assert (name, [bucket for bucket in owned if bucket in range(4)]) == ("ours", [2, 3])
    group = {**joined(ours), "silent": ConsumerProtocolMemberMetadata(0, ["events"], silent)}
    shared = ours.assign(Partitions(events=4), group)
    assert through_the_wire(shared["silent"]).assignment == [("events", [0, 1])]
    assert through_the_wire(shared["ours"]).assignment == [("events", [2, 3])]
    ours.on_assignment(ConsumerProtocolMemberAssignment(0, [("events", [2, 3])], b""))  # of such a leader
    assert ours.claim.owned == (2, 3)

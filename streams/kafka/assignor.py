"""Which worker owns which buckets: whole buckets, evenly, and where they were if that can be.

A bucket is the partitions p % buckets of every topic: one transactional producer writes for it, so two
workers must never share one. The number is part of the protocol's name, so that a broker refuses a worker
that counts otherwise. `share` decides and does nothing else; the class only speaks aiokafka's language.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


class Claim(NamedTuple):
    """What a member says when it joins: who it is across restarts, and what it held last."""

    name: str
    held: tuple[int, ...] = ()


def share(buckets: int, members: Mapping[str, Claim]) -> dict[str, list[int]]:
    """Buckets per member id. Equal claims give equal shares, whatever the ids and their order.

    No share is larger than another by more than one bucket, and no bucket moves that need not: members
    keep what they held up to their even share. Of two that claim the same one, the first by name has it.
    """
    if not members:
        return {}
    ranked = sorted(members, key=lambda member: (members[member].name, member))
    least, larger = divmod(buckets, len(ranked))
    owned: dict[str, list[int]] = {member: [] for member in ranked}
    free = set(range(buckets))
    for member in ranked:
        owned[member] = [bucket for bucket in sorted({*members[member].held}) if bucket in free]
        free.difference_update(owned[member])
    for member in sorted(ranked, key=lambda member: -len(owned[member])):
        even = least + (1 if larger and len(owned[member]) > least else 0)
        larger -= even - least
        free.update(owned[member][even:])
        del owned[member][even:]
    for bucket in sorted(free):
        owned[min(ranked, key=lambda member: len(owned[member]))].append(bucket)
    return {member: sorted(held) for member, held in owned.items()}


def partitions_of(buckets: int, held: Collection[int], topics: Mapping[str, int]) -> dict[str, list[int]]:
    """The partitions of each topic (given how many it has) that lie in these buckets."""
    return {
        topic: [partition for partition in range(count) if partition % buckets in held]
        for topic, count in topics.items()
    }


class BucketAssignor(AbstractPartitionAssignor):  # type: ignore[misc] # aiokafka is untyped
    """One class per consumer, from `bucket_assignor`: aiokafka calls it without making an instance."""

    name = ""
    buckets = 1
    claim = Claim("")

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), msgspec.msgpack.encode(cls.claim))

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = {topic for member in members.values() for topic in member.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        shares = share(cls.buckets, {member: _claim(member, said) for member, said in members.items()})
        return {
            member: ConsumerProtocolMemberAssignment(
                0, sorted(partitions_of(cls.buckets, held, counts).items()), b""
            )
            for member, held in shares.items()
        }

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        held = {
            partition % cls.buckets for _, partitions in assignment.assignment for partition in partitions
        }
        cls.claim = cls.claim._replace(held=tuple(sorted(held)))


def bucket_assignor(buckets: int, worker: str | None = None) -> type[BucketAssignor]:
    """For one consumer, since it remembers what that one holds. `worker` names it across restarts."""
    return type(
        "BucketAssignor",
        (BucketAssignor,),
        {"name": f"leadstream-buckets-{buckets}", "buckets": buckets, "claim": Claim(worker or "")},
    )


def _claim(member: str, said: ConsumerProtocolMemberMetadata) -> Claim:
    claim = msgspec.msgpack.decode(said.user_data, type=Claim)
    return claim if claim.name else claim._replace(name=member)

"""Which worker owns which buckets: whole buckets, evenly, and where they were if that can be.

A bucket is the partitions p % buckets of every topic: one transactional producer writes for it, so two
workers must never share one. The number is part of the protocol's name, so that a broker refuses a worker
that counts otherwise. Members that read only an older format of the state get nothing while one of a newer
format is there: what that one writes, they could not read. `share` decides and does nothing else; the class
only speaks aiokafka's language.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from streams.engine.state_store import FORMAT

_log = structlog.get_logger(__name__)

FIRST_FORMAT = 1
"""What members read that do not say."""


class Claim(NamedTuple):
    """What a member says when it joins: who it is across restarts, what it held last, and which format of
    the state it reads.
    """

    name: str
    held: tuple[int, ...] = ()
    state_format: int = FIRST_FORMAT

    def encoded(self) -> bytes:
        """[name, [bucket, ..., -format]]: a version that knows no format ignores the bucket below 0."""
        return msgspec.msgpack.encode((self.name, (*self.held, -self.state_format)))


def read_claim(encoded: bytes) -> Claim:
    name, numbers = msgspec.msgpack.decode(encoded, type=tuple[str, tuple[int, ...]])
    held = tuple(number for number in numbers if number >= 0)
    return Claim(name, held, max((-number for number in numbers if number < 0), default=FIRST_FORMAT))


def newest_format(members: Mapping[str, Claim]) -> int:
    return max((claim.state_format for claim in members.values()), default=FIRST_FORMAT)


def share(buckets: int, members: Mapping[str, Claim]) -> dict[str, list[int]]:
    """Buckets per member id. Equal claims give equal shares, whatever the ids and their order.

    Only members of the newest format get any. No share of theirs is larger than another by more than one
    bucket, and no bucket moves that need not: members keep what they held up to their even share. Of two
    that claim the same one, the first by name has it.
    """
    if not members:
        return {}
    newest = newest_format(members)
    ranked = sorted(
        (member for member, claim in members.items() if claim.state_format == newest),
        key=lambda member: (members[member].name, member),
    )
    least, larger = divmod(buckets, len(ranked))
    owned: dict[str, list[int]] = {member: [] for member in members}
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
        return ConsumerProtocolMemberMetadata(0, sorted(topics), cls.claim.encoded())

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = {topic for member in members.values() for topic in member.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        claims = {member: _claim(member, said) for member, said in members.items()}
        newest = b"%d" % newest_format(claims)
        return {
            member: ConsumerProtocolMemberAssignment(
                0, sorted(partitions_of(cls.buckets, held, counts).items()), newest
            )
            for member, held in share(cls.buckets, claims).items()
        }

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        held = {
            partition % cls.buckets for _, partitions in assignment.assignment for partition in partitions
        }
        cls.claim = cls.claim._replace(held=tuple(sorted(held)))
        newest = int(assignment.user_data or FIRST_FORMAT)
        if newest > cls.claim.state_format:
            _log.warning(
                "this worker gets no partitions: a newer version of Leadstream works in its group; upgrade it or end it",
                state_format=cls.claim.state_format,
                newest=newest,
            )


def bucket_assignor(buckets: int, worker: str | None = None) -> type[BucketAssignor]:
    """For one consumer, since it remembers what that one holds. `worker` names it across restarts."""
    return type(
        "BucketAssignor",
        (BucketAssignor,),
        {
            "name": f"leadstream-buckets-{buckets}",
            "buckets": buckets,
            "claim": Claim(worker or "", state_format=FORMAT),
        },
    )


def _claim(member: str, said: ConsumerProtocolMemberMetadata) -> Claim:
    claim = read_claim(said.user_data)
    return claim if claim.name else claim._replace(name=member)

"""Assigns task groups (buckets) to workers: whole groups, evenly, and to their former owners if possible.

A task group is the partitions p with the same p % buckets of every topic. One transactional producer writes for it,
so two workers must never share it. The number of buckets is part of the protocol's name, so a broker rejects a
worker with another number. A member that reads only an older format of the state gets nothing while a member with a
newer format is in the group: it could not read what that one writes. `share_task_groups` decides and does nothing else; the class
translates to aiokafka's interface.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from streams.engine.state_store import STATE_FORMAT

_log = structlog.get_logger(__name__)

FIRST_STATE_FORMAT = 1
"""The format of members whose claim names none."""


class MemberClaim(NamedTuple):
    """What a member sends when it joins: its name across restarts, the task groups that it owned last, and the format
    of the state that it reads.
    """

    name: str
    owned: tuple[int, ...] = ()
    state_format: int = FIRST_STATE_FORMAT

    def encoded(self) -> bytes:
        """[name, [bucket, ..., -format]]: a version that knows no format ignores numbers below 0."""
        return msgspec.msgpack.encode((self.name, (*self.owned, -self.state_format)))


def read_claim(encoded: bytes) -> MemberClaim:
    name, numbers = msgspec.msgpack.decode(encoded, type=tuple[str, tuple[int, ...]])
    owned = tuple(number for number in numbers if number >= 0)
    return MemberClaim(
        name, owned, max((-number for number in numbers if number < 0), default=FIRST_STATE_FORMAT)
    )


def newest_state_format(members: Mapping[str, MemberClaim]) -> int:
    return max((claim.state_format for claim in members.values()), default=FIRST_STATE_FORMAT)


def share_task_groups(task_groups: int, members: Mapping[str, MemberClaim]) -> dict[str, list[int]]:
    """Task groups per member id. Equal claims give equal shares, whatever the ids and their order.

    Only members of the newest format get any. Their shares differ by at most one, and no task group moves without
    need: members keep what they owned, up to an even share. If two claim the same task group, the first by name gets
    it.
    """
    if not members:
        return {}
    newest = newest_state_format(members)
    ranked = sorted(
        (member for member, claim in members.items() if claim.state_format == newest),
        key=lambda member: (members[member].name, member),
    )
    least, larger = divmod(task_groups, len(ranked))
    owned: dict[str, list[int]] = {member: [] for member in members}
    free = set(range(task_groups))
    for member in ranked:
        owned[member] = [task_group for task_group in sorted({*members[member].owned}) if task_group in free]
        free.difference_update(owned[member])
    for member in sorted(ranked, key=lambda member: -len(owned[member])):
        even = least + (1 if larger and len(owned[member]) > least else 0)
        larger -= even - least
        free.update(owned[member][even:])
        del owned[member][even:]
    for task_group in sorted(free):
        owned[min(ranked, key=lambda member: len(owned[member]))].append(task_group)
    return {member: sorted(owned) for member, owned in owned.items()}


def partitions_in_task_groups(
    task_groups: int, owned: Collection[int], topics: Mapping[str, int]
) -> dict[str, list[int]]:
    """The partitions in the owned task groups, for each topic and its number of partitions."""
    return {
        topic: [partition for partition in range(count) if partition % task_groups in owned]
        for topic, count in topics.items()
    }


class TaskGroupAssignor(AbstractPartitionAssignor):  # type: ignore[misc] # aiokafka is untyped
    """One class per consumer, from `task_group_assignor`: aiokafka calls it without making an instance."""

    name = ""
    task_groups = 1
    claim = MemberClaim("")

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), cls.claim.encoded())

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = {topic for member in members.values() for topic in member.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        claims = {member: _claim_in_metadata(member, metadata) for member, metadata in members.items()}
        newest = b"%d" % newest_state_format(claims)
        return {
            member: ConsumerProtocolMemberAssignment(
                0, sorted(partitions_in_task_groups(cls.task_groups, owned, counts).items()), newest
            )
            for member, owned in share_task_groups(cls.task_groups, claims).items()
        }

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        owned = {
            partition % cls.task_groups for _, partitions in assignment.assignment for partition in partitions
        }
        cls.claim = cls.claim._replace(owned=tuple(sorted(owned)))
        newest = int(assignment.user_data or FIRST_STATE_FORMAT)
        if newest > cls.claim.state_format:
            _log.warning(
                "this worker gets no partitions: a newer version of Leadstream works in its group; upgrade this worker or stop it",
                state_format=cls.claim.state_format,
                newest=newest,
            )


def task_group_assignor(task_groups: int, worker: str | None = None) -> type[TaskGroupAssignor]:
    """A class for one consumer: it remembers what that one owns. `worker` names it across restarts."""
    return type(
        "TaskGroupAssignor",
        (TaskGroupAssignor,),
        {
            "name": f"leadstream-buckets-{task_groups}",
            "task_groups": task_groups,
            "claim": MemberClaim(worker or "", state_format=STATE_FORMAT),
        },
    )


def _claim_in_metadata(member: str, metadata: ConsumerProtocolMemberMetadata) -> MemberClaim:
    claim = read_claim(metadata.user_data)
    return claim if claim.name else claim._replace(name=member)

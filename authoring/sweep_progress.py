"""How far scoring has come with a publication, partition by partition: pure.

A publication takes effect in each partition by itself, and there visits one lead after the other.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from scoring.models.active import ActiveModels

State = Literal["waiting", "sweeping", "done"]


class Partition(NamedTuple):
    partition: int
    version: int | None
    """Of the model, as this partition has it; None: it never had one."""
    state: State
    cursor: str | None
    """The key of the lead that was visited last, while a sweep is under way."""


class SweepProgress(NamedTuple):
    version: int
    partitions: tuple[Partition, ...]
    visited: int | None
    """The estimated number of leads visited. This and `leads` are None if the sweep is complete: then nothing counts
    leads.
    """
    leads: int | None

    @property
    def done(self) -> int:
        return sum(each.state == "done" for each in self.partitions)

    @property
    def complete(self) -> bool:
        return self.done == len(self.partitions)


def partitions_of(
    shards: Sequence[ActiveModels], tenant: str, model: str, version: int
) -> tuple[Partition, ...]:
    """How far each partition is with a version of the model that is the tenant's own (or everybody's)."""
    return tuple(_partition(number, shard, tenant, model, version) for number, shard in enumerate(shards))


def _partition(number: int, shard: ActiveModels, tenant: str, model: str, version: int) -> Partition:
    active = shard.models.get(tenant, {}).get(model)
    if active is None or active.version < version:
        return Partition(number, active.version if active else None, "waiting", None)
    sweep = shard.sweep
    if sweep is not None and (sweep.tenant, sweep.model) == (tenant, model):
        return Partition(number, active.version, "sweeping", sweep.cursor)
    return Partition(number, active.version, "done", None)


def progress_of(
    partitions: tuple[Partition, ...],
    version: int,
    leads: int | None = None,
    up_to: Mapping[str, int] = MappingProxyType({}),
) -> SweepProgress:
    """`up_to`: by cursor, the number of leads, of all partitions, with a key up to it. Keys are spread evenly, so each
    partition is assumed to have the same share.
    """
    if leads is None:
        return SweepProgress(version, partitions, None, None)
    each = leads / max(len(partitions), 1)
    visited = 0.0
    for partition in partitions:
        match partition.state:
            case "done":
                visited += each
            case "sweeping":
                visited += each * up_to.get(partition.cursor or "", 0) / max(leads, 1)
    return SweepProgress(version, partitions, round(visited), leads)

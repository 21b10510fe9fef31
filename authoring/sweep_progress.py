"""How far scoring has come with a publication, partition by partition: pure.

A publication takes effect in each partition by itself, and there visits one lead after the other.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from scoring.models.active import ActiveModels

PartitionSweepState = Literal["waiting", "sweeping", "done"]


class PartitionProgress(NamedTuple):
    partition: int
    version: int | None
    """Of the model, as this partition has it; None: it never had one."""
    state: PartitionSweepState
    cursor: str | None
    """The key of the lead that was visited last, while a sweep is under way."""


class SweepProgress(NamedTuple):
    version: int
    partitions: tuple[PartitionProgress, ...]
    visited: int | None
    """The estimated number of leads visited. This and `leads` are None if the sweep is complete: then nothing counts
    leads.
    """
    leads: int | None

    @property
    def partitions_done(self) -> int:
        return sum(each.state == "done" for each in self.partitions)

    @property
    def complete(self) -> bool:
        return self.partitions_done == len(self.partitions)


def progress_by_partition(
    shards: Sequence[ActiveModels], tenant: str, model: str, version: int
) -> tuple[PartitionProgress, ...]:
    """How far each partition is with a version of the model that is the tenant's own (or everybody's)."""
    return tuple(
        _progress_of_partition(number, shard, tenant, model, version) for number, shard in enumerate(shards)
    )


def _progress_of_partition(
    number: int, shard: ActiveModels, tenant: str, model: str, version: int
) -> PartitionProgress:
    active = shard.models.get(tenant, {}).get(model)
    if active is None or active.version < version:
        return PartitionProgress(number, active.version if active else None, "waiting", None)
    sweep = shard.sweep
    if sweep is not None and (sweep.tenant, sweep.model) == (tenant, model):
        return PartitionProgress(number, active.version, "sweeping", sweep.cursor)
    return PartitionProgress(number, active.version, "done", None)


def sweep_progress_of(
    partitions: tuple[PartitionProgress, ...],
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

"""How far a publication has come, by hand-made partitions."""

from authoring.sweep_progress import PartitionProgress, progress_by_partition, sweep_progress_of
from scoring.models.active import ActiveModels, ModelVersion, SweepState


def shard(version, sweep=None, tenant="*"):
    return ActiveModels({tenant: {"rules": ModelVersion(version, "text")}}, sweep=sweep)


def test_a_partition_waits_then_sweeps_then_is_done():
    sweep = SweepState("what", "default/l/m", "*", "rules")
    assert progress_by_partition(
        [shard(1), shard(2, sweep), shard(2), ActiveModels({})], "*", "rules", 2
    ) == (
        PartitionProgress(0, 1, "waiting", None),
        PartitionProgress(1, 2, "sweeping", "default/l/m"),
        PartitionProgress(2, 2, "done", None),
        PartitionProgress(3, None, "waiting", None),
    )


def test_the_sweep_of_something_else_does_not_count():
    for other in (
        SweepState("what", "x", "*", "chatbot"),
        SweepState("what", "x", "*", None),
        SweepState("what", "x", "acme", "rules"),
    ):
        assert progress_by_partition([shard(2, other)], "*", "rules", 2)[0].state == "done"


def test_a_partition_that_has_gone_beyond_the_version_is_done():
    assert progress_by_partition([shard(5)], "*", "rules", 2)[0].state == "done"


def test_a_tenants_own_version_is_not_everybodys():
    assert progress_by_partition([shard(2)], "acme", "rules", 2)[0] == PartitionProgress(
        0, None, "waiting", None
    )


def test_visited_leads_are_the_shares_of_the_partitions():
    """Of 400 leads in four partitions: one done (100), one at the key that 100 of the 400 do not exceed
    (a quarter of 100), two waiting.
    """
    partitions = (
        PartitionProgress(0, 2, "done", None),
        PartitionProgress(1, 2, "sweeping", "default/l/c"),
        PartitionProgress(2, 1, "waiting", None),
        PartitionProgress(3, 1, "waiting", None),
    )
    progress = sweep_progress_of(partitions, 2, 400, {"default/l/c": 100})
    assert (progress.visited, progress.leads, progress.partitions_done, progress.complete) == (
        125,
        400,
        1,
        False,
    )


def test_a_complete_sweep_has_visited_every_lead():
    progress = sweep_progress_of((PartitionProgress(0, 2, "done", None),) * 3, 2, 400, {})
    assert (progress.visited, progress.complete) == (400, True)


def test_a_house_without_leads_is_swept_without_a_fault():
    assert sweep_progress_of((PartitionProgress(0, 2, "sweeping", ""),), 2, 0, {"": 0}).visited == 0

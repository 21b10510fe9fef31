"""Which moments of workflows' schedules are to be recorded now. Pure.

The shards know the last moment of each schedule. One that was missed while nothing ran comes late and once: the latest.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from schemas.control import WorkflowsDue
from schemas.moment import millis, moment
from scoring.models.active import ActiveModels
from scoring.workflows.schedule import latest_moment
from scoring.workflows.workflow import ScheduleTrigger
from scoring.workflows.workflow_text import compiled_workflows

RecordedMoments = dict[tuple[str, int], int]
"""By tenant and workflow, the latest moment that this process has recorded: shards may not have folded it yet."""


def due_moments(
    shards: Sequence[ActiveModels], now: datetime, recorded: RecordedMoments
) -> list[WorkflowsDue]:
    """The moments that have come by now, later than the last one of every shard and than those recorded."""
    tenants = sorted({tenant for shard in shards for tenant in shard.workflows})
    return [due for tenant in tenants for due in _due_moments_of_tenant(shards, tenant, now, recorded)]


def _due_moments_of_tenant(
    shards: Sequence[ActiveModels], tenant: str, now: datetime, recorded: RecordedMoments
) -> Iterator[WorkflowsDue]:
    versions = [shard.workflows[tenant].version for shard in shards if tenant in shard.workflows]
    newest = [
        shard
        for shard in shards
        if tenant in shard.workflows and shard.workflows[tenant].version == max(versions)
    ]
    active = newest[0].workflows[tenant]
    zone = max((shard.settings_of(tenant) for shard in newest), key=lambda settings: settings.version).zone
    for workflow in compiled_workflows(active.text, active.folding):
        if not workflow.active or not isinstance(workflow.trigger, ScheduleTrigger):
            continue
        # A shard that missed a record gets it again; the others ignore it.
        last = min(shard.moments.get(tenant, {}).get(workflow.id, millis(now)) for shard in newest)
        after = max(last, recorded.get((tenant, workflow.id), last))
        due = latest_moment(workflow.trigger.schedule, zone, after, millis(now))
        if due is not None:
            yield WorkflowsDue(
                tenant=tenant,
                recorded_at=moment(millis(now)),
                workflow_id=workflow.id,
                scheduled_for=moment(due),
            )

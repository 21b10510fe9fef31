"""What a tenant's leads are scored by: the shared state of a stage-2 shard, compiled.

Nothing here is a default: everything came as control records in the shard's own partition.
"""

from functools import cached_property
from typing import Self

from scoring.workflows.speed_to_lead import SpeedToLead
from scoring.workflows.workflow_plan import WorkflowPlan, workflow_plan
from scoring.workflows.workflow_text import compiled_speed_to_lead
from streams.published import (
    ModelVersion,
    PublishedState,
    SweepState,
    TenantSettings,
    WorkflowsVersion,
    compiled_lifecycle,
    compiled_model,
    compiled_workflows,
)
from streams.score_leads.lead_state import LeadState


class LeadRules:
    """What a tenant's leads are scored by, and the workflows that they set off."""

    def __init__(
        self,
        settings: TenantSettings,
        active: dict[str, ModelVersion],
        workflows: WorkflowsVersion | None = None,
    ) -> None:
        self.zone = settings.zone
        self.idle_ms = settings.idle_ms
        self.lifecycle = compiled_lifecycle(settings.lifecycle)
        self.models = {name: compiled_model(a.text, a.folding) for name, a in active.items()}
        self.versions = {name: a.version for name, a in active.items()}
        self.profile_fields = settings.profile_fields
        self.workflows: WorkflowPlan | None = (
            None
            if workflows is None
            else workflow_plan(workflows.version, compiled_workflows(workflows.text, workflows.folding))
        )
        self.speed_to_lead = SpeedToLead() if workflows is None else compiled_speed_to_lead(workflows.text)
        self._settings, self._workflows = settings, workflows

    @cached_property
    def reading_sessions(self) -> list[str]:
        return [name for name, model in self.models.items() if model.scores_sessions]

    @cached_property
    def without_profiling(self) -> Self:
        """For a lead that objects to profiling: no model scores it, and only people move it from stage to stage."""
        unprofiled = type(self)(self._settings, {}, self._workflows)
        unprofiled.lifecycle = self.lifecycle.without_transitions()
        return unprofiled

    def for_lead(self, state: LeadState) -> Self:
        return self.without_profiling if state.refuses_profiling else self


class PublishedLeadRules(PublishedState):
    """What is published, compiled per tenant; during a sweep also what was active before it."""

    def __init__(self, parts: dict[str, bytes]) -> None:
        super().__init__(parts)
        self._rules: dict[tuple[str, bool], LeadRules] = {}

    def rules(self, tenant: str, *, before_sweep: bool = False) -> LeadRules:
        rules = self._rules.get((tenant, before_sweep))
        if rules is None:
            published = self.published.before_sweep() if before_sweep else self.published
            rules = LeadRules(
                published.settings_of(tenant), published.models_of(tenant), published.workflows.get(tenant)
            )
            self._rules[tenant, before_sweep] = rules
        return rules

    def begin(self, sweep: SweepState) -> None:
        self.sweep(sweep)
        self.refresh()

    def visited(self, cursor: str | None) -> None:
        under_way = self.published.sweep
        if under_way is not None and cursor is not None:
            under_way.cursor = cursor
            self.sweep(under_way)
        else:
            self.sweep(None)
            self.refresh()

    def refresh(self) -> None:
        self._rules.clear()

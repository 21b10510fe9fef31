"""The models, settings and workflows of the leads of one shard, per tenant, and the versions that they have.

Both stages keep this in their shared state; authoring and the gateway read it from there. Pure.
"""

from typing import TypeVar

from msgspec import Struct

from schemas.control import EVERY_TENANT, FieldType
from scoring.features.calendar import Calendar, calendar
from scoring.features.sessions import MINUTE_MS

T = TypeVar("T")

RETIRED_MODEL_TEXT = ""
"""The text of a retired model; its version goes on counting."""


class ModelVersion(Struct, array_like=True, frozen=True):
    """The active version of a model, or RETIRED."""

    version: int
    text: str
    folding: int = 1
    """How it compares texts; see `scoring.features.comparison`."""


class TenantSettings(Struct, array_like=True, frozen=True):
    version: int = 0
    time_zone: str = "UTC"
    idle_minutes: int = 30
    lifecycle: str = ""
    """Its text; none: that of the lifecycle which comes with Leadstream."""
    profile_fields: dict[str, FieldType] = {}
    """The types of the tenant's own profile fields."""
    attribution: str = ""
    """What earns credit for conversions: its text; none: that which comes with Leadstream."""
    consent_required_since: int | None = None
    """Web events that are recorded from then on (ms) need consent."""
    unique_fields: list[str] = []
    """Profile fields of which a person has one value; no fold reads it."""

    @property
    def zone(self) -> Calendar:
        return calendar(self.time_zone)

    @property
    def idle_ms(self) -> int:
        return self.idle_minutes * MINUTE_MS


class WorkflowsVersion(Struct, array_like=True, frozen=True):
    """A tenant's workflows; an empty text has none."""

    version: int
    text: str
    folding: int = 1


class SweepState(Struct, array_like=True):
    """The sweep of one control record: `what` names it, `cursor` is the last key visited. `before`
    is what it replaced: a lead that was not visited yet lives under that.
    """

    what: str
    cursor: str
    tenant: str
    model: str | None
    """None: settings."""
    model_before: ModelVersion | None = None
    settings_before: TenantSettings | None = None
    workflows: bool = False
    """It visits for workflows: a publication, or a moment of a schedule, which replaces nothing."""
    workflows_before: WorkflowsVersion | None = None


class ActiveModels(Struct):
    """Per tenant (`*`: every tenant without its own)."""

    models: dict[str, dict[str, ModelVersion]] = {}
    settings: dict[str, TenantSettings] = {}
    sweep: SweepState | None = None
    workflows: dict[str, WorkflowsVersion] = {}
    moments: dict[str, dict[int, int]] = {}
    """Per tenant and workflow with a schedule: its last moment (ms), or when it was published; only later ones count."""

    def settings_of(self, tenant: str) -> TenantSettings:
        return self.settings.get(tenant) or self.settings.get(EVERY_TENANT) or TenantSettings()

    def models_of(self, tenant: str) -> dict[str, ModelVersion]:
        """The models that score a tenant's leads, by name, in the order of names. A model that the tenant has
        retired no longer scores its leads, also where every other tenant has it.
        """
        models = {**self.models.get(EVERY_TENANT, {}), **self.models.get(tenant, {})}
        return {name: models[name] for name in sorted(models) if models[name].text != RETIRED_MODEL_TEXT}

    def publish_model(self, tenant: str, name: str, new: ModelVersion, what: str = "") -> SweepState | None:
        """Activates a model; returns the sweep that this needs. None if the version is not above the active
        one: two publishers must not make shards differ.
        """
        active = self.models.setdefault(tenant, {}).get(name)
        if active is not None and active.version >= new.version:
            return None
        self.models[tenant][name] = new
        return SweepState(what, "", tenant, name, model_before=active)

    def publish_settings(self, tenant: str, new: TenantSettings, what: str = "") -> SweepState | None:
        """Activates settings; as `publish_model`."""
        active = self.settings.get(tenant)
        if active is not None and active.version >= new.version:
            return None
        self.settings[tenant] = new
        return SweepState(what, "", tenant, None, settings_before=active)

    def publish_workflows(
        self, tenant: str, new: WorkflowsVersion, moments: dict[int, int], what: str = ""
    ) -> SweepState | None:
        """Activates a tenant's workflows, whose schedules have these moments; as `publish_model`."""
        active = self.workflows.get(tenant)
        if active is not None and active.version >= new.version:
            return None
        self.workflows[tenant], self.moments[tenant] = new, moments
        return SweepState(what, "", tenant, None, workflows=True, workflows_before=active)

    def reach_moment(self, tenant: str, workflow_id: int, at: int, what: str = "") -> SweepState | None:
        """A moment of a schedule; None if it is not later than the last one, or there is no such schedule."""
        last = self.moments.get(tenant, {}).get(workflow_id)
        if last is None or at <= last:
            return None
        self.moments[tenant] = {**self.moments[tenant], workflow_id: at}
        return SweepState(what, "", tenant, None, workflows=True, workflows_before=self.workflows.get(tenant))

    def before_sweep(self) -> "ActiveModels":
        """As it was before the sweep under way began."""
        sweep = self.sweep
        if sweep is None:
            return self
        models = {tenant: dict(own) for tenant, own in self.models.items()}
        settings, workflows = dict(self.settings), dict(self.workflows)
        if sweep.workflows:
            _restore_entry(workflows, sweep.tenant, sweep.workflows_before)
        elif sweep.model is None:
            _restore_entry(settings, sweep.tenant, sweep.settings_before)
        else:
            _restore_entry(models[sweep.tenant], sweep.model, sweep.model_before)
        return ActiveModels(models, settings, workflows=workflows)


def _restore_entry(table: dict[str, T], key: str, before: T | None) -> None:
    if before is None:
        table.pop(key, None)
    else:
        table[key] = before

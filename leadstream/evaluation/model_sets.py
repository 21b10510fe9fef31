"""A tenant's active models and settings: as rules, and as the publications that a replay begins with.

A draft can replace the model of its name. A replay of a model set shows the scores as if the whole set had
been active from the first event on.
"""

from typing import NamedTuple

from leadstream.active_models import active_by_shard
from schemas.control import EVERY_TENANT, ModelPublished, SettingsPublished
from schemas.moment import moment, moment_or_none
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from scoring.evaluation.what_if import EvaluationTime
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.models.model import Model, ModelError
from streams.published import ModelVersion, TenantSettings, WorkflowsVersion, compiled_model
from streams.score_leads.lead_rules import LeadRules


class ModelSet(NamedTuple):
    """The settings and models that score a tenant's leads: its own and the shared ones."""

    settings: TenantSettings
    models: dict[str, ModelVersion]
    own: frozenset[str] = frozenset()
    """Names of the tenant's own models: a publication for all tenants does not change them."""
    workflows: WorkflowsVersion | None = None
    """Those of the tenant, which a replay leaves out."""

    @property
    def rules(self) -> LeadRules:
        return LeadRules(self.settings, self.models, self.workflows)

    def when(self, at: int) -> EvaluationTime:
        """The moment, with the time zone and idle time of these settings."""
        return EvaluationTime(at, self.settings.zone, self.settings.idle_ms)

    def with_draft(self, text: str) -> "ModelSet":
        """With the draft instead of the model of its name, or beside the others if there is none. It compares texts as
        after its publication.
        """
        name = compiled_model(text).name
        replaced = self.models.get(name)
        draft = ModelVersion(replaced.version + 1 if replaced else 1, text, NEWEST_COMPARISON.folding)
        return self._replace(models={**self.models, name: draft})

    def genesis(self) -> list[Outgoing]:
        """The records that publish the whole set before the first event."""
        long_ago, settings = moment(0), self.settings
        publications: list[Publication] = [
            SettingsPublished(
                tenant=EVERY_TENANT,
                recorded_at=long_ago,
                version=1,
                time_zone=settings.time_zone,
                idle_minutes=settings.idle_minutes,
                lifecycle=settings.lifecycle,
                profile_fields=settings.profile_fields,
                attribution=settings.attribution,
                consent_required_since=moment_or_none(settings.consent_required_since),
                unique_fields=settings.unique_fields,
            )
        ]
        publications += [
            ModelPublished(
                tenant=EVERY_TENANT,
                recorded_at=long_ago,
                model=name,
                version=1,
                text=active.text,
                folding=active.folding,
            )
            for name, active in sorted(self.models.items())
        ]
        return [record for each in publications for record in publication_records(each)]


def model_set_for(database_url: str, tenant: str) -> ModelSet:
    """The active set in the first partition that scores leads; an empty set before the log has begun."""
    shards = active_by_shard(database_url, first_only=True)
    if not shards:
        return ModelSet(TenantSettings(), {})
    first = shards[0]
    return ModelSet(
        first.settings_of(tenant),
        first.models_of(tenant),
        frozenset(first.models.get(tenant, {})),
        first.workflows.get(tenant),
    )


def compile_draft(text: str, name: str) -> Model:
    """The compiled text, which must be of the model of this name. Raises ModelError."""
    draft = compiled_model(text)
    if draft.name != name:
        raise ModelError(f"the text is of the model {draft.name!r}, not of {name!r}")
    return draft

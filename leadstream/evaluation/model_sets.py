"""What holds for a tenant now: as rules, and as the publications that a replay begins with, also with a
draft in the place of the model whose name it has.

A replay in such a world says what would be if all of it had held from the first event on.
"""

from typing import NamedTuple

from leadstream.active_models import active_by_shard
from schemas.control import EVERY_TENANT, ModelPublished, SettingsPublished
from schemas.moment import moment
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from scoring.evaluation.what_if import EvaluationTime
from scoring.models.model import Model, ModelError
from streams.published import ModelVersion, TenantSettings, compiled
from streams.score_leads.lead_rules import Rules


class ModelSet(NamedTuple):
    """A tenant's settings and models, its own and everybody's."""

    settings: TenantSettings
    models: dict[str, ModelVersion]
    own: frozenset[str] = frozenset()
    """Models that the tenant has of its own: what is published for everybody changes nothing for it."""

    @property
    def rules(self) -> Rules:
        return Rules(self.settings, self.models)

    def when(self, at: int) -> EvaluationTime:
        """A moment as these settings see it."""
        return EvaluationTime(at, self.settings.zone, self.settings.idle_ms)

    def with_draft(self, text: str) -> "ModelSet":
        """The draft in the place of the model that has its name, or beside the others."""
        name = compiled(text).name
        before = self.models.get(name)
        return self._replace(
            models={**self.models, name: ModelVersion(before.version + 1 if before else 1, text)}
        )

    def genesis(self) -> list[Outgoing]:
        """All of it, published before anything happens."""
        long_ago, settings = moment(0), self.settings
        said: list[Publication] = [
            SettingsPublished(
                tenant=EVERY_TENANT,
                recorded_at=long_ago,
                version=1,
                time_zone=settings.time_zone,
                idle_minutes=settings.idle_minutes,
                lifecycle=settings.lifecycle,
            )
        ]
        said += [
            ModelPublished(tenant=EVERY_TENANT, recorded_at=long_ago, model=name, version=1, text=active.text)
            for name, active in sorted(self.models.items())
        ]
        return [record for each in said for record in publication_records(each)]


def model_set_for(database_url: str, tenant: str) -> ModelSet:
    """What the first partition that scores leads holds; nothing, before the log has begun."""
    shards = active_by_shard(database_url, first_only=True)
    if not shards:
        return ModelSet(TenantSettings(), {})
    first = shards[0]
    return ModelSet(
        first.settings_of(tenant), first.models_of(tenant), frozenset(first.models.get(tenant, {}))
    )


def draft_of(text: str, name: str) -> Model:
    """The compiled text, which must be of the model of this name. Raises ModelError."""
    draft = compiled(text)
    if draft.name != name:
        raise ModelError(f"the text is of the model {draft.name!r}, not of {name!r}")
    return draft

"""The active models and settings, as authoring and the gateway read them. They never change them.

The folds' state has the truth, and `leadstream` passes it in. Without that, the built-in models are active: an
untouched log begins with them.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from schemas.control import EVERY_TENANT
from scoring.attribution.attribution_text import compiled_attribution
from scoring.attribution.rules import AttributionRules
from scoring.features.calendar import Calendar, calendar
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.features.profile_fields import NO_DECLARED_FIELDS, FieldTypes
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.active import ActiveModels, ModelVersion
from scoring.models.model import Model, built_in_models, compile_model

MINUTE_MS = 60_000


class ActiveRules(NamedTuple):
    """What one tenant's leads are scored by now, compiled."""

    models: Mapping[str, Model]
    zone: Calendar
    idle_ms: int
    lifecycle: str
    """Its text."""
    profile_fields: FieldTypes = NO_DECLARED_FIELDS
    """The types of the tenant's own profile fields."""
    attribution: AttributionRules = compiled_attribution("")
    """What earns credit for conversions."""


ActiveRulesOf = Callable[[str], Awaitable[ActiveRules]]
"""(tenant) -> what scores its leads now."""


@lru_cache(maxsize=1)
def _built_in_rules() -> ActiveRules:
    models = {name: compile_model(text) for name, text in built_in_models().items()}
    return ActiveRules(models, calendar("UTC"), 30 * MINUTE_MS, built_in_lifecycle())


async def built_in_rules(_tenant: str) -> ActiveRules:
    return _built_in_rules()


def lifecycles_of_scored_tenants(shard: ActiveModels, tenant: str, model: str) -> Iterator[str]:
    """The lifecycles, as texts, of every tenant that the model of this name scores: of its own tenant, or, if it
    is everybody's, of each tenant that has no such model of its own.
    """
    texts = {each: settings.lifecycle for each, settings in shard.settings.items()}
    everybodys = texts.get(EVERY_TENANT, "")
    if tenant != EVERY_TENANT:
        yield texts.get(tenant, everybodys) or built_in_lifecycle()
        return
    for each, text in {EVERY_TENANT: everybodys, **texts}.items():
        if each == EVERY_TENANT or model not in shard.models.get(each, {}):
            yield text or built_in_lifecycle()


class ActiveModelsFilter(NamedTuple):
    """Which part of each shard's ActiveModels is read, beside its sweep."""

    tenants: Collection[str] | None = None
    """Of these tenants; None: of all."""
    model: str | None = None
    """Of this name; None: all."""
    lifecycles: bool = False
    """The settings, too."""
    workflows: bool = False
    """The workflows and their moments, too."""


ReadShards = Callable[[ActiveModelsFilter], Awaitable[Sequence[ActiveModels]]]
"""Every partition of scoring; empty until the first one is known."""


async def built_in_shards(_filter: ActiveModelsFilter) -> Sequence[ActiveModels]:
    return [
        ActiveModels(
            {
                EVERY_TENANT: {
                    name: ModelVersion(1, text, NEWEST_COMPARISON.folding)
                    for name, text in built_in_models().items()
                }
            }
        )
    ]

"""What a tenant's leads are scored by now, as the gateway sees it: it evaluates, it never decides.

The truth is in the log; `leadstream` hands it in. Without that, the shipped models are taken, which is
what an untouched log begins with.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from schemas.control import EVERY_TENANT
from scoring.features.calendar import Calendar, calendar
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.model import Model, built_in_models, compile_model

MINUTE = 60_000


class ActiveRules(NamedTuple):
    models: Mapping[str, Model]
    zone: Calendar
    idle_ms: int
    lifecycle: str
    """Its text."""


Published = Callable[[str], Awaitable[ActiveRules]]
"""(tenant) -> what is in force for it."""


@lru_cache(maxsize=1)
def _shipped() -> ActiveRules:
    models = {name: compile_model(text) for name, text in built_in_models().items()}
    return ActiveRules(models, calendar("UTC"), 30 * MINUTE, built_in_lifecycle())


async def built_in_rules(_tenant: str) -> ActiveRules:
    return _shipped()


class ShardModel(NamedTuple):
    """A model as a shard has it."""

    version: int
    text: str | None
    """None: it is retired."""


class Sweep(NamedTuple):
    """A publication with which a shard visits its leads, one after the other in the order of their keys."""

    tenant: str
    model: str | None
    """None: settings."""
    cursor: str
    """The last key visited."""


class ShardPublications(NamedTuple):
    """How far one partition of scoring has come with publications."""

    models: Mapping[str, Mapping[str, ShardModel]]
    """Per tenant, by name."""
    sweep: Sweep | None = None
    lifecycles: Mapping[str, str] = MappingProxyType({})
    """Per tenant with settings of its own, its lifecycle's text; empty: that of the shipped one."""

    def readers(self, tenant: str, model: str) -> Iterator[str]:
        """The lifecycles, as texts, of whoever is scored by the tenant's model of this name: of the tenant,
        or, if it is everybody's, of each who has none of its own.
        """
        everybodys = self.lifecycles.get(EVERY_TENANT, "")
        if tenant != EVERY_TENANT:
            yield self.lifecycles.get(tenant, everybodys) or built_in_lifecycle()
            return
        for each, text in {EVERY_TENANT: everybodys, **self.lifecycles}.items():
            if each == EVERY_TENANT or model not in self.models.get(each, {}):
                yield text or built_in_lifecycle()


class ShardFilter(NamedTuple):
    """What is to be told of each shard, beside its sweep."""

    tenants: Collection[str] | None = None
    """Whose models; None: everyone's."""
    model: str | None = None
    """Of this name; None: all."""
    lifecycles: bool = False


Shards = Callable[[ShardFilter], Awaitable[Sequence[ShardPublications]]]
"""Every partition of scoring; none while nothing is known of them."""


async def built_in_shards(_wanted: ShardFilter) -> Sequence[ShardPublications]:
    return [
        ShardPublications(
            {EVERY_TENANT: {name: ShardModel(1, text) for name, text in built_in_models().items()}}
        )
    ]

"""What is published for the visitors of a shard, and the signal catalogue of each tenant's models."""

from functools import lru_cache

from scoring.features.signals import SignalCatalogue
from streams.published import (
    PublishedState,
    compiled_model,
)


class PublishedSignals(PublishedState):
    """What is published, and the signal catalogue of each tenant's models."""

    def __init__(self, parts: dict[str, bytes]) -> None:
        super().__init__(parts)
        self._catalogues: dict[str, SignalCatalogue] = {}

    def catalogue(self, tenant: str) -> SignalCatalogue:
        catalogue = self._catalogues.get(tenant)
        if catalogue is None:
            active = sorted(self.published.models_of(tenant).values(), key=lambda each: each.folding)
            catalogue = _catalogue_of_models(tuple((each.text, each.folding) for each in active))
            self._catalogues[tenant] = catalogue
        return catalogue

    def refresh(self) -> None:
        self._catalogues.clear()


@lru_cache(maxsize=64)
def _catalogue_of_models(texts: tuple[tuple[str, int], ...]) -> SignalCatalogue:
    """Of several models with the same signal, one with the newest folding decides."""
    return SignalCatalogue.of([compiled_model(*each) for each in texts])

"""What a tenant's leads are scored by now, as the gateway sees it: it evaluates, it never decides.

The truth is in the log; `leadstream` hands it in. Without that, the shipped models are taken, which is
what an untouched log begins with.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from scoring.calendar import Calendar, calendar
from scoring.model import Model, compile_model, shipped_models

MINUTE = 60_000


class InForce(NamedTuple):
    models: Mapping[str, Model]
    zone: Calendar
    idle_ms: int


Published = Callable[[str], Awaitable[InForce]]
"""(tenant) -> what is in force for it."""


@lru_cache(maxsize=1)
def _shipped() -> InForce:
    models = {name: compile_model(text) for name, text in shipped_models().items()}
    return InForce(models, calendar("UTC"), 30 * MINUTE)


async def shipped(_tenant: str) -> InForce:
    return _shipped()

"""What is published for the tenants of a shard: models and settings, as control records of the log set them.

Both stages keep this in their shard's shared state and change it only by control records, so that
no fold depends on a side table, a setting or a default in the code.
"""

from functools import lru_cache

from msgspec import msgpack

from schemas.decode import Refusal
from scoring.attribution.attribution_text import AttributionError, compiled_attribution
from scoring.features.calendar import calendar
from scoring.features.features import NewerCodec
from scoring.lifecycle.lifecycle import Lifecycle, LifecycleError, built_in_lifecycle, compile_lifecycle
from scoring.models.active import RETIRED_MODEL_TEXT, ActiveModels, ModelVersion, SweepState, TenantSettings
from scoring.models.model import ModelError, compile_model

__all__ = [
    "PUBLISHED_CODEC",
    "RETIRED_MODEL_TEXT",
    "ActiveModels",
    "ModelVersion",
    "PublishedState",
    "SweepState",
    "TenantSettings",
    "body_behind_codec",
    "check_model",
    "check_settings",
    "compiled_lifecycle",
    "compiled_model",
]

PUBLISHED_CODEC = 2
"""2 added the folding of a model: a worker that reads only 1 would forget it, and score otherwise."""

compiled_model = lru_cache(maxsize=256)(compile_model)
"""The model of a text and its folding; texts are few and models immutable."""


@lru_cache(maxsize=64)
def compiled_lifecycle(text: str) -> Lifecycle:
    """The lifecycle of a text; without a text, the one that comes with Leadstream."""
    return compile_lifecycle(text or built_in_lifecycle())


def check_model(name: str, text: str, folding: int) -> None:
    """Raises Refusal for a model that no fold could apply: it becomes a dead letter, never a crash."""
    try:
        model = compiled_model(text, folding)
    except ModelError as error:
        raise Refusal("text", str(error)) from error
    if model.name != name:
        raise Refusal("model", f"the text is of the model {model.name!r}, not of {name!r}")


def check_settings(time_zone: str, lifecycle: str = "", attribution: str = "") -> None:
    """Raises Refusal for settings that no fold could apply."""
    try:
        calendar(time_zone)
    except ValueError as error:
        raise Refusal("time_zone", str(error)) from error
    try:
        compiled_lifecycle(lifecycle)
    except LifecycleError as error:
        raise Refusal("lifecycle", str(error)) from error
    try:
        compiled_attribution(attribution)
    except AttributionError as error:
        raise Refusal("attribution", str(error)) from error


class PublishedState:
    """`ActiveModels` as the shared state of a shard, each text a part of its own. Stages cache what they
    derive from it and forget that in `refresh`.
    """

    SWEEP = "sweep"

    def __init__(self, parts: dict[str, bytes]) -> None:
        self.published = ActiveModels()
        self._changed: set[str] = set()
        for part, stored in parts.items():
            body = body_behind_codec(stored, PUBLISHED_CODEC)
            match part.split(":"):
                case ["model", tenant, name]:
                    model = msgpack.decode(body, type=ModelVersion)
                    self.published.models.setdefault(tenant, {})[name] = model
                case ["settings", tenant]:
                    self.published.settings[tenant] = msgpack.decode(body, type=TenantSettings)
                case [self.SWEEP]:
                    self.published.sweep = msgpack.decode(body, type=SweepState)

    def refresh(self) -> None:
        """Something else is active now."""

    def publish_model(self, tenant: str, name: str, new: ModelVersion, what: str = "") -> SweepState | None:
        sweep = self.published.publish_model(tenant, name, new, what)
        return self._published(f"model:{tenant}:{name}", sweep)

    def publish_settings(self, tenant: str, new: TenantSettings, what: str = "") -> SweepState | None:
        sweep = self.published.publish_settings(tenant, new, what)
        return self._published(f"settings:{tenant}", sweep)

    def _published(self, part: str, sweep: SweepState | None) -> SweepState | None:
        if sweep is not None:
            self._changed.add(part)
            self.refresh()
        return sweep

    def sweep(self, sweep: SweepState | None) -> None:
        """The progress of the sweep; None: it is complete, or there is none."""
        self.published.sweep = sweep
        self._changed.add(self.SWEEP)

    def changes(self) -> dict[str, bytes | None]:
        changed = {part: self._encoded(part) for part in sorted(self._changed)}
        self._changed.clear()
        return changed

    def _encoded(self, part: str) -> bytes | None:
        value: ModelVersion | TenantSettings | SweepState | None
        match part.split(":"):
            case ["model", tenant, name]:
                value = self.published.models[tenant][name]
            case ["settings", tenant]:
                value = self.published.settings[tenant]
            case _:
                value = self.published.sweep
        return None if value is None else bytes([PUBLISHED_CODEC]) + msgpack.encode(value)


def body_behind_codec(stored: bytes, newest: int) -> bytes:
    """The body of a stored part behind its codec version. Raises NewerCodec."""
    if stored[0] > newest:
        raise NewerCodec(
            f"the state was written by a newer version (codec {stored[0]}, this one reads up to {newest}): "
            "upgrade Leadstream, or start that version again"
        )
    return stored[1:]

"""What is published for the tenants of a shard: models and settings, as control records of the log set them.

Both stages keep this in their shard's shared state and change it only by control records, so that
no fold depends on a side table, a setting or a default in the code.
"""

from functools import lru_cache
from typing import TypeVar

from msgspec import Struct, msgpack

from schemas.control import EVERY_TENANT
from schemas.decode import Refusal
from scoring.features.calendar import Calendar, calendar
from scoring.features.features import NewerCodec
from scoring.features.sessions import MINUTE
from scoring.lifecycle.lifecycle import Lifecycle, LifecycleError, built_in_lifecycle, compile_lifecycle
from scoring.models.model import ModelError, compile_model

T = TypeVar("T")

CODEC = 1

compiled = lru_cache(maxsize=256)(compile_model)
"""The model of a text; texts are few and models immutable."""


@lru_cache(maxsize=64)
def compiled_lifecycle(text: str) -> Lifecycle:
    """The lifecycle of a text; without a text, the one that comes with Leadstream."""
    return compile_lifecycle(text or built_in_lifecycle())


def check_model(name: str, text: str) -> None:
    """Raises Refusal for a model that no fold could apply: it becomes a dead letter, never a crash."""
    try:
        model = compiled(text)
    except ModelError as error:
        raise Refusal("text", str(error)) from error
    if model.name != name:
        raise Refusal("model", f"the text is of the model {model.name!r}, not of {name!r}")


def check_settings(time_zone: str, lifecycle: str = "") -> None:
    """Raises Refusal for settings that no fold could apply."""
    try:
        calendar(time_zone)
    except ValueError as error:
        raise Refusal("time_zone", str(error)) from error
    try:
        compiled_lifecycle(lifecycle)
    except LifecycleError as error:
        raise Refusal("lifecycle", str(error)) from error


RETIRED = ""
"""The text of a retired model; its version goes on counting."""


class ModelVersion(Struct, array_like=True, frozen=True):
    """The active version of a model, or RETIRED."""

    version: int
    text: str


class TenantSettings(Struct, array_like=True, frozen=True):
    version: int = 0
    time_zone: str = "UTC"
    idle_minutes: int = 30
    lifecycle: str = ""
    """Its text; none: that of the lifecycle which comes with Leadstream."""

    @property
    def zone(self) -> Calendar:
        return calendar(self.time_zone)

    @property
    def idle_ms(self) -> int:
        return self.idle_minutes * MINUTE


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


class ActiveModels(Struct):
    """Per tenant (`*`: every tenant without its own)."""

    models: dict[str, dict[str, ModelVersion]] = {}
    settings: dict[str, TenantSettings] = {}
    sweep: SweepState | None = None

    def settings_of(self, tenant: str) -> TenantSettings:
        return self.settings.get(tenant) or self.settings.get(EVERY_TENANT) or TenantSettings()

    def models_of(self, tenant: str) -> dict[str, ModelVersion]:
        """The models that score a tenant's leads, by name, in the order of names. A model that the tenant has
        retired no longer scores its leads, also where every other tenant has it.
        """
        models = {**self.models.get(EVERY_TENANT, {}), **self.models.get(tenant, {})}
        return {name: models[name] for name in sorted(models) if models[name].text != RETIRED}

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

    def before_sweep(self) -> "ActiveModels":
        """As it was before the sweep under way began."""
        sweep = self.sweep
        if sweep is None:
            return self
        models = {tenant: dict(own) for tenant, own in self.models.items()}
        settings = dict(self.settings)
        if sweep.model is None:
            _put_back(settings, sweep.tenant, sweep.settings_before)
        else:
            _put_back(models[sweep.tenant], sweep.model, sweep.model_before)
        return ActiveModels(models, settings)


def _put_back(table: dict[str, T], key: str, before: T | None) -> None:
    if before is None:
        table.pop(key, None)
    else:
        table[key] = before


class PublishedState:
    """`ActiveModels` as the shared state of a shard, each text a part of its own. Stages cache what they
    derive from it and forget that in `refresh`.
    """

    SWEEP = "sweep"

    def __init__(self, parts: dict[str, bytes]) -> None:
        self.published = ActiveModels()
        self._changed: set[str] = set()
        for part, stored in parts.items():
            body = read_codec(stored, CODEC)
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
        return None if value is None else bytes([CODEC]) + msgpack.encode(value)


def read_codec(stored: bytes, newest: int) -> bytes:
    """The body of a stored part behind its codec version. Raises NewerCodec."""
    if stored[0] > newest:
        raise NewerCodec(
            f"the state was written by a newer version (codec {stored[0]}, this one reads up to {newest}): "
            "upgrade Leadstream, or start that version again"
        )
    return stored[1:]

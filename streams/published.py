"""What is published for the tenants of a shard: models, settings and workflows, as control records of the log set them; and
who was erased.

Both stages keep this in their shard's shared state and change it only by control records, so that
no fold depends on a side table, a setting or a default in the code.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from msgspec import msgpack

from schemas.decode import Refusal
from scoring.attribution.attribution_text import AttributionError, compiled_attribution
from scoring.experiments.experiment_text import ExperimentError, compiled_experiment
from scoring.features.calendar import calendar
from scoring.features.erased_people import HASH_BYTES, ErasedPeople
from scoring.features.features import NewerCodec
from scoring.lifecycle.lifecycle import Lifecycle, LifecycleError, built_in_lifecycle, compile_lifecycle
from scoring.models.active import (
    RETIRED_MODEL_TEXT,
    ActiveModels,
    ModelVersion,
    SweepState,
    TenantSettings,
    WorkflowsVersion,
)
from scoring.models.model import ModelError, compile_model
from scoring.workflows.schedule import Schedule
from scoring.workflows.workflow import ScheduleTrigger, Workflow
from scoring.workflows.workflow_text import WorkflowsError, compiled_workflows

__all__ = [
    "PUBLISHED_CODEC",
    "RETIRED_MODEL_TEXT",
    "ActiveModels",
    "ModelVersion",
    "PublishedState",
    "SweepState",
    "TenantSettings",
    "WorkflowsVersion",
    "body_behind_codec",
    "check_experiment",
    "check_model",
    "check_settings",
    "check_workflows",
    "compiled_lifecycle",
    "compiled_model",
    "compiled_workflows",
]

PUBLISHED_CODEC = 4
"""2 added the folding of a model, 3 the workflows, 4 from when on consent is required, and who was erased: a worker
that reads less would forget them."""

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


def check_experiment(text: str) -> None:
    """Raises Refusal for an experiment by which nobody could be assigned."""
    try:
        compiled_experiment(text)
    except ExperimentError as error:
        raise Refusal("text", str(error)) from error


def check_workflows(text: str, folding: int) -> None:
    """Raises Refusal for workflows that no fold could apply."""
    try:
        compiled_workflows(text, folding)
    except WorkflowsError as error:
        raise Refusal("text", str(error)) from error


def scheduled_moments(
    before: WorkflowsVersion | None, moments: Mapping[int, int], new: WorkflowsVersion, at: int
) -> dict[int, int]:
    """The last moment of each schedule of the new text: as it was if the schedule did not change, else the publication, so
    that no earlier moment counts.
    """
    old = {} if before is None else _schedules(compiled_workflows(before.text, before.folding))
    return {
        number: moments.get(number, at) if old.get(number) == schedule else at
        for number, schedule in _schedules(compiled_workflows(new.text, new.folding)).items()
    }


def _schedules(workflows: tuple[Workflow, ...]) -> dict[int, Schedule]:
    return {
        workflow.id: workflow.trigger.schedule
        for workflow in workflows
        if workflow.active and isinstance(workflow.trigger, ScheduleTrigger)
    }


class PublishedState:
    """`ActiveModels` as the shared state of a shard, each text a part of its own. Stages cache what they
    derive from it and forget that in `refresh`.
    """

    SWEEP = "sweep"

    def __init__(self, parts: dict[str, bytes]) -> None:
        self.published = ActiveModels()
        self.erased = ErasedPeople()
        self._changed: set[str] = set()
        erased: dict[str, list[bytes]] = {}
        for part, stored in parts.items():
            body = body_behind_codec(stored, PUBLISHED_CODEC)
            match part.split(":"):
                case ["model", tenant, name]:
                    model = msgpack.decode(body, type=ModelVersion)
                    self.published.models.setdefault(tenant, {})[name] = model
                case ["settings", tenant]:
                    self.published.settings[tenant] = msgpack.decode(body, type=TenantSettings)
                case ["workflows", tenant]:
                    self.published.workflows[tenant] = msgpack.decode(body, type=WorkflowsVersion)
                case ["moments", tenant]:
                    self.published.moments[tenant] = msgpack.decode(body, type=dict[int, int])
                case [self.SWEEP]:
                    self.published.sweep = msgpack.decode(body, type=SweepState)
                case ["salt", tenant]:
                    self.erased.remember(tenant, body, ())
                case ["erased", tenant, _]:
                    erased.setdefault(tenant, []).append(body)
        for tenant, groups in erased.items():
            salt = self.erased.salt(tenant)
            if salt is not None:
                self.erased.remember(tenant, salt, _hashes_of_groups(groups))

    def refresh(self) -> None:
        """Something else is active now."""

    def publish_model(self, tenant: str, name: str, new: ModelVersion, what: str = "") -> SweepState | None:
        sweep = self.published.publish_model(tenant, name, new, what)
        return self._published(f"model:{tenant}:{name}", sweep)

    def publish_settings(self, tenant: str, new: TenantSettings, what: str = "") -> SweepState | None:
        sweep = self.published.publish_settings(tenant, new, what)
        return self._published(f"settings:{tenant}", sweep)

    def publish_workflows(
        self, tenant: str, new: WorkflowsVersion, at: int, what: str = ""
    ) -> SweepState | None:
        """`at`: the moment of the publication (ms)."""
        before, last = self.published.workflows.get(tenant), self.published.moments.get(tenant, {})
        moments = scheduled_moments(before, last, new, at)
        sweep = self.published.publish_workflows(tenant, new, moments, what)
        if sweep is not None:
            self._changed.add(f"moments:{tenant}")
        return self._published(f"workflows:{tenant}", sweep)

    def reach_moment(self, tenant: str, workflow_id: int, at: int, what: str = "") -> SweepState | None:
        sweep = self.published.reach_moment(tenant, workflow_id, at, what)
        if sweep is not None:
            self._changed.add(f"moments:{tenant}")
        return sweep

    def remember_erased(self, tenant: str, salt: str, hashes: Iterable[str]) -> None:
        """The people of these hashes were erased. Hashes are stored in groups by their first byte, so that a part stays small."""
        salt_before = self.erased.salt(tenant)
        new = self.erased.remember(tenant, bytes.fromhex(salt), map(bytes.fromhex, hashes))
        if salt_before is None:
            self._changed.add(f"salt:{tenant}")
        self._changed |= {f"erased:{tenant}:{each[:1].hex()}" for each in new}

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
        value: ModelVersion | TenantSettings | WorkflowsVersion | dict[int, int] | SweepState | None
        match part.split(":"):
            case ["model", tenant, name]:
                value = self.published.models[tenant][name]
            case ["settings", tenant]:
                value = self.published.settings[tenant]
            case ["workflows", tenant]:
                value = self.published.workflows[tenant]
            case ["moments", tenant]:
                value = self.published.moments[tenant]
            case ["salt", tenant]:
                return bytes([PUBLISHED_CODEC]) + (self.erased.salt(tenant) or b"")
            case ["erased", tenant, group]:
                first = bytes.fromhex(group)
                hashes = sorted(each for each in self.erased.hashes(tenant) if each.startswith(first))
                return bytes([PUBLISHED_CODEC]) + b"".join(hashes)
            case _:
                value = self.published.sweep
        return None if value is None else bytes([PUBLISHED_CODEC]) + msgpack.encode(value)


def _hashes_of_groups(groups: Iterable[bytes]) -> Iterator[bytes]:
    for group in groups:
        for start in range(0, len(group), HASH_BYTES):
            yield group[start : start + HASH_BYTES]


def body_behind_codec(stored: bytes, newest: int) -> bytes:
    """The body of a stored part behind its codec version. Raises NewerCodec."""
    if stored[0] > newest:
        raise NewerCodec(
            f"the state was written by a newer version (codec {stored[0]}, this one reads up to {newest}): "
            "upgrade Leadstream, or start that version again"
        )
    return stored[1:]

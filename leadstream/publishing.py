"""Publishing a scoring model, or settings: checked, given the next version, appended to every partition at once.

What is published is the whole text, so every later replay finds it in the log.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from leadstream.in_force import held_by_shards
from leadstream.reach import Store
from leadstream.show import Failure
from schemas.control import EVERY_TENANT, ModelPublished, SettingsPublished
from schemas.publications import publication_records
from scoring.calendar import calendar
from scoring.model import ModelError, compile_model, shipped_models
from streams.published import Settings as Held


def model_text(source: str) -> str:
    """The text of a model: of a file, or of a shipped model by its name. Raises Failure."""
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        shipped = shipped_models()
        if source in shipped:
            return shipped[source]
        raise Failure(
            f"{source} is no file and no shipped model: give a .toml file, or one of {', '.join(shipped)}."
        ) from None
    except (OSError, UnicodeDecodeError) as cause:
        raise Failure(f"{source} cannot be read as a text file ({cause}).") from cause


def compiled(source: str) -> tuple[str, str]:
    """(name, text) of a model without a mistake. Raises Failure."""
    text = model_text(source)
    try:
        return compile_model(text).name, text
    except ModelError as refusal:
        raise Failure(f"{source}: {refusal}") from refusal


def publish(
    store: Store, source: str, now: datetime, *, tenant: str = EVERY_TENANT, fire: bool = False
) -> ModelPublished:
    """Returns what was published, once every lead is rescored by it. Raises Failure."""
    name, text = compiled(source)
    store.settle(lambda _: None)
    version = max((held for held, _ in published(store.database_url, tenant, name)), default=0) + 1
    said = ModelPublished(tenant=tenant, recorded_at=now, model=name, version=version, text=text, fire=fire)
    store.append(publication_records(said))
    store.settle(lambda _: None)
    return said


def publish_settings(
    store: Store,
    now: datetime,
    *,
    tenant: str = EVERY_TENANT,
    time_zone: str | None = None,
    idle_minutes: int | None = None,
) -> SettingsPublished:
    """Returns what was published, once every lead is rescored by it; what is not given stays as it is.

    Raises Failure.
    """
    store.settle(lambda _: None)
    shards = held_by_shards(store.database_url)
    held = max((shard.settings_of(tenant) for shard in shards), key=lambda s: s.version, default=Held())
    zone = held.time_zone if time_zone is None else time_zone
    try:
        calendar(zone)
    except ValueError as cause:
        raise Failure(f"{cause}: give a name such as Europe/Berlin.") from cause
    said = SettingsPublished(
        tenant=tenant,
        recorded_at=now,
        version=max((s.settings[tenant].version for s in shards if tenant in s.settings), default=0) + 1,
        time_zone=zone,
        idle_minutes=held.idle_minutes if idle_minutes is None else idle_minutes,
        lifecycle=held.lifecycle,
    )
    store.append(publication_records(said))
    store.settle(lambda _: None)
    return said


def published(database_url: str, tenant: str, model: str) -> Iterator[tuple[int, str]]:
    """(version, text) of the model in force for a tenant, of each shard of each stage."""
    for each in held_by_shards(database_url):
        if (active := each.models.get(tenant, {}).get(model)) is not None:
            yield active.version, active.text

"""Publishes a scoring model or settings: checks them, assigns the next version, and appends to every partition at once.

A publication contains the whole text, so that every later replay reads it from the log.
"""

import asyncio
import getpass
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psycopg

from authoring.active_models import ActiveModelsFilter
from authoring.authoring import Authoring, Publication
from authoring.problem import Problem
from authoring.published_texts import WORKFLOWS, title_of
from authoring.revisions import (
    OtherDraftScheduled,
    OutdatedBasis,
    unknown_model_problem,
    version_diff,
)
from authoring.sweep_progress import progress_by_partition
from leadstream.active_models import active_by_shard, active_models_of_shards, shards_port
from leadstream.clock import utc_now
from leadstream.console import Failure, print_line, print_text
from leadstream.operations.counting_past import count_all
from leadstream.operations.store_access import StoreAccess
from projections.authoring import LOCK_TIMEOUT, Draft, PublishedVersion
from projections.connection import connect_watched
from projections.row_keys import hashed_key
from schemas.control import EVERY_TENANT, FieldType, SettingsPublished
from schemas.envelope import FieldName
from schemas.moment import moment_or_none
from schemas.publications import publication_records
from schemas.record import Outgoing
from scoring.attribution.attribution_text import AttributionError, compile_attribution
from scoring.features.calendar import calendar
from scoring.lifecycle.lifecycle import Lifecycle, LifecycleError, built_in_lifecycle, compile_lifecycle
from scoring.models.model import ModelError, all_models, compile_model
from scoring.models.profile_fields_text import ProfileFieldsError, read_profile_fields
from scoring.workflows.built_in_workflows import built_in_workflows
from scoring.workflows.workflow_text import WorkflowsError, compile_workflows
from streams.published import ActiveModels, TenantSettings, compiled_model

BUILT_IN_TEXT = "default"
NO_UNIQUE_FIELDS = "none"
"""The name of the built-in lifecycle at the command line."""

T = TypeVar("T")


def model_text(source: str) -> str:
    """The text of a model: of a file, or of a built-in model by its name. Raises Failure."""
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        built_in = all_models()
        if source in built_in:
            return built_in[source]
        raise Failure(
            f"{source} is neither a file nor a built-in model: pass a .toml file, or one of {', '.join(built_in)}."
        ) from None
    except (OSError, UnicodeDecodeError) as cause:
        raise Failure(f"{source} cannot be read as a text file ({cause}).") from cause


def checked_model(source: str) -> tuple[str, str]:
    """(name, text) of a model without a mistake. Raises Failure."""
    text = model_text(source)
    try:
        return compile_model(text).name, text
    except ModelError as refusal:
        raise Failure(f"{source}: {refusal}") from refusal


def publish_model(
    store: StoreAccess,
    source: str,
    *,
    tenant: str = EVERY_TENANT,
    fire: bool = False,
    by: str | None = None,
    note: str | None = None,
    at: datetime | None = None,
    based_on: int | None = None,
    from_now: bool = False,
) -> Publication | Draft:
    """Returns the publication once the log has it, or a draft if `at` is later. Raises Failure, also if it is
    `based_on` another version than the newest.
    """
    name, text = checked_model(source)
    store.settle(lambda _: None)
    authoring, by = authoring_of(store), by or operating_user()
    if at is not None and at > utc_now():
        return run_request(
            authoring.schedule(tenant, name, text, at, by=by, note=note, fire=fire, based_on=based_on)
        )
    return run_request(
        authoring.publish(
            tenant,
            name,
            lambda _: text,
            by=by,
            note=note,
            fire=fire,
            based_on=based_on,
            from_now=from_now,
        )
    )


def workflows_text(source: str) -> str:
    """A text of workflows without a mistake: of a file, or a built-in set by its name. Raises Failure."""
    built_in = built_in_workflows()
    if source in built_in and not Path(source).exists():
        return built_in[source]
    text = _text_of_file(source, f"pass a .toml file, or the name of a built-in set: {', '.join(built_in)}")
    try:
        compile_workflows(text, numbered=False)
    except WorkflowsError as refusal:
        raise Failure(f"{source}: {refusal}.") from refusal
    return text


def publish_workflows(
    store: StoreAccess,
    text: str,
    *,
    tenant: str,
    by: str | None = None,
    note: str | None = None,
    at: datetime | None = None,
    based_on: int | None = None,
) -> Publication | Draft:
    """As `publish_model`, for all workflows of a tenant."""
    store.settle(lambda _: None)
    authoring, by = authoring_of(store), by or operating_user()
    if at is not None and at > utc_now():
        return run_request(
            authoring.schedule(tenant, WORKFLOWS, text, at, by=by, note=note, based_on=based_on)
        )
    published = run_request(
        authoring.publish(tenant, WORKFLOWS, lambda _: text, by=by, note=note, based_on=based_on)
    )
    store.settle(lambda _: None)
    return published


def retire_model(
    store: StoreAccess,
    model: str,
    *,
    tenant: str = EVERY_TENANT,
    by: str | None = None,
    note: str | None = None,
    force: bool = False,
) -> Publication:
    """Retires the model, so that it no longer scores. Otherwise as `publish_model`."""
    store.settle(lambda _: None)
    return run_request(
        authoring_of(store).retire(tenant, model, by=by or operating_user(), note=note, force=force)
    )


def settle_sweep(store: StoreAccess, publication: Publication, report: Callable[[float], None]) -> None:
    """Returns when every lead is rescored; reports the share of partitions that are done."""

    def report_share(_left: int) -> None:
        shards = active_models_of_shards(
            store.database_url, ActiveModelsFilter([publication.tenant], publication.model)
        )
        partitions = progress_by_partition(shards, publication.tenant, publication.model, publication.version)
        report(sum(each.state == "done" for each in partitions) / max(len(partitions), 1))

    store.settle(report_share)


def count_earlier_events(store: StoreAccess, publication: Publication) -> list[str]:
    """Counts what is new in earlier events; beside a running server, that does it. Returns lines about it."""
    newest = run_request(authoring_of(store).backfills(publication.tenant, publication.model))
    mine = next((row for row in newest if row.version == publication.version), None)
    if mine is None:
        return []
    names = ", ".join(sorted(set(mine.signals.values())))
    if mine.from_now:
        return [f"Counted from now on only: {names}."]
    if store.address is not None:
        return [f"The server counts in earlier events, too: {names}."]
    count_all(store.database_url, store.append, lambda: store.settle(lambda _: None))
    return [f"Counted in earlier events, too: {names}."]


def authoring_of(store: StoreAccess) -> Authoring:
    """The authoring of models, for a command that publishes."""

    async def append(records: Sequence[Outgoing]) -> None:
        await asyncio.to_thread(store.append, records)

    return Authoring(store.database_url, append, shards_port(store.database_url), utc_now)


def authoring_for_reading(database_url: str) -> Authoring:
    """As `authoring_of`, for a command that appends nothing to the log."""

    async def append(_records: Sequence[Outgoing]) -> None:
        raise Failure("This command publishes nothing.")

    return Authoring(database_url, append, shards_port(database_url), utc_now)


def run_request(request: Coroutine[Any, Any, T]) -> T:
    """The result of a request to the authoring. Raises Failure."""
    with problems_as_failures():
        return asyncio.run(request)


@contextmanager
def problems_as_failures() -> Iterator[None]:
    """Turns the problems that the gateway would answer with into a Failure of one line."""
    try:
        yield
    except OutdatedBasis as late:
        raise Failure(
            f"This is based on version {late.based_on} of {title_of(late.model)}, and version {late.newest} is the newest: "
            f"see `{_diff_command(late.model)} {late.based_on} {late.newest}`, bring that into the text, and "
            f"publish it with --based-on {late.newest}."
        ) from late
    except OtherDraftScheduled as second:
        other = second.other
        raise Failure(
            f"Draft {other.id} of {title_of(other.model)} is scheduled already, for {other.effective_from}, and of two the later "
            f"one would undo the other: `leadstream models discard {other.id}` makes room for this one."
        ) from second
    except Problem as problem:
        raise Failure(f"{problem.reason[:1].upper()}{problem.reason[1:]}.") from problem


def _diff_command(name: str) -> str:
    return "leadstream workflows diff" if name == WORKFLOWS else f"leadstream models diff {name}"


def operating_user() -> str:
    """The user at the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "command line"


def publish_settings(
    store: StoreAccess,
    now: datetime,
    *,
    tenant: str = EVERY_TENANT,
    time_zone: str | None = None,
    idle_minutes: int | None = None,
    lifecycle: str | None = None,
    profile_fields: str | None = None,
    attribution: str | None = None,
    consent_required: bool | None = None,
    unique: Sequence[str] | None = None,
) -> SettingsPublished:
    """Returns the publication once every lead is rescored by it. A setting that is None keeps its value.
    `lifecycle` and `attribution` are files, or BUILT_IN_TEXT; `profile_fields` is a file; `unique` names profile fields, and
    NO_UNIQUE_FIELDS alone means none. Raises Failure.
    """
    text = None if lifecycle is None else lifecycle_text(lifecycle)
    declared = None if profile_fields is None else declared_fields(profile_fields)
    credited = None if attribution is None else attribution_text(attribution)
    unique_fields = None if unique is None else named_unique_fields(unique)
    with _lock_settings(store.database_url):
        return _publish_settings(
            store,
            now,
            tenant,
            time_zone,
            idle_minutes,
            text,
            declared,
            credited,
            required=consent_required,
            unique=unique_fields,
        )


@contextmanager
def _lock_settings(database_url: str) -> Iterator[None]:
    """Keeps others from publishing settings, for any tenant, until the new ones are active."""
    try:
        with connect_watched(database_url, autocommit=True) as connection:
            connection.execute("select set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
            connection.execute("select pg_advisory_lock(%s)", (hashed_key("author of settings"),))
            yield
    except psycopg.errors.LockNotAvailable as cause:
        raise Failure(
            "Another process publishes settings now, so nothing was changed. Try again when it has rescored its leads."
        ) from cause


def _publish_settings(
    store: StoreAccess,
    now: datetime,
    tenant: str,
    time_zone: str | None,
    idle_minutes: int | None,
    text: str | None,
    declared: dict[str, FieldType] | None,
    credited: str | None,
    *,
    required: bool | None,
    unique: list[str] | None,
) -> SettingsPublished:
    store.settle(lambda _: None)
    shards = active_by_shard(store.database_url)
    current = max(
        (shard.settings_of(tenant) for shard in shards), key=lambda s: s.version, default=TenantSettings()
    )
    zone = current.time_zone if time_zone is None else time_zone
    try:
        calendar(zone)
    except ValueError as cause:
        raise Failure(f"{cause}: use a name such as Europe/Berlin.") from cause
    if text is not None:
        check_lifecycle_bands(compile_lifecycle(text), shards[:1], tenant)
    since = moment_or_none(current.consent_required_since)
    if required is not None:
        since = (since or now) if required else None
    settings = SettingsPublished(
        tenant=tenant,
        recorded_at=now,
        version=max((s.settings[tenant].version for s in shards if tenant in s.settings), default=0) + 1,
        time_zone=zone,
        idle_minutes=current.idle_minutes if idle_minutes is None else idle_minutes,
        lifecycle=text or current.lifecycle or built_in_lifecycle(),
        profile_fields=current.profile_fields if declared is None else declared,
        attribution=current.attribution if credited is None else credited,
        consent_required_since=since,
        unique_fields=current.unique_fields if unique is None else unique,
        by=operating_user(),
    )
    store.append(publication_records(settings))
    store.settle(lambda _: None)
    return settings


def named_unique_fields(names: Sequence[str]) -> list[str]:
    """Sorted, each once. Raises Failure for what is no name of a field."""
    if list(names) == [NO_UNIQUE_FIELDS]:
        return []
    for name in names:
        try:
            msgspec.convert(name, FieldName)
        except msgspec.ValidationError as cause:
            raise Failure(
                f"{name!r} is no name of a profile field: small letters, digits and _, beginning with a letter, such as crm_id."
            ) from cause
    return sorted(set(names))


def lifecycle_text(source: str) -> str:
    """The text of a lifecycle without a mistake: of a file, or the built-in one. Raises Failure."""
    if source == BUILT_IN_TEXT:
        return built_in_lifecycle()
    text = _text_of_file(source, f"pass a .toml file, or {BUILT_IN_TEXT} for the built-in lifecycle")
    try:
        compile_lifecycle(text)
    except LifecycleError as refusal:
        raise Failure(f"{source}: {refusal}") from refusal
    return text


def attribution_text(source: str) -> str:
    """The text of attribution without a mistake: of a file, or "" for the built-in one. Raises Failure."""
    if source == BUILT_IN_TEXT:
        return ""
    text = _text_of_file(source, f"pass a .toml file, or {BUILT_IN_TEXT} for the built-in text")
    try:
        compile_attribution(text)
    except AttributionError as refusal:
        raise Failure(f"{source}: {refusal}") from refusal
    return text


def declared_fields(source: str) -> dict[str, FieldType]:
    """The types of profile fields that a file declares. Raises Failure."""
    try:
        return read_profile_fields(_text_of_file(source, "pass a .toml file with the table [profile_fields]"))
    except ProfileFieldsError as refusal:
        raise Failure(f"{source}: {refusal}.") from refusal


def _text_of_file(source: str, advice: str) -> str:
    try:
        return Path(source).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Failure(f"{source} does not exist: {advice}.") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise Failure(f"{source} cannot be read as a text file ({cause}).") from cause


def check_lifecycle_bands(lifecycle: Lifecycle, shards: Sequence[ActiveModels], tenant: str) -> None:
    """Rejects a lifecycle that waits for a band that no active model has. Raises Failure."""
    for shard in shards:
        models = shard.models_of(tenant)
        for qualification in lifecycle.qualifications:
            active = models.get(qualification.model)
            sets = {} if active is None else compiled_model(active.text, active.folding).band_sets
            unknown = [band for band in qualification.bands if band not in sets.get(qualification.scale, ())]
            if unknown:
                raise Failure(
                    f"The lifecycle waits for {qualification.model}, {qualification.scale}: {', '.join(unknown)}, and no active "
                    "model has such bands: correct it, or publish the model first."
                )


def published_versions(database_url: str, tenant: str, name: str, *texts_of: int) -> list[PublishedVersion]:
    """The versions of a model, or of the workflows, newest first, with the texts of some. Raises Failure."""
    versions = run_request(authoring_for_reading(database_url).history(tenant, name, texts_of=texts_of))
    if not versions and name == WORKFLOWS:
        raise Failure(
            f"No workflows are published for {tenant}: `leadstream publish-workflows FILE` publishes a text, or a built-in set "
            "by its name."
        )
    with problems_as_failures():
        if not versions:
            raise unknown_model_problem(name)
    return versions


def print_version_diff(database_url: str, tenant: str, name: str, old: int, new: int) -> None:
    """Prints what changed between two versions of a model, or of the workflows. Raises Failure."""
    with problems_as_failures():
        versions = published_versions(database_url, tenant, name, old, new)
        *headlines, changes = version_diff(versions, name, old, new).split("\n", 2)
    for headline in headlines:
        print_line(headline)  # authors and reasons are texts of others, also in a pipe
    print_text(changes)

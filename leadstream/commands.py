"""What each command does, once its words are understood: it does one thing and says what it did.

Raises Failure for what the user can mend. The manual pages are in `leadstream.cli.root`.
"""

import gzip
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from authoring.authoring import Publication
from gateway.access import TENANT
from gateway.ports import Append
from leadstream import commands_kafka, models, summary, trying
from leadstream.console import (
    Failure,
    print_bytes,
    print_line,
    print_status,
    printable_json,
    progress,
    warn,
)
from leadstream.evaluation import experiment_report as experimenting
from leadstream.experiments_folder import active_experiments
from leadstream.logs import log_from
from leadstream.operations import backup as backups
from leadstream.operations import dead_letters as letters
from leadstream.operations import doctor as checks
from leadstream.operations import explain as explaining
from leadstream.operations import publishing
from leadstream.operations.control_socket import running_server
from leadstream.operations.export import write_events
from leadstream.operations.imports import (
    ImportCounts,
    append_all,
    archived,
    counted,
    import_access_log,
    import_events,
    open_source,
)
from leadstream.operations.migrate_to_kafka import migrate_to_kafka
from leadstream.operations.store_access import StoreAccess, as_served, database_beside, open_store, settle
from leadstream.serving import Beside, ensure_directory, listening, run_gateway
from leadstream.settings import Settings, read_settings, unknown_variables, variable
from leadstream.signals import end_at_once, interrupt
from leadstream.simulation.demo import run_demo
from leadstream.simulation.simulate import simulate as simulated
from leadstream.wiring import (
    STAGES,
    database_server,
    explained,
    open_database,
    open_system,
    ports_open,
    utc_now,
)
from projections.authoring import Draft
from projections.connection import connect
from projections.history import LOSABLE_TABLES
from projections.positions import PositionGapError
from projections.rebuild import HistoryLostError, NothingToRebuildError, Progress, RebuildRunsError
from projections.rebuild import rebuild as rebuild_read_models
from projections.rows import UnreadableRecordError
from projections.source import bound_source
from schemas.control import EVERY_TENANT
from schemas.decode import encode_source
from scoring.lifecycle.lifecycle import compile_lifecycle
from streams.embedded import log

Database = AbstractContextManager[Callable[[], str]]
"""What gives the URL of a database while it is open."""
_NOT_REBUILT = (
    HistoryLostError,
    NothingToRebuildError,
    RebuildRunsError,
    PositionGapError,
    UnreadableRecordError,
)
_REASONS = 3
"""Of many, so many are told."""


def settings_from(**given: object) -> Settings:
    for stray in unknown_variables():
        warn(stray)
    return read_settings(**given)


def is_span(value: str) -> bool:
    return trying.SPAN.fullmatch(value) is not None


def is_tenant(value: str) -> bool:
    return value == EVERY_TENANT or TENANT.fullmatch(value) is not None


# Run


def serve(settings: Settings, *, kafka: bool) -> None:
    settings = commands_kafka.on_kafka(settings) if kafka else settings
    log_from(settings.log_level)
    ensure_directory(settings.data_dir)
    with _until_told(), listening(settings) as taken:
        if settings.kafka is not None:
            commands_kafka.serve(settings, taken)
            return
        with open_system(settings) as system:
            run_gateway(settings, taken, lambda: ports_open(system, settings), _announce(settings))


def _announce(settings: Settings) -> Beside:
    async def announce(_append: Append) -> None:
        where = variable("database_url") if settings.database_url else str(settings.data_dir)
        print_status(f"Leadstream serves {settings.address} (store: {where}). Ctrl-C stops it.")

    return announce


def demo(settings: Settings, *, leads: int, browser: bool) -> None:
    log_from("warning")
    with _until_told():
        run_demo(settings, leads=leads, browser=browser)


@contextmanager
def _until_told() -> Iterator[None]:
    """Being told to stop is how this command ends; also in the background, where SIGINT is inherited as ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt()
        yield
        end_at_once()
    except KeyboardInterrupt:
        end_at_once()
        print_status("Stopped.")


# Run on Kafka


def worker(settings: Settings) -> None:
    log_from(settings.log_level)
    commands_kafka.worker(commands_kafka.on_kafka(settings))


def project(settings: Settings) -> None:
    log_from(settings.log_level)
    with _until_told():
        commands_kafka.project(commands_kafka.on_kafka(settings))


def gateway(settings: Settings) -> None:
    log_from(settings.log_level)
    with _until_told():
        commands_kafka.gateway(commands_kafka.on_kafka(settings))


def create_topics(settings: Settings) -> None:
    log_from("warning")
    commands_kafka.create_topics(commands_kafka.on_kafka(settings))


def check_topics(settings: Settings) -> bool:
    """False if something is wrong."""
    log_from("warning")
    return commands_kafka.check_topics(commands_kafka.on_kafka(settings))


# Bring events in


def import_access_log_from(file: str, settings: Settings, *, tenant: str, site: str) -> None:
    _import(
        file,
        settings,
        lambda lines, store: import_access_log(lines, store.append, utc_now(), tenant=tenant, site=site),
        unit="Page views",
        model="web_session",
    )


def import_events_from(file: str, settings: Settings) -> None:
    region = settings.default_phone_region
    _import(
        file,
        settings,
        lambda lines, store: import_events(lines, store.append, utc_now(), phone_region=region),
        unit="Events",
        model="temperature",
    )


def _import(
    file: str,
    settings: Settings,
    take: Callable[[Iterator[bytes], StoreAccess], ImportCounts],
    *,
    unit: str,
    model: str,
) -> None:
    log_from("warning")
    with open_source(file) as source, open_store(settings) as store:
        before = summary.count_leads(store.database_url)
        with progress(f"Reading {file}", source.size) as report:
            tally = take(source.lines(report), store)
        settle(store)
        summary.print_import(
            tally,
            unit=unit,
            new_leads=summary.count_leads(store.database_url) - before,
            scores=summary.distribution(store.database_url, tally.people, model),
            model=model,
        )
    if tally.lines and not tally.taken:
        raise Failure(f"Nothing in {file} could be imported: see the warnings above.")


def simulate(
    leads: int,
    days: int,
    seed: int,
    until: datetime | None,
    output: Path | None,
    into: Settings | None,
) -> None:
    end = (until or utc_now()).replace(second=0, microsecond=0, tzinfo=UTC)
    events = simulated(seed, leads, days, end)
    if into is None:
        with _opened(output) as file:
            for event in events:
                file.write(encode_source(event) + b"\n")
        return
    log_from("warning")
    now = utc_now()
    with open_store(into) as store:
        with progress(f"Recording {days} days of {leads} leads", None) as report:
            append_all(counted((archived(event, now) for event in events), report), store.append)
        settle(store)
        print_status(f"The store has {summary.count_leads(store.database_url):,} leads now.")


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as plain:
            if path.suffix != ".gz":
                yield plain
                return
            # No name and no time in it: the same events give the same file.
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as packed:
                yield packed  # type: ignore[misc] # it takes bytes like any file
    except OSError as cause:
        raise Failure(f"{path} cannot be written ({cause.strerror}).") from cause


# Take events out


def export(settings: Settings, file: str | None, *, to_kafka: bool) -> None:
    log_from("warning")
    if to_kafka:
        _carry(settings)
        return
    settings = as_served(settings)
    path = None if file in {None, "-"} else Path(file or "-")
    with _database(settings) as url, _opened(path) as to:
        if settings.kafka is not None:
            commands_kafka.tell_unarchived(settings, url)
        tally = write_events(url, to.write if path else lambda line: to.write(printable_json(line)))
    print_status(f"{tally.events:,} events were written.")
    if tally.left_out:
        warn(f"{tally.left_out:,} records cannot be read and were left out: `leadstream dead-letters list`.")


def _carry(settings: Settings) -> None:
    note = running_server(settings.data_dir)
    if note is not None:
        raise Failure(
            f"A server takes events at {note.address} (pid {note.pid}): stop it first, so that none is left behind."
        )
    with _database(settings) as url:
        _require_embedded(url)
        with progress("Carrying events to Kafka", None) as report:
            carried = migrate_to_kafka(commands_kafka.on_kafka(settings), url, report)
    print_line(f"{carried:,} events are in Kafka.")
    print_status("Go on with LEADSTREAM_KAFKA set, and another database for the read models.")


# Look after it


def publish(
    model: str,
    settings: Settings,
    *,
    tenant: str,
    fire: bool,
    by: str | None,
    note: str | None,
    at: datetime | None,
    based_on: int | None,
) -> None:
    log_from("warning")
    publishing.compiled(model)  # before anything is started
    moment = None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    with open_store(settings) as store:
        said = publishing.publish(
            store, model, tenant=tenant, fire=fire, by=by, note=note, at=moment, based_on=based_on
        )
        if isinstance(said, Draft):
            print_line(f"Model {said.model} takes effect at {said.effective_from} (draft {said.id}).")
            return
        if said.unchanged:
            print_line(f"Model {said.model}, version {said.version}, is unchanged: it has this text already.")
            return
        _rescore(store, said)
        print_line(f"Model {said.model}, version {said.version}, is in force.")
        summary.print_moves(store.database_url, said)
        if tenant == EVERY_TENANT:
            models.print_own_models(store.database_url, said.model)


def retire(
    model: str, settings: Settings, *, tenant: str, force: bool, by: str | None, note: str | None
) -> None:
    log_from("warning")
    with open_store(settings) as store:
        said = publishing.retire(store, model, tenant=tenant, force=force, by=by, note=note)
        _rescore(store, said)
        print_line(f"Model {said.model} is retired, as version {said.version}.")


def _rescore(store: StoreAccess, said: Publication) -> None:
    with progress("Rescoring", 1.0) as report:
        publishing.settle_sweep(store, said, report)


def list_models(settings: Settings, tenant: str | None) -> None:
    log_from("warning")
    with _database(settings) as url:
        models.print_models(url, tenant)


def list_versions(settings: Settings, model: str, *, tenant: str) -> None:
    log_from("warning")
    with _database(settings) as url:
        models.print_versions(url, tenant, model)


def show_model(settings: Settings, model: str, version: int | None, *, tenant: str) -> None:
    log_from("warning")
    with _database(settings) as url:
        models.show_text(url, tenant, model, version)


def show_model_difference(settings: Settings, model: str, old: int, new: int, *, tenant: str) -> None:
    log_from("warning")
    with _database(settings) as url:
        models.show_difference(url, tenant, model, old, new)


def list_model_drafts(settings: Settings, tenant: str | None) -> None:
    log_from("warning")
    with _database(settings) as url:
        models.print_drafts(url, tenant)


def discard_model_draft(settings: Settings, number: int) -> None:
    log_from("warning")
    with _database(settings) as url:
        gone = models.discard(url, number)
    print_line(f"Draft {gone.id} of {gone.model} is discarded.")


def what_if(settings: Settings, model: str, *, tenant: str, replay: bool, as_json: bool) -> None:
    log_from("warning")
    with _database(as_served(settings)) as url:
        trying.run_what_if(url, model, tenant=tenant, replay=replay, as_json=as_json)


def backtest(
    settings: Settings,
    models: list[str],
    *,
    tenant: str,
    conversion: str,
    every: str,
    horizon: str,
    capacity: int,
    anonymous: bool,
    as_json: bool,
) -> None:
    log_from("warning")
    with _database(as_served(settings)) as url:
        trying.run_backtest(
            url,
            models,
            tenant=tenant,
            conversion=conversion,
            every=trying.span(every),
            horizon=trying.span(horizon),
            capacity=capacity,
            anonymous=anonymous,
            as_json=as_json,
        )


def publish_settings(
    settings: Settings,
    *,
    tenant: str,
    time_zone: str | None,
    idle_minutes: int | None,
    lifecycle: str | None = None,
) -> None:
    log_from("warning")
    with open_store(settings) as store:
        with progress("Rescoring", None):
            said = publishing.publish_settings(
                store,
                utc_now(),
                tenant=tenant,
                time_zone=time_zone,
                idle_minutes=idle_minutes,
                lifecycle=lifecycle,
            )
        print_line(
            f"Settings, version {said.version}, are in force: days end at midnight in {said.time_zone}, "
            f"sessions after {said.idle_minutes} idle minutes, and stages follow the lifecycle "
            f"{compile_lifecycle(said.lifecycle).name}."
        )


def tell_experiment(settings: Settings, name: str | None, *, tenant: str) -> None:
    """One with its results; without a name, which there are."""
    log_from("warning")
    experiments = active_experiments(settings.experiments)
    if name is None:
        experimenting.print_experiments(experiments)
        return
    experiment = experimenting.experiment_named(experiments, name)
    with _database(settings) as url:
        shown = experimenting.results_of(url, tenant, experiment)
    experimenting.print_results(experiment, shown)


def explain(
    settings: Settings, lead: str, *, tenant: str, model: str | None, as_of: str | None, changes: int
) -> None:
    log_from("warning")
    asked = explaining.ExplainRequest(tenant, lead, model, as_of, changes)
    with _database(as_served(settings)) as url:
        told = explaining.explain(url, asked, utc_now())
    for line in told:
        print_line(line if line.startswith(" ") else (line, "bold"))


def losable(name: str) -> bool:
    """Whether `rebuild --accept-loss` may name it."""
    return name in LOSABLE_TABLES


def rebuild(settings: Settings, accept_loss: Sequence[str]) -> None:
    log_from("warning")
    settings = as_served(settings)
    with _database(settings) as url:
        try:
            with progress("Rebuilding", 1.0) as report:
                told: Progress = lambda done, total: report(done / max(total, 1))  # noqa: E731 - it is handed on
                if settings.kafka is None:
                    _require_embedded(url)
                    kept = rebuild_read_models(url, progress=told, accept_loss=accept_loss)
                else:
                    kept = commands_kafka.rebuild(settings, url, told, accept_loss)
        except _NOT_REBUILT as cause:
            raise Failure(str(cause)) from cause
    print_line("The read models were rebuilt.")
    if kept:
        print_status(
            f"The log no longer holds the beginning of {', '.join(kept)}: their older rows were kept."
        )


def backup(settings: Settings, to: Path, *, base: bool) -> None:
    log_from("warning")
    if base and settings.database_url is not None:
        raise Failure(
            "--base copies the files of an embedded PostgreSQL; for one of your own use its pg_basebackup "
            "(docs/backup.md)."
        )
    with _database(settings, database_server) as url:  # of whatever version it is
        if base:
            backups.copy_files(settings.data_dir, to)
        else:
            backups.dump(url, to)
    print_line(f"The store is in {to}.")


def restore(settings: Settings, dumped: Path) -> None:
    log_from("warning")
    backups.require_dump(dumped)
    ensure_directory(settings.data_dir)
    with database_server(settings) as database, explained(settings):
        backups.load(database(), dumped)
    where = variable("database_url") if settings.database_url else settings.data_dir
    print_line(f"The store of {dumped} is in {where}.")


def list_dead_letters(settings: Settings, *, also_retried: bool) -> None:
    log_from("warning")
    with _database(settings) as url:
        found = letters.waiting_dead_letters(url, also_retried=also_retried)
    for letter in found:
        retried = " (retried)" if letter.retried_at else ""
        why = f"{letter.field}: {letter.reason}" if letter.field else letter.reason
        print_line(f"{letters.place_of(letter)}  {why}{retried}")
    if not found:
        print_status("No dead letters.")
    if len(found) == letters.LISTED:
        print_status(f"Only the first {letters.LISTED} are shown: retry or mend them, and list again.")


def show_dead_letter(settings: Settings, topic: str, partition: int, position: int) -> None:
    log_from("warning")
    with _database(settings) as url:
        letter = letters.dead_letter_at(url, topic, partition, position)
    print_bytes(letter.original)


def retry_dead_letters(settings: Settings, place: tuple[str, int, int] | None, mended: Path | None) -> None:
    """The one at that place; all, if none is named."""
    log_from("warning")
    try:
        value = mended.read_bytes() if mended else None
    except OSError as cause:
        raise Failure(f"{mended} cannot be read ({cause.strerror}).") from cause
    with open_store(settings) as store:
        chosen = (
            letters.all_waiting_dead_letters(store.database_url)
            if place is None
            else [letters.dead_letter_at(store.database_url, *place)]
        )
        sent, stay = letters.retry(store, chosen, utc_now(), value)
    why = "\n".join(stay[:_REASONS])
    if stay and not sent:
        raise Failure(why if len(stay) == 1 else f"None of the {len(stay)} can be sent in again:\n{why}")
    print_line(f"{sent} sent in again.")
    if stay:
        warn(f"{len(stay)} stay:\n{why}")


def skip(settings: Settings, topic: str, partition: int, position: int, reason: str) -> None:
    log_from("warning")
    settings = as_served(settings)
    if settings.kafka is not None:
        commands_kafka.skip(settings, topic, partition, position, reason)
        print_line(
            f"{topic} {partition} {position} will be skipped: by a worker once it starts again, by a projection "
            "within seconds."
        )
        return
    stages = {stage.source: stage.name for stage in STAGES}
    if topic not in stages:
        raise Failure(f"No stage folds {topic}: only records of {' and '.join(stages)} can be skipped.")
    with _database(settings) as url, connect(url) as connection:
        _require_embedded(url)
        try:
            log.skip(connection, stages[topic], topic, partition, position, reason)
        except log.LogRefused as cause:
            raise Failure(str(cause)) from cause
    print_line(f"{topic} {partition} {position} will be passed over.")


def doctor(settings: Settings) -> bool:
    """False if something fails."""
    log_from("warning")
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    failed = False
    for found in checks.findings(settings):
        failed = failed or found.health == "fail"
        remedy = f"  {found.remedy}" if found.remedy else ""
        rest = f"{found.what}: {found.said}.{remedy}".replace("..", ".")
        print_line((f"{found.health:4}", colours[found.health]), f" {rest}")
    return not failed


def show_settings(settings: Settings) -> None:
    for name, setting in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "(not set)" if value in {None, (), ""} else str(value)
        print_line(f"{variable(name)} = {shown}")
        print_line(f"    {setting.description}")


def _require_embedded(database_url: str) -> None:
    with connect(database_url) as connection:
        source = bound_source(connection)
    if source is not None:
        raise Failure(
            f"The log of this store is in Kafka (prefix {source.prefix!r}): set LEADSTREAM_KAFKA to its brokers "
            "(127.0.0.1:9092 if one is on this machine), and LEADSTREAM_KAFKA_PREFIX if there is a prefix."
        )


@contextmanager
def _database(settings: Settings, opened: Callable[[Settings], Database] = open_database) -> Iterator[str]:
    """The URL of the store, whether a server runs or not; if none does, it is `opened`."""
    with explained(settings):
        if settings.database_url is not None or running_server(settings.data_dir) is not None:
            yield database_beside(settings)
            return
        if not (settings.data_dir / "postgres").exists():
            raise Failure(f"There is no store in {settings.data_dir.resolve()}: give the right --data-dir.")
        with opened(settings) as database:
            yield database()

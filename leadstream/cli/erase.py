"""`leadstream erase`, `leadstream erasures` and `leadstream export-person`: a person's rights in their data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    AsJson,
    DatabaseUrl,
    DataDir,
    OnlyTenant,
    Tenant,
    settings_of_store,
)
from leadstream.console import Failure, print_json, print_line, print_records, print_status
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from leadstream.operations.erasing import ErasurePreview
    from leadstream.settings import Settings
    from projections.erasures import Erasure

app = typer.Typer()

LeadName = Annotated[
    str, typer.Argument(help="Id, e-mail address or phone number of the lead.", show_default=False)
]
STEP_TEXTS = {
    "recorded": "The folds have forgotten the person.",
    "emptied": "The rows and records are gone.",
    "done": "The sums and the files are without the person.",
}


@app.command(rich_help_panel=OPERATE)
def erase(
    lead: Annotated[
        str | None, typer.Argument(help="Id, e-mail address or phone number of the lead.", show_default=False)
    ] = None,
    dry_run: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--dry-run", help="Only show what would go.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002 - a switch
    resume: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--resume", help="Finish the erasures that were interrupted.")
    ] = False,
    delete_records: Annotated[
        str | None,
        typer.Option(
            help="On Kafka: delete now what remains of this erasure, with everything that others did before "
            "(docs/privacy.md).",
            show_default=False,
        ),
    ] = None,
    rewrite: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option(
            "--rewrite",
            help="Also write the files of the tables anew; readers wait meanwhile (docs/privacy.md). Without a lead: only this.",
        ),
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Erase a person: the lead, every lead merged with it, and everything that was recorded about them.

    Later events about the person are refused. It cannot be undone, and a
    restored backup does not undo it either. It works with or without a
    running server. `leadstream export-person` writes what there is first.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.erasing import preview_erasure
    from leadstream.operations.named_lead import lead_named
    from leadstream.operations.open_store import open_database_url, settings_as_served

    only_rewrite = rewrite and lead is None and not resume and delete_records is None
    if [lead is not None, resume, delete_records is not None, only_rewrite].count(True) != 1:
        raise Failure("Name one lead, or pass --resume, --delete-records or --rewrite.")
    settings = settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    if delete_records is not None:
        _delete_records(settings, delete_records, sure=yes)
        return
    if only_rewrite:
        _rewrite(settings)
        return
    if lead is None:
        _resume(settings)
        return
    with open_database_url(settings) as url:
        lead_id = lead_named(url, tenant, lead, settings.default_phone_region)
        preview = preview_erasure(url, tenant, lead_id)
    if preview is None:
        raise Failure(f"The tenant {tenant} has no lead {lead_id}.")
    _print_preview(preview)
    if dry_run:
        print_status("Nothing was changed.")
        return
    if not (yes or typer.confirm("Erase this person? It cannot be undone.", err=True)):
        print_status("Nothing was changed.")
        raise typer.Exit(1)
    erasure = _erase(settings, tenant, lead_id, rewrite=rewrite)
    print_line(f"Erased: {erasure.erasure_id}, {sum(erasure.removed.values()):,} rows and records.")
    _print_remains(erasure)
    print_status(f"Finished at {utc_now():%Y-%m-%d %H:%M}Z. `leadstream erasures` lists every erasure.")


def _erase(settings: "Settings", tenant: str, lead_id: str, *, rewrite: bool) -> "Erasure":
    from leadstream.clock import utc_now
    from leadstream.operations.accounts import cli_actor, record_entry
    from leadstream.operations.erasing import finish_erasure, register_erasure
    from leadstream.operations.open_store import open_store
    from leadstream.person_rights import remains_of

    with open_store(settings) as store:
        ledger = settings.erasure_ledger
        erasure = register_erasure(store.database_url, ledger, tenant, lead_id, utc_now(), cli_actor())
        if erasure is None:
            raise Failure("The lead was erased by somebody else a moment ago.")
        record_entry(store.database_url, tenant, "leadstream erase", f"erasure={erasure.erasure_id}")
        return finish_erasure(
            store,
            ledger,
            erasure,
            utc_now,
            lambda step: print_status(STEP_TEXTS[step]),
            remains=remains_of(settings),
            rewrite=rewrite,
        )


def _resume(settings: "Settings") -> None:
    from leadstream.clock import utc_now
    from leadstream.operations.erasing import resume_erasures
    from leadstream.operations.open_store import open_store
    from leadstream.person_rights import remains_of

    with open_store(settings) as store:
        finished = resume_erasures(
            store,
            settings.erasure_ledger,
            utc_now,
            lambda step: print_status(STEP_TEXTS[step]),
            remains=remains_of(settings),
        )
    print_line(f"{finished} erasures were finished." if finished else "No erasure was interrupted.")


def _rewrite(settings: "Settings") -> None:
    from leadstream.operations.erasing import rewrite_files
    from leadstream.operations.open_store import open_database_url

    with open_database_url(settings) as url:
        rewrite_files(url)
    print_line("The files have nothing of deleted rows any more.")


def _delete_records(settings: "Settings", erasure_id: str, *, sure: bool) -> None:
    from leadstream.operations.erased_on_kafka import delete_remaining
    from leadstream.operations.open_store import open_database_url
    from projections import erasures
    from projections.connection import connect_watched
    from projections.table_definition import READ_OPTIONS

    if settings.kafka is None:
        raise Failure(
            "Only a log in Kafka keeps records of erased people: an embedded one has stubs already."
        )
    with open_database_url(settings) as url, connect_watched(url, options=READ_OPTIONS) as connection:
        listed = erasures.read_erasures(connection, erasure_id=erasure_id)
        if not listed or listed[0].step != erasures.DONE:
            raise Failure("No finished erasure has this id: `leadstream erasures` lists them.")
        (erasure,) = listed
        _print_remains(erasure)
        print_status(
            "This deletes every record before these positions, of everybody, not only of the person. Scores and read models "
            "stay. Subscribers of yours that have not read them lose them, and a rebuild keeps the rows that it cannot make again."
        )
        if not (sure or typer.confirm("Delete these records?", err=True)):
            raise typer.Exit(1)
        topics = delete_remaining(settings, erasure)
        erasure.remains = [each for each in erasure.remains if each["topic"] not in topics]
        erasures.save(connection, erasure)
    print_line(f"Deleted from {', '.join(topics)}.")


def _print_preview(preview: "ErasurePreview") -> None:
    person = preview.person
    print_records(
        ("What", "How many"),
        [
            ("leads that are this person", str(len(person.leads))),
            ("identities (browsers, chats, ids)", str(len(person.identities))),
            ("browsers that other people use, too", str(len(person.shared_visitors))),
            *((f"rows of {name}", f"{count:,}") for name, count in sorted(preview.rows.items())),
            *((f"records of {name}", f"{count:,}") for name, count in sorted(preview.records.items())),
        ],
    )
    if person.shared_addresses:
        print_status(
            "Another lead has the same e-mail address or phone number, so events with it are not refused afterwards."
        )


def _print_remains(erasure: "Erasure") -> None:
    if not erasure.remains:
        return
    print_status("Kafka still has records of the person until its retention deletes them:")
    print_records(
        ("Topic", "Partitions", "Gone by"),
        [
            (each["topic"], str(each["partitions"]), each["gone_by"] or "the next compaction")
            for each in erasure.remains
        ],
    )


@app.command("erasures", rich_help_panel=OPERATE)
def list_erasures(
    tenant: OnlyTenant = None,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List the erasures of people. They have no names: only when, by whom, and how far each is."""
    import msgspec

    from leadstream.operations.open_store import open_database_url, settings_as_served
    from projections.connection import connect_watched
    from projections.erasures import erasure_json, read_erasures
    from projections.table_definition import READ_OPTIONS

    settings = settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    with open_database_url(settings) as url, connect_watched(url, options=READ_OPTIONS) as connection:
        listed = read_erasures(connection, tenant=tenant)
    if as_json:
        print_json(msgspec.json.encode([{"tenant": each.tenant, **erasure_json(each)} for each in listed]))
        return
    print_records(
        ("Erasure", "Tenant", "Requested", "By", "Step", "Rows and records"),
        [
            (
                each.erasure_id,
                each.tenant,
                f"{each.requested_at:%Y-%m-%d %H:%M}Z",
                each.requested_by,
                each.step,
                f"{sum(each.removed.values()):,}",
            )
            for each in listed
        ],
    )
    if not listed:
        print_status("Nobody was erased.")


@app.command("export-person", rich_help_panel=OPERATE)
def export_person(
    lead: LeadName,
    file: Annotated[Path, typer.Argument(help="The archive to write, a .zip file.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write everything that is known of a person into one archive, with a README in plain English.

    It has the events as they were recorded, the profile, scores with their
    explanation, sessions, messages, attribution, workflows and mails.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.accounts import record_entry
    from leadstream.operations.named_lead import lead_named
    from leadstream.operations.open_store import open_database_url, settings_as_served
    from leadstream.operations.person_export import write_person

    settings = settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    with open_database_url(settings) as url:
        lead_id = lead_named(url, tenant, lead, settings.default_phone_region)
        files = write_person(url, tenant, lead_id, file, utc_now())
        record_entry(url, tenant, "leadstream export-person", None, lead_id=lead_id)
    print_line(f"{file} has {files} files about this person. It is personal data: pass it to nobody else.")

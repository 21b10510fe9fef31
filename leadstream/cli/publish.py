"""`leadstream publish` and `retire`: which model scores whose leads."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.models import ModelName
from leadstream.cli.options import SCORES, DatabaseUrl, DataDir, TargetTenant, settings_of_store
from leadstream.console import print_facts, print_line, print_status, progress_bar
from schemas.control import EVERY_TENANT
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from authoring.authoring import Publication
    from leadstream.operations.store_access import StoreAccess

app = typer.Typer()

MOST_CHANGES_SHOWN = 10

Note = Annotated[
    str | None, typer.Option("--note", help="Reason, kept in the model's history.", show_default=False)
]
AuthorName = Annotated[
    str | None, typer.Option("--by", help="Name of the author.", show_default="your user name here")
]


@app.command(rich_help_panel=SCORES)
def publish(
    model: Annotated[str, typer.Argument(help="A .toml file, or the name of a built-in model.")],
    tenant: TargetTenant = EVERY_TENANT,
    fire: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--fire", help="Set off the workflows of leads that it moves; shows them first.")
    ] = False,
    note: Note = None,
    by: AuthorName = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Publish at this moment (UTC); a server must run then.", show_default="now"),
    ] = None,
    based_on: Annotated[
        int | None,
        typer.Option(help="Publish only if this is still the newest version.", min=0, show_default=False),
    ] = None,
    from_now: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--from-now", help="Count new signals from now on, and not in earlier events.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Publish a scoring model as its next version, rescore every lead, and show which leads changed most.

    A model with a mistake is rejected with line and reason, and nothing
    changes. To change a model, take its text from `leadstream models show`,
    keep its name, and publish the edited copy with the --based-on that
    `models show` prints: then nobody's edit is lost. To go back to a
    built-in model, publish it by its name.
    """
    from leadstream.operations import publishing
    from leadstream.operations.accounts import note_version, recorded_command
    from leadstream.operations.open_store import open_store
    from projections.authoring import Draft

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    publishing.checked_model(model)  # before anything is started
    moment = None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    with open_store(settings) as store, recorded_command(store.database_url, tenant) as row:
        if fire and at is None and not _fires_as_wanted(store, model, tenant):
            print_line("Nothing is published.")
            return
        publication = publishing.publish_model(
            store,
            model,
            tenant=tenant,
            fire=fire,
            by=by,
            note=note,
            at=moment,
            based_on=based_on,
            from_now=from_now,
        )
        if isinstance(publication, Draft):
            row.after = f"draft {publication.id}"
            print_line(
                f"Model {publication.model} takes effect at {publication.effective_from} (draft {publication.id})."
            )
            return
        name = f"Model {publication.model}, version {publication.version},"
        if publication.unchanged:
            print_line(f"{name} is unchanged: it has this text already.")
            return
        note_version(row, store.database_url, tenant, publication.model, publication.version)
        _rescore(store, publication)
        print_line(f"{name} is active.")
        for line in publishing.count_earlier_events(store, publication):
            print_line(line)
        _print_changes(store.database_url, publication)
        if tenant == EVERY_TENANT:
            _print_tenants_with_own_version(store.database_url, publication.model)


@app.command(rich_help_panel=SCORES)
def retire(
    model: ModelName,
    tenant: TargetTenant = EVERY_TENANT,
    force: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--force", help="Retire it even if the lifecycle reads its bands.")
    ] = False,
    note: Note = None,
    by: AuthorName = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Stop a model from scoring. Its past scores stay in the score history; publish it again to bring it back."""
    from leadstream.operations import publishing
    from leadstream.operations.accounts import note_version, recorded_command
    from leadstream.operations.open_store import open_store

    with (
        open_store(settings_of_store(data_dir=data_dir, database_url=database_url)) as store,
        recorded_command(store.database_url, tenant) as row,
    ):
        publication = publishing.retire_model(store, model, tenant=tenant, force=force, by=by, note=note)
        note_version(row, store.database_url, tenant, publication.model, publication.version)
        _rescore(store, publication)
        print_line(f"Model {publication.model} is retired, as version {publication.version}.")


def _fires_as_wanted(store: "StoreAccess", model: str, tenant: str) -> bool:
    """Shows which workflows the publication would set off, of each tenant; at a terminal it asks whether to go on."""
    from leadstream.active_models import active_by_shard
    from leadstream.clock import now_ms
    from leadstream.evaluation.fire_preview import preview_of_fire
    from leadstream.evaluation.what_if_report import print_workflows_set_off
    from leadstream.operations.publishing import checked_model

    store.settle(lambda _: None)
    name, text = checked_model(model)
    shards = active_by_shard(store.database_url, first_only=True)
    several = [
        each for shard in shards for each in sorted(shard.workflows) if name not in shard.models.get(each, {})
    ]
    fires = False
    for each in several if tenant == EVERY_TENANT else [tenant]:
        *_, result = preview_of_fire(store.database_url, each, name, text, now_ms())
        if not isinstance(result, dict):
            continue
        if tenant == EVERY_TENANT:
            print_line(f"Tenant {each}:")
        print_workflows_set_off(result["workflows"])
        fires = fires or bool(result["workflows"])
    return not (fires and sys.stdin.isatty()) or typer.confirm("Publish, and set these off?", err=True)


def _rescore(store: "StoreAccess", publication: "Publication") -> None:
    from leadstream.operations.publishing import settle_sweep

    with progress_bar("Rescoring", 1.0) as report:
        settle_sweep(store, publication, report)


def _print_changes(database_url: str, publication: "Publication") -> None:
    """The leads whose score a publication changed, largest change first; anonymous visitors are only counted."""
    from projections.connection import connect_watched
    from projections.table_definition import READ_OPTIONS

    cause = f"model:{publication.tenant}:{publication.model}:{publication.version}"
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        changed = connection.execute(
            """select l.identified, l.tenant, l.lead_id, h.previous, h.total
               from score_history h join leads l using (lead_key)
               where h.model = %s and h.version = %s and h.caused_by = %s and h.change <> 0
               order by abs(h.change) desc, l.lead_id""",
            (publication.model, publication.version, cause),
        ).fetchall()
    leads = [row[1:] for row in changed if row[0]]
    anonymous = len(changed) - len(leads)
    print_facts(
        "Changed scores",
        {
            "Leads that rose": sum(total > previous for *_, previous, total in leads),
            "Leads that fell": sum(total < previous for *_, previous, total in leads),
            **({"Anonymous visitors that rose or fell": anonymous} if anonymous else {}),
            **{
                f"  {lead_id if tenant == DEFAULT_TENANT else f'{tenant}/{lead_id}'}": f"{float(previous):g} to {float(total):g}"
                for tenant, lead_id, previous, total in leads[:MOST_CHANGES_SHOWN]
            },
        },
    )


def _print_tenants_with_own_version(database_url: str, model: str) -> None:
    """The tenants that a publication for every tenant does not change."""
    from leadstream.operations.publishing import authoring_for_reading, run_request

    for version in run_request(authoring_for_reading(database_url).newest_of_all_tenants()):
        if version.model == model and version.tenant != EVERY_TENANT:
            what = "has retired it" if version.text is None else f"has its own version {version.version}"
            print_status(f"{version.tenant} {what}; this publication does not change that.")

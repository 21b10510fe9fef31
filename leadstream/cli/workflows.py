"""`leadstream publish-workflows` and `leadstream workflows`: what leads set off, its versions, and a preview.

`workflows` publishes nothing. Texts go to standard output as they are, so that you can edit and publish them again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import SCORES, AsJson, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.cli.publish import AuthorName
from leadstream.console import print_line, print_records, print_status, print_text
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    pass

app = typer.Typer()
workflows = typer.Typer(
    help="What leads set off: e-mails, tasks, owners. Without a command: list the workflows with trigger and action."
)
app.add_typer(workflows, name="workflows", rich_help_panel=SCORES)

WorkflowNote = Annotated[
    str | None, typer.Option("--note", help="Reason, kept in the history.", show_default=False)
]


@app.command("publish-workflows", rich_help_panel=SCORES)
def publish_workflows(
    file: Annotated[str, typer.Argument(help="A .toml file, or the name of a built-in set of workflows.")],
    tenant: Tenant = DEFAULT_TENANT,
    note: WorkflowNote = None,
    by: AuthorName = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Publish at this moment (UTC); a server must run then.", show_default="now"),
    ] = None,
    based_on: Annotated[
        int | None,
        typer.Option(help="Publish only if this is still the newest version.", min=0, show_default=False),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Publish the workflows of a tenant, all in one text. It replaces the text before.

    A text with a mistake is rejected with line and reason, and nothing
    changes. Workflows without an id get one, which is never given again.
    Publishing fires nothing: a workflow fires when something happens
    afterwards. To change workflows, take their text from `leadstream
    workflows show`, and publish the edited copy with the --based-on that
    it prints: then nobody's edit is lost.
    """
    from authoring.published_texts import WORKFLOWS
    from leadstream.operations import publishing
    from leadstream.operations.accounts import note_version, recorded_command
    from leadstream.operations.open_store import open_store
    from projections.authoring import Draft

    text = publishing.workflows_text(file)
    moment = None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
    with (
        open_store(settings_of_store(data_dir=data_dir, database_url=database_url)) as store,
        recorded_command(store.database_url, tenant) as row,
    ):
        published = publishing.publish_workflows(
            store, text, tenant=tenant, by=by, note=note, at=moment, based_on=based_on
        )
        if isinstance(published, Draft):
            row.after = f"draft {published.id}"
        elif not published.unchanged:
            note_version(row, store.database_url, tenant, WORKFLOWS, published.version)
    if isinstance(published, Draft):
        print_line(f"The workflows take effect at {published.effective_from} (draft {published.id}).")
    elif published.unchanged:
        print_line(f"The workflows, version {published.version}, are unchanged: they have this text already.")
    else:
        done = f": {published.change}" if published.change else ""
        print_line(f"The workflows, version {published.version}, are active{done}.")


@workflows.callback(invoke_without_command=True)
def list_workflows(
    context: typer.Context,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List the published workflows, the highest priority first."""
    if context.invoked_subcommand is None:
        _print_workflows(tenant, data_dir, database_url)


@workflows.command("list")
def list_command(
    tenant: Tenant = DEFAULT_TENANT, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """List the published workflows, the highest priority first."""
    _print_workflows(tenant, data_dir, database_url)


@workflows.command("show")
def show(
    version: Annotated[
        int | None, typer.Option(help="Version to show.", min=1, show_default="the newest")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print the text of all workflows to standard output, and the command that publishes an edited copy to standard
    error.
    """
    from authoring.published_texts import WORKFLOWS
    from authoring.revisions import text_of_version
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import problems_as_failures, published_versions

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        newest = published_versions(url, tenant, WORKFLOWS)[0].version
        shown = newest if version is None else version
        with problems_as_failures():
            print_text(text_of_version(published_versions(url, tenant, WORKFLOWS, shown), WORKFLOWS, shown))
    option = "" if tenant == DEFAULT_TENANT else f" --tenant {tenant}"
    print_status(
        f"This is version {shown} of the workflows{'' if shown == newest else f'; the newest is {newest}'}. To publish "
        f"an edited copy: leadstream publish-workflows FILE{option} --based-on {newest}"
    )


@workflows.command("history")
def history(
    tenant: Tenant = DEFAULT_TENANT, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """List the versions of the workflows, newest first: when, by whom, what changed and why."""
    from authoring.published_texts import WORKFLOWS
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import published_versions

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        versions = published_versions(url, tenant, WORKFLOWS)
    _print_records(
        ("Version", "At", "By", "Change", "Reason"),
        [
            (each.version, _moment_text(each.recorded_at), each.by, each.change, each.note)
            for each in versions
        ],
    )


@workflows.command("diff")
def diff(
    old: Annotated[int, typer.Argument(min=1, help="A version.")],
    new: Annotated[int, typer.Argument(min=1, help="A later version.")],
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show what changed between two versions of the workflows."""
    from authoring.published_texts import WORKFLOWS
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import print_version_diff

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        print_version_diff(url, tenant, WORKFLOWS, old, new)


@workflows.command("preview")
def preview(
    file: Annotated[
        str | None,
        typer.Argument(help="A .toml file, or the name of a built-in set.", show_default="what is published"),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3_660, help="Of the last so many days.")] = 30,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show which workflows would have fired in the last days, and for how many leads. Sends and changes nothing.

    It folds every recorded event of the tenant with these workflows, so it
    takes as long as a replay.
    """
    from leadstream.evaluation.workflow_preview_report import print_preview, run_preview
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import workflows_text

    text = None if file is None else workflows_text(file)
    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        newest = _newest_text(url, tenant)
        preview = run_preview(url, tenant, newest if text is None else text, newest, days)
    print_preview(preview, as_json=as_json)


def _print_workflows(tenant: str, data_dir: DataDir, database_url: DatabaseUrl) -> None:
    from leadstream.operations.open_store import open_database_url
    from scoring.editing.workflow_edits import workflows_of
    from scoring.workflows.built_in_workflows import built_in_workflows

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        listed = workflows_of(_newest_text(url, tenant))
    _print_records(
        ("Id", "Name", "Active", "Priority", "Trigger", "Action"),
        [
            (
                each["id"],
                each["name"],
                "yes" if each["is_active"] else "no",
                each["priority"],
                _kind_and_config(each["trigger_type"], each["trigger_config"]),
                _kind_and_config(each["action_type"], each["action_config"]),
            )
            for each in listed
        ],
    )
    if not listed:
        sets = ", ".join(built_in_workflows())
        print_status(
            f"No workflows are published for {tenant}. `leadstream publish-workflows NAME` publishes a built-in set: {sets}."
        )


def _kind_and_config(kind: str, config: dict[str, object]) -> str:
    return " ".join([kind, *(f"{key}={value}" for key, value in config.items())])


def _newest_text(database_url: str, tenant: str) -> str:
    """The newest text; empty if nothing is published."""
    from authoring.published_texts import WORKFLOWS
    from leadstream.operations.publishing import authoring_for_reading, run_request

    newest = run_request(authoring_for_reading(database_url).text(tenant, WORKFLOWS))
    return "" if newest is None else newest[1]


def _moment_text(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print_records(columns, [["" if value is None else str(value) for value in row] for row in rows])

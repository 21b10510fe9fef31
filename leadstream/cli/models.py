"""`leadstream models`: the active models, their versions and what is scheduled.

Publishes nothing. Texts go to standard output as they are, so that you can edit and publish them again.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import SCORES, DatabaseUrl, DataDir, OnlyTenant, TargetTenant, settings_of_store
from leadstream.console import Failure, print_line, print_records, print_status, print_text
from schemas.control import EVERY_TENANT

if TYPE_CHECKING:
    from projections.authoring import Draft

app = typer.Typer()
models = typer.Typer(
    help="The models that score leads. Without a command: list them, with version, author and reason."
)
app.add_typer(models, name="models", rich_help_panel=SCORES)

ModelName = Annotated[str, typer.Argument(help="Name of the model.")]


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    tenant: OnlyTenant = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List the active models: version, tenant (* is every tenant), since when, by whom, and why."""
    if context.invoked_subcommand is None:
        from leadstream.operations.open_store import open_database_url

        with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
            _print_active_models(url, tenant)


@models.command("show")
def show(
    model: ModelName,
    version: Annotated[
        int | None, typer.Option(help="PublishedVersion to show.", min=1, show_default="the newest")
    ] = None,
    tenant: TargetTenant = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print a model's text to standard output, and the command that publishes an edited copy to standard error."""
    from authoring.revisions import text_of_version
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import problems_as_failures, published_versions

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        newest = published_versions(url, tenant, model)[0].version
        shown = newest if version is None else version
        with problems_as_failures():
            print_text(text_of_version(published_versions(url, tenant, model, shown), model, shown))
    option = "" if tenant == EVERY_TENANT else f" --tenant {tenant}"
    print_status(
        f"This is version {shown} of {model}{'' if shown == newest else f'; the newest is {newest}'}. To publish an "
        f"edited copy: leadstream publish FILE{option} --based-on {newest}"
    )


@models.command("versions")
def versions(
    model: ModelName,
    tenant: TargetTenant = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List a model's versions, newest first: when, by whom, what changed and why."""
    from authoring.revisions import author_of_version, reason_of_version
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import published_versions

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        history = published_versions(url, tenant, model)
    _print_records(
        ("Version", "For", "At", "By", "Change", "Reason"),
        [
            (
                each.version,
                each.tenant,
                _moment_text(each.recorded_at),
                author_of_version(each),
                each.change,
                reason_of_version(each) if each.change is None else each.note,
            )
            for each in history
        ],
    )


@models.command("diff")
def diff(
    model: ModelName,
    old: Annotated[int, typer.Argument(min=1, help="A version.")],
    new: Annotated[int, typer.Argument(min=1, help="A later version.")],
    tenant: TargetTenant = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show what changed between two versions of a model, and when, by whom and why each was published."""
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import print_version_diff

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        print_version_diff(url, tenant, model, old, new)


@models.command("drafts")
def drafts(tenant: OnlyTenant = None, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """List what is scheduled, and what could not be published at its time, with the reason."""
    from authoring.published_texts import title_of
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import authoring_for_reading, run_request

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        scheduled = run_request(authoring_for_reading(url).scheduled_or_failed(tenant))
    _print_records(
        ("Draft", "Model", "For", "By", "Note", "Status"),
        [
            (each.id, title_of(each.model), each.tenant, each.by, each.note, _draft_status(each))
            for each in scheduled
        ],
    )


@models.command("discard")
def discard(
    number: Annotated[int, typer.Argument(min=1, help="Number of the draft, as `models drafts` lists it.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Discard a scheduled draft, so that it does not take effect."""
    from authoring.published_texts import title_of
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.publishing import authoring_for_reading, run_request

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        authoring = authoring_for_reading(url)
        draft = next(
            (each for each in run_request(authoring.scheduled_or_failed(None)) if each.id == number), None
        )
        if draft is None:
            raise Failure(f"There is no scheduled draft {number}: `leadstream models drafts` lists them.")
        with recorded_command(url):
            discarded = run_request(authoring.discard_draft(draft.tenant, draft.model, number))
    print_line(f"Draft {discarded.id} of {title_of(discarded.model)} is discarded.")


def _print_active_models(database_url: str, tenant: str | None) -> None:
    """The active models, of one tenant or of all; then what is scheduled and what else can be published by name."""
    from authoring.published_texts import title_of
    from authoring.revisions import author_of_version, reason_of_version
    from leadstream.operations.publishing import authoring_for_reading, run_request
    from scoring.models.model import optional_models

    authoring = authoring_for_reading(database_url)
    newest = (
        run_request(authoring.newest_of_all_tenants())
        if tenant is None
        else list(run_request(authoring.active(tenant)).values())
    )
    active = [version for version in newest if version.text is not None]
    _print_records(
        ("Model", "Version", "For", "Since", "By", "Reason"),
        [
            (
                each.model,
                each.version,
                each.tenant,
                _moment_text(each.recorded_at),
                author_of_version(each),
                reason_of_version(each),
            )
            for each in sorted(active, key=lambda each: (each.model, each.tenant))
        ],
    )
    for draft in run_request(authoring.scheduled_or_failed(tenant)):
        print_status(f"{title_of(draft.model)} for {draft.tenant}, draft {draft.id}: {_draft_status(draft)}")
    for name in sorted(optional_models().keys() - {each.model for each in active}):
        print_status(f"{name} is available, too: leadstream publish {name}")


def _draft_status(draft: "Draft") -> str:
    from projections.authoring import STATE_SCHEDULED

    if draft.state == STATE_SCHEDULED:
        return f"takes effect at {_moment_text(draft.effective_from)}"
    return f"was not published at {_moment_text(draft.effective_from)}: {draft.problem}"


def _moment_text(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print_records(columns, [["" if value is None else str(value) for value in row] for row in rows])

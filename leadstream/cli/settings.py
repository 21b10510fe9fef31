"""`leadstream settings` and `leadstream publish-settings`: settings of a process, and of the scores."""

from typing import Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    SCORES,
    DatabaseUrl,
    DataDir,
    TargetTenant,
    settings_from,
    settings_of_store,
)
from leadstream.console import print_line, progress_bar
from schemas.control import EVERY_TENANT

app = typer.Typer()


@app.command(rich_help_panel=OPERATE)
def settings() -> None:
    """Show every setting with its value and meaning. Secrets are hidden."""
    from leadstream.settings import FIELDS
    from leadstream.variable_names import variable_name

    current = settings_from()
    for name, setting in FIELDS.items():
        value = getattr(current, name)
        shown = "(not set)" if value in {None, (), ""} else str(value)
        print_line(f"{variable_name(name)} = {shown}")
        print_line(f"    {setting.description}")


@app.command(rich_help_panel=SCORES)
def publish_settings(
    time_zone: Annotated[
        str | None, typer.Option(help="Time zone in which days begin and end, e.g. Europe/Berlin.")
    ] = None,
    idle_minutes: Annotated[
        int | None, typer.Option(min=1, max=240, help="A web session ends after so many idle minutes.")
    ] = None,
    lifecycle: Annotated[
        str | None,
        typer.Option(
            help="Rules that move leads between stages: a .toml file, or default for the built-in ones."
        ),
    ] = None,
    profile_fields: Annotated[
        str | None,
        typer.Option(
            help="Types of your own profile fields: a .toml file with the table \\[profile_fields], "
            'e.g. seats = "number".'
        ),
    ] = None,
    attribution: Annotated[
        str | None,
        typer.Option(
            help="What earns credit for conversions: a .toml file, or default for the built-in text."
        ),
    ] = None,
    consent_required: Annotated[
        bool | None,
        typer.Option(
            "--consent-required/--no-consent-required",
            help="From now on, store and count web events of visitors only if they say that the visitor agreed.",
        ),
    ] = None,
    unique: Annotated[
        list[str] | None,
        typer.Option(
            help="A profile field of which a person has one value, e.g. crm_id: two leads with different ones are never made one. "
            "May be repeated, and replaces those of before; none: there are none.",
        ),
    ] = None,
    tenant: TargetTenant = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Publish settings that scores depend on, and rescore every lead.

    Options that you leave out keep their values. Settings are published
    into the log, like models, so that a replay uses them, too. To change
    the lifecycle, copy scoring/lifecycle/default.toml, which explains
    itself, and edit the copy. A lifecycle with a mistake is rejected with
    line and reason. Leads move on to the stages of the new one.

    Types of profile fields decide how the values of later events are read:
    see "Profile fields" in docs/scoring.md. The file replaces all types
    that were declared before.

    To change which events earn credit for conversions, for how long and in
    which channels, copy scoring/attribution/default.toml, which explains
    itself, and edit the copy. It changes no score.

    What consent gates is in docs/consent.md, and what unique fields keep
    apart in docs/producing.md.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_store
    from leadstream.operations.publishing import publish_settings as publish
    from scoring.attribution.attribution_text import compiled_attribution
    from scoring.lifecycle.lifecycle import compile_lifecycle

    with (
        open_store(settings_of_store(data_dir=data_dir, database_url=database_url)) as store,
        recorded_command(store.database_url, tenant) as row,
    ):
        with progress_bar("Rescoring", None):
            published = publish(
                store,
                utc_now(),
                tenant=tenant,
                time_zone=time_zone,
                idle_minutes=idle_minutes,
                lifecycle=lifecycle,
                profile_fields=profile_fields,
                attribution=attribution,
                consent_required=consent_required,
                unique=unique,
            )
        row.target, row.after = "settings", f"version {published.version}"
        print_line(
            f"Settings, version {published.version}, are active: days end at midnight in {published.time_zone}, "
            f"sessions after {published.idle_minutes} idle minutes, and stages follow the lifecycle "
            f"{compile_lifecycle(published.lifecycle).name}."
        )
        if published.attribution:
            print_line(f"Credit for conversions follows {compiled_attribution(published.attribution).name}.")
        if published.consent_required_since is not None:
            since = published.consent_required_since
            print_line(f"Web events need the visitor's consent since {since:%Y-%m-%d %H:%M:%S} UTC.")
        if published.unique_fields:
            print_line(f"A person has one value of {', '.join(published.unique_fields)}.")
        if published.profile_fields:
            declared = ", ".join(f"{name} ({field})" for name, field in published.profile_fields.items())
            print_line(f"Types of profile fields, for events from now on: {declared}.")

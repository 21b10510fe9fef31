"""The command line's part about scores and the models that make them: understand one, try a change,
publish it.
"""

from datetime import datetime
from typing import Annotated

import typer

from leadstream.cli.options import DatabaseUrl, DataDir, Tenant, commands, settings_from, tenant_named
from schemas.control import EVERY_TENANT
from schemas.envelope import DEFAULT_TENANT

SCORES = "Scores, and what makes them"

app = typer.Typer()
published = typer.Typer(help="The models that score leads: list, show, compare versions, discard drafts.")
app.add_typer(published, name="models", rich_help_panel=SCORES)


def _tenant_if_any(value: str | None) -> str | None:
    return None if value is None else tenant_named(value)


def _span(value: str) -> str:
    if not commands.is_span(value):
        raise typer.BadParameter("a number and a unit: 12h, 30d or 4w")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="As JSON, with every number.")]
Whose = Annotated[
    str, typer.Option("--tenant", help="Whose leads it scores; * is everybody's.", callback=tenant_named)
]
ModelName = Annotated[str, typer.Argument(help="Its name.")]
Note = Annotated[str | None, typer.Option("--note", help="Why, for its history.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", help="Who does it.", show_default="who you are here")]


@app.command(rich_help_panel=SCORES)
def explain(
    lead: Annotated[str, typer.Argument(help="Its id, as the board shows it.")],
    model: Annotated[str | None, typer.Option(help="Only this model's score.", show_default=False)] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="A moment, past or future: 2030-01-31, 2030-01-31T12:00.", show_default="now"),
    ] = None,
    changes: Annotated[int, typer.Option(help="How many of the latest changes.", min=0, max=500)] = 10,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Explain a lead: who it is, each score line by line, and what changed it of late.

    The lines add up to the score. Works beside a running server, and without one. A moment to come is evaluated as if
    nothing happened until then.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.explain(settings, lead, tenant=tenant, model=model, as_of=as_of, changes=changes)


@app.command(rich_help_panel=SCORES)
def publish(
    model: Annotated[str, typer.Argument(help="A .toml file, or the name of a shipped model.")],
    tenant: Annotated[
        str, typer.Option(help="Whose leads it scores; * is everybody's.", callback=tenant_named)
    ] = EVERY_TENANT,
    fire: Annotated[bool, typer.Option("--fire", help="Let thresholds that it crosses act.")] = False,  # noqa: FBT002 - typer's way to say --fire
    note: Note = None,
    by: By = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="Not now, but from this moment (UTC); a server must run then.", show_default="now"),
    ] = None,
    based_on: Annotated[
        int | None,
        typer.Option(help="Only if this version is still the newest.", min=0, show_default=False),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Put a scoring model in force, as its next version, rescore every lead, and say who moved.

    A model with a mistake is refused with line and reason, and nothing changes. To change one, take its text from
    `leadstream models show`, keep its name, and publish the copy with the --based-on that it tells, so that nobody's
    edit is lost; its name alone puts the shipped one in force again.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.publish(model, settings, tenant=tenant, fire=fire, by=by, note=note, at=at, based_on=based_on)


@app.command(rich_help_panel=SCORES)
def what_if(
    model: Annotated[str, typer.Argument(help="A .toml file, or the name of a model that comes with it.")],
    tenant: Tenant = DEFAULT_TENANT,
    replay: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--replay", help="Count its signals from the first event on.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show what publishing a model would change: who moves, between which bands, what would fire.

    Nothing is published and nothing written. What the draft counts that no model in force has counted yet is zero, as it is
    after publishing, too; --replay folds the whole archive, with the model in force and with the draft, and compares these.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.what_if(settings, model, tenant=tenant, replay=replay, as_json=as_json)


@app.command(rich_help_panel=SCORES)
def backtest(
    model: Annotated[str, typer.Argument(help="A model in force, by its name, or a .toml file.")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another one, on the same leads; may be given again.", show_default=False),
    ] = None,
    conversion: Annotated[
        str, typer.Option(help="A type of event, custom:NAME, conversion:TYPE, or stage:STAGE.")
    ] = "purchase_made",
    every: Annotated[
        str, typer.Option(help="How far apart the cutoffs are: 12h, 30d, 4w.", callback=_span)
    ] = "30d",
    horizon: Annotated[
        str, typer.Option(help="How long after one a conversion counts.", callback=_span)
    ] = "30d",
    capacity: Annotated[int, typer.Option(help="How many leads could be worked per cutoff.", min=1)] = 50,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Also unidentified visitors.")] = False,  # noqa: FBT002 - a switch
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how well a model would have ranked leads before they converted, on all recorded events.

    At each cutoff the leads that had not converted are ranked by what was recorded until then, and nothing later; who is
    recorded to convert within the horizon is counted: lift by tenths, precision of the first --capacity, AUC. Each model is
    replayed as if it had been in force from the first event on.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.backtest(
        settings,
        [model, *(against or ())],
        tenant=tenant,
        conversion=conversion,
        every=every,
        horizon=horizon,
        capacity=capacity,
        anonymous=anonymous,
        as_json=as_json,
    )


@app.command(rich_help_panel=SCORES)
def retire(
    model: ModelName,
    tenant: Whose = EVERY_TENANT,
    force: Annotated[bool, typer.Option("--force", help="Also a model that the lifecycle reads.")] = False,  # noqa: FBT002 - typer's way to say --force
    note: Note = None,
    by: By = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Let a model score no more. What it said stays in the ledgers; publishing it again brings it back."""
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.retire(model, settings, tenant=tenant, force=force, by=by, note=note)


@published.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    tenant: Annotated[
        str | None,
        typer.Option(
            help="Only what scores this tenant's leads.", callback=_tenant_if_any, show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """The models in force: version, whose leads (* is everybody's), since when, by whom, and why."""
    if context.invoked_subcommand is None:
        commands.list_models(settings_from(data_dir=data_dir, database_url=database_url), tenant)


@published.command("show")
def models_show(
    model: ModelName,
    version: Annotated[
        int | None, typer.Option(help="Not the newest, but this.", min=1, show_default=False)
    ] = None,
    tenant: Whose = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write a model's text to standard output; and what to publish it with, to standard error."""
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.show_model(settings, model, version, tenant=tenant)


@published.command("versions")
def models_versions(
    model: ModelName, tenant: Whose = EVERY_TENANT, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """List a model's versions, newest first: when, by whom, what and why."""
    commands.list_versions(settings_from(data_dir=data_dir, database_url=database_url), model, tenant=tenant)


@published.command("diff")
def models_diff(
    model: ModelName,
    old: Annotated[int, typer.Argument(min=1, help="A version.")],
    new: Annotated[int, typer.Argument(min=1, help="A later one.")],
    tenant: Whose = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show what one version changed in another."""
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.show_model_difference(settings, model, old, new, tenant=tenant)


@published.command("drafts")
def models_drafts(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's.", callback=_tenant_if_any, show_default=False)
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List what is scheduled, and what could not be published when its moment came, and why."""
    commands.list_model_drafts(settings_from(data_dir=data_dir, database_url=database_url), tenant)


@published.command("discard")
def models_discard(
    number: Annotated[int, typer.Argument(min=1, help="As models drafts lists it.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Discard what is scheduled: it takes effect no more."""
    commands.discard_model_draft(settings_from(data_dir=data_dir, database_url=database_url), number)


@app.command(rich_help_panel=SCORES)
def experiment(
    name: Annotated[
        str | None,
        typer.Argument(help="One, with its results; without it, all are listed.", show_default=False),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the experiments there are, or what one has shown so far: rates, intervals, lift.

    Each lead counts for the variant that it saw first. p is the probability of such a difference if there is none; * marks
    less than 5%. Experiments of your own are .toml files in the folder LEADSTREAM_EXPERIMENTS.
    """
    commands.tell_experiment(settings_from(data_dir=data_dir, database_url=database_url), name, tenant=tenant)


@app.command(rich_help_panel=SCORES)
def publish_settings(
    time_zone: Annotated[str | None, typer.Option(help="Where days begin and end: Europe/Berlin.")] = None,
    idle_minutes: Annotated[
        int | None, typer.Option(min=1, max=240, help="How long a web session may be quiet.")
    ] = None,
    lifecycle: Annotated[
        str | None,
        typer.Option(help="What moves leads from stage to stage: a .toml file, or default: the shipped one."),
    ] = None,
    tenant: Annotated[
        str, typer.Option(help="Whose; * is everybody's.", callback=tenant_named)
    ] = EVERY_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Put settings in force that scores depend on, and rescore every lead.

    What is not given stays as it is. They are published like models, into the log, so that a replay finds them. To
    change the lifecycle, copy scoring/lifecycle/default.toml, which explains itself; one with a mistake is refused
    with line and reason. Leads move on to where the new one takes them.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.publish_settings(
        settings, tenant=tenant, time_zone=time_zone, idle_minutes=idle_minutes, lifecycle=lifecycle
    )

"""`leadstream experiment`: the active experiments, and the results of one."""

from typing import Annotated

import typer

from leadstream.cli.options import SCORES, DatabaseUrl, DataDir, Tenant, settings_of_store
from schemas.envelope import DEFAULT_TENANT

app = typer.Typer()


@app.command(rich_help_panel=SCORES)
def experiment(
    name: Annotated[
        str | None,
        typer.Argument(help="Show the results of this experiment. Without it, list all.", show_default=False),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List the experiments, or show the results of one: conversion rates, confidence intervals and lift.

    Each lead counts for the variant that it saw first. p is the probability
    of a difference this large if the variants are equally good; * marks p
    below 5%. Put your own experiments as .toml files into the folder
    LEADSTREAM_EXPERIMENTS.
    """
    from leadstream.evaluation import experiment_report
    from leadstream.experiments_folder import active_experiments
    from leadstream.operations.open_store import open_database_url

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    experiments = active_experiments(settings.experiments)
    if name is None:
        experiment_report.print_experiments(experiments)
        return
    chosen = experiment_report.experiment_named(experiments, name)
    with open_database_url(settings) as url:
        results = experiment_report.results_of(url, tenant, chosen)
    experiment_report.print_results(chosen, results)

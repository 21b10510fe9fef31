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
    below 5%. Write experiments on the page /experiments, or put them as .toml
    files into the folder LEADSTREAM_EXPERIMENTS.
    """
    from authoring.experiment_texts import experiments_by_name
    from leadstream.evaluation import experiment_report
    from leadstream.experiments_folder import initial_texts
    from leadstream.operations.open_store import has_store, open_database_url
    from leadstream.published_experiments import read_published_experiments

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    initial = initial_texts(settings.experiments)
    if not has_store(settings):
        active = experiments_by_name(initial, [])
        if name is None:
            experiment_report.print_experiments(active)
            return
        experiment_report.experiment_named(active, name)
    with open_database_url(settings) as url:
        published = read_published_experiments(url, tenant).get(tenant, [])
        active = experiments_by_name(initial, published)
        if name is None:
            experiment_report.print_experiments(active)
            return
        chosen = experiment_report.experiment_named(active, name)
        results = experiment_report.results_of(url, tenant, chosen)
    experiment_report.print_results(chosen, results)

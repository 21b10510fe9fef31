"""Prints experiments on the command line: the list of them, and the results of one.

It reads the same tables and computes the same results as /api/experiments.
"""

from collections.abc import Mapping

from psycopg.rows import class_row

from leadstream.console import Failure, print_status, print_table, print_warning
from projections import experiments as experiment_queries
from projections.connection import connect_watched
from projections.queries import sql_and_parameters
from projections.table_definition import READ_OPTIONS
from scoring.experiments.assignment import Experiment
from scoring.experiments.proportions import Interval
from scoring.experiments.results import (
    SIGNIFICANT_P_VALUE,
    ExperimentResults,
    Exposure,
    GoalConversion,
    GoalResult,
    SampleSize,
    experiment_results,
)

NO_VALUE = "-"


def experiment_named(experiments: Mapping[str, Experiment], name: str) -> Experiment:
    """Raises Failure."""
    experiment = experiments.get(name)
    if experiment is None:
        raise Failure(f"No experiment is named {name!r}: there are {', '.join(sorted(experiments))}.")
    return experiment


def print_experiments(experiments: Mapping[str, Experiment]) -> None:
    rows = [
        (
            each.name,
            each.status,
            " / ".join(f"{variant.name} {variant.weight:.0%}" for variant in each.variants),
            f"{each.coverage:.0%}",
            each.about,
        )
        for _, each in sorted(experiments.items())
    ]
    print_table("", ("experiment", "status", "variants", "coverage", "about"), rows, "lllll")


def results_of(database_url: str, tenant: str, experiment: Experiment) -> ExperimentResults:
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        exposed = connection.cursor(row_factory=class_row(Exposure))
        exposures = exposed.execute(
            *sql_and_parameters(experiment_queries.select_exposures(tenant, experiment.name))
        ).fetchall()
        converted = connection.cursor(row_factory=class_row(GoalConversion))
        conversions = converted.execute(
            *sql_and_parameters(experiment_queries.select_conversions(tenant, experiment))
        ).fetchall()
    return experiment_results(experiment, exposures, conversions)


def print_results(experiment: Experiment, shown: ExperimentResults) -> None:
    print_status(f"{experiment.name} ({experiment.status}): {experiment.about}".rstrip(": "))
    if shown.since is None or shown.until is None:
        print_status("No lead has been exposed to it yet.")
    else:
        print_status(
            f"{shown.exposed:,} leads, first exposed from {shown.since:%Y-%m-%d %H:%M} to {shown.until:%Y-%m-%d %H:%M} "
            f"(UTC); conversions count for {experiment.window_days} days."
        )
    rows = [
        (
            goal.name,
            each.variant,
            f"{each.exposed:,}",
            f"{each.goals[goal.name].converted:,}",
            *_rate_cells(each.goals[goal.name]),
        )
        for goal in experiment.goals
        for each in shown.variants
    ]
    columns = ("goal", "variant", "leads", "reached it", "rate", "95% interval", "lift", "p")
    print_table("", columns, rows, "llllllll")
    for goal, needed in shown.needed.items():
        _print_sample_size(goal, needed)
    _print_warnings(shown)


def _rate_cells(reached: GoalResult) -> tuple[str, str, str, str]:
    if reached.rate is None or reached.interval is None:
        return NO_VALUE, NO_VALUE, NO_VALUE, NO_VALUE
    against = reached.against_control
    if against is None:
        return f"{reached.rate:.1%}", _interval_text(reached.interval), NO_VALUE, NO_VALUE
    shown_lift = NO_VALUE if against.lift is None else f"{against.lift:+.1%}"
    sure = " *" if against.p < SIGNIFICANT_P_VALUE else ""
    return f"{reached.rate:.1%}", _interval_text(reached.interval), shown_lift, f"{against.p:.2g}{sure}"


def _interval_text(interval: Interval) -> str:
    low, high = interval
    return f"{low:.1%} to {high:.1%}"


def _print_sample_size(goal: str, needed: SampleSize) -> None:
    if needed.each is None:
        return
    more = f"{needed.more:,} more to come" if needed.more else "they are there"
    print_status(
        f"{goal}: a lift of {needed.lift:.0%} shows with {needed.each:,} leads in each variant ({more})."
    )


def _print_warnings(shown: ExperimentResults) -> None:
    if shown.balance.verdict == "mismatch":
        print_warning(
            f"The leads are not spread as the weights require (p = {shown.balance.p:.1g}): leads of one variant are "
            "missing. Find the cause before you trust any rate."
        )
    for each in shown.variants:
        if each.saw_several:
            print_status(
                f"{each.saw_several:,} of the leads of {each.variant} saw another variant later, and count for {each.variant}: "
                + "; ".join(_pure_rate_text(goal, reached) for goal, reached in each.goals.items())
            )
    if shown.unknown:
        print_status(
            f"{shown.unknown:,} leads first saw a variant that the experiment no longer has, and are left out."
        )


def _pure_rate_text(goal: str, reached: GoalResult) -> str:
    rate = NO_VALUE if reached.pure_rate is None else f"{reached.pure_rate:.1%}"
    return f"{goal}, reached by {reached.saw_several:,} of them, {rate} without them"

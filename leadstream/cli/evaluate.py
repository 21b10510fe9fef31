"""`leadstream what-if` and `leadstream backtest`: evaluate models without publishing them.

Both read one moment of the store and write nothing into it.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadstream.cli.options import SCORES, AsJson, DatabaseUrl, DataDir, Tenant, settings_of_store
from leadstream.console import Failure, print_json, print_status, progress_bar
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from gateway.ports import StepsDone
    from leadstream.evaluation.backtest import BacktestPlan, Contender, RankedCutoff
    from leadstream.evaluation.backtest_plan import RequestedPlan
    from leadstream.evaluation.model_sets import ModelSet

app = typer.Typer()

_DURATION = re.compile(r"([1-9]\d{0,4})([hdw])")
_HOURS_OF_UNIT = {"h": 1, "d": 24, "w": 24 * 7}
_DAY_MS = 24 * 3_600_000
"""Milliseconds."""


def _checked_duration(value: str | None) -> str | None:
    if value is not None and _DURATION.fullmatch(value) is None:
        raise typer.BadParameter("give a number and a unit: 12h, 30d or 4w")
    return value


def _timedelta_of(duration: str | None) -> timedelta | None:
    if duration is None:
        return None
    number, unit = duration[:-1], duration[-1]
    return timedelta(hours=int(number) * _HOURS_OF_UNIT[unit])


@app.command(rich_help_panel=SCORES)
def what_if(
    model: Annotated[str, typer.Argument(help="A .toml file, or the name of a built-in model.")],
    tenant: Tenant = DEFAULT_TENANT,
    replay: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option("--replay", help="Replay all events, so that new signals count from the first event."),
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show what publishing a model would change: which scores, which bands, and which actions it would trigger.

    Publishes and writes nothing. Signals that no active model has counted
    yet start at zero, as they would after publishing. With --replay, all
    archived events are scored twice, with the active model and with the
    draft, and the results are compared.
    """
    from leadstream.clock import now_ms
    from leadstream.evaluation.what_if import what_if as compare
    from leadstream.evaluation.what_if_report import print_what_if
    from leadstream.operations.open_store import open_database_url, settings_as_served
    from leadstream.operations.publishing import checked_model

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    with open_database_url(settings_as_served(settings)) as url:
        _require_single_tenant(tenant)
        name, text = checked_model(model)
        steps = compare(url, tenant, name, text, now_ms(), replay=replay)
        comparison = _result_of(steps, f"{'Replaying' if replay else 'Evaluating'} {name}")
    if as_json:
        _print_json(comparison)
    else:
        print_what_if(comparison)


@app.command(rich_help_panel=SCORES)
def backtest(
    model: Annotated[str, typer.Argument(help="Name of an active model, or a .toml file.")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another model for the same leads. May be repeated.", show_default=False),
    ] = None,
    conversion: Annotated[
        str | None,
        typer.Option(
            help="What counts: an event type, custom:NAME, conversion:TYPE, or stage:STAGE.",
            show_default="the first of purchase, meeting, demo, form and contact that at least 10 leads did",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help="Time between two cutoffs: 12h, 30d, 4w.",
            callback=_checked_duration,
            show_default="fits the archive, at most 30d",
        ),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option(
            help="Time after a cutoff in which a conversion counts.",
            callback=_checked_duration,
            show_default="as --every",
        ),
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(
            help="Number of leads that sales can contact per cutoff.",
            min=1,
            show_default="a tenth of the leads, at most 50",
        ),
    ] = None,
    anonymous: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--anonymous", help="Include unidentified visitors.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Measure how well a model would have ranked leads before they converted, on all recorded events.

    At each cutoff, the leads that had not converted are ranked by what was
    recorded until then. The report counts which of them converted within
    the horizon: lift by tenths, precision of the first --capacity leads,
    and AUC. Each model is replayed as if it had been active from the first
    event on. The defaults fit the archive, and the report names them.
    """
    from leadstream.evaluation.backtest import backtest_result
    from leadstream.evaluation.backtest_plan import RequestedPlan, options_of
    from leadstream.evaluation.backtest_report import print_backtest
    from leadstream.evaluation.model_sets import model_set_for
    from leadstream.operations.open_store import open_database_url, settings_as_served

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    wishes = RequestedPlan(conversion, _timedelta_of(every), _timedelta_of(horizon), capacity, anonymous)
    with open_database_url(settings_as_served(settings)) as url:
        _require_single_tenant(tenant)
        base = model_set_for(url, tenant)
        contenders = _contenders_of(base, [model, *(against or ())])
        plan, events, cutoffs = _run_backtest(url, tenant, contenders, base, wishes)
    if not cutoffs:
        raise Failure(
            f"There is no cutoff with a whole horizon at which a lead had not converted yet ({options_of(plan)}): the first "
            "one is --every after the first event of these leads. Give a shorter --every or --horizon, or another "
            "--conversion."
        )
    report: dict[str, Any] = {
        "tenant": tenant,
        "conversion": str(plan.conversion),
        "every_days": plan.every / _DAY_MS,
        "horizon_days": plan.horizon / _DAY_MS,
        "capacity": plan.capacity,
        "anonymous": anonymous,
        "events": events,
        **backtest_result(cutoffs),
    }
    if as_json:
        _print_json(report)
        return
    if not report["pooled"][contenders[0].name]["converted"]:
        raise Failure(
            f"No lead converted within the horizon of a cutoff ({options_of(plan)}), so no ranking can be measured: "
            "give a longer --horizon, a shorter --every, or another --conversion."
        )
    print_backtest(report)
    if None in wishes:
        print_status(f"These options fit the archive: {options_of(plan)}")


def _run_backtest(
    database_url: str, tenant: str, contenders: "list[Contender]", base: "ModelSet", wishes: "RequestedPlan"
) -> "tuple[BacktestPlan, int, list[RankedCutoff]]":
    """The plan, how many events were replayed, and the rankings at each cutoff that has leads. Raises Failure."""
    import psycopg

    from leadstream.evaluation.backtest import RankedCutoff, backtest
    from leadstream.evaluation.backtest_plan import plan_of, survey_archive
    from leadstream.evaluation.recorded_events import count_events, recorded_events
    from projections.connection import connect_watched
    from projections.table_definition import READ_OPTIONS

    cutoffs = []
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        plan = plan_of(survey_archive(connection, tenant, anonymous=wishes.anonymous), wishes)
        count = count_events(connection, tenant)
        with progress_bar(f"Replaying {count:,} events", 1.0) as report:
            for step in backtest(recorded_events(connection, tenant), contenders, base, plan, count):
                if isinstance(step, RankedCutoff):
                    if any(ranking.leads for ranking in step.rankings.values()):
                        cutoffs.append(step)
                else:
                    report(step.done / max(step.of, 1))
    return plan, count, cutoffs


def _result_of(steps: "Iterator[StepsDone | dict[str, Any]]", what: str) -> dict[str, Any]:
    """The last of the steps, with a progress bar until then."""
    from gateway.ports import StepsDone

    result = None
    with progress_bar(what, 1.0) as report:
        for step in steps:  # to their end, where they close the database
            if isinstance(step, StepsDone):
                report(step.done / max(step.of, 1))
            else:
                result = step
    if result is None:
        raise RuntimeError("the steps ended without a result")
    return result


def _require_single_tenant(tenant: str) -> None:
    from schemas.control import EVERY_TENANT

    if tenant == EVERY_TENANT:
        raise Failure("Each lead belongs to one tenant: name the tenant.")


def _contenders_of(base: "ModelSet", sources: list[str]) -> "list[Contender]":
    contenders = {
        (name := _contender_name(source, sources)): _contender_of(name, base, source) for source in sources
    }
    if len(contenders) < len(sources):
        raise Failure("Give two different models.")
    return list(contenders.values())


def _contender_name(source: str, sources: list[str]) -> str:
    """The file's name without its folder, unless another file has the same."""
    short = Path(source).name
    return short if sum(Path(other).name == short for other in sources) == 1 else source


def _contender_of(name: str, base: "ModelSet", source: str) -> "Contender":
    """An active model, or the model of a file or a built-in one as after its publication."""
    from leadstream.evaluation.backtest import Contender
    from leadstream.operations.publishing import checked_model
    from scoring.models.model import compile_model

    if source in base.models and not Path(source).is_file():
        active = base.models[source]
        return Contender(name, compile_model(active.text, active.folding), base)
    _, text = checked_model(source)
    return Contender(name, compile_model(text), base.with_draft(text))


def _print_json(report: Mapping[str, Any]) -> None:
    from msgspec import json

    print_json(json.format(json.encode(report), indent=2) + b"\n")

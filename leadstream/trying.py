"""The commands that try models without publishing them: `what-if` and `backtest`.

They read one moment of the store, show how far they are, and write nothing into it.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from msgspec import json

from gateway.ports import Progress
from leadstream.console import Failure, print_json, progress
from leadstream.evaluation import backtest_report as backtest_told
from leadstream.evaluation import what_if_report as whatif_told
from leadstream.evaluation.backtest import Contender, Cutoff, Plan, backtest, result
from leadstream.evaluation.conversions import conversion_of
from leadstream.evaluation.model_sets import ModelSet, model_set_for
from leadstream.evaluation.recorded_events import events_of, recorded
from leadstream.evaluation.what_if import what_if
from leadstream.operations import publishing
from leadstream.wiring import now_ms
from projections.connection import connect
from projections.tables import READ_OPTIONS
from schemas.control import EVERY_TENANT
from scoring.models.model import compile_model

SPAN = re.compile(r"([1-9]\d{0,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


def span(text: str) -> timedelta:
    """The length that a text of the form SPAN means."""
    found = SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no length such as 12h, 30d or 4w")
    return timedelta(hours=int(found[1]) * _HOURS[found[2]])


def run_what_if(database_url: str, source: str, *, tenant: str, replay: bool, as_json: bool) -> None:
    """Raises Failure."""
    _require_one(tenant)
    name, text = publishing.compiled(source)
    steps = what_if(database_url, tenant, name, text, now_ms(), replay=replay)
    told = last(steps, f"{'Replaying' if replay else 'Trying'} {name}")
    if as_json:
        _write(told)
    else:
        whatif_told.print_what_if(told)


def last(steps: Iterator[Progress | dict[str, Any]], what: str) -> dict[str, Any]:
    """What the steps end in, with a bar until then."""
    result = None
    with progress(what, 1.0) as report:
        for step in steps:  # to their end, where they let go of the database
            if isinstance(step, Progress):
                report(step.done / max(step.of, 1))
            else:
                result = step
    if result is None:
        raise RuntimeError("the steps ended in nothing")
    return result


def run_backtest(
    database_url: str,
    sources: list[str],
    *,
    tenant: str,
    conversion: str,
    every: timedelta,
    horizon: timedelta,
    capacity: int,
    anonymous: bool,
    as_json: bool,
) -> None:
    """The first of `sources` beside the others. Raises Failure."""
    _require_one(tenant)
    base = model_set_for(database_url, tenant)
    contenders = _contenders(base, sources)
    plan = Plan(conversion_of(conversion), _ms(every), _ms(horizon), capacity, anonymous)
    with connect(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        count = events_of(connection, tenant)
        cutoffs = []
        with progress(f"Replaying {count:,} events", 1.0) as report:
            for step in backtest(recorded(connection, tenant), contenders, base, plan, count):
                if isinstance(step, Cutoff):
                    cutoffs.append(step)
                else:
                    report(step.done / max(step.of, 1))
    if not cutoffs:
        raise Failure(
            f"The archive of {tenant!r} is too short: the first cutoff is {_days(every)} days after its first event, and "
            f"its horizon ends {_days(horizon)} days later. Give a shorter --every or --horizon."
        )
    told = {
        "tenant": tenant,
        "conversion": conversion,
        "every_days": every / timedelta(days=1),
        "horizon_days": horizon / timedelta(days=1),
        "capacity": capacity,
        "anonymous": anonymous,
        "events": count,
        **result(cutoffs),
    }
    if as_json:
        _write(told)
    else:
        backtest_told.print_backtest(told)


def _require_one(tenant: str) -> None:
    if tenant == EVERY_TENANT:
        raise Failure("Leads belong to one tenant each: name it.")


def _contenders(base: ModelSet, sources: list[str]) -> list[Contender]:
    texts = {_name(source, sources): _text(base, source) for source in sources}
    if len(texts) < len(sources):
        raise Failure("Give two different models.")
    return [Contender(name, compile_model(text), base.with_draft(text)) for name, text in texts.items()]


def _name(source: str, sources: list[str]) -> str:
    """What a contender is called: a file by its own name, unless another has that, too."""
    short = Path(source).name
    return short if sum(Path(other).name == short for other in sources) == 1 else source


def _text(base: ModelSet, source: str) -> str:
    """Of a file, of the model in force by its name, or of one that comes with Leadstream."""
    if source in base.models and not Path(source).is_file():
        return base.models[source].text
    return publishing.compiled(source)[1]


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)


def _days(length: timedelta) -> str:
    return f"{length / timedelta(days=1):g}"


def _write(told: Mapping[str, Any]) -> None:
    print_json(json.format(json.encode(told), indent=2) + b"\n")

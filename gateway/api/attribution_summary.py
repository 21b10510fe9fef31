"""/api/lead-tracking/attribution/stats/summary: conversions of a window, and what each channel earned by every model."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request
from msgspec import json
from starlette.responses import Response

from gateway.answers import JsonAnswer
from gateway.api.attribution import weight_json
from gateway.api.leads import NO_NUL
from gateway.api.services import services_of, take_report_turn, tenant_of
from gateway.api.window import Anonymous, Days, From, To, report_window
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row
from projections import attribution
from projections.attribution import ConversionWindow
from scoring.attribution.bootstrap import CONFIDENCE
from scoring.attribution.conversions import CUSTOMER
from scoring.attribution.credits import NO_TOUCHPOINT
from scoring.attribution.intervals import (
    ChannelIntervals,
    GroupPath,
    credit_intervals,
    markov_intervals,
    shapley_intervals,
)
from scoring.attribution.markov import Path, PathCount, removal_effects, removal_parts
from scoring.attribution.rules import PATH_MODELS, TOUCH_MODELS, AttributionRules
from scoring.attribution.shapley import shapley_parts, shapley_values
from scoring.attribution.weights import WEIGHT_UNITS, divide
from scoring.features.calendar import DAY_MS
from scoring.features.signals import decimals_of, major_units

EXAMPLES = example_bodies("attribution")
MARKOV, SHAPLEY = PATH_MODELS

Credits = dict[str, dict[str, int]]
"""By channel and model: billionths of conversions, or minor units."""


class PathModels(NamedTuple):
    """What the path models credit each channel with."""

    effects: Mapping[str, float]
    conversions: Credits
    amounts: Mapping[str, Credits]
    """By currency."""


router = APIRouter(
    prefix="/api/lead-tracking/attribution",
    tags=["attribution"],
    dependencies=[Depends(take_report_turn, scope="function")],
)


@router.get(
    "/stats/summary",
    summary="Conversions and revenue of a window, and the credits of channels and sources by every model",
    responses=answer_docs(
        EXAMPLES["summary"],
        "Conversions made in the window; by default the last 90 days.",
        others={"with intervals, of a single lead": EXAMPLES["summary_with_intervals"]},
    ),
)
@router.get("/stats/summary/", include_in_schema=False)
async def summary(
    request: Request,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    conversion_type: Annotated[
        str, Query(max_length=512, pattern=NO_NUL, description="The conversions whose credit is divided.")
    ] = CUSTOMER,
    markov_order: Annotated[
        Literal["1", "2", "3"], Query(description="How many channels a state of the Markov chain remembers.")
    ] = "1",
    intervals: Annotated[
        bool, Query(description="Add the interval of each channel and model; it costs up to some seconds.")
    ] = False,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end)
    counted = ConversionWindow(tenant, window.begin, window.end, include_anonymous)
    order = int(markov_order)
    async with services.store.snapshot() as ask:
        by_type, values, revenue, channels, sources, converting, worth, still_open = await ask.all(
            attribution.conversions_by_type(counted),
            attribution.values_by_type(counted),
            attribution.revenue_of_customers(counted),
            attribution.credits_by_channel(counted, conversion_type),
            attribution.credits_by_source(counted, conversion_type),
            attribution.converting_paths(counted, conversion_type),
            attribution.values_of_paths(counted, conversion_type),
            attribution.open_paths(counted, conversion_type),
        )
        grouped = (
            await ask.all(
                attribution.credits_by_group(counted, conversion_type),
                attribution.converting_paths_by_group(counted, conversion_type),
                attribution.open_paths_by_group(counted, conversion_type),
            )
            if intervals
            else None
        )
    path_models = await asyncio.to_thread(_path_models, converting, worth, still_open, order)
    seed = f"{tenant}/{window.begin.isoformat()}/{window.end.isoformat()}/{conversion_type}"
    by_model = None
    if grouped is not None:
        by_model = await asyncio.to_thread(_intervals, *grouped, order=order, seed=seed)
    rates = active.attribution
    return JsonAnswer(
        {
            **window.shown(),
            "attribution_text": rates.name,
            "total_conversions": sum(row["conversions"] for row in by_type),
            "total_revenue": {
                row["currency"]: _to_decimals(row["amount"], row["currency"]) for row in _by_currency(revenue)
            },
            "reporting": _reporting(revenue, rates),
            "avg_journey_duration_days": _mean_days(by_type),
            "conversions_by_type": _types_json(by_type, values),
            "conversion_type": conversion_type,
            "models": [*TOUCH_MODELS, *PATH_MODELS],
            "channels": _channels_json(channels, path_models, by_model),
            "intervals": None
            if by_model is None
            else {
                "confidence": CONFIDENCE,
                "without": sorted(m for m, each in by_model.items() if each is None),
            },
            "sources": _sources_json(sources),
            "total_sources": sources[0]["sources"] if sources else 0,
            "markov": {
                "order": order,
                "converting_paths": sum(int(row["conversions"]) for row in converting),
                "open_paths": sum(int(row["leads"]) for row in still_open),
                "removal_effects": {name: round(each, 9) for name, each in path_models.effects.items()},
            },
        }
    )


# Computing


def _path_models(
    converting: Sequence[Row], worth: Sequence[Row], still_open: Sequence[Row], order: int
) -> PathModels:
    paths = [PathCount(_path(row), int(row["conversions"])) for row in converting]
    open_ones = [PathCount(_path(row), 0, int(row["leads"])) for row in still_open]
    effects = removal_effects([*paths, *open_ones], order)
    total = WEIGHT_UNITS * sum(each.converted for each in paths)
    parts = {
        MARKOV: removal_parts(effects),
        SHAPLEY: shapley_parts(shapley_values((each.path, each.converted) for each in paths)),
    }
    amounts: dict[str, Credits] = {}
    for currency in sorted({row["currency"] for row in worth}):
        of_currency = [(_path(row), int(row["minor"])) for row in worth if row["currency"] == currency]
        amounts[currency] = _divided(
            sum(minor for _, minor in of_currency),
            {**parts, SHAPLEY: shapley_parts(shapley_values(of_currency))},
        )
    return PathModels(effects, _divided(total, parts), amounts)


def _divided(whole: int, parts: Mapping[str, Mapping[str, int]]) -> Credits:
    """The whole, divided among channels by the parts of each model."""
    credited: Credits = {}
    for model, of_channel in parts.items():
        for channel, share in zip(of_channel, divide(whole, list(of_channel.values())), strict=True):
            credited.setdefault(channel, {})[model] = share
    return credited


def _intervals(
    credited: Sequence[Row], converting: Sequence[Row], still_open: Sequence[Row], *, order: int, seed: str
) -> dict[str, ChannelIntervals | None]:
    taken = (*converting, *still_open)
    groups = sorted({int(row["lead_group"]) for row in (*credited, *taken)})
    decoded = {text: _decoded_path(text) for text in {row["path"] for row in taken}}
    paths = [
        GroupPath(int(row["lead_group"]), decoded[row["path"]], int(row["conversions"])) for row in converting
    ]
    paths += [
        GroupPath(int(row["lead_group"]), decoded[row["path"]], 0, int(row["leads"])) for row in still_open
    ]
    by_model: dict[str, ChannelIntervals | None] = {
        model: credit_intervals(
            ((int(row["lead_group"]), row["channel"], row[model] / WEIGHT_UNITS) for row in credited),
            groups,
            f"{seed}/{model}",
        )
        for model in TOUCH_MODELS
    }
    by_model[MARKOV] = markov_intervals(paths, groups, order, f"{seed}/{MARKOV}/{order}")
    by_model[SHAPLEY] = shapley_intervals(paths, groups, f"{seed}/{SHAPLEY}")
    untouched = [
        (int(row["lead_group"]), row["channel"], row["linear"] / WEIGHT_UNITS)
        for row in credited
        if row["channel"] == NO_TOUCHPOINT
    ]
    for model in PATH_MODELS:
        if (own := by_model[model]) is not None:
            own |= credit_intervals(untouched, groups, f"{seed}/{model}/{NO_TOUCHPOINT}")
    return by_model


def _path(row: Row) -> Path:
    return _decoded_path(row["path"])


def _decoded_path(text: str) -> Path:
    return tuple(json.decode(text, type=list[str]))


# Shapes


def _types_json(rows: Sequence[Row], values: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "conversion_type": row["conversion_type"],
            "conversions": row["conversions"],
            "without_touchpoints": row["untouched"],
            "values": {
                each["currency"]: {
                    "value": major_units(each["minor"], each["currency"]),
                    "conversions": each["conversions"],
                    "avg_value": major_units(Decimal(each["minor"]) / each["conversions"], each["currency"]),
                }
                for each in _by_currency(values)
                if each["conversion_type"] == row["conversion_type"]
            },
            "avg_journey_duration_days": _days(row["journey_ms"]),
            "touchpoints_to_conversion": {
                "mean": _rounded(row["touchpoints"]),
                "median": _rounded(row["median"]),
                "p90": _rounded(row["p90"]),
            },
        }
        for row in sorted(rows, key=lambda each: (-each["conversions"], each["conversion_type"]))
    ]


def _channels_json(
    rows: Sequence[Row], paths: PathModels, intervals: Mapping[str, ChannelIntervals | None] | None
) -> list[dict[str, Any]]:
    """A line for each channel, the most linear credit first; NO_TOUCHPOINT is what no touchpoint explains."""
    by_channel: dict[str, list[Row]] = {name: [] for name in paths.conversions}
    for row in rows:
        by_channel.setdefault(row["channel"], []).append(row)
    lines = []
    for channel, own in by_channel.items():
        conversions = {model: sum(int(row[model]) for row in own) for model in TOUCH_MODELS}
        unexplained = channel == NO_TOUCHPOINT
        for model in PATH_MODELS:
            conversions[model] = (
                conversions["linear"] if unexplained else paths.conversions.get(channel, {}).get(model, 0)
            )
        amounts = _amounts_by_currency(own)
        for currency in amounts.keys() | paths.amounts.keys():
            of_models = amounts.setdefault(currency, dict.fromkeys(TOUCH_MODELS, 0))
            for model in PATH_MODELS:
                credited = paths.amounts.get(currency, {}).get(channel, {}).get(model, 0)
                of_models[model] = of_models["linear"] if unexplained else credited
        line = {"channel": channel, **_credits_json(conversions, amounts)}
        if intervals is not None:
            line["intervals"] = {
                model: [round(each[channel].low, 6), round(each[channel].high, 6)]
                for model, each in intervals.items()
                if each is not None and channel in each
            }
        lines.append((conversions["linear"], line))
    return [line for _, line in sorted(lines, key=lambda each: (-each[0], each[1]["channel"]))]


def _sources_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    by_source: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        by_source.setdefault((row["channel"], row["source_type"], row["source_name"]), []).append(row)
    return [
        {
            "type": source_type,
            "name": name,
            "channel": channel,
            **_credits_json(
                {model: sum(int(row[model]) for row in own) for model in TOUCH_MODELS},
                _amounts_by_currency(own),
            ),
        }
        for (channel, source_type, name), own in by_source.items()
    ]


def _amounts_by_currency(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    return {
        row["currency"]: {model: int(row[f"{model}_minor"]) for model in TOUCH_MODELS}
        for row in rows
        if row["currency"]
    }


def _credits_json(conversions: Mapping[str, int], amounts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    return {
        "conversions": {model: weight_json(units) for model, units in conversions.items()},
        "values": {
            currency: {model: major_units(minor, currency) for model, minor in own.items()}
            for currency, own in sorted(amounts.items())
        },
    }


def _reporting(revenue: Sequence[Row], rules: AttributionRules) -> dict[str, Any] | None:
    """The revenue in the tenant's reporting currency; `without_rate` lists what has no rate and is left out."""
    currency = rules.reporting_currency
    if currency is None:
        return None
    rates = {**rules.rates, currency: Decimal(1)}
    total = sum(
        (row["amount"] * rates[row["currency"]] for row in revenue if row["currency"] in rates), Decimal(0)
    )
    return {
        "currency": currency,
        "total_revenue": _to_decimals(total, currency),
        "without_rate": sorted(row["currency"] for row in revenue if row["currency"] not in rates),
    }


def _to_decimals(value: Decimal, currency: str) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-decimals_of(currency)), ROUND_HALF_EVEN)


def _by_currency(rows: Iterable[Row]) -> list[Row]:
    key: Callable[[Row], str] = lambda row: row["currency"]  # noqa: E731 - named for its type
    return sorted(rows, key=key)


def _mean_days(by_type: Sequence[Row]) -> float | None:
    """Of all conversions with a touchpoint."""
    touched = [(row["conversions"] - row["untouched"], row["journey_ms"]) for row in by_type]
    count = sum(number for number, _ in touched)
    return _days(sum(number * (mean or 0) for number, mean in touched) / count) if count else None


def _days(milliseconds: Any) -> float | None:
    return None if milliseconds is None else round(float(milliseconds) / DAY_MS, 2)


def _rounded(number: Any) -> float | None:
    return None if number is None else round(float(number), 2)

"""/api/lead-tracking/attribution: which touchpoints earned the conversions of a lead.

What a lead's page shows is computed from its facts at the request, by the text of attribution that is active.
"Calculate" records the conversion, if it is new or has another value, and answers once it is applied (202: the folds
have not come to it in time).
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.access import READ_SCOPE, Caller
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import found_lead, found_unmerged_lead, lead_id_as_sent, merged_into
from gateway.api.lead_moment import AsKnown, AsOf, facts_then, lead_request, lead_there_at
from gateway.api.leads import NO_NUL
from gateway.api.services import (
    ApiServices,
    authorized_caller,
    report_turn,
    services_of,
    take_report_turn,
    tenant_of,
)
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.door.recording import record_events
from gateway.ports import EventKey, event_key, location_of_outcome
from gateway.store import Row
from projections import queries
from projections.lead_facts import facts_of_rows, select_facts
from projections.row_keys import lead_row_key
from schemas.decode import Refusal
from schemas.envelope import ANONYMOUS_PREFIX, Line, tag_of
from schemas.events import Amount, ConversionRecorded, Currency
from schemas.moment import moment
from scoring.analytics.facts import LeadFacts
from scoring.analytics.orders import amounts_of, order_reports, orders_of
from scoring.attribution.conversions import (
    AttributedConversion,
    ConversionKey,
    CurrencyAmount,
    conversions_of,
)
from scoring.attribution.credits import (
    ModelCredits,
    credits_by_model,
    journey_ms,
    main_touchpoints,
    mean_gap_ms,
)
from scoring.attribution.restatements import CreditedState, CreditRestatement, restatements_of
from scoring.attribution.rules import TOUCH_MODELS, AttributionRules
from scoring.attribution.touchpoints import Touchpoint
from scoring.features.calendar import DAY_MS, HOUR_MS
from scoring.features.identity import is_anonymous
from scoring.features.signals import NO_CURRENCY, minor_units

LARGEST_BODY_BYTES = 10_000
APPLY_SECONDS = 5.0
CONVERSIONS_PAGE, MOST_CONVERSIONS_SHOWN = 10, 100
RESTATEMENTS_SHOWN = 100
DEFAULT_MODEL = "linear"
MODELS_LISTED = ", ".join(TOUCH_MODELS)
WEIGHT_DIGITS = 9
EXAMPLES = example_bodies("attribution")

ModelName = Annotated[
    str | None, Query(max_length=32, pattern=NO_NUL, description=f"One of {MODELS_LISTED}; by default all.")
]


class ConversionRequest(Struct):
    """The conversion that is calculated. Without a value it keeps the one that it has."""

    conversion_type: Annotated[Line, Meta(min_length=1)]
    conversion_value: Amount | None = None
    currency: Currency | None = None
    """By default the tenant's reporting currency, else that of the lead's orders if it is one, else XXX."""
    attribution_model: str = DEFAULT_MODEL
    conversion_id: Line = ""
    """Names one of several conversions of a type."""


router = APIRouter(prefix="/api/lead-tracking/attribution", tags=["attribution"])


@router.post(
    "/{lead_id:path}/calculate",
    summary="Record a conversion of a lead and divide the credit for it among touchpoints",
    openapi_extra=request_docs(EXAMPLES["calculate"], body_schema_of(ConversionRequest)),
    responses={
        **answer_docs(EXAMPLES["calculated"], "The credits of the conversion by the model."),
        **answer_docs(
            EXAMPLES["recorded_only"],
            "It is recorded, and not applied yet: `location` has what becomes of it.",
            status=202,
        ),
    },
)
@router.post("/{lead_id:path}/calculate/", include_in_schema=False)
async def calculate(request: Request, lead_id: str) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    body = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), ConversionRequest)
    model = _known_model(body.attribution_model, "attribution_model")
    rules = (await services.ports.published(tenant)).attribution
    key = (body.conversion_type, body.conversion_id)
    lead, facts, current = await _lead_and_conversion(services, tenant, lead_id, key, rules)
    found_unmerged_lead([lead], "calculate that")
    value = _requested_value(body, facts, rules)
    receipt: dict[str, Any] = {"lead_id": lead_id_as_sent(lead["lead_id"]), "event_id": None, "applied": True}
    if current is None or (value is not None and current.values != (value,)):
        event = await _record(request, caller, lead_id, body, value, services)
        outcome = (await services.applied([event], APPLY_SECONDS)).get(event)
        receipt |= {"event_id": event.event_id, "applied": outcome is not None}
        if outcome is None:
            return JsonAnswer({**receipt, "location": location_of_outcome(event)}, 202)
        lead, _, current = await _lead_and_conversion(services, tenant, outcome.lead_id, key, rules)
    if READ_SCOPE not in caller.scopes:  # a token that may only write sees no more
        return JsonAnswer(receipt)
    if current is None:  # a merge or a split came between
        raise RequestProblem(409, "the lead no longer has the conversion: try again", field="lead_id")
    return JsonAnswer({**receipt, "attribution": _attribution_json(current, model, rules)})


@router.get(
    "/{lead_id:path}",
    summary="Every conversion of a lead with its credits, and how they were restated",
    responses=answer_docs(
        EXAMPLES["history"],
        "`history` has one entry for each conversion and model, in the order in which conversions were made.",
    ),
    dependencies=[Depends(take_report_turn, scope="function")],
)
async def history(
    request: Request,
    lead_id: str,
    model: ModelName = None,
    conversion_type: Annotated[
        str | None, Query(max_length=512, pattern=NO_NUL, description="Only conversions of this type.")
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MOST_CONVERSIONS_SHOWN, description="Conversions of a page.")
    ] = CONVERSIONS_PAGE,
    cursor: Annotated[int, Query(ge=0, le=10**9, description="`next_cursor` of the page before.")] = 0,
    as_of: AsOf = None,
    knowledge: AsKnown = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    models = TOUCH_MODELS if model is None else (_known_model(model, "model"),)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    active = await services.ports.published(tenant)
    rules = active.attribution
    if as_of is None:
        lead, facts = await _lead_and_facts(services, tenant, lead_id.removesuffix("/"))
    else:
        async with services.store.snapshot() as ask:
            lead_now = found_lead(await ask(queries.lead(tenant, lead_id.removesuffix("/"))))
            then = await lead_there_at(ask, services.ports.past_leads, active, lead_now, moment_of_lead)
            lead, rules = then.row, then.active.attribution
            facts = await facts_then(ask, then, moment_of_lead)
    about = {
        "lead_id": lead_id_as_sent(lead["lead_id"]),
        "merged_into": merged_into(lead),
        "as_of": moment_of_lead.at,
    }

    def answer() -> JsonAnswer:
        made, restated = _conversions_and_restatements(facts, rules, conversion_type)
        shown = made[cursor : cursor + limit]
        return JsonAnswer(
            {
                **about,
                "attribution_text": rules.name,
                "lookback_days": rules.lookback_ms // DAY_MS,
                "half_life_days": rules.half_life_ms // DAY_MS,
                "total_conversions": len(made),
                "history": [_attribution_json(each, name, rules) for each in shown for name in models],
                "next_cursor": cursor + limit if cursor + limit < len(made) else None,
                "total_restatements": len(restated),
                "restatements": [
                    _restatement_json(each, models) for each in reversed(restated[-RESTATEMENTS_SHOWN:])
                ],
            }
        )

    return await asyncio.to_thread(answer)


async def _lead_and_conversion(
    services: ApiServices, tenant: str, lead_id: str, key: ConversionKey, rules: AttributionRules
) -> tuple[Row, LeadFacts, AttributedConversion | None]:
    async with report_turn(services, tenant):
        lead, facts = await _lead_and_facts(services, tenant, lead_id)
        return lead, facts, await asyncio.to_thread(_conversion, facts, rules, key)


async def _lead_and_facts(services: ApiServices, tenant: str, lead_id: str) -> tuple[Row, LeadFacts]:
    if "\0" in lead_id:
        found_lead([])
    key = lead_row_key(tenant, lead_id)
    async with services.store.snapshot() as ask:
        leads, *rows = await ask.all(queries.lead(tenant, lead_id), *select_facts([key]))
    lead = found_lead(leads)
    without = LeadFacts(tenant, lead_id, lead["identified"], 0, lead["stage"])
    return lead, (await asyncio.to_thread(facts_of_rows, *rows)).get(key, without)


def _conversion(facts: LeadFacts, rules: AttributionRules, key: ConversionKey) -> AttributedConversion | None:
    return next((each for each in conversions_of(facts, rules) if each.key == key), None)


def _conversions_and_restatements(
    facts: LeadFacts, rules: AttributionRules, conversion_type: str | None
) -> tuple[list[AttributedConversion], list[CreditRestatement]]:
    """Of one type, or of all."""
    return (
        [each for each in conversions_of(facts, rules) if conversion_type in {None, each.conversion_type}],
        [each for each in restatements_of(facts, rules) if conversion_type in {None, each.conversion_type}],
    )


async def _record(
    request: Request,
    caller: Caller,
    lead_id: str,
    body: ConversionRequest,
    value: CurrencyAmount | None,
    services: ApiServices,
) -> EventKey:
    """Records the conversion. The event of an anonymous lead names its visitor."""
    subject = (
        {"visitor_id": lead_id.removeprefix(ANONYMOUS_PREFIX)}
        if is_anonymous(lead_id)
        else {"lead_id": lead_id}
    )
    worth = {} if value is None else {"value": str(body.conversion_value), "currency": value[0]}
    event = {
        "type": tag_of(ConversionRecorded),
        "event_id": f"conversion-{uuid.uuid4()}",
        "occurred_at": services.ports.now(),
        "source": "crm",
        "conversion_type": body.conversion_type,
        "conversion_id": body.conversion_id,
        **subject,
        **worth,
    }
    try:
        (recorded,) = await record_events(request, caller, [event])
    except Refusal as refusal:
        field = "conversion_value" if refusal.field == "value" else refusal.field
        raise RequestProblem(422, refusal.reason, field=field) from None
    return event_key(recorded)


def _requested_value(
    body: ConversionRequest, facts: LeadFacts, rules: AttributionRules
) -> CurrencyAmount | None:
    if body.conversion_value is None:
        if body.currency is not None:
            raise RequestProblem(422, "missing: a currency needs a value", field="conversion_value")
        return None
    spent_in = list(orders_of(order_reports(facts.events)).revenue)
    currency = (
        body.currency or rules.reporting_currency or (spent_in[0] if len(spent_in) == 1 else NO_CURRENCY)
    )
    return currency, minor_units(body.conversion_value, currency)


def _known_model(name: str, field: str) -> str:
    if name not in TOUCH_MODELS:
        raise RequestProblem(422, f"no such model; those are {MODELS_LISTED}", field=field)
    return name


# Shapes


def weight_json(units: int) -> Decimal | int:
    """Billionths as an exact number: the weights of a conversion sum to 1."""
    weight = Decimal(units).scaleb(-WEIGHT_DIGITS)
    whole = weight.to_integral_value()
    return int(whole) if weight == whole else weight.normalize()


def _attribution_json(
    conversion: AttributedConversion, model: str, rules: AttributionRules
) -> dict[str, Any]:
    """In the printed shape of the requirement, and beside it what the conversion depends on."""
    credited = credits_by_model(conversion, rules.half_life_ms)[model]
    touchpoints = conversion.touchpoints
    main = main_touchpoints(credited.weights)
    gap = mean_gap_ms(touchpoints)

    def named(index: int | None) -> dict[str, Any] | None:
        return None if index is None else _main_touchpoint_json(touchpoints[index], credited.weights[index])

    return {
        "conversion_type": conversion.conversion_type,
        "conversion_id": conversion.conversion_id,
        "conversion_date": moment(conversion.at),
        **_value_json(conversion.values),
        "attribution_model": model,
        "total_touchpoints": len(touchpoints),
        "journey_duration_days": round(journey_ms(conversion) / DAY_MS, 2),
        "avg_time_between_touches_hours": None if gap is None else round(gap / HOUR_MS, 2),
        "first_touch": named(0 if touchpoints else None),
        "last_touch": named(len(touchpoints) - 1 if touchpoints else None),
        "primary_touchpoint": named(main.primary),
        "secondary_touchpoint": named(main.secondary),
        "touchpoints": [
            _touchpoint_json(each, credited, index, conversion.values)
            for index, each in enumerate(touchpoints)
        ],
        "unattributed": not touchpoints,
    }


def _value_json(values: Sequence[CurrencyAmount]) -> dict[str, Any]:
    """One value as the requirement shows it; several, in different currencies, are never one."""
    amounts = amounts_of(dict(values))
    currency, value = next(iter(amounts.items())) if len(amounts) == 1 else (None, None)
    return {"conversion_value": value, "currency": currency, "values": amounts}


def _main_touchpoint_json(touchpoint: Touchpoint, weight: int) -> dict[str, Any]:
    return {
        "source": touchpoint.source_type,
        "name": touchpoint.source_name,
        "channel": touchpoint.channel,
        "engagement_type": touchpoint.event_type,
        "date": moment(touchpoint.at),
        "weight": weight_json(weight),
    }


def _touchpoint_json(
    touchpoint: Touchpoint, credited: ModelCredits, index: int, values: Sequence[CurrencyAmount]
) -> dict[str, Any]:
    return {
        "type": touchpoint.source_type,
        "name": touchpoint.source_name,
        "engagement_type": touchpoint.event_type,
        "channel": touchpoint.channel,
        "date": moment(touchpoint.at),
        "event_id": touchpoint.event_id,
        "weight": weight_json(credited.weights[index]),
        "credit": amounts_of(
            {
                currency: amounts[index]
                for (currency, _), amounts in zip(values, credited.amounts, strict=True)
            }
        ),
    }


def _restatement_json(restated: CreditRestatement, models: Sequence[str]) -> dict[str, Any]:
    return {
        "conversion_type": restated.conversion_type,
        "conversion_id": restated.conversion_id,
        "recorded_at": moment(restated.recorded_at),
        "reason": restated.reason,
        "event_id": restated.event_id,
        "before": _state_json(restated.before, models),
        "after": None if restated.after is None else _state_json(restated.after, models),
    }


def _state_json(state: CreditedState, models: Sequence[str]) -> dict[str, Any]:
    return {
        "conversion_date": moment(state.at),
        **_value_json(state.values),
        "total_touchpoints": state.touchpoints,
        "weights": {model: _weights_json(state.weights[model]) for model in models},
    }


def _weights_json(weights: Mapping[str, int]) -> dict[str, Decimal | int]:
    return {channel: weight_json(units) for channel, units in weights.items() if units}

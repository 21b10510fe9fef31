"""The rows that attribution computes of each lead's facts. Pure: the same facts and settings give the same rows."""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import json

from projections.analytics_rows import CreditRestatementRow, CreditRow, LeadConversionRow, LeadPathRow
from projections.column_values import jsonb_text, storable_text
from projections.row_keys import hashed_key, lead_row_key
from schemas.moment import moment
from scoring.analytics.facts import LeadFacts
from scoring.analytics.settings import AnalyticsSettings
from scoring.attribution.attribution_text import compiled_attribution
from scoring.attribution.conversions import AttributedConversion, conversions_of, current_facts
from scoring.attribution.credits import (
    channel_path,
    credits_by_model,
    journey_ms,
    mean_gap_ms,
    source_credits,
)
from scoring.attribution.restatements import CreditedState, restatements_of
from scoring.attribution.rules import TOUCH_MODELS, AttributionRules

LONGEST_STORED_PATH: Final = 100
"""Steps; of a longer path the first one and the latest ones are stored."""


def conversion_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[LeadConversionRow]:
    rules = compiled_attribution(settings.attribution)
    for conversion in conversions_of(facts, rules):
        gap = mean_gap_ms(conversion.touchpoints)
        yield LeadConversionRow(
            lead_key=lead_row_key(facts.tenant, facts.lead_id),
            conversion_key=_conversion_key(conversion),
            conversion_type=storable_text(conversion.conversion_type),
            conversion_id=storable_text(conversion.conversion_id),
            tenant=facts.tenant,
            lead_id=facts.lead_id,
            identified=facts.identified,
            converted_at=moment(conversion.at),
            touchpoints=len(conversion.touchpoints),
            journey_ms=journey_ms(conversion),
            average_gap_ms=None if gap is None else round(gap),
            path=_path_text(channel_path(conversion.touchpoints)),
            amounts=jsonb_text(conversion.values),
            weighed=jsonb_text(_weighed_touchpoints(conversion, rules)),
        )


def credit_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[CreditRow]:
    rules = compiled_attribution(settings.attribution)
    for conversion in conversions_of(facts, rules):
        for credit in source_credits(conversion, rules.half_life_ms):
            yield CreditRow(
                lead_row_key(facts.tenant, facts.lead_id),
                _conversion_key(conversion),
                hashed_key(json.encode(credit[:4]).decode()),
                storable_text(conversion.conversion_type),
                storable_text(conversion.conversion_id),
                storable_text(credit.channel),
                storable_text(credit.source_type),
                storable_text(credit.source_name),
                credit.currency or "",
                facts.tenant,
                facts.identified,
                moment(conversion.at),
                *credit.weights,
                *credit.amounts,
            )


def path_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[LeadPathRow]:
    current = current_facts(facts, compiled_attribution(settings.attribution))
    touchpoints = current.last_touchpoints()
    if touchpoints:
        yield LeadPathRow(
            lead_row_key(facts.tenant, facts.lead_id),
            facts.tenant,
            facts.identified,
            moment(touchpoints[-1].at),
            _path_text(channel_path(touchpoints)),
            jsonb_text(sorted({conversion_type for conversion_type, _ in current.conversions()})),
        )


def restatement_rows(facts: LeadFacts, settings: AnalyticsSettings) -> Iterable[CreditRestatementRow]:
    rules = compiled_attribution(settings.attribution)
    for number, restated in enumerate(restatements_of(facts, rules)):
        yield CreditRestatementRow(
            lead_row_key(facts.tenant, facts.lead_id),
            number,
            facts.tenant,
            facts.lead_id,
            storable_text(restated.conversion_type),
            storable_text(restated.conversion_id),
            moment(restated.recorded_at),
            restated.reason,
            restated.event_id,
            jsonb_text(_state(restated.before)),
            None if restated.after is None else jsonb_text(_state(restated.after)),
        )


def _conversion_key(conversion: AttributedConversion) -> int:
    return hashed_key(json.encode(conversion.key).decode())


def _weighed_touchpoints(conversion: AttributedConversion, rules: AttributionRules) -> list[tuple[Any, ...]]:
    """(moment in ms, engagement type, channel, type, name, a weight in billionths by each of TOUCH_MODELS)."""
    by_model = credits_by_model(conversion, rules.half_life_ms)
    return [
        (
            touchpoint.at,
            touchpoint.event_type,
            touchpoint.channel,
            touchpoint.source_type,
            touchpoint.source_name,
            *(by_model[model].weights[index] for model in TOUCH_MODELS),
        )
        for index, touchpoint in enumerate(conversion.touchpoints)
    ]


def _state(state: CreditedState) -> dict[str, Any]:
    return {**state._asdict(), "at": moment(state.at)}


def _path_text(path: tuple[str, ...]) -> str:
    """The path as JSON text: equal paths have equal texts."""
    kept = path if len(path) <= LONGEST_STORED_PATH else (path[0], *path[1 - LONGEST_STORED_PATH :])
    return json.encode([storable_text(channel) for channel in kept]).decode()

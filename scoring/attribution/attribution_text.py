"""Reads, checks and compiles the text (TOML) that defines attribution. Refuses everything that it does not understand.

A refusal names the line, the key and the reason.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from scoring.attribution.rules import CONDITION_KEYS, AttributionRules, ChannelRule, built_in_attribution
from scoring.features.calendar import DAY_MS
from scoring.features.signals import EVENT_TYPE_BY_TAG, may_be_interaction
from scoring.models.text_refusals import TomlTable, is_whole_number, line_of, read_document, shorten_value

LONGEST_TEXT: Final = 100_000
MOST_CHANNEL_RULES: Final = 64
MOST_CONDITION_VALUES: Final = 200
LONGEST_LOOKBACK_DAYS: Final = 3_650
LONGEST_NAME: Final = 64
MOST_RATES: Final = 200

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_CHANNEL_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*[\"']?channels[\"']?[ \t]*\]\]", re.MULTILINE)
_KEYS: Final = (
    "attribution",
    "about",
    "lookback_days",
    "half_life_days",
    "touchpoints",
    "arrivals",
    "channels",
    "reporting_currency",
    "rates",
)
_NO_TOUCHPOINT_TYPES: Final = frozenset({"purchase_made"})


class AttributionError(ValueError):
    """The text is refused; the message says where and why."""


@lru_cache(maxsize=64)
def compiled_attribution(text: str) -> AttributionRules:
    """The rules of a text; without a text, those that come with Leadstream."""
    return compile_attribution(text or built_in_attribution())


def compile_attribution(text: str) -> AttributionRules:
    """Compile a text; AttributionError names line, key and reason."""
    document = read_document(text, "a text of attribution", AttributionError, longest=LONGEST_TEXT)
    unknown = sorted(document.keys() - set(_KEYS))
    if unknown:
        raise _refusal(text, unknown[0], f"unknown; the keys are {', '.join(_KEYS)}")
    name = document.get("attribution")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = "missing: give it a name" if name is None else f"{shorten_value(name)} is not a name"
        raise _refusal(text, "attribution", f"{problem} of small letters, digits, _ and -")
    if not isinstance(document.get("about", ""), str):
        raise _refusal(text, "about", "wants a text")
    touchpoints = _event_types(text, document, "touchpoints")
    arrivals = _event_types(text, document, "arrivals")
    if both := sorted(touchpoints & arrivals):
        raise _refusal(text, "arrivals", f"{both[0]} is a touchpoint whenever it occurs: remove one of them")
    if not touchpoints | arrivals:
        raise _refusal(text, "touchpoints", 'name at least one event type: touchpoints = ["form_submitted"]')
    currency, rates = _rates(text, document)
    return AttributionRules(
        name=name,
        lookback_ms=_days(text, document, "lookback_days"),
        half_life_ms=_days(text, document, "half_life_days"),
        touchpoints=touchpoints,
        arrivals=arrivals,
        channels=_channel_rules(text, document.get("channels", [])),
        reporting_currency=currency,
        rates=rates,
    )


def _days(text: str, document: TomlTable, key: str) -> int:
    days = document.get(key)
    if not isinstance(days, int) or not is_whole_number(days, 1, LONGEST_LOOKBACK_DAYS):
        reason = "missing" if days is None else f"not {shorten_value(days)}"
        raise _refusal(text, key, f"wants 1 to {LONGEST_LOOKBACK_DAYS:,} days: {reason}")
    return days * DAY_MS


def _event_types(text: str, document: TomlTable, key: str) -> frozenset[str]:
    names = document.get(key, [])
    if not isinstance(names, list):
        raise _refusal(text, key, f'wants a list of event types: {key} = ["form_submitted"]')
    for name in names:
        kind = EVENT_TYPE_BY_TAG.get(name) if isinstance(name, str) else None
        if kind is None:
            raise _refusal(text, key, f"{shorten_value(name)} is no event type; docs/producing.md lists them")
        if not may_be_interaction(kind) or name in _NO_TOUCHPOINT_TYPES:
            raise _refusal(
                text, key, f"{name} is no touchpoint: those are what a person did on the way to a goal"
            )
    return frozenset(names)


def _channel_rules(text: str, tables: Any) -> tuple[ChannelRule, ...]:
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise _refusal(text, "channels", "wants [[channels]], one for each rule")
    if len(tables) > MOST_CHANNEL_RULES:
        raise _refusal(text, "channels", f"at most {MOST_CHANNEL_RULES} rules, not {len(tables)}")
    rules = []
    for number, table in enumerate(tables):
        try:
            rules.append(_channel_rule(table))
        except _RuleError as wrong:
            line = _line_of_rule(text, number, len(tables))
            raise AttributionError(f"line {line}, channels, rule {number + 1}: {wrong}") from None
    return tuple(rules)


class _RuleError(Exception):
    """What is wrong with a rule."""


def _channel_rule(table: TomlTable) -> ChannelRule:
    own = dict(table)
    channel = own.pop("channel", None)
    if not _is_name(channel):
        raise _RuleError(f'wants channel = "Partners", a name of 1 to {LONGEST_NAME} characters')
    unknown = sorted(own.keys() - set(CONDITION_KEYS))
    if unknown:
        raise _RuleError(f"{unknown[0]} is unknown; conditions are {', '.join(CONDITION_KEYS)}")
    if not own:
        raise _RuleError(f"wants a condition: {', '.join(CONDITION_KEYS)}")
    return ChannelRule(
        channel, MappingProxyType({key: _condition_values(key, value) for key, value in own.items()})
    )


def _condition_values(key: str, value: Any) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MOST_CONDITION_VALUES or not all(
        isinstance(each, str) and each for each in values
    ):
        raise _RuleError(f"{key} wants a text, or a list of 1 to {MOST_CONDITION_VALUES} texts")
    return frozenset(values)


def _rates(text: str, document: TomlTable) -> tuple[str | None, Mapping[str, Decimal]]:
    currency, rates = document.get("reporting_currency"), document.get("rates", {})
    if currency is not None and not (isinstance(currency, str) and _CURRENCY.fullmatch(currency)):
        raise _refusal(text, "reporting_currency", 'wants three capital letters: "EUR"')
    if not isinstance(rates, dict) or len(rates) > MOST_RATES:
        raise _refusal(text, "rates", "wants a table: rates = { USD = 0.92 }")
    if rates and currency is None:
        raise _refusal(text, "rates", "wants reporting_currency, which the rates lead to")
    exact = {}
    for name, rate in rates.items():
        if not _CURRENCY.fullmatch(name) or name == currency:
            raise _refusal(text, "rates", f"{shorten_value(name)} is no other currency: USD, GBP ...")
        number = Decimal(rate) if isinstance(rate, int | Decimal) and not isinstance(rate, bool) else None
        if number is None or not number.is_finite() or not Decimal("1e-9") <= number <= Decimal("1e9"):
            raise _refusal(text, "rates", f"{name} wants a number from 0.000000001 to 1000000000")
        exact[name] = number
    return currency, MappingProxyType(exact)


def _is_name(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.strip() == value
        and 1 <= len(value) <= LONGEST_NAME
        and value.isprintable()
    )


def _refusal(text: str, key: str, reason: str) -> AttributionError:
    line = line_of(text, rf"^[ \t]*\[*{re.escape(key)}\b")
    return AttributionError(f"line {line}, {key}: {reason}")


def _line_of_rule(text: str, number: int, count: int) -> int:
    headers = list(_CHANNEL_HEADER.finditer(text))
    return (
        text.count("\n", 0, headers[number].end()) + 1
        if len(headers) == count
        else line_of(text, r"^[ \t]*\[*channels\b")
    )

"""What earns credit for conversions, as plain data. `attribution_text` compiles it from a text."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, NamedTuple

TOUCH_MODELS: Final = ("first_touch", "last_touch", "linear", "time_decay", "u_shaped", "w_shaped")
"""The models that weigh the touchpoints of one conversion."""
PATH_MODELS: Final = ("markov", "shapley")
"""The models that compare the paths of many leads; they credit channels."""
STAGE_CONVERSIONS: Final = ("lead_created", "qualified", "opportunity", "customer")
"""The conversions that entering a stage makes, in the order of the funnel."""

SILENT_GROUPS: Final = frozenset({"Direct", "Internal", "Unassigned"})
"""Channel groups that say nothing about where a person came from."""
NAME_OF_CHANNEL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ads": "Paid Other",
        "chat": "Chat",
        "email": "Email",
        "other": "Other",
        "phone": "Phone",
        "qr": "QR",
        "sales": "Sales",
        "sms": "SMS",
        "social": "Organic Social",
        "telegram": "Telegram",
        "web": "Website",
    }
)
"""The attribution channel of events without a telling channel group, by the channel in which the lead was met."""
CONDITION_KEYS: Final = (
    "event",
    "met_in",
    "channel_group",
    "source_type",
    "source_name",
    "campaign_source",
    "campaign_medium",
    "campaign_name",
)
"""What a rule for channels may test: `event` is the type, `met_in` the channel in which the lead was met (web, email,
phone ...); the others are fields of `EventFact`.
"""


class ChannelRule(NamedTuple):
    """Touchpoints that meet every condition are of this channel."""

    channel: str
    conditions: Mapping[str, frozenset[str]]


class AttributionRules(NamedTuple):
    """A compiled text."""

    name: str
    lookback_ms: int
    half_life_ms: int
    touchpoints: frozenset[str]
    arrivals: frozenset[str]
    channels: tuple[ChannelRule, ...] = ()
    reporting_currency: str | None = None
    rates: Mapping[str, Decimal] = MappingProxyType({})


@cache
def built_in_attribution() -> str:
    """The text that comes with Leadstream."""
    return (files("scoring.attribution") / "default.toml").read_text(encoding="utf-8")

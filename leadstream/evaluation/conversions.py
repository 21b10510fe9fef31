"""What counts as a conversion, and how to find one in the output of a replay: an event of some type, or an
entered stage.

The name of a conversion is checked before anything is read. The search costs a scan for a few bytes per record.
"""

from datetime import datetime
from typing import NamedTuple, get_args

from msgspec import DecodeError, Struct, json

from leadstream.console import Failure
from schemas.activity import IdentityAttached, IdentityDelta
from schemas.decode import decode_activity, decode_statement
from schemas.events import Stage
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.statements import StageEntered
from schemas.topics import LEAD_ACTIVITY, LEAD_CHANGES
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.signals import EVENT_TYPE_BY_TAG

STAGE_PREFIX, CONVERSION_TYPE_PREFIX = "stage:", "conversion:"
DEFAULT_CONVERSION = "purchase_made"


class ConversionDefinition(NamedTuple):
    """`kind` is the type of an event, or empty for a stage. `name` narrows it down: the type of conversion,
    the name of a custom event, or the stage.
    """

    kind: str
    name: str = ""

    def __str__(self) -> str:
        """As `read_conversion` reads it."""
        prefix = {
            "": STAGE_PREFIX,
            "conversion_recorded": CONVERSION_TYPE_PREFIX,
            "custom": CUSTOM_PREFIX,
        }.get(self.kind, "")
        return prefix + self.name if self.name else self.kind

    @property
    def is_stage(self) -> bool:
        return not self.kind

    @property
    def mark(self) -> bytes:
        """Bytes that every record of such a conversion contains."""
        if self.is_stage:
            return b'"stage_entered"'
        return (self.name if self.kind == "custom" else self.kind).encode()

    def may_be(self, event: bytes) -> bool:
        """Whether the encoded event of the log can be such a conversion."""
        return not self.is_stage and self.mark in event

    def finder(self) -> "ConversionFinder":
        return ConversionFinder(self)


def read_conversion(text: str) -> ConversionDefinition:
    """`purchase_made` or another type of event, `custom:NAME`, `conversion:TYPE`, `stage:STAGE`. Raises
    Failure.
    """
    if text.startswith(STAGE_PREFIX):
        stage = text.removeprefix(STAGE_PREFIX)
        if stage not in get_args(Stage):
            raise Failure(f"{stage!r} is not a stage: use one of {', '.join(get_args(Stage))}.")
        return ConversionDefinition("", stage)
    if text.startswith(CONVERSION_TYPE_PREFIX) and text != CONVERSION_TYPE_PREFIX:
        return ConversionDefinition("conversion_recorded", text.removeprefix(CONVERSION_TYPE_PREFIX))
    if text.startswith(CUSTOM_PREFIX) and text != CUSTOM_PREFIX:
        return ConversionDefinition("custom", text.removeprefix(CUSTOM_PREFIX))
    if text not in EVENT_TYPE_BY_TAG:
        raise Failure(
            f"{text!r} is not a conversion: use a type of event ({DEFAULT_CONVERSION}, meeting_scheduled ...), custom:NAME, "
            "conversion:TYPE, or stage:STAGE."
        )
    return ConversionDefinition(text)


class FoundConversion(NamedTuple):
    """A conversion at `at`, of an identity; `identity` is None if the lead entered a stage."""

    at: int
    tenant: str
    lead_id: str
    identity: str | None


class _ConversionFields(Struct):
    occurred_at: datetime
    type: str = ""
    name: str | None = None
    conversion_type: str | None = None


_decode_fields = json.Decoder(_ConversionFields).decode


class ConversionFinder:
    """Collects the conversions among the records that a replay writes. Repeated events and bots are not among
    them: `track_sessions` has left them out.
    """

    def __init__(self, conversion: ConversionDefinition) -> None:
        self._conversion = conversion
        self._mark = conversion.mark
        self._topic = LEAD_CHANGES if conversion.is_stage else LEAD_ACTIVITY
        self._conversions: list[FoundConversion] = []

    def receive(self, record: Outgoing) -> None:
        value = record.value
        if record.topic == self._topic and value is not None and self._mark in value:
            conversion = self._of_stage(value) if self._conversion.is_stage else self._of_event(value)
            if conversion is not None:
                self._conversions.append(conversion)

    def drain(self) -> list[FoundConversion]:
        """The conversions since the last call."""
        conversions, self._conversions = self._conversions, []
        return conversions

    def _of_stage(self, value: bytes) -> FoundConversion | None:
        statement = decode_statement(value)
        if not isinstance(statement, StageEntered) or statement.stage != self._conversion.name:
            return None
        return FoundConversion(millis(statement.at), statement.tenant, statement.lead_id, None)

    def _of_event(self, value: bytes) -> FoundConversion | None:
        activity = decode_activity(value)
        if not isinstance(activity, IdentityDelta | IdentityAttached) or activity.event is None:
            return None
        try:
            fields = _decode_fields(activity.event)
        except DecodeError:
            return None
        kind, name = self._conversion
        named = fields.conversion_type if kind == "conversion_recorded" else fields.name
        if fields.type != kind or (name and named != name):
            return None
        return FoundConversion(
            millis(fields.occurred_at), activity.tenant, activity.lead_id, activity.identity
        )

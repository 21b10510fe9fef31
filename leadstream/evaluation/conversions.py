"""What counts as a conversion, and how a replay tells of one: an event of some type, or a stage entered.

What is named is checked before anything is read. Listening costs a search for a few bytes per record.
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
from scoring.features.features import CUSTOM
from scoring.features.signals import EVENT_NAMES

STAGE, TYPE = "stage:", "conversion:"
DEFAULT = "purchase_made"


class Conversion(NamedTuple):
    """`kind` is the type of an event, or empty; `name` narrows it down: the type of conversion, a custom
    event's name, or the stage.
    """

    kind: str
    name: str = ""

    @property
    def is_stage(self) -> bool:
        return not self.kind

    @property
    def mark(self) -> bytes:
        """What every record that may tell of one contains."""
        if self.is_stage:
            return b'"stage_entered"'
        return (self.name if self.kind == "custom" else self.kind).encode()

    def may_be(self, event: bytes) -> bool:
        """Can the event, as it stands in the log, be one?"""
        return not self.is_stage and self.mark in event

    def hear(self) -> "ConversionFinder":
        return ConversionFinder(self)


def conversion_of(text: str) -> Conversion:
    """`purchase_made` or another type of event, `custom:NAME`, `conversion:TYPE`, `stage:STAGE`. Raises
    Failure.
    """
    if text.startswith(STAGE):
        stage = text.removeprefix(STAGE)
        if stage not in get_args(Stage):
            raise Failure(f"{stage!r} is no stage: give one of {', '.join(get_args(Stage))}.")
        return Conversion("", stage)
    if text.startswith(TYPE) and text != TYPE:
        return Conversion("conversion_recorded", text.removeprefix(TYPE))
    if text.startswith(CUSTOM) and text != CUSTOM:
        return Conversion("custom", text.removeprefix(CUSTOM))
    if text not in EVENT_NAMES:
        raise Failure(
            f"{text!r} is no conversion: give a type of event ({DEFAULT}, meeting_scheduled ...), custom:NAME, "
            "conversion:TYPE, or stage:STAGE."
        )
    return Conversion(text)


class FoundConversion(NamedTuple):
    """A conversion at `at`: of the identity that did it, or (a stage) of the lead itself."""

    at: int
    tenant: str
    lead_id: str
    identity: str | None


class _Told(Struct):
    occurred_at: datetime
    type: str = ""
    name: str | None = None
    conversion_type: str | None = None


_read = json.Decoder(_Told).decode


class ConversionFinder:
    """What of the records that a replay writes tells of conversions. Repetitions and bots never do: stage 1
    has left them out.
    """

    def __init__(self, conversion: Conversion) -> None:
        self._conversion = conversion
        self._mark = conversion.mark
        self._topic = LEAD_CHANGES if conversion.is_stage else LEAD_ACTIVITY
        self._found: list[FoundConversion] = []

    def hear(self, record: Outgoing) -> None:
        value = record.value
        if record.topic == self._topic and value is not None and self._mark in value:
            found = self._of_stage(value) if self._conversion.is_stage else self._of_event(value)
            if found is not None:
                self._found.append(found)

    def take(self) -> list[FoundConversion]:
        """What was heard since the last time."""
        found, self._found = self._found, []
        return found

    def _of_stage(self, value: bytes) -> FoundConversion | None:
        said = decode_statement(value)
        if not isinstance(said, StageEntered) or said.stage != self._conversion.name:
            return None
        return FoundConversion(millis(said.at), said.tenant, said.lead_id, None)

    def _of_event(self, value: bytes) -> FoundConversion | None:
        activity = decode_activity(value)
        if not isinstance(activity, IdentityDelta | IdentityAttached) or activity.event is None:
            return None
        try:
            told = _read(activity.event)
        except DecodeError:
            return None
        kind, name = self._conversion
        named = told.conversion_type if kind == "conversion_recorded" else told.name
        if told.type != kind or (name and named != name):
            return None
        return FoundConversion(millis(told.occurred_at), activity.tenant, activity.lead_id, activity.identity)

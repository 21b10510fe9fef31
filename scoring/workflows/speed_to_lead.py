"""Speed to lead: how soon somebody contacts a lead that has qualified. What starts the clock, what stops it, and its limit.

A tenant's text of workflows has it as [speed_to_lead]; without one, the defaults below count.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, cast

from schemas.events import Stage
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.qualification_override import QUALIFICATION_MODEL, QUALIFICATION_SET
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.lifecycle.transitions import FUNNEL_STAGES, STAGE_RANK, STAGES
from scoring.models.text_refusals import is_whole_number, shorten_value
from scoring.workflows.working_hours import Hours, read_hours

MOST_MINUTES: Final = 7 * 24 * 60
LEAST_WORKING_MINUTES: Final = 60
"""Of a week."""
MOST_CONTACT_TYPES: Final = 32
MOST_HOURS: Final = 7
LONGEST_BAND: Final = 100
KEYS: Final = ("after", "contacts", "minutes", "working_hours")


class SpeedToLead(NamedTuple):
    after: str = "qualified"
    """A stage of the lifecycle, or a band of the rules' qualification. A lead that has reached it or a later one has
    qualified."""
    contacts: tuple[str, ...] = ("call_made", "email_sent", "sms_sent")
    """Any of these events is a contact."""
    minutes: int = 5
    """The limit."""
    working_hours: tuple[Hours, ...] = ()
    """Only these count, in the tenant's zone; none: every minute counts."""

    @property
    def band(self) -> str | None:
        """The band that starts the clock; None: a stage does."""
        return None if self.after in STAGES else self.after


class SpeedToLeadError(ValueError):
    """What is wrong with a key of the table."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def read_speed_to_lead(table: Any) -> SpeedToLead:
    """The table [speed_to_lead]; None: the defaults. Raises SpeedToLeadError."""
    if table is None:
        return SpeedToLead()
    if not isinstance(table, dict):
        raise SpeedToLeadError("", f'wants a table: after = "sql", minutes = 5; not {shorten_value(table)}')
    if unknown := sorted(table.keys() - set(KEYS)):
        raise SpeedToLeadError(unknown[0], f"unknown; [speed_to_lead] has {', '.join(KEYS)}")
    default = SpeedToLead()
    after = table.get("after", default.after)
    if not isinstance(after, str) or not after or len(after) > LONGEST_BAND:
        raise SpeedToLeadError(
            "after", f"is one stage of the lifecycle or one band, such as sql, not {shorten_value(after)}"
        )
    if after in STAGES and after not in FUNNEL_STAGES[1:-1]:
        raise SpeedToLeadError(
            "after", f"{after} is no stage in which a lead waits: use {_in_words(FUNNEL_STAGES[1:-1])}"
        )
    minutes = table.get("minutes", default.minutes)
    if not is_whole_number(minutes, 1, MOST_MINUTES):
        raise SpeedToLeadError(
            "minutes", f"is 1 to {MOST_MINUTES:,} whole minutes, not {shorten_value(minutes)}"
        )
    return SpeedToLead(
        after,
        _contacts(table.get("contacts", list(default.contacts))),
        minutes,
        _hours(table.get("working_hours", [])),
    )


def _contacts(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not 1 <= len(names) <= MOST_CONTACT_TYPES:
        raise SpeedToLeadError("contacts", f'wants a list of 1 to {MOST_CONTACT_TYPES} events: ["call_made"]')
    for name in names:
        if not isinstance(name, str) or not (
            (name in EVENT_TYPE_BY_TAG and name != "custom")
            or name.removeprefix(CUSTOM_PREFIX) not in {name, ""}
        ):
            raise SpeedToLeadError(
                "contacts", f"{shorten_value(name)} is no type of an event; those of your own are custom:NAME"
            )
    return tuple(names)


def _hours(texts: Any) -> tuple[Hours, ...]:
    texts = [texts] if isinstance(texts, str) else texts
    if (
        not isinstance(texts, list)
        or len(texts) > MOST_HOURS
        or not all(isinstance(each, str) for each in texts)
    ):
        raise SpeedToLeadError(
            "working_hours", f'wants "mon-fri 09:00-17:30", or a list of at most {MOST_HOURS}'
        )
    try:
        hours = tuple(read_hours(text) for text in texts)
    except ValueError as wrong:
        raise SpeedToLeadError("working_hours", str(wrong)) from None
    if hours and max(each.minutes_of_week for each in hours) < LEAST_WORKING_MINUTES:
        raise SpeedToLeadError("working_hours", f"has fewer than {LEAST_WORKING_MINUTES} minutes in a week")
    return hours


def _in_words(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def waits_for_contact(
    definition: SpeedToLead, stage: Stage, bands: Mapping[str, str | None], in_order: tuple[str, ...]
) -> bool:
    """Has a lead qualified and not left again? Customers, and leads that were put aside, wait for nobody. `bands` are those of
    the rules, `in_order` all bands of their qualification, the highest first.
    """
    if stage not in FUNNEL_STAGES[:-1]:
        return False
    if definition.band is None:
        return STAGE_RANK[stage] >= STAGE_RANK[cast("Stage", definition.after)]
    band = bands.get(QUALIFICATION_SET)
    return (
        band in in_order
        and definition.band in in_order
        and in_order.index(band) <= in_order.index(definition.band)
    )


def unknown_band(
    definition: SpeedToLead, band_sets: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> str | None:
    """Why the clock would never start; None: the active rules have its band. `band_sets`: of each active model."""
    bands = band_sets.get(QUALIFICATION_MODEL, {}).get(QUALIFICATION_SET, ())
    if definition.band is None or definition.band in bands:
        return None
    return (
        f"{definition.after!r} is neither a stage ({_in_words(FUNNEL_STAGES[1:-1])}) nor a band of the rules"
        + (f" ({', '.join(bands)})" if bands else "")
    )


class Wait(NamedTuple):
    """A time in which a lead was qualified. `end` is None while it lasts."""

    start: datetime
    end: datetime | None


class StandingOfLead(NamedTuple):
    """What decides whether a lead waits, from a moment on."""

    at: datetime
    stage: Stage
    band: str | None
    """Of the rules' qualification, one set by hand included."""


def latest_wait(
    definition: SpeedToLead, standings: Iterable[StandingOfLead], in_order: tuple[str, ...]
) -> Wait | None:
    """The latest time in which a lead waited, by what it was one moment after the other; None: it never waited."""
    latest: Wait | None = None
    for standing in standings:
        bands = {QUALIFICATION_SET: standing.band}
        waits = waits_for_contact(definition, standing.stage, bands, in_order)
        if waits and (latest is None or latest.end is not None):
            latest = Wait(standing.at, None)
        elif not waits and latest is not None and latest.end is None:
            latest = latest._replace(end=standing.at)
    return latest

"""Speed to lead as of a moment that is over. The lead's row has its latest clock only; an earlier one follows from the histories:
the clock ran while the lead waited, by its stages and bands of then, and a contact stopped it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.api.overrides import override_in_history
from gateway.store import Row, StoreSnapshot
from projections import queries
from projections.past_leads import select_first_contact, select_silent_events, select_workflows_until
from projections.row_keys import hashed_key
from schemas.moment import millis, moment
from scoring.features.calendar import Calendar
from scoring.features.qualification_override import QUALIFICATION_MODEL, QUALIFICATION_SET
from scoring.models.model import Model
from scoring.models.points import NEVER
from scoring.workflows.speed_to_lead import SpeedToLead, StandingOfLead, latest_wait
from scoring.workflows.workflow_text import compiled_speed_to_lead
from scoring.workflows.working_hours import after_working_minutes


async def contact_clock_then(
    ask: StoreSnapshot,
    lead: Row,
    stages: Sequence[Row],
    overrides: Sequence[Row],
    identities: Sequence[str],
    model: Model | None,
    zone: Calendar,
    at: datetime,
) -> Mapping[str, Any] | None:
    """As the column `speed_to_lead` of the lead's row was. `lead` is the row of today, `stages` and `identities` are of then,
    `model` is the one that qualified leads then.
    """
    stored = lead["speed_to_lead"]
    if stored is None:
        return None
    texts, bands = await ask.all(
        select_workflows_until(lead["tenant"], at), queries.bands(lead["tenant"], lead["lead_id"])
    )
    definition = compiled_speed_to_lead(texts[0]["text"] or "") if texts else SpeedToLead()
    own = [
        each
        for each in bands
        if each["model"] == QUALIFICATION_MODEL and each["scale"] == QUALIFICATION_SET and each["at"] <= at
    ]
    in_order = () if model is None else model.band_sets.get(QUALIFICATION_SET, ())
    wait = latest_wait(definition, _standings(stages, own, overrides, at), in_order)
    if wait is None:
        return None
    if stored["qualified_at"] and datetime.fromisoformat(stored["qualified_at"]) == wait.start:
        later = {
            name: None
            for name in ("contacted_at", "ended_at")
            if stored[name] is not None and datetime.fromisoformat(stored[name]) > at
        }
        return {**stored, **later}
    causes = {row["caused_by"] for row in (*stages, *own) if row["at"] == wait.start}
    keys = [hashed_key(name) for name in identities]
    contacts, silent = await ask.all(
        select_first_contact(keys, definition.contacts, wait.start, wait.end or at),
        select_silent_events(keys, sorted(each.partition(":")[2] for each in causes)),
    )
    due = after_working_minutes(millis(wait.start), definition.minutes, definition.working_hours, zone)
    limited = not silent and due < NEVER and any(cause.startswith("event:") for cause in causes)
    return {
        "qualified_at": wait.start.isoformat(),
        "limit_at": moment(due).isoformat() if limited else None,
        "contacted_at": contacts[0]["occurred_at"].isoformat() if contacts else None,
        "ended_at": None if wait.end is None else wait.end.isoformat(),
    }


def _standings(
    stages: Sequence[Row], bands: Sequence[Row], overrides: Sequence[Row], at: datetime
) -> list[StandingOfLead]:
    """At each moment at which one of them changed, up to `at`; each list is in the order of its changes."""
    ends = {each["until"] for each in overrides if each["until"] is not None}
    moments = {each["at"] for each in (*stages, *bands, *overrides)} | ends
    standings = []
    for when in sorted(each for each in moments if each <= at):
        override = override_in_history(overrides, when)
        if override is not None and override["until"] is not None and override["until"] <= when:
            override = None
        reached = [each["band"] for each in bands if each["at"] <= when]
        entered = [each["stage"] for each in stages if each["at"] <= when]
        band = override["band"] if override is not None else reached[-1] if reached else None
        standings.append(StandingOfLead(when, entered[-1] if entered else "new", band))
    return standings

"""Refuses merges of two people: of leads that differ in something of which a person has one value (`scoring.features.unique_identifiers`).

The door decides once, by what the store has of the leads at that moment and what the request has said before. It knows no projection.
"""

from collections.abc import Sequence
from typing import Final

from gateway.door.resolving import UniqueFields
from gateway.ports import Ports
from schemas.envelope import Event
from schemas.events import LeadsMerged
from scoring.features.signals import profile_fields_of
from scoring.features.unique_identifiers import Identifiers, differing_field, identifiers_in, united

NOT_CHECKED_REASON: Final = "whether the two may be one cannot be checked now: send it again"


async def unique_fields_of(events: Sequence[Event], ports: Ports) -> UniqueFields | None:
    """Of the tenants of these events; None: none of them has any."""
    named = {
        tenant: fields
        for tenant in sorted({event.tenant for event in events})
        if (fields := await ports.unique_fields(tenant))
    }
    return UniqueFields(named, ports.look_up_identifiers) if named else None


async def merge_refusals(events: Sequence[Event], ports: Ports) -> list[str | None]:
    """Why an event may not be stored, for each event of a request; None: it may. Only merges are refused."""
    refusals: list[str | None] = [None] * len(events)
    tenants = sorted({event.tenant for event in events if isinstance(event, LeadsMerged)})
    for tenant in tenants:
        if unique := await ports.unique_fields(tenant):
            mine = [(at, event) for at, event in enumerate(events) if event.tenant == tenant]
            for at, reason in (await _refusals_of_tenant(mine, tenant, unique, ports)).items():
                refusals[at] = reason
    return refusals


async def _refusals_of_tenant(
    events: Sequence[tuple[int, Event]], tenant: str, unique: Sequence[str], ports: Ports
) -> dict[int, str]:
    merges = [event for _, event in events if isinstance(event, LeadsMerged)]
    named = sorted({lead for merge in merges for lead in (merge.lead_id or "", merge.into)})
    stored = await ports.look_up_identifiers(tenant, named, unique)
    current: dict[str, Identifiers] = dict(stored or {})
    refusals: dict[int, str] = {}
    for at, event in events:
        lead_id = event.lead_id or ""
        if isinstance(event, LeadsMerged):
            one, other = current.get(lead_id, {}), current.get(event.into, {})
            if stored is None:
                refusals[at] = NOT_CHECKED_REASON
            elif (name := differing_field(one, other)) is not None:
                refusals[at] = (
                    f"lead_id and into are two people: they differ in {name}, of which a person has one value "
                    "(the settings' unique fields)"
                )
            else:
                current[lead_id] = current[event.into] = united(one, other)
        elif lead_id:
            stated = identifiers_in(profile_fields_of(event), unique)
            current[lead_id] = {**current.get(lead_id, {}), **stated}
    return refusals

"""The merges of a lead, of it and into it, and what undid them: read from the events, so each leaves its trace, however quickly one
follows another. And where a lead that was merged belongs now.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from gateway.api.found_leads import redirects_from
from gateway.store import Row, StoreSnapshot
from projections.lead_merges import key_of_own_record, select_leads_merged_into, select_merge_events
from scoring.features.identity import key_of_identity, merge_circle, owner_by_redirects


class LeadMerge(NamedTuple):
    """`lead_id` was merged into `into`, until the event `until_event_id` undid it or merged it into another; None: it still is."""

    lead_id: str
    into: str
    at: datetime
    event_id: str
    until: datetime | None = None
    until_event_id: str | None = None


class LeadMerges(NamedTuple):
    """`owner`: the lead that this one belongs to now, over any chain of merges; None: itself. `circle`: the leads that are merged into
    each other in a circle, if this is the one of them that stays.
    """

    merges: list[LeadMerge]
    owner: str | None
    circle: list[str]


async def merges_of_lead(ask: StoreSnapshot, lead: Row, until: datetime | None) -> LeadMerges:
    """`lead` is its row; of a past moment, the one of then. The latest merge comes first."""
    tenant, lead_id = lead["tenant"], lead["lead_id"]
    others = await ask(select_leads_merged_into(tenant, lead_id))
    keys = {key_of_own_record(tenant, lead_id), *(row["identity_key"] for row in others)}
    events = await ask(select_merge_events(sorted(keys), until))
    merges = [each for each in merges_of_events(events) if lead_id in {each.lead_id, each.into}]
    merges.sort(key=lambda each: each.at, reverse=True)
    if until is not None:
        return LeadMerges(merges, lead["redirect"], [])
    redirects = await redirects_from(ask, tenant, lead)
    owner = owner_by_redirects(lead_id, redirects.get)
    if owner != lead_id:
        return LeadMerges(merges, owner, [])
    return LeadMerges(merges, None, merge_circle(lead_id, redirects.get))


def merges_of_events(events: Iterable[Row]) -> list[LeadMerge]:
    """`events`: merges and what undid them, each lead's in order. A merge into the lead that it is merged into changes nothing."""
    merges: list[LeadMerge] = []
    current: dict[str, int] = {}
    """Lead -> the position of its merge that is not over."""
    for event in events:
        lead_id = key_of_identity(event["identity"])[0].split("/", 2)[2]
        open_merge = current.get(lead_id)
        if open_merge is not None:
            if event["into"] == merges[open_merge].into:
                continue
            merges[open_merge] = merges[open_merge]._replace(
                until=event["recorded_at"], until_event_id=event["event_id"]
            )
            del current[lead_id]
        if event["into"] is not None:
            current[lead_id] = len(merges)
            merges.append(LeadMerge(lead_id, event["into"], event["recorded_at"], event["event_id"]))
    return merges


def merges_json(merges: LeadMerges) -> dict[str, Any]:
    return {
        "merged_into": merges.owner,
        "merged_in_circle": merges.circle,
        "merges": [each._asdict() for each in merges.merges],
    }

"""Events that the gateway makes of a request of its own API: through the same door as those of POST /v1/events.

It knows no database.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from msgspec import json

from gateway import metrics
from gateway.access import Caller, client_address
from gateway.answers import RequestProblem
from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.erased import refuse_erased
from gateway.door.merge_checks import merge_refusals, unique_fields_of
from gateway.door.resolving import with_resolved_leads
from gateway.door.services import door_of
from gateway.door.storable import NOT_STORED_REASON, storable_events
from gateway.ports import Ports
from schemas.decode import Refusal, encode_source, key_of
from schemas.envelope import DEFAULT_TENANT, Event
from schemas.record import Outgoing
from schemas.topics import EVENTS


async def record_events(request: Request, caller: Caller, events: Sequence[Mapping[str, Any]]) -> list[Event]:
    """Returns the events once the log has them; `event_applied` follows for each. Raises Refusal, and then
    none of them is recorded; Denied for too many; Unavailable while the log takes none.
    """
    door = door_of(request)
    ports = door.ports
    door.event_buckets.take(caller.key, len(events), time.monotonic())
    facts = RequestFacts(
        tenant=caller.tenant,
        client_ip=client_address(request, ports.access),
        user_agent=request.headers.get("user-agent"),
        reply=True,
        phone_region=ports.phone_region,
        page=request.headers.get("origin") or request.headers.get("referer"),
        own_sites=ports.own_sites,
    )
    now = ports.now()
    admitted = []
    for each in events:
        raw = json.encode(each)
        try:
            admitted.append(admit_event(read_producer_event(raw, each["event_id"], now), facts, now))
        except Refusal as refusal:
            ports.recent.refuse(caller.tenant or DEFAULT_TENANT, raw, refusal.field, refusal.reason)
            raise
    stored = await append_admitted(admitted, ports)
    if len(stored) < len(admitted):
        raise RequestProblem(422, NOT_STORED_REASON, field="tracking_consent")
    return stored


async def append_admitted(admitted: list[Event], ports: Ports) -> list[Event]:
    """Returns the events, with the leads that their addresses belong to, once the log has them; without those that nobody
    has consented to. Raises Unavailable while the log takes none, and RequestProblem for a person who was erased
    and for a merge of two people.
    """
    refuse_erased(ports.erased, admitted)
    admitted = [event for event in await storable_events(admitted, ports) if event is not None]
    if reason := next(filter(None, await merge_refusals(admitted, ports)), None):
        raise RequestProblem(409, reason, field="into")
    if ports.resolve is not None:
        admitted = await with_resolved_leads(
            admitted,
            ports.resolve,
            by=ports.identify_by,
            region=ports.phone_region,
            unique=await unique_fields_of(admitted, ports),
        )
    if admitted:
        with metrics.APPEND_SECONDS.time():
            await ports.append([Outgoing(EVENTS, key_of(each), encode_source(each)) for each in admitted])
    bots = sum(event.bot is not None for event in admitted)
    metrics.ACCEPTED_EVENTS.labels("yes").inc(bots)
    metrics.ACCEPTED_EVENTS.labels("no").inc(len(admitted) - bots)
    return admitted

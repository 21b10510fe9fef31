"""Sends leads' clocks forward through the log, so that their stored scores are those of now.

The record that does it only needs an outcome: the fold concludes each lead before it emits that, and logs a
score only if it differs.
"""

import uuid
from collections.abc import Sequence

from gateway.api.services import ApiServices
from gateway.ports import EventKey
from schemas.activity import EventNoted
from schemas.decode import encode_activity
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import LEAD_ACTIVITY, lead_key


async def advance_lead(services: ApiServices, tenant: str, lead_id: str, seconds: float) -> bool:
    """Whether the lead is stored as of now, after at most so many seconds."""
    return await advance_leads(services, tenant, [lead_id], seconds) == 1


async def advance_leads(services: ApiServices, tenant: str, lead_ids: Sequence[str], seconds: float) -> int:
    """How many of the leads are stored as of now, after at most so many seconds."""
    now = millis(services.ports.now())
    updates = {
        EventKey(tenant, lead_key(tenant, lead_id), f"update-{uuid.uuid4()}"): lead_id for lead_id in lead_ids
    }
    await services.ports.append(
        [
            Outgoing(
                LEAD_ACTIVITY,
                update.key,
                encode_activity(EventNoted(tenant, lead_id, now, update.event_id, "applied", update.key)),
            )
            for update, lead_id in updates.items()
        ]
    )
    return len(await services.applied(list(updates), seconds))

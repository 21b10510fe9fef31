"""The last step of the door: which events may be stored, and what of their addresses.

What nobody has consented to is not stored, and a refusal is stored without anything beside it. The folds apply the same rule (`scoring.features.consent`) by the settings in the log. The door applies it first, so that
nothing of such an event reaches a topic or a table. It knows the published settings as they were a moment ago; of a
visitor's earlier words it knows nothing.
"""

from collections.abc import Sequence

from msgspec import structs

from gateway import metrics
from gateway.door.ip_truncation import with_truncated_ip
from gateway.ports import Ports
from schemas.envelope import Event
from schemas.events import ConsentChanged
from scoring.features.consent import may_be_counted

NOT_STORED_REASON = "the visitor has not consented to being tracked (tracking_consent)"


async def storable_events(events: Sequence[Event], ports: Ports) -> list[Event | None]:
    """The events as they may be stored, in order; None for one that may not be. Every event passes here before the log."""
    tenants = sorted({event.tenant for event in events})
    required_since = {tenant: await ports.consent_required_since(tenant) for tenant in tenants}
    kept = [
        with_truncated_ip(_without_traces(event), ports.ip_truncation)
        if may_be_counted(event, required_since[event.tenant])
        else None
        for event in events
    ]
    if missing := kept.count(None):
        metrics.REFUSED.labels("consent").inc(missing)
    return kept


def _without_traces(event: Event) -> Event:
    """A refusal to be tracked keeps neither address nor device nor page."""
    if isinstance(event, ConsentChanged) and event.tracking is False:
        return structs.replace(event, context=None, device=None, traffic_origin=None, extra=None)
    return event

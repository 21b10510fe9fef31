"""Records what people do in a messenger, through the same door as POST /v1/events. It knows no database."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import structlog
from msgspec import DecodeError, json

from gateway import metrics
from gateway.answers import RequestProblem
from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.erased import check_not_erased
from gateway.door.recording import append_admitted
from gateway.ports import Ports
from schemas.broken_text import repair_broken_text
from schemas.decode import Refusal
from schemas.envelope import Event

MOST_PARAMETERS = 1_000
"""Of a form."""

log = structlog.get_logger("gateway")


async def record(
    tenant: str, raws: Sequence[dict[str, Any]], ports: Ports, *, reply: bool = False
) -> list[Event]:
    """The events that the log has now. Those that the door refuses are left out, since a messenger would repeat them
    in vain. `reply`: the caller waits until they are applied. Raises Unavailable while the log takes none.
    """
    now = ports.now()
    facts = RequestFacts(
        tenant=tenant, reply=reply, phone_region=ports.phone_region, own_sites=ports.own_sites
    )
    admitted: list[Event] = []
    for raw in raws:
        try:
            event = admit_event(read_producer_event(json.encode(raw), raw["event_id"], now), facts, now)
            check_not_erased(ports.erased, event)
            admitted.append(event)
        except Refusal as refusal:
            metrics.REFUSED.labels("event").inc()
            ports.recent.refuse(tenant, json.encode(raw), refusal.field, refusal.reason)
            log.warning("event of a messenger refused", source=raw["source"], field=refusal.field)
    return await append_admitted(admitted, ports)


def decoded(body: bytes) -> object:
    """The JSON of a webhook's body. Raises RequestProblem."""
    try:
        return json.decode(repair_broken_text(body))
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestProblem(400, f"the body is no JSON: {error}", field="body") from None


def form_parameters(body: bytes) -> tuple[tuple[str, str], ...]:
    """Names and values of a form, as a webhook sends it. Raises RequestProblem."""
    try:
        return tuple(
            parse_qsl(
                body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS, errors="replace"
            )
        )
    except ValueError as error:
        raise RequestProblem(400, f"the body is no form: {error}", field="body") from None

"""/v1/crm/{crm}: the webhook of a CRM, which reports that records have changed. docs/crm.md.

A request proves that it comes from the CRM. What it reports is stored before it is answered; the process that delivers reads it
and makes events of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from delivery.channels.crm import InboundChannel, rules_of
from delivery.crm.crm_state import add_hints, add_reported_once
from delivery.crm.inbound import CrmWebhookChannel
from delivery.crm.reported import (
    WebhookRequest,
    is_from_vendor,
    is_recent,
    is_standard_webhook,
    receipt_of,
    reported_keys,
    reported_records,
)
from gateway import metrics
from gateway.access import AccessDenied
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.services import services_of
from gateway.documented import answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.chat_accounts import ChatRequest, is_proven
from gateway.door.chat_mapping import ChatAuthentication
from gateway.door.messenger_events import decoded
from gateway.row_changes import change_rows
from projections.connection import Connection

LARGEST_REPORT = 1_000_000
"""Bytes; vendors send a hundred changes at once."""
EXAMPLES = example_bodies("crm")
CrmName = Annotated[
    str, Path(max_length=64, description="The name of the channel in the configuration of delivery.")
]

router = APIRouter(tags=["crm"])


@router.post(
    "/v1/crm/{crm}",
    summary="Take what a CRM reports",
    description="The webhook of HubSpot (signature version 3), Pipedrive (HTTP authentication), Odoo (token in the address), or "
    "of another CRM by its mapping. Events follow when the changes were read.",
    responses={
        **answer_docs(EXAMPLES["answer"], "The changes are stored."),
        401: {"description": "The signature, the password or the token is missing or wrong."},
        404: {"description": "No channel of this name takes reports."},
        503: {"description": "The database does not answer; try again after Retry-After seconds."},
    },
    openapi_extra=request_docs(EXAMPLES["report"]),
)
async def take_report(
    request: Request,
    crm: CrmName,
    token: Annotated[
        str, Query(max_length=512, description="Of Odoo, which cannot sign: the secret of the channel.")
    ] = "",
) -> Response:
    ports = services_of(request).ports
    channel = ports.crms.get(crm)
    if channel is None:
        raise RequestProblem(
            404, "no channel of this name takes reports: LEADSTREAM_DELIVERY lists them", field="crm"
        )
    body = await read_body(request, min(LARGEST_REPORT, ports.max_body_bytes))
    query = f"?{request.url.query}" if request.url.query else ""
    called = f"{ports.public_url.rstrip('/')}{request.url.path}{query}"
    proof = WebhookRequest(request.method, called, dict(request.headers), body, token)
    if not _is_proven(channel, proof, request):
        metrics.REFUSED.labels("access").inc()
        raise AccessDenied(401, "nothing proves that this request comes from the CRM: see docs/crm.md")
    content, tenant, skipped = decoded(body), rules_of(channel).tenant, 0
    if isinstance(channel, CrmWebhookChannel):
        records, skipped = reported_records(channel, content, ports.now())
        taken = len(records)
        receipt = receipt_of(channel.proof, request.headers)
        write: Callable[[Connection], object] = partial(
            add_reported_once, tenant=tenant, crm=crm, records=records, receipt=receipt, now=ports.now()
        )
    else:
        keys = reported_keys(channel, content)
        taken = len(keys)
        write = partial(add_hints, tenant=tenant, crm=crm, keys=keys)
    if taken and await change_rows(ports.database_url, write) is False:
        taken = 0  # a copy of what was taken before
    return JsonAnswer({"records": taken, "skipped": skipped})


def _is_proven(channel: InboundChannel, proof: WebhookRequest, request: Request) -> bool:
    if not isinstance(channel, CrmWebhookChannel):
        return is_from_vendor(channel, proof, services_of(request).ports.now())
    own, now = channel.proof, services_of(request).ports.now()
    if own.method == "standard_webhooks":
        return is_standard_webhook(channel.secret.reveal(), request.headers, proof.body)
    if own.timestamp and not is_recent(request.headers.get(own.timestamp, ""), now):
        return False
    authentication = ChatAuthentication(
        own.method, own.header, own.algorithm, own.encoding, own.prefix, own.signed
    )
    return is_proven(
        authentication, channel.secret.reveal(), ChatRequest(proof.url, request.headers, proof.body)
    )

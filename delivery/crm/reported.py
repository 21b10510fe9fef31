"""What a CRM's webhook reports: which records changed, or the records themselves. Pure.

HubSpot's, Pipedrive's and Odoo's webhooks only say which record changed; it is then read by the API, so that a webhook and a
pull mean the same. Readers are lenient: what does not say that is no report.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from jmespath.exceptions import JMESPathError
from standardwebhooks import Webhook, WebhookVerificationError

from delivery.channels.crm import CrmChannel, HubspotChannel, OdooChannel, PipedriveChannel
from delivery.crm.crm_state import RecordKey
from delivery.crm.inbound import PROOF_SECONDS, CrmWebhookChannel, RecordKind, WebhookProof, compiled
from delivery.crm.reading import FIELD_PREFIX, ODOO_RECORD
from delivery.crm.records import CrmRecord, id_of, moment_of, text_of

STANDARD_ID: Final = "webhook-id"
HUBSPOT_SIGNATURE: Final = "x-hubspot-signature-v3"
HUBSPOT_TIMESTAMP: Final = "x-hubspot-request-timestamp"
HUBSPOT_SECONDS: Final = 300
"""An older request is refused, as HubSpot's documentation asks."""
_HUBSPOT_DECODED: Final[Mapping[str, str]] = {
    f"%{ord(character):02X}": character for character in ":/?@!$'()*,;"
}
"""What HubSpot decodes in an address before it signs it."""
_HUBSPOT_ENCODED: Final = re.compile("|".join(_HUBSPOT_DECODED), re.IGNORECASE)
_HUBSPOT_TYPES: Final[Mapping[str, RecordKind]] = {"0-1": "contact", "0-3": "deal"}
_PIPEDRIVE_ENTITIES: Final[Mapping[str, RecordKind]] = {"person": "contact", "deal": "deal"}
PIPEDRIVE_USER: Final = "leadstream"
"""The user name of the HTTP authentication that Pipedrive sends; the password is the secret."""
MOST_RECORDS: Final = 1_000


class WebhookRequest(NamedTuple):
    """What of a request a proof may be about. Names of headers are in small letters."""

    method: str
    url: str
    """As the CRM has called it."""
    headers: Mapping[str, str]
    body: bytes
    token: str = ""
    """Of the query, where a vendor cannot sign."""


def is_from_hubspot(secret: str, request: WebhookRequest, now: datetime) -> bool:
    """Version 3 of HubSpot's signature: HMAC-SHA-256 of method, address, body and timestamp (ms), in Base64."""
    stamp = request.headers.get(HUBSPOT_TIMESTAMP, "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 16):
        return False
    if abs(now.timestamp() - int(stamp) / 1_000) > HUBSPOT_SECONDS:
        return False
    url = _HUBSPOT_ENCODED.sub(lambda match: _HUBSPOT_DECODED[match[0].upper()], request.url)
    signed = request.method.encode() + url.encode() + request.body + stamp.encode()
    digest = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    return hmac.compare_digest(digest, request.headers.get(HUBSPOT_SIGNATURE, "").encode(errors="replace"))


def is_from_pipedrive(secret: str, request: WebhookRequest) -> bool:
    """HTTP basic authentication: Pipedrive's webhooks have no signature."""
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    expected = base64.b64encode(f"{PIPEDRIVE_USER}:{secret}".encode())
    stated = credentials.strip().encode(errors="replace")
    return kind.lower() == "basic" and hmac.compare_digest(expected, stated)


def is_from_vendor(channel: CrmChannel, request: WebhookRequest, now: datetime) -> bool:
    """Whether the request proves that the vendor sent it. Compares in constant time; without a secret nothing is proven."""
    secret = channel.inbound.secret if channel.inbound else None
    if secret is None:
        return False
    match channel:
        case HubspotChannel():
            return is_from_hubspot(secret.reveal(), request, now)
        case PipedriveChannel():
            return is_from_pipedrive(secret.reveal(), request)
        case OdooChannel():
            return hmac.compare_digest(secret.reveal().encode(), request.token.encode(errors="replace"))


def is_standard_webhook(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether it is signed as Standard Webhooks say, within their five minutes."""
    try:
        Webhook(secret).verify(body, dict(headers))
    except (
        WebhookVerificationError,
        ValueError,
    ):  # ValueError: a signature or a moment that is none, or no JSON
        return False
    return True


def is_recent(stated: str, now: datetime) -> bool:
    """Whether a moment (seconds or milliseconds since 1970, or RFC 3339) is within PROOF_SECONDS of now."""
    moment = moment_of(stated)
    return moment is not None and abs((now - moment).total_seconds()) <= PROOF_SECONDS


def receipt_of(proof: WebhookProof, headers: Mapping[str, str]) -> str | None:
    """What a copy of a proven request has in common with it. None: its proof has no moment, so that it is proven for ever."""
    if proof.method == "standard_webhooks":
        return headers.get(STANDARD_ID)
    if proof.method != "hmac" or not proof.timestamp:
        return None
    return headers.get((proof.id or proof.header).lower())


def reported_keys(channel: CrmChannel, body: Any) -> list[RecordKey]:
    """The records that the webhook says have changed, each once; of a change of an association both its ends."""
    return list(dict.fromkeys(_keys(channel, body)))


def _keys(channel: CrmChannel, body: Any) -> list[RecordKey]:
    match channel:
        case HubspotChannel():
            return [key for each in _items(body) for key in _hubspot_keys(each)]
        case PipedriveChannel():
            meta, data = _object(_object(body).get("meta")), _object(_object(body).get("data"))
            kind = _PIPEDRIVE_ENTITIES.get(str(meta.get("entity")))
            number = id_of(meta.get("entity_id")) or id_of(data.get("id"))
            return [(kind, number)] if kind and number else []
        case OdooChannel():
            number = id_of(_object(body).get("_id"))
            return [("deal", number)] if _object(body).get("_model") == ODOO_RECORD and number else []


def _hubspot_keys(notification: Any) -> list[RecordKey]:
    each = _object(notification)
    subject = str(each.get("subscriptionType") or "")
    kind: RecordKind | None = _HUBSPOT_TYPES.get(str(each.get("objectTypeId")))
    if kind is None:
        kind = (
            "deal" if subject.startswith("deal.") else "contact" if subject.startswith("contact.") else None
        )
    number = id_of(each.get("objectId"))
    if kind and number:
        return [(kind, number)]
    from_id, to_id = id_of(each.get("fromObjectId")), id_of(each.get("toObjectId"))
    association = str(each.get("associationType") or "")
    if from_id and association.startswith("DEAL_TO_CONTACT"):
        return [("deal", from_id)]
    return [("deal", to_id)] if to_id and association.startswith("CONTACT_TO_DEAL") else []


def reported_records(channel: CrmWebhookChannel, body: Any, now: datetime) -> tuple[list[CrmRecord], int]:
    """The records of a body by the channel's mapping, and how many lack an id or what they are; at most MOST_RECORDS."""
    answer = body if channel.each is None else _located(channel.each, body)
    items = answer if isinstance(answer, list) else [answer]
    records, skipped = [], 0
    for item in items[:MOST_RECORDS]:
        record = _mapped_record(channel, item, now)
        if record is None:
            skipped += 1
        else:
            records.append(record)
    return records, skipped + max(len(items) - MOST_RECORDS, 0)


def _mapped_record(channel: CrmWebhookChannel, item: Any, now: datetime) -> CrmRecord | None:
    """A field that the mapping does not name says nothing: it keeps what is known."""

    def at(key: str) -> str | None:
        return text_of(_located(channel.record[key], item)) if key in channel.record else None

    rules, record_id = channel.inbound, id_of(at("id"))
    kind = at("kind") or "deal"
    if record_id is None or kind not in ("contact", "deal") or not isinstance(item, dict):
        return None
    values: dict[str, str | None] = {
        key: at(key) for key in ("owner", "stage", "value", "currency") if key in channel.record
    }
    if kind == "deal":
        status = rules.status_of(at("status") or "open")
        if status is None:
            return None
        values["status"] = status
    for theirs, ours in rules.fields.items():
        values[f"{FIELD_PREFIX}{ours}"] = text_of(item.get(theirs))
    contact = id_of(at("contact_id"))
    return CrmRecord(
        "contact" if kind == "contact" else "deal",
        record_id,
        min(moment_of(at("changed_at")) or now, now),
        values,
        lead_id=at("lead_id"),
        email=at("email"),
        phone=at("phone"),
        contact_ids=(contact,) if contact else (),
        closed_at=moment_of(at("closed_at")),
        reason=at("reason"),
    )


def _located(expression: str, content: Any) -> Any:
    """None also where a function of the expression does not fit what was sent."""
    try:
        return compiled(expression, "record").search(content)
    except (JMESPathError, RecursionError, ValueError, TypeError, ArithmeticError):
        return None


def _items(body: Any) -> list[Any]:
    return body[:MOST_RECORDS] if isinstance(body, list) else [body]


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

"""Pushes a lead into a CRM: one record per e-mail address, made or updated, with the fields that the configuration maps.

The contracts are those that the vendors publish: HubSpot's CRM API 2026-03, Pipedrive's API v2, Odoo 19's JSON-2. Each finds
the record by its e-mail address first, so a repetition updates what the first attempt made.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import httpx
import msgspec
from msgspec import Struct

from delivery.channels.http_requests import HttpAnswer, check_address, request
from delivery.crm.inbound import CrmInbound, CrmWebhookChannel, RecordKind
from delivery.crm.records import id_of, text_of
from delivery.message import Message
from delivery.outcomes import DeliveryRejectedError
from delivery.secret_text import SecretText

HUBSPOT_FIELDS: Final[Mapping[str, str]] = {
    "email": "email",
    "first_name": "firstname",
    "last_name": "lastname",
    "phone": "phone",
    "company": "company",
    "title": "jobtitle",
}
PIPEDRIVE_FIELDS: Final[Mapping[str, str]] = {}
"""Name, e-mail and phone go to their own places; a mapping names custom fields by their hashes."""
ODOO_FIELDS: Final[Mapping[str, str]] = {
    "email": "email_from",
    "name": "contact_name",
    "phone": "phone",
    "company": "partner_name",
    "title": "function",
}
SCORE_PREFIX: Final = "score."
"""`score.rules` in a mapping is the rounded total by that model."""


class HubspotChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="hubspot", tag_field="type"):
    """`fields` maps a profile field (or `score.MODEL`, `stage`, `owner`, `reason`) to an internal name of a contact property."""

    token: SecretText
    fields: dict[str, str] = {}
    address: str = "https://api.hubapi.com"
    tenants: tuple[str, ...] = ()
    inbound: CrmInbound | None = None
    """How changes there come back."""

    def check(self) -> None:
        """Raises ValueError."""
        check_address(self.address)
        _check_inbound(self.inbound)


class PipedriveChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="pipedrive", tag_field="type"):
    """`address` is https://COMPANY.pipedrive.com; `fields` maps to the hashes of custom fields of a person."""

    token: SecretText
    address: str
    fields: dict[str, str] = {}
    tenants: tuple[str, ...] = ()
    inbound: CrmInbound | None = None
    """How changes there come back."""

    def check(self) -> None:
        """Raises ValueError."""
        check_address(self.address)
        _check_inbound(self.inbound)


class OdooChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="odoo", tag_field="type"):
    """Records of `crm.lead`. `token` is an API key of the user in whose name it writes."""

    token: SecretText
    address: str
    database: str | None = None
    fields: dict[str, str] = {}
    tenants: tuple[str, ...] = ()
    inbound: CrmInbound | None = None
    """How changes there come back."""

    def check(self) -> None:
        """Raises ValueError."""
        check_address(self.address)
        _check_inbound(self.inbound)


CrmChannel = HubspotChannel | PipedriveChannel | OdooChannel
InboundChannel = CrmChannel | CrmWebhookChannel


def rules_of(channel: InboundChannel) -> CrmInbound:
    """What the changes of a CRM mean."""
    return channel.inbound or CrmInbound()


def _check_inbound(inbound: CrmInbound | None) -> None:
    """Raises ValueError."""
    if inbound is not None:
        inbound.check()


class PushedRecord(NamedTuple):
    """The record that a push has made or updated, and what it wrote there, by the CRM's names."""

    kind: RecordKind
    record_id: str
    values: Mapping[str, str]


def mapped_fields(fields: Mapping[str, str], message: Message) -> dict[str, Any]:
    """The values that a record gets, by their names in the CRM; what is not known is left out."""
    mapped = {}
    for ours, theirs in fields.items():
        value = _value(ours, message)
        if value is not None and value != "":
            mapped[theirs] = value
    return mapped


def _value(name: str, message: Message) -> Any:
    lead = message.lead
    if name.startswith(SCORE_PREFIX):
        return lead.scores.get(name.removeprefix(SCORE_PREFIX))
    match name:
        case "stage":
            return lead.stage
        case "owner":
            return lead.assigned_to
        case "reason":
            return message.reason
        case "lead_id":
            return lead.lead_id
        case "name":
            return lead.name
        case _:
            value = lead.fields.get(name)
            return ", ".join(map(str, value)) if isinstance(value, list) else value


async def push_to_crm(
    channel: CrmChannel, message: Message, http: httpx.AsyncClient, now: datetime
) -> PushedRecord | None:
    """None: the CRM does not say which record it is. Raises DeliveryError."""
    email = message.lead.email
    if not email:
        raise DeliveryRejectedError("the lead has no e-mail address, by which the CRM would find it")
    match channel:
        case HubspotChannel():
            return await _push_to_hubspot(channel, message, email, http, now)
        case PipedriveChannel():
            return await _push_to_pipedrive(channel, message, email, http, now)
        case OdooChannel():
            return await _push_to_odoo(channel, message, email, http, now)


def _pushed_record(kind: RecordKind, record_id: Any, values: Mapping[str, Any]) -> PushedRecord | None:
    number = id_of(record_id)
    if number is None:
        return None
    texts = {name: text for name, value in values.items() if (text := text_of(value)) is not None}
    return PushedRecord(kind, number, texts)


def _id_in(answer: HttpAnswer, *path: str | int) -> Any:
    """What is there in the answer; None if it has another form: the push was made all the same."""
    try:
        content = msgspec.json.decode(answer.body)
        for step in path:
            content = content[step]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return None
    return content


async def _push_to_hubspot(
    channel: HubspotChannel, message: Message, email: str, http: httpx.AsyncClient, now: datetime
) -> PushedRecord | None:
    properties = {
        name: _hubspot_text(value)
        for name, value in mapped_fields({**HUBSPOT_FIELDS, **channel.fields}, message).items()
    }
    answer = await request(
        http,
        "POST",
        f"{channel.address.rstrip('/')}/crm/objects/2026-03/contacts/batch/upsert",
        now,
        what="HubSpot",
        headers={
            "authorization": f"Bearer {channel.token.reveal()}",
            "content-type": "application/json",
        },
        body=msgspec.json.encode(
            {
                "inputs": [
                    {
                        "id": email,
                        "idProperty": "email",
                        "objectWriteTraceId": message.key,
                        "properties": properties,
                    }
                ]
            }
        ),
    )
    if answer.status == 207:  # several results, of which some are errors: there is only one
        raise DeliveryRejectedError("HubSpot does not take the fields of the contact")
    return _pushed_record("contact", _id_in(answer, "results", 0, "id"), properties)


def _hubspot_text(value: Any) -> str:
    """HubSpot's properties are texts."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


async def _push_to_pipedrive(
    channel: PipedriveChannel, message: Message, email: str, http: httpx.AsyncClient, now: datetime
) -> PushedRecord | None:
    lead, persons = message.lead, f"{channel.address.rstrip('/')}/api/v2/persons"
    headers = {"x-api-token": channel.token.reveal(), "content-type": "application/json"}
    search = await request(
        http,
        "GET",
        f"{persons}/search",
        now,
        what="Pipedrive",
        headers=headers,
        parameters={"term": email, "fields": "email", "exact_match": "true", "limit": "1"},
    )
    items = (search.json().get("data") or {}).get("items") or []
    person: dict[str, Any] = {
        "name": lead.name or email,
        "emails": [{"value": email, "primary": True, "label": "work"}],
    }
    if lead.phone:
        person["phones"] = [{"value": lead.phone, "primary": True, "label": "work"}]
    if custom := mapped_fields({**PIPEDRIVE_FIELDS, **channel.fields}, message):
        person["custom_fields"] = custom
    address = persons
    if items:
        del person["emails"]  # the person may have others
        person.pop("phones", None)
        address = f"{persons}/{int(items[0]['item']['id'])}"
    written = await request(
        http,
        "PATCH" if items else "POST",
        address,
        now,
        what="Pipedrive",
        headers=headers,
        body=msgspec.json.encode(person),
    )
    return _pushed_record("contact", _id_in(written, "data", "id"), person.get("custom_fields", {}))


async def _push_to_odoo(
    channel: OdooChannel, message: Message, email: str, http: httpx.AsyncClient, now: datetime
) -> PushedRecord | None:
    async def call(method: str, **arguments: Any) -> Any:
        answer = await request(
            http,
            "POST",
            f"{channel.address.rstrip('/')}/json/2/crm.lead/{method}",
            now,
            what="Odoo",
            headers={
                "authorization": f"bearer {channel.token.reveal()}",
                "content-type": "application/json; charset=utf-8",
                **({"x-odoo-database": channel.database} if channel.database else {}),
            },
            body=msgspec.json.encode(arguments),
        )
        return answer.json()

    values = mapped_fields({**ODOO_FIELDS, **channel.fields}, message)
    ids = await call("search", domain=[["email_from", "=ilike", _odoo_literal(email)]], limit=1)
    if ids:
        await call("write", ids=ids, vals=values)
    else:
        ids = await call("create", vals_list=[{"name": message.lead.name or email, **values}])
    return _pushed_record("deal", ids[0] if isinstance(ids, list) and ids else None, values)


def _odoo_literal(text: str) -> str:
    r"""The text for `=ilike`, in which % and _ stand for others unless \ is before them."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

"""Reads what has changed in a CRM by its API, and records by their ids. The contracts are those that the vendors publish:
HubSpot's CRM API 2026-03, Pipedrive's API v2, Odoo 19's JSON-2.

Every reader returns records in the order of their changes, the oldest first, from a moment on (inclusive).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import httpx
import msgspec

from delivery.channels.crm import CrmChannel, HubspotChannel, OdooChannel, PipedriveChannel
from delivery.channels.http_requests import request
from delivery.crm.inbound import OWN_LEAD_ID, RecordKind
from delivery.crm.records import CrmRecord, RecordPage, id_of, moment_of, text_of
from delivery.outcomes import DeliveryFailedError

HUBSPOT_PAGE: Final = 200
HUBSPOT_BATCH: Final = 100
PIPEDRIVE_PAGE: Final = 500
PIPEDRIVE_BATCH: Final = 100
ODOO_PAGE: Final = 200
HUBSPOT_OBJECTS: Final[Mapping[RecordKind, str]] = {"contact": "contacts", "deal": "deals"}
_HUBSPOT_CHANGED: Final[Mapping[RecordKind, str]] = {
    "contact": "lastmodifieddate",
    "deal": "hs_lastmodifieddate",
}
_HUBSPOT_CONTACT: Final = ("email", "phone", "mobilephone", "hubspot_owner_id", "lifecyclestage")
_HUBSPOT_DEAL: Final = (
    "dealstage", "amount", "deal_currency_code", "closedate", "hs_is_closed_won", "hs_is_closed", "hubspot_owner_id",
    "closed_lost_reason",
)  # fmt: skip
_ODOO_FIELDS: Final = (
    "email_from", "phone", "user_id", "stage_id", "won_status", "expected_revenue", "company_currency", "date_closed",
    "lost_reason_id", "write_date",
)  # fmt: skip
ODOO_RECORD: Final = "crm.lead"


class Ask(Protocol):
    """One request to the API of a CRM. Raises DeliveryError."""

    async def __call__(
        self, method: str, path: str, body: Any = None, parameters: Mapping[str, str] | None = None
    ) -> Any: ...


def kinds_of(channel: CrmChannel) -> tuple[RecordKind, ...]:
    """The kinds of records that are read. A record of Odoo's is contact and deal in one."""
    return ("deal",) if isinstance(channel, OdooChannel) else ("contact", "deal")


def asking(channel: CrmChannel, http: httpx.AsyncClient, now: datetime) -> Ask:
    """Requests to this CRM. Raises nothing."""
    what, headers = _identification(channel)

    async def ask(
        method: str, path: str, body: Any = None, parameters: Mapping[str, str] | None = None
    ) -> Any:
        answer = await request(
            http,
            method,
            f"{channel.address.rstrip('/')}{path}",
            now,
            what=what,
            headers=headers,
            body=None if body is None else msgspec.json.encode(body),
            parameters=parameters,
        )
        return answer.json()

    return ask


def _identification(channel: CrmChannel) -> tuple[str, Mapping[str, str]]:
    token = channel.token.reveal()
    match channel:
        case HubspotChannel():
            return "HubSpot", {"authorization": f"Bearer {token}", "content-type": "application/json"}
        case PipedriveChannel():
            return "Pipedrive", {"x-api-token": token, "content-type": "application/json"}
        case OdooChannel():
            database = {"x-odoo-database": channel.database} if channel.database else {}
            return "Odoo", {
                "authorization": f"bearer {token}",
                "content-type": "application/json; charset=utf-8",
                **database,
            }


async def changed_records(
    channel: CrmChannel, kind: RecordKind, since: datetime, page: str | None, ask: Ask
) -> RecordPage:
    """Records of a kind that changed at `since` or later. Raises DeliveryError."""
    match channel:
        case HubspotChannel():
            return await _hubspot_changes(channel, kind, since, page, ask)
        case PipedriveChannel():
            return await _pipedrive_changes(channel, kind, since, page, ask)
        case OdooChannel():
            domain = [["write_date", ">=", since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")]]
            return await _odoo_page(channel, domain, int(page or 0), ask)


async def records_by_id(
    channel: CrmChannel, kind: RecordKind, ids: Sequence[str], ask: Ask
) -> list[CrmRecord]:
    """Those of the records that are there. Raises DeliveryError."""
    match channel:
        case HubspotChannel():
            return await _hubspot_by_id(channel, kind, ids, ask)
        case PipedriveChannel():
            return await _pipedrive_by_id(channel, kind, ids, ask)
        case OdooChannel():
            numbers = [int(each) for each in ids if each.isdigit()]
            return (await _odoo_page(channel, [["id", "in", numbers]], 0, ask)).records if numbers else []


# HubSpot


def _hubspot_properties(channel: HubspotChannel, kind: RecordKind) -> list[str]:
    if kind == "deal":
        return [*_HUBSPOT_DEAL, _HUBSPOT_CHANGED[kind]]
    own = [channel.fields[OWN_LEAD_ID]] if OWN_LEAD_ID in channel.fields else []
    return [*_HUBSPOT_CONTACT, *_inbound_fields(channel), *own, _HUBSPOT_CHANGED[kind]]


async def _hubspot_changes(
    channel: HubspotChannel, kind: RecordKind, since: datetime, page: str | None, ask: Ask
) -> RecordPage:
    changed = _HUBSPOT_CHANGED[kind]
    answer = await ask(
        "POST",
        f"/crm/objects/2026-03/{HUBSPOT_OBJECTS[kind]}/search",
        {
            "filterGroups": [
                {
                    "filters": [
                        {
                            "propertyName": changed,
                            "operator": "GTE",
                            "value": str(int(since.timestamp() * 1_000)),
                        }
                    ]
                }
            ],
            "sorts": [{"propertyName": changed, "direction": "ASCENDING"}],
            "properties": _hubspot_properties(channel, kind),
            "limit": HUBSPOT_PAGE,
            **({"after": page} if page else {}),
        },
    )
    following = _at(answer, "paging", "next", "after")
    return RecordPage(await _hubspot_records(channel, kind, _list(answer, "results"), ask), id_of(following))


async def _hubspot_by_id(
    channel: HubspotChannel, kind: RecordKind, ids: Sequence[str], ask: Ask
) -> list[CrmRecord]:
    records = []
    for begin in range(0, len(ids), HUBSPOT_BATCH):
        answer = await ask(
            "POST",
            f"/crm/objects/2026-03/{HUBSPOT_OBJECTS[kind]}/batch/read",
            {
                "properties": _hubspot_properties(channel, kind),
                "inputs": [{"id": each} for each in ids[begin : begin + HUBSPOT_BATCH]],
            },
        )
        records += await _hubspot_records(channel, kind, _list(answer, "results"), ask)
    return records


async def _hubspot_records(
    channel: HubspotChannel, kind: RecordKind, results: Sequence[Any], ask: Ask
) -> list[CrmRecord]:
    contacts: Mapping[str, tuple[str, ...]] = {}
    if kind == "deal" and results:
        contacts = await _hubspot_contacts_of(
            [number for each in results if (number := id_of(_at(each, "id")))], ask
        )
    return [
        record for each in results if (record := _hubspot_record(channel, kind, each, contacts)) is not None
    ]


async def _hubspot_contacts_of(deals: Sequence[str], ask: Ask) -> dict[str, tuple[str, ...]]:
    contacts = {}
    for begin in range(0, len(deals), HUBSPOT_BATCH):
        answer = await ask(
            "POST",
            "/crm/associations/2026-03/deals/contacts/batch/read",
            {"inputs": [{"id": each} for each in deals[begin : begin + HUBSPOT_BATCH]]},
        )
        for each in _list(answer, "results"):
            deal = id_of(_at(each, "from", "id"))
            if deal is not None:
                contacts[deal] = tuple(
                    contact for to in _list(each, "to") if (contact := id_of(_at(to, "toObjectId")))
                )
    return contacts


def _hubspot_record(
    channel: HubspotChannel, kind: RecordKind, result: Any, contacts: Mapping[str, tuple[str, ...]]
) -> CrmRecord | None:
    record_id, properties = id_of(_at(result, "id")), _at(result, "properties")
    if record_id is None or not isinstance(properties, dict):
        return None

    def at(name: str) -> str | None:
        return text_of(properties.get(name))

    changed = moment_of(at(_HUBSPOT_CHANGED[kind])) or moment_of(_at(result, "updatedAt"))
    if changed is None:
        return None
    if kind == "contact":
        return CrmRecord(
            kind,
            record_id,
            changed,
            {
                "owner": at("hubspot_owner_id"),
                "stage": at("lifecyclestage"),
                **_field_values(channel, properties),
            },
            lead_id=at(channel.fields[OWN_LEAD_ID]) if OWN_LEAD_ID in channel.fields else None,
            email=at("email"),
            phone=at("phone") or at("mobilephone"),
            names={"owner": "hubspot_owner_id", "stage": "lifecyclestage", **_field_names(channel)},
        )
    status = "won" if at("hs_is_closed_won") == "true" else "lost" if at("hs_is_closed") == "true" else "open"
    return CrmRecord(
        kind,
        record_id,
        changed,
        {
            "owner": at("hubspot_owner_id"),
            "stage": at("dealstage"),
            "status": status,
            "value": at("amount"),
            "currency": at("deal_currency_code"),
        },
        contact_ids=contacts.get(record_id, ()),
        closed_at=moment_of(at("closedate")),
        reason=at("closed_lost_reason"),
    )


# Pipedrive


async def _pipedrive_changes(
    channel: PipedriveChannel, kind: RecordKind, since: datetime, page: str | None, ask: Ask
) -> RecordPage:
    answer = await ask(
        "GET",
        _PIPEDRIVE_PATHS[kind],
        None,
        {
            "updated_since": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "sort_by": "update_time",
            "sort_direction": "asc",
            "limit": str(PIPEDRIVE_PAGE),
            **({"cursor": page} if page else {}),
        },
    )
    return RecordPage(
        _pipedrive_records(channel, kind, answer), text_of(_at(answer, "additional_data", "next_cursor"))
    )


async def _pipedrive_by_id(
    channel: PipedriveChannel, kind: RecordKind, ids: Sequence[str], ask: Ask
) -> list[CrmRecord]:
    records = []
    for begin in range(0, len(ids), PIPEDRIVE_BATCH):
        some = ",".join(ids[begin : begin + PIPEDRIVE_BATCH])
        answer = await ask("GET", _PIPEDRIVE_PATHS[kind], None, {"ids": some, "limit": str(PIPEDRIVE_BATCH)})
        records += _pipedrive_records(channel, kind, answer)
    return records


_PIPEDRIVE_PATHS: Final[Mapping[RecordKind, str]] = {"contact": "/api/v2/persons", "deal": "/api/v2/deals"}


def _pipedrive_records(channel: PipedriveChannel, kind: RecordKind, answer: Any) -> list[CrmRecord]:
    read = _pipedrive_person if kind == "contact" else _pipedrive_deal
    return [record for each in _list(answer, "data") if (record := read(channel, each)) is not None]


def _pipedrive_person(channel: PipedriveChannel, person: Any) -> CrmRecord | None:
    record_id, changed = id_of(_at(person, "id")), moment_of(_at(person, "update_time"))
    if record_id is None or changed is None:
        return None
    custom = _at(person, "custom_fields")
    fields = {**person, **(custom if isinstance(custom, dict) else {})}
    own = channel.fields.get(OWN_LEAD_ID)
    return CrmRecord(
        "contact",
        record_id,
        changed,
        {"owner": text_of(_at(person, "owner_id")), **_field_values(channel, fields)},
        lead_id=text_of(fields.get(own)) if own else None,
        email=_primary(_list(person, "emails")),
        phone=_primary(_list(person, "phones")),
        names=_field_names(channel),
    )


def _pipedrive_deal(_channel: PipedriveChannel, deal: Any) -> CrmRecord | None:
    record_id, changed = id_of(_at(deal, "id")), moment_of(_at(deal, "update_time"))
    status = text_of(_at(deal, "status"))
    if record_id is None or changed is None or status not in {"open", "won", "lost"}:
        return None
    person = id_of(_at(deal, "person_id"))
    return CrmRecord(
        "deal",
        record_id,
        changed,
        {
            "owner": text_of(_at(deal, "owner_id")),
            "stage": text_of(_at(deal, "stage_id")),
            "status": status,
            "value": text_of(_at(deal, "value")),
            "currency": text_of(_at(deal, "currency")),
        },
        contact_ids=(person,) if person else (),
        closed_at=moment_of(_at(deal, "won_time") if status == "won" else _at(deal, "lost_time")),
        reason=text_of(_at(deal, "lost_reason")),
    )


def _primary(addresses: Sequence[Any]) -> str | None:
    """Of the e-mail addresses or phones of a person, the primary one, else the first."""
    usable = [each for each in addresses if text_of(_at(each, "value"))]
    chosen = next((each for each in usable if _at(each, "primary") is True), usable[0] if usable else None)
    return text_of(_at(chosen, "value"))


# Odoo


async def _odoo_page(channel: OdooChannel, domain: list[Any], offset: int, ask: Ask) -> RecordPage:
    """Archived records, too: a lost lead is archived."""
    own = [channel.fields[OWN_LEAD_ID]] if OWN_LEAD_ID in channel.fields else []
    answer = await ask(
        "POST",
        f"/json/2/{ODOO_RECORD}/search_read",
        {
            "domain": domain,
            "fields": [*_ODOO_FIELDS, *_inbound_fields(channel), *own],
            "order": "write_date asc, id asc",
            "offset": offset,
            "limit": ODOO_PAGE,
            "context": {"active_test": False},
        },
    )
    if not isinstance(answer, list):
        raise DeliveryFailedError("the answer of Odoo is no list of records")
    records = [record for each in answer if (record := _odoo_record(channel, each)) is not None]
    return RecordPage(records, str(offset + ODOO_PAGE) if len(answer) == ODOO_PAGE else None)


def _odoo_record(channel: OdooChannel, lead: Any) -> CrmRecord | None:
    record_id, changed = id_of(_at(lead, "id")), moment_of(_odoo_value(_at(lead, "write_date")))
    if record_id is None or changed is None:
        return None

    def at(name: str) -> str | None:
        return text_of(_odoo_value(lead.get(name)))

    won = at("won_status")
    own = channel.fields.get(OWN_LEAD_ID)
    return CrmRecord(
        "deal",
        record_id,
        changed,
        {
            "owner": at("user_id"),
            "stage": at("stage_id"),
            "status": won if won in {"won", "lost"} else "open",
            "value": at("expected_revenue"),
            "currency": _odoo_label(lead.get("company_currency")),
            **_field_values(channel, {name: _odoo_value(value) for name, value in lead.items()}),
        },
        lead_id=at(own) if own else None,
        email=at("email_from"),
        phone=at("phone"),
        closed_at=moment_of(at("date_closed")),
        reason=_odoo_label(lead.get("lost_reason_id")),
        names={"owner": "user_id", "stage": "stage_id", "value": "expected_revenue", **_field_names(channel)},
    )


def _odoo_value(value: Any) -> Any:
    """A link is [id, name], and what is empty is false."""
    if value is False:
        return None
    return value[0] if isinstance(value, list) and value else value


def _odoo_label(value: Any) -> str | None:
    return text_of(value[1]) if isinstance(value, list) and len(value) == 2 else None


# Shared


def _inbound_fields(channel: CrmChannel) -> list[str]:
    return [] if channel.inbound is None else list(channel.inbound.fields)


def _field_values(channel: CrmChannel, values: Mapping[str, Any]) -> dict[str, str | None]:
    fields = {} if channel.inbound is None else channel.inbound.fields
    return {f"{FIELD_PREFIX}{ours}": text_of(values.get(theirs)) for theirs, ours in fields.items()}


def _field_names(channel: CrmChannel) -> dict[str, str]:
    fields = {} if channel.inbound is None else channel.inbound.fields
    return {f"{FIELD_PREFIX}{ours}": theirs for theirs, ours in fields.items()}


FIELD_PREFIX: Final = "field:"


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(value: Any, name: str) -> Sequence[Any]:
    answer = _at(value, name)
    return answer if isinstance(answer, list) else []

"""Why each identity of a lead is part of it: by which identifier it was recognised, when, and by which event. And of which other
leads it is none, though it has their address.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.store import Row, StoreSnapshot
from projections.identity_joins import select_joining_events, select_kept_apart, select_merges
from projections.row_keys import hashed_key
from scoring.features.identity import is_anonymous, key_of_identity

ADDRESSES: Final = ("email", "phone")


async def identities_json(
    ask: StoreSnapshot, lead_id: str, identities: Sequence[Row]
) -> list[dict[str, Any]]:
    """`identities` have `identity`, `home` and `attached_at`."""
    if not identities:
        return []
    keys = [hashed_key(each["identity"]) for each in identities]
    events, merges, apart = await ask.all(
        select_joining_events(
            [(key, each["attached_at"]) for key, each in zip(keys, identities, strict=True)]
        ),
        select_merges(keys, lead_id),
        select_kept_apart(keys),
    )
    kept_apart: dict[int, dict[str, dict[str, Any]]] = {}
    for row in apart:  # of each other lead the latest event
        kept_apart.setdefault(row["identity_key"], {}).setdefault(row["lead_id"], _kept_apart_json(row))
    event_of: dict[int, Row] = {}
    for row in sorted(events, key=lambda row: not _addresses_of(row)):  # several may have come in one request
        event_of.setdefault(row["identity_key"], row)
    home_of_key = {key: each["home"] for key, each in zip(keys, identities, strict=True)}
    merge_of: dict[str, Row] = {}
    for row in merges:
        merge_of.setdefault(home_of_key[row["identity_key"]], row)
    return [
        _identity_json(each)
        | {
            "joined": _join(lead_id, each, event_of.get(key), merge_of.get(each["home"])),
            "kept_apart": list(kept_apart.get(key, {}).values()),
        }
        for key, each in zip(keys, identities, strict=True)
    ]


def _identity_json(row: Row) -> dict[str, Any]:
    key, _ = key_of_identity(row["identity"])
    _, kind, name = key.split("/", 2)
    return {
        "identity": row["identity"],
        "kind": "visitor" if kind == "v" else "lead",
        "name": name,
        "home": row["home"],
        "attached_at": row["attached_at"],
    }


def _kept_apart_json(row: Row) -> dict[str, Any]:
    return {
        "lead_id": row["lead_id"],
        "by": row["field"],
        "at": row["recorded_at"],
        "event_id": row["event_id"],
        "event_type": row["type"],
    }


def _join(lead_id: str, identity: Row, event: Row | None, merge: Row | None) -> dict[str, Any]:
    key, _ = key_of_identity(identity["identity"])
    _, kind, _ = key.split("/", 2)
    if identity["home"] != lead_id and not is_anonymous(lead_id):
        return _shape("merge", identity, merge, lead_id=identity["home"])
    if kind == "l":
        return _shape("own_id", identity, None)
    if is_anonymous(lead_id):
        return _shape("visitor", identity, event)
    addresses = _addresses_of(event)
    by = next((name for name in ADDRESSES if addresses.get(name)), "lead_id")
    return _shape(by, identity, event, **{by: addresses.get(by, lead_id)})


def _shape(by: str, identity: Row, event: Row | None, **identifier: str | None) -> dict[str, Any]:
    return {
        "by": by,
        **dict.fromkeys(("email", "phone", "lead_id")),
        **identifier,
        "at": identity["attached_at"],
        "event_id": None if event is None else event["event_id"],
        "event_type": None if event is None else event["type"],
    }


def _addresses_of(event: Row | None) -> dict[str, str]:
    """The e-mail address and the phone number that the event carried."""
    details: Mapping[str, Any] = (event and event["details"]) or {}
    fields = details.get("fields")
    named = {**(fields if isinstance(fields, dict) else {}), **details}
    return {name: value for name in ADDRESSES if isinstance(value := named.get(name), str)}

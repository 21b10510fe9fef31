"""The state of an identity in a lead, its stored form, and the merged features of all identities."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, msgpack

from scoring.features.features import (
    Features,
    NewerCodec,
    WrittenField,
    decode_features,
    encode_features,
    merge_features,
    merge_fields,
    with_keyed_events_counted,
)

IDENTITY_CODEC = 1
ADDRESS_FIELDS: Final = ("email", "phone")
"""The profile fields that say who somebody is."""


class LeadIdentity(Struct):
    """An identity's features under the epoch of its last attach; `home` is its home lead."""

    epoch: int
    home: str
    features: Features


class _StoredIdentity(Struct, array_like=True):
    epoch: int
    home: str
    features: bytes


_decode = msgpack.Decoder(_StoredIdentity).decode


def encode_lead_identity(identity: LeadIdentity) -> bytes:
    return bytes([IDENTITY_CODEC]) + msgpack.encode(
        _StoredIdentity(identity.epoch, identity.home, encode_features(identity.features))
    )


def decode_lead_identity(stored: bytes) -> LeadIdentity:
    """Raises NewerCodec if a newer version of Leadstream wrote it."""
    if stored[0] > IDENTITY_CODEC:
        raise NewerCodec(f"an identity of codec {stored[0]}, and this version reads up to {IDENTITY_CODEC}")
    decoded = _decode(stored[1:])
    return LeadIdentity(decoded.epoch, decoded.home, decode_features(decoded.features))


def features_of_lead(lead_id: str, identities: Mapping[str, LeadIdentity]) -> Features:
    """The lead's features: those of its only identity, or a merge, with keyed events counted once. In a merge the
    fields of identities at home here win over those of merged leads.
    """
    if len(identities) == 1:
        (only,) = identities.values()
        return with_keyed_events_counted(only.features)
    parts = [identities[identity] for identity in sorted(identities)]
    whole = merge_features([part.features for part in parts])
    whole.fields = merge_fields([(part.home == lead_id, part.features) for part in parts])
    return with_keyed_events_counted(whole)


def other_addresses(fields: Mapping[str, WrittenField], identities: Iterable[LeadIdentity]) -> list[str]:
    """The addresses that identities have now and the lead's own `fields` do not show, sorted. They belong to the lead as well:
    whoever gives the address of a lead that was merged into this one is this lead.
    """
    shown = _addresses_in(fields)
    return sorted({address for each in identities for address in _addresses_in(each.features.fields)} - shown)


def _addresses_in(fields: Mapping[str, WrittenField]) -> set[str]:
    values = (fields[name][2] for name in ADDRESS_FIELDS if name in fields)
    return {value for value in values if isinstance(value, str) and value}

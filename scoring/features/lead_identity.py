"""What a lead holds of an identity, how that is stored, and what all of it together amounts to."""

from collections.abc import Mapping

from msgspec import Struct, msgpack

from scoring.features.features import Features, NewerCodec, decode, encode, merge, merge_fields

CODEC = 1


class LeadIdentity(Struct):
    """An identity's features under the epoch of its last attach; `home` is the lead it calls its own."""

    epoch: int
    home: str
    features: Features


class _Stored(Struct, array_like=True):
    epoch: int
    home: str
    features: bytes


_decode = msgpack.Decoder(_Stored).decode


def encode_lead_identity(held: LeadIdentity) -> bytes:
    return bytes([CODEC]) + msgpack.encode(_Stored(held.epoch, held.home, encode(held.features)))


def decode_lead_identity(stored: bytes) -> LeadIdentity:
    """Raises NewerCodec for what a newer version of Leadstream wrote."""
    if stored[0] > CODEC:
        raise NewerCodec(f"an identity of codec {stored[0]}, and this version reads up to {CODEC}")
    found = _decode(stored[1:])
    return LeadIdentity(found.epoch, found.home, decode(found.features))


def merged(lead_id: str, held: Mapping[str, LeadIdentity]) -> Features:
    """The lead's features: the only identity's own, or a merge in which the fields of the identities
    at home here win over those that came with merged leads.
    """
    if len(held) == 1:
        (only,) = held.values()
        return only.features
    parts = [held[identity] for identity in sorted(held)]
    whole = merge([part.features for part in parts])
    whole.fields = merge_fields([(part.home == lead_id, part.features) for part in parts])
    return whole

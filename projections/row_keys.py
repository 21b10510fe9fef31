"""Keys of rows: hashes of what a row is about, the same on every machine and after every rebuild."""

from functools import lru_cache
from hashlib import blake2b, md5
from typing import Final

from schemas.topics import lead_key

BAND_KEY_LENGTH: Final = 12


@lru_cache(maxsize=16_384)  # a batch names the same leads and identities many times
def hashed_key(name: str) -> int:
    """The eight-byte key of a text: the same on every machine and after every rebuild."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def lead_row_key(tenant: str, lead_id: str) -> int:
    return hashed_key(lead_key(tenant, lead_id))


def session_row_key(identity: str, session_id: str) -> int:
    """Session ids contain no space, so no two pairs have the same text."""
    return hashed_key(f"{identity} {session_id}")


def band_key(scale: str, band: str | None = None) -> str:
    """Names a band of a scale, or any of its bands, in `lead_scores.band_keys`; a migration computes the same in SQL."""
    name = scale if band is None else f"{scale}\x1f{band}"
    return md5(name.encode(), usedforsecurity=False).hexdigest()[:BAND_KEY_LENGTH]


def event_row_key(tenant: str, event_id: str) -> int:
    return hashed_key(f"{tenant}/{event_id}")


def execution_number(tenant: str, lead_id: str, workflow_id: int, arm: str) -> int:
    """The id of what a workflow did for a lead: the first 53 bits of a hash, a number that JSON keeps exactly. `arm` is what
    made this firing unique.
    """
    text_of_key = f"{lead_key(tenant, lead_id)} {workflow_id} {arm}"
    return int.from_bytes(blake2b(text_of_key.encode(), digest_size=8).digest(), "big") >> 11

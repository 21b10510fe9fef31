"""Signed lead ids: with a public key anybody could send events as any lead. A tenant with an identity secret lets its own server
sign the id of who has logged in: HMAC-SHA256 of the lead id, in hex, by the secret.

An event that names a lead without the right signature is its visitor's alone: the lead is taken off, so nothing that the
visitor does is lost. Without a visitor, or where naming the lead is all that it does, it is refused.
"""

import hmac
from collections.abc import Sequence
from typing import Final

from msgspec import structs

from schemas.decode import Refusal
from schemas.envelope import Event
from schemas.events import LeadIdentified

SIGNATURE_FIELD: Final = "lead_signature"
"""Beside `lead_id` in an event. It is never stored."""
LONGEST_SIGNATURE: Final = 128
UNSIGNED_HINT: Final = (
    "lead_id was taken off, since lead_signature is missing or not right: docs/access.md says how to sign"
)


def lead_signature(secret: str, lead_id: str) -> str:
    return hmac.new(secret.encode(), lead_id.encode(), "sha256").hexdigest()


def is_right_signature(secrets: Sequence[str], lead_id: str, signature: object) -> bool:
    if not isinstance(signature, str) or len(signature) > LONGEST_SIGNATURE:
        return False
    presented = signature.strip().lower().encode(errors="replace")
    return any(hmac.compare_digest(lead_signature(secret, lead_id).encode(), presented) for secret in secrets)


def with_signed_lead(event: Event, secrets: Sequence[str] | None) -> tuple[Event, str | None]:
    """The event as this tenant takes it from this key, and what its sender should know. `secrets` None: lead ids need no
    signature. Raises Refusal.
    """
    if (
        secrets is None
        or event.lead_id is None
        or is_right_signature(secrets, event.lead_id, (event.extra or {}).get(SIGNATURE_FIELD))
    ):
        return event, None
    if event.visitor_id is None or isinstance(event, LeadIdentified):
        raise Refusal(
            SIGNATURE_FIELD,
            "missing or not right: with a public key this tenant takes only signed lead ids (docs/access.md)",
        )
    return structs.replace(event, lead_id=None), UNSIGNED_HINT

"""The WhatsApp numbers whose messages become events: names, tenants and secrets, as the settings have them."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.access import TENANT_NAME_PATTERN

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
VERIFY_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,256}")
APP_SECRET = re.compile(r"[0-9a-f]{32}")
SIGNATURE_HEADER = "X-Hub-Signature-256"


@dataclass(frozen=True)
class WhatsappNumber:
    name: str
    tenant: str
    verify_token: str = field(repr=False)
    app_secret: str = field(repr=False)

    def has_verify_token(self, stated: str) -> bool:
        """Compares in constant time."""
        return hmac.compare_digest(self.verify_token.encode(), stated.encode())

    def has_signed(self, body: bytes, signature: str) -> bool:
        """Whether `signature` (sha256=HEX) is that of the body, as it came. Compares in constant time."""
        right = "sha256=" + hmac.new(self.app_secret.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(right.encode(), signature.encode())


def read_numbers(texts: Iterable[str]) -> Mapping[str, WhatsappNumber]:
    """Numbers by name, from `TENANT:NAME:VERIFY_TOKEN:APP_SECRET`. Raises ValueError, which repeats no secret."""
    numbers: dict[str, WhatsappNumber] = {}
    for position, text in enumerate(texts, 1):
        parts = text.split(":")
        which = f"number {position}"
        if len(parts) != 4:
            raise ValueError(f"{which}: it has four parts, with colons between them")
        tenant, name, verify_token, app_secret = parts
        if not TENANT_NAME_PATTERN.fullmatch(tenant):
            raise ValueError(f"{which}: it must begin with its tenant (lower-case letters, digits, -)")
        if not NAME.fullmatch(name):
            raise ValueError(f"{which}: the name is 1 to 32 lower-case letters, digits, _ and -")
        if not VERIFY_TOKEN.fullmatch(verify_token):
            raise ValueError(f"{which}: the verify token is 8 to 256 letters, digits, _ and -")
        if not APP_SECRET.fullmatch(app_secret):
            raise ValueError(f"{which}: the app secret is 32 hex digits, as Meta's dashboard shows it")
        if name in numbers:
            raise ValueError(f"{which}: there is a number of this name already")
        numbers[name] = WhatsappNumber(name, tenant, verify_token, app_secret)
    return numbers

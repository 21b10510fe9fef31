"""Settings of sign-in and sessions as plain values, so that the door can be configured without a database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.access import TENANT_NAME_PATTERN
from gateway.local_access import LOCAL_HOST

SHORTEST_IDENTITY_SECRET = 24
EVERY_ORIGIN = "*"
OIDC_SIGN_IN_SECONDS = 600
"""How long a sign-in at the provider may take."""


class SessionTimes(NamedTuple):
    """How long a session lives without a request, and at all."""

    idle: timedelta
    absolute: timedelta


class OidcSettings(NamedTuple):
    issuer: str
    client_id: str
    client_secret: str | None
    label: str
    """What the page calls the provider."""


def read_identity_secrets(texts: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """`TENANT:SECRET` each. Several of one tenant are all right, so a secret can be changed. Raises ValueError."""
    secrets: dict[str, list[str]] = {}
    for number, text in enumerate(texts, 1):
        tenant, _, secret = text.partition(":")
        if not TENANT_NAME_PATTERN.fullmatch(tenant) or len(secret) < SHORTEST_IDENTITY_SECRET:
            raise ValueError(
                f"identity secret {number}: give TENANT:SECRET, with at least {SHORTEST_IDENTITY_SECRET} characters "
                "after the colon (openssl rand -hex 32)"
            )
        secrets.setdefault(tenant, []).append(secret)
    return secrets


def read_origins(texts: Iterable[str]) -> tuple[str, ...]:
    """Origins as browsers send them, or `*`. Raises ValueError."""
    origins = tuple(text if text == EVERY_ORIGIN else _origin(text) for text in texts)
    if EVERY_ORIGIN in origins and len(origins) > 1:
        raise ValueError("* stands for every origin: leave the others out")
    return origins


def _origin(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    written = f"{parts.scheme}://{parts.netloc}"
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or text.rstrip("/") != written
        or "@" in parts.netloc
        or "*" in text
    ):
        raise ValueError(f"{text[:80]!r} is no origin: write https://HOST, without a path")
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, usual} else "")


def checked_issuer(issuer: str) -> str:
    """Raises ValueError for an address that others could listen to."""
    parts = urlsplit(issuer)
    if parts.scheme == "https" and parts.hostname:
        return issuer
    if parts.scheme == "http" and LOCAL_HOST.fullmatch(parts.netloc):
        return issuer
    raise ValueError("the issuer must be an https:// address (http:// only on this machine)")

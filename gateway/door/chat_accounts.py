"""The chats whose messages become events: names, tenants, mappings and secrets, as the settings have them; and whether
a request proves that it comes from the provider.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access import TENANT_NAME_PATTERN
from gateway.door.chat_mapping import ChatAuthentication, ChatMapping, MappingError, load_mapping

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
MAPPING_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SECRET = re.compile(r"[!-~]{8,512}")
_PART = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class ChatAccount:
    name: str
    tenant: str
    mapping: ChatMapping
    secret: str = field(repr=False)
    verify_token: str | None = field(default=None, repr=False)

    def has_verify_token(self, stated: str) -> bool:
        """Compares in constant time."""
        return self.verify_token is not None and _same(self.verify_token, stated)


@dataclass(frozen=True)
class ChatRequest:
    """What of a request a proof may be about."""

    url: str
    """As the provider called it."""
    headers: Mapping[str, str]
    """Their names are compared without capital letters."""
    body: bytes
    parameters: tuple[tuple[str, str], ...] = ()
    """Of a form."""


def has_signed(account: ChatAccount, request: ChatRequest) -> bool:
    """Whether the request has the signature or the secret in a header. Compares in constant time. A secret in the body
    is no matter of this function, since the body must be read first.
    """
    return is_proven(account.mapping.authentication, account.secret, request)


def is_proven(proof: ChatAuthentication, secret: str, request: ChatRequest) -> bool:
    """Whether the request has the secret, or a signature that it makes, where `proof` says. Compares in constant time."""
    match proof.method:
        case "bearer":
            kind, _, token = request.headers.get("authorization", "").partition(" ")
            return kind.lower() == "bearer" and _same(secret, token.strip())
        case "header":
            return _same(secret, request.headers.get(proof.header, ""))
        case "hmac":
            stated = request.headers.get(proof.header, "")
            return _same(proof.prefix + _signature(proof, secret, request), stated)
        case _:
            return False


def has_secret(account: ChatAccount, stated: object) -> bool:
    """Compares in constant time."""
    return isinstance(stated, str) and _same(account.secret, stated)


def _signature(proof: ChatAuthentication, secret: str, request: ChatRequest) -> str:
    signed = b"".join(
        _signed_part(text, request) if number % 2 else text.encode()
        for number, text in enumerate(_PART.split(proof.signed))
    )
    digest = hmac.new(secret.encode(), signed, getattr(hashlib, proof.algorithm)).digest()
    return digest.hex() if proof.encoding == "hex" else base64.b64encode(digest).decode()


def _signed_part(name: str, request: ChatRequest) -> bytes:
    match name:
        case "body":
            return request.body
        case "url":
            return request.url.encode()
        case "parameters":
            pairs = sorted(set(request.parameters))
            return "".join(f"{key}{value}" for key, value in pairs).encode(errors="replace")
        case _:
            return request.headers.get(name, "").encode()


def _same(right: str, stated: str) -> bool:
    return hmac.compare_digest(right.encode(), stated.encode(errors="replace"))


def read_chats(texts: Iterable[str], folder: Path | None) -> Mapping[str, ChatAccount]:
    """Chats by name, from `TENANT:NAME:MAPPING:SECRET` or `TENANT:NAME:MAPPING:SECRET:VERIFY_TOKEN`. Raises ValueError,
    which repeats no secret.
    """
    chats: dict[str, ChatAccount] = {}
    for number, text in enumerate(texts, 1):
        parts = text.split(":")
        which = f"chat {number}"
        if len(parts) not in {4, 5}:
            raise ValueError(f"{which}: it has four or five parts, with colons between them")
        tenant, name, mapping_name, secret, *verify_token = parts
        if not TENANT_NAME_PATTERN.fullmatch(tenant):
            raise ValueError(f"{which}: it must begin with its tenant (lower-case letters, digits, -)")
        if not NAME.fullmatch(name):
            raise ValueError(f"{which}: the name is 1 to 32 lower-case letters, digits, _ and -")
        if not MAPPING_NAME.fullmatch(mapping_name):
            raise ValueError(f"{which}: the mapping is the name of a .toml file, or a built-in one's")
        for secret_text in (secret, *verify_token):
            if not SECRET.fullmatch(secret_text):
                raise ValueError(f"{which}: a secret is 8 to 512 visible characters without , and :")
        if name in chats:
            raise ValueError(f"{which}: there is a chat of this name already")
        try:
            mapping = load_mapping(mapping_name, folder)
        except MappingError as wrong:
            raise ValueError(f"{which} ({name}): {wrong}") from None
        if mapping.challenge.token is not None and not verify_token:
            raise ValueError(
                f"{which} ({name}): the mapping {mapping_name} needs a verify token of your own as its fifth part"
            )
        chats[name] = ChatAccount(name, tenant, mapping, secret, verify_token[0] if verify_token else None)
    return chats

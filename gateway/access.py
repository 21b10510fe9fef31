"""Access: which caller may call what, and for which tenant.

Write keys are public and only let events in; API tokens are secret, belong to a tenant and carry
scopes. Both are kept as SHA-256 and compared in constant time. Without keys and tokens, every caller
on this machine is let in (`gateway.local_access`); all others are refused with the remedy.
No secret is ever logged or echoed.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from starlette.requests import HTTPConnection

from gateway.answers import RequestProblem
from gateway.local_access import ip_address_of, sign_of_other_machine

READ_SCOPE = "read"
WRITE_SCOPE = "write"
METRICS_SCOPE = "metrics"
"""To see what concerns every tenant."""
SCOPES = frozenset({READ_SCOPE, WRITE_SCOPE, METRICS_SCOPE})
TENANT_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DIGEST_PATTERN = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
DIGEST_PREFIX = "sha256:"
NO_KEYS_REMEDY = (
    "no keys are configured, so only this machine is served: "
    "set LEADSTREAM_WRITE_KEYS (TENANT:KEY) and LEADSTREAM_API_TOKENS (TENANT:read+write:TOKEN)"
)
ONE_OWNER_REMEDY = "make one of its own for each tenant, and list it once"

V = TypeVar("V")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AccessDenied(RequestProblem):
    """The caller may not; `status` is 401, 403 or 429."""


class TokenGrant(NamedTuple):
    tenant: str
    scopes: frozenset[str]


class Caller(NamedTuple):
    """`tenant` is None if no keys are configured and the request names no tenant. `key` is the key for rate limits."""

    tenant: str | None
    scopes: frozenset[str]
    key: str


@dataclass(frozen=True)
class Access:
    """Digest of a write key -> tenant; digest of a token -> grant; proxies that name the client."""

    write_keys: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, TokenGrant] = field(default_factory=dict)
    trusted_proxies: tuple[Network, ...] = ()

    @property
    def is_open(self) -> bool:
        return not self.write_keys and not self.tokens

    @property
    def tenants(self) -> frozenset[str]:
        return frozenset({*self.write_keys.values(), *(grant.tenant for grant in self.tokens.values())})


def digest_of_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def read_access(
    write_keys: Iterable[str] = (), tokens: Iterable[str] = (), trusted_proxies: Iterable[str] = ()
) -> Access:
    """Access from settings: `TENANT:KEY`, `TENANT:SCOPES:TOKEN` (scopes joined by +); either secret
    may be given as `sha256:HEX` instead of in clear.
    """
    keys: dict[str, str] = {}
    for number, text in enumerate(write_keys, 1):
        tenant, colon, key = text.partition(":")
        _check_tenant(tenant + colon, f"write key {number}")
        hashed = _read_digest(key, f"write key {number}")
        if keys.setdefault(hashed, tenant) != tenant:
            raise ValueError(
                f"write key {number}: it is a key of the tenant {keys[hashed]} already; {ONE_OWNER_REMEDY}"
            )
    grants: dict[str, TokenGrant] = {}
    for number, text in enumerate(tokens, 1):
        tenant, colon, rest = text.partition(":")
        scopes, _, token = rest.partition(":")
        _check_tenant(tenant + colon, f"API token {number}")
        names = frozenset(scopes.split("+"))
        if not names <= SCOPES:
            raise ValueError(
                f"API token {number}: scopes are read, write and metrics, joined by + (read+write)"
            )
        hashed, grant = _read_digest(token, f"API token {number}"), TokenGrant(tenant, names)
        if hashed in keys:
            raise ValueError(
                f"API token {number}: it is a write key, too, and these are public; choose another"
            )
        if (first := grants.setdefault(hashed, grant)) != grant:
            scopes = "+".join(sorted(first.scopes))
            raise ValueError(f"API token {number}: it is {first.tenant}:{scopes} already; {ONE_OWNER_REMEDY}")
    return Access(keys, grants, tuple(ipaddress.ip_network(each) for each in trusted_proxies))


def _check_tenant(credential: str, which: str) -> None:
    if not credential.endswith(":") or not TENANT_NAME_PATTERN.fullmatch(credential[:-1]):
        raise ValueError(
            f"{which}: it must begin with its tenant (lower-case letters, digits, -) and a colon"
        )


def _read_digest(secret: str, which: str) -> str:
    if hashed := DIGEST_PATTERN.fullmatch(secret):
        return hashed[1].lower()
    if len(secret) < 8 or secret.lower().startswith(
        DIGEST_PREFIX
    ):  # a digest with a slip is no secret in clear
        raise ValueError(f"{which}: give at least 8 characters, or sha256: and 64 hex digits")
    return digest_of_secret(secret)


def collector_caller(request: HTTPConnection, access: Access) -> Caller:
    """The caller that sends events: by a write key, or by a token with the scope `write`."""
    if access.is_open:
        return _local_caller(request)
    if (token := _bearer_token(request)) is not None:
        return _caller_of_token(token, access, WRITE_SCOPE)
    key = _write_key(request)
    if key is None:
        raise AccessDenied(401, "give a write key: Authorization: Basic KEY:, X-Write-Key or ?write_key=")
    tenant = _owner_of_secret(access.write_keys, key)
    if tenant is None:
        raise AccessDenied(401, "this write key is not known")
    return Caller(tenant, frozenset(), digest_of_secret(key)[:16])


def api_caller(request: HTTPConnection, access: Access, scope: str) -> Caller:
    """The caller of the API: by a bearer token with that scope."""
    if access.is_open:
        return _local_caller(request)
    if (token := _bearer_token(request)) is None:
        raise AccessDenied(401, "give an API token: Authorization: Bearer TOKEN")
    return _caller_of_token(token, access, scope)


def operator_caller(request: HTTPConnection, access: Access) -> Caller:
    """The caller that may see counts over all tenants; with a single tenant, any caller that may read."""
    try:
        return api_caller(request, access, METRICS_SCOPE)
    except AccessDenied as denied:
        if denied.status != 403 or len(access.tenants) > 1:
            raise
        return api_caller(request, access, READ_SCOPE)


def client_address(request: HTTPConnection, access: Access) -> str:
    """The address of the client; a proxy's word is taken only from trusted proxies."""
    peer = request.client.host if request.client else ""
    if not _is_in_networks(peer, access.trusted_proxies):
        return peer
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    for hop in reversed(hops):
        if not _is_in_networks(hop, access.trusted_proxies):
            return hop if ip_address_of(hop) else peer
    return peer


def _caller_of_token(token: str, access: Access, scope: str) -> Caller:
    grant = _owner_of_secret(access.tokens, token)
    if grant is None:
        raise AccessDenied(401, "this API token is not known")
    if scope not in grant.scopes:
        raise AccessDenied(403, f"this API token lacks the scope {scope}")
    return Caller(grant.tenant, grant.scopes, digest_of_secret(token)[:16])


def _local_caller(request: HTTPConnection) -> Caller:
    """Somebody on this machine, and no page of a foreign site that speaks through their browser."""
    if (sign := sign_of_other_machine(request)) is not None:
        raise AccessDenied(403, f"{NO_KEYS_REMEDY}. {sign[0].upper()}{sign[1:]}")
    tenant = request.headers.get("x-tenant")
    if tenant is not None and not TENANT_NAME_PATTERN.fullmatch(tenant):
        raise AccessDenied(403, "X-Tenant: lower-case letters, digits and -, at most 32")
    return Caller(tenant, SCOPES, "open")


def _bearer_token(request: HTTPConnection) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _write_key(request: HTTPConnection) -> str | None:
    kind, _, coded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(coded, validate=True).decode().partition(":")[0]
        except ValueError:  # no base64, or no text
            return None
    return request.headers.get("x-write-key") or request.query_params.get("write_key")


def _owner_of_secret(owners: Mapping[str, V], secret: str) -> V | None:
    hashed, owner = digest_of_secret(secret), None
    for each, value in owners.items():
        if hmac.compare_digest(each, hashed):
            owner = value
    return owner


def _is_in_networks(text: str, networks: tuple[Network, ...]) -> bool:
    address = ip_address_of(text)
    return address is not None and any(address in network for network in networks)


class RateLimit(NamedTuple):
    """A bucket per key: so many events a second, and so many at once."""

    per_second: float = 20_000
    burst: float = 100_000


class TokenBuckets:
    """Token buckets. Keys are configured ones, so their number is bounded."""

    def __init__(self, rate: RateLimit) -> None:
        self._rate = rate
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key: str, cost: int, at: float) -> None:
        """Takes `cost` from the key's bucket at the second `at`, or raises Denied(429)."""
        level, since = self._levels.get(key, (self._rate.burst, at))
        level = min(self._rate.burst, level + (at - since) * self._rate.per_second)
        cost_now = min(cost, self._rate.burst)
        if level < cost_now:
            self._levels[key] = (level, at)
            raise AccessDenied(
                429,
                f"this key may send {self._rate.per_second:g} events a second",
                retry_after_s=(cost_now - level) / self._rate.per_second,
            )
        self._levels[key] = (level - cost_now, at)

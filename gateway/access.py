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
from gateway.local_access import address_of, stranger

READ = "read"
WRITE = "write"
METRICS = "metrics"
"""To see what concerns every tenant."""
SCOPES = frozenset({READ, WRITE, METRICS})
TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
DIGEST_MARK = "sha256:"
REMEDY = (
    "no keys are configured, so only this machine is served: "
    "set LEADSTREAM_WRITE_KEYS (TENANT:KEY) and LEADSTREAM_API_TOKENS (TENANT:read+write:TOKEN)"
)
ONE_OWNER = "make one of its own for each tenant, and list it once"

V = TypeVar("V")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Denied(RequestProblem):
    """The caller may not; `status` is 401, 403 or 429."""


class Grant(NamedTuple):
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
    tokens: Mapping[str, Grant] = field(default_factory=dict)
    trusted_proxies: tuple[Network, ...] = ()

    @property
    def open(self) -> bool:
        return not self.write_keys and not self.tokens

    @property
    def tenants(self) -> frozenset[str]:
        return frozenset({*self.write_keys.values(), *(grant.tenant for grant in self.tokens.values())})


def digest(secret: str) -> str:
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
        hashed = _digest_of(key, f"write key {number}")
        if keys.setdefault(hashed, tenant) != tenant:
            raise ValueError(
                f"write key {number}: it is a key of the tenant {keys[hashed]} already; {ONE_OWNER}"
            )
    grants: dict[str, Grant] = {}
    for number, text in enumerate(tokens, 1):
        tenant, colon, rest = text.partition(":")
        scopes, _, token = rest.partition(":")
        _check_tenant(tenant + colon, f"API token {number}")
        names = frozenset(scopes.split("+"))
        if not names <= SCOPES:
            raise ValueError(
                f"API token {number}: scopes are read, write and metrics, joined by + (read+write)"
            )
        hashed, grant = _digest_of(token, f"API token {number}"), Grant(tenant, names)
        if hashed in keys:
            raise ValueError(
                f"API token {number}: it is a write key, too, and these are public; choose another"
            )
        if (first := grants.setdefault(hashed, grant)) != grant:
            scopes = "+".join(sorted(first.scopes))
            raise ValueError(f"API token {number}: it is {first.tenant}:{scopes} already; {ONE_OWNER}")
    return Access(keys, grants, tuple(ipaddress.ip_network(each) for each in trusted_proxies))


def _check_tenant(credential: str, which: str) -> None:
    if not credential.endswith(":") or not TENANT.fullmatch(credential[:-1]):
        raise ValueError(
            f"{which}: it must begin with its tenant (lower-case letters, digits, -) and a colon"
        )


def _digest_of(secret: str, which: str) -> str:
    if hashed := DIGEST.fullmatch(secret):
        return hashed[1].lower()
    if len(secret) < 8 or secret.lower().startswith(
        DIGEST_MARK
    ):  # a digest with a slip is no secret in clear
        raise ValueError(f"{which}: give at least 8 characters, or sha256: and 64 hex digits")
    return digest(secret)


def collector_caller(request: HTTPConnection, access: Access) -> Caller:
    """The caller that sends events: by a write key, or by a token with the scope `write`."""
    if access.open:
        return _neighbour(request)
    if (token := _bearer(request)) is not None:
        return _granted(token, access, WRITE)
    key = _write_key(request)
    if key is None:
        raise Denied(401, "give a write key: Authorization: Basic KEY:, X-Write-Key or ?write_key=")
    tenant = _find(access.write_keys, key)
    if tenant is None:
        raise Denied(401, "this write key is not known")
    return Caller(tenant, frozenset(), digest(key)[:16])


def api_caller(request: HTTPConnection, access: Access, scope: str) -> Caller:
    """The caller of the API: by a bearer token with that scope."""
    if access.open:
        return _neighbour(request)
    if (token := _bearer(request)) is None:
        raise Denied(401, "give an API token: Authorization: Bearer TOKEN")
    return _granted(token, access, scope)


def operator_caller(request: HTTPConnection, access: Access) -> Caller:
    """The caller that may see counts over all tenants; with a single tenant, any caller that may read."""
    try:
        return api_caller(request, access, METRICS)
    except Denied as denied:
        if denied.status != 403 or len(access.tenants) > 1:
            raise
        return api_caller(request, access, READ)


def client_of(request: HTTPConnection, access: Access) -> str:
    """The address of the client; a proxy's word is taken only from trusted proxies."""
    peer = request.client.host if request.client else ""
    if not _within(peer, access.trusted_proxies):
        return peer
    hops = [hop.strip() for line in request.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    for hop in reversed(hops):
        if not _within(hop, access.trusted_proxies):
            return hop if address_of(hop) else peer
    return peer


def _granted(token: str, access: Access, scope: str) -> Caller:
    grant = _find(access.tokens, token)
    if grant is None:
        raise Denied(401, "this API token is not known")
    if scope not in grant.scopes:
        raise Denied(403, f"this API token lacks the scope {scope}")
    return Caller(grant.tenant, grant.scopes, digest(token)[:16])


def _neighbour(request: HTTPConnection) -> Caller:
    """Somebody on this machine, and no page of a foreign site that speaks through their browser."""
    if (sign := stranger(request)) is not None:
        raise Denied(403, f"{REMEDY}. {sign[0].upper()}{sign[1:]}")
    tenant = request.headers.get("x-tenant")
    if tenant is not None and not TENANT.fullmatch(tenant):
        raise Denied(403, "X-Tenant: lower-case letters, digits and -, at most 32")
    return Caller(tenant, SCOPES, "open")


def _bearer(request: HTTPConnection) -> str | None:
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


def _find(owners: Mapping[str, V], secret: str) -> V | None:
    hashed, owner = digest(secret), None
    for each, value in owners.items():
        if hmac.compare_digest(each, hashed):
            owner = value
    return owner


def _within(text: str, networks: tuple[Network, ...]) -> bool:
    address = address_of(text)
    return address is not None and any(address in network for network in networks)


class Rate(NamedTuple):
    """A bucket per key: so many events a second, and so many at once."""

    per_second: float = 20_000
    burst: float = 100_000


class TokenBuckets:
    """Token buckets. Keys are configured ones, so their number is bounded."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, key: str, cost: int, at: float) -> None:
        """Takes `cost` from the key's bucket at the second `at`, or raises Denied(429)."""
        level, since = self._levels.get(key, (self._rate.burst, at))
        level = min(self._rate.burst, level + (at - since) * self._rate.per_second)
        cost_now = min(cost, self._rate.burst)
        if level < cost_now:
            self._levels[key] = (level, at)
            raise Denied(
                429,
                f"this key may send {self._rate.per_second:g} events a second",
                retry_after_s=(cost_now - level) / self._rate.per_second,
            )
        self._levels[key] = (level - cost_now, at)

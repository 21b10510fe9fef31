"""Access: which caller may call what, and for which tenant.

Write keys are public and only let events in; API tokens are secret, belong to a tenant and carry
scopes. Keys come from settings, or somebody made them (`gateway.accounts`): of these, this module knows the latest copy in
memory, so that the door needs no database. All are kept as SHA-256. Without keys and people, every caller on this machine is
let in (`gateway.local_access`); all others are refused with the remedy. No secret is ever logged or echoed.
"""

import base64
import hashlib
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from starlette.requests import HTTPConnection

from gateway.answers import RequestProblem
from gateway.local_access import ip_address_of, sign_of_other_machine
from gateway.scopes import (
    COLLECT_SCOPE,
    METRICS_SCOPE,
    READ_SCOPE,
    SCOPES,
    SETTING_SCOPES,
    WRITE_SCOPE,
    with_included,
)

__all__ = ["METRICS_SCOPE", "READ_SCOPE", "SCOPES", "WRITE_SCOPE"]

TENANT_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DIGEST_PATTERN = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
DIGEST_PREFIX = "sha256:"
NO_KEYS_REMEDY = (
    "no keys are configured, so only this machine is served: make keys by `leadstream keys create`, or "
    "set LEADSTREAM_WRITE_KEYS (TENANT:KEY) and LEADSTREAM_API_TOKENS (TENANT:read+write:TOKEN)"
)
ONE_OWNER_REMEDY = "make one of its own for each tenant, and list it once"
LONGEST_SECRET = 1_024
"""Characters. Longer ones are not hashed."""
COPY_SECONDS = 24 * 3_600.0
"""How long keys that were made are taken while the database does not answer."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AccessDenied(RequestProblem):
    """The caller may not; `status` is 401, 403 or 429."""


class TokenGrant(NamedTuple):
    tenant: str
    scopes: frozenset[str]
    key_id: str | None = None
    """Of a key that somebody made. None: it is in the settings."""
    expires_at: datetime | None = None


class Caller(NamedTuple):
    """`tenant` is None if no keys are configured and the request names no tenant. `key` is the key for rate limits, `actor`
    the name in the audit log.
    """

    tenant: str | None
    scopes: frozenset[str]
    key: str
    actor: str = "setting"


class KeySnapshot(NamedTuple):
    """The keys that were made and are neither revoked nor expired, by digest."""

    grants: Mapping[str, TokenGrant]
    tenants: frozenset[str]
    """That have, or had, a key or a person."""
    read_at: float
    """By the monotonic clock."""


class StoredKeys:
    """The latest copy of the keys that were made, and when each was last used. `gateway.accounts.key_copy` refreshes it.

    A revoked key is taken until the next refresh. If none succeeds for COPY_SECONDS, no key that was made is taken.
    """

    def __init__(self) -> None:
        self.snapshot: KeySnapshot | None = None
        """None: the database has not answered yet."""
        self.uses: dict[str, datetime] = {}
        """Key id -> last use, not yet written."""

    @property
    def closes_access(self) -> bool:
        """Whether somebody has ever made a key or entered a person."""
        return self.snapshot is not None and bool(self.snapshot.tenants)

    def grant_of(self, digest: str, now: datetime, clock: float) -> TokenGrant | None:
        """Raises AccessDenied while nobody can tell."""
        if self.snapshot is None or clock - self.snapshot.read_at > COPY_SECONDS:
            raise AccessDenied(
                503, "keys cannot be checked while the database does not answer", retry_after_s=2
            )
        grant = self.snapshot.grants.get(digest)
        if grant is None or (grant.expires_at is not None and grant.expires_at <= now):
            return None
        if grant.key_id is not None:
            self.uses[grant.key_id] = now
        return grant


@dataclass(frozen=True)
class Access:
    """Digest of a write key -> tenant; digest of a token -> grant; proxies that name the client."""

    write_keys: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, TokenGrant] = field(default_factory=dict)
    trusted_proxies: tuple[Network, ...] = ()
    stored: StoredKeys | None = None
    """None: only settings have keys."""
    required: bool = False
    """Whether this machine needs keys even while there are none."""

    @property
    def is_open(self) -> bool:
        stored = self.stored is not None and self.stored.closes_access
        return not (self.required or self.write_keys or self.tokens or stored)

    @property
    def tenants(self) -> frozenset[str]:
        stored = self.stored.snapshot.tenants if self.stored and self.stored.snapshot else ()
        configured = {*self.write_keys.values(), *(grant.tenant for grant in self.tokens.values())}
        return frozenset(configured.union(stored))

    def grant_of(self, secret: str) -> TokenGrant | None:
        """What a secret of the settings or of a key that was made may do. A lookup by its digest takes the same time for every
        secret that is not one of ours, since nobody can choose the beginning of a digest.
        """
        if len(secret) > LONGEST_SECRET:
            return None
        digest = digest_of_secret(secret)
        if (grant := self.tokens.get(digest)) is not None:
            return grant
        if (tenant := self.write_keys.get(digest)) is not None:
            return TokenGrant(tenant, frozenset({COLLECT_SCOPE}))
        if self.stored is None:
            return None
        return self.stored.grant_of(digest, datetime.now(UTC), time.monotonic())


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
    listed: dict[str, str] = {}
    for number, text in enumerate(tokens, 1):
        tenant, colon, rest = text.partition(":")
        scopes, _, token = rest.partition(":")
        _check_tenant(tenant + colon, f"API token {number}")
        names = frozenset(scopes.split("+"))
        if not names <= SCOPES:
            raise ValueError(
                f"API token {number}: scopes are {', '.join(sorted(SCOPES))}, joined by + (read+write)"
            )
        hashed, grant = _read_digest(token, f"API token {number}"), TokenGrant(tenant, setting_scopes(names))
        if hashed in keys:
            raise ValueError(
                f"API token {number}: it is a write key, too, and these are public; choose another"
            )
        written = f"{tenant}:{'+'.join(sorted(names))}"
        if (first := listed.setdefault(hashed, written)) != written:
            raise ValueError(f"API token {number}: it is {first} already; {ONE_OWNER_REMEDY}")
        grants[hashed] = grant
    return Access(keys, grants, tuple(ipaddress.ip_network(each) for each in trusted_proxies))


def setting_scopes(names: frozenset[str]) -> frozenset[str]:
    """What the scopes of a token in the settings allow."""
    return with_included(names.union(*(SETTING_SCOPES.get(name, ()) for name in names)))


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
    """The caller that sends events: by a write key, or by a token with the scope `collect`. Cookies do not count: pages of all
    sites may send events.
    """
    if access.is_open:
        return _local_caller(request)
    if (token := bearer_token(request)) is not None:
        return allowed(caller_of_token(token, access), COLLECT_SCOPE)
    key = _write_key(request)
    if key is None:
        raise AccessDenied(401, "give a write key: Authorization: Basic KEY:, X-Write-Key or ?write_key=")
    grant = access.grant_of(key)
    if grant is None or (grant.key_id is None and grant.scopes != {COLLECT_SCOPE}):
        raise AccessDenied(401, "this write key is not known")
    if grant.scopes != {COLLECT_SCOPE}:
        raise AccessDenied(
            403,
            "this key may do more than send events, so it is secret: send it as Authorization: Bearer KEY",
        )
    return _caller_of_grant(grant, key)


def api_caller(request: HTTPConnection, access: Access, scope: str) -> Caller:
    """The caller of the API, if it has that scope. Raises AccessDenied."""
    return allowed(any_caller(request, access), scope)


def any_caller(request: HTTPConnection, access: Access) -> Caller:
    """By a bearer token, or else the person that `gateway.authorize` has recognised. Raises AccessDenied."""
    if access.is_open:
        return _local_caller(request)
    if (token := bearer_token(request)) is not None:
        return caller_of_token(token, access)
    if (caller := signed_in_caller(request)) is not None:
        return caller
    raise AccessDenied(401, "sign in, or give an API token: Authorization: Bearer TOKEN")


def signed_in_caller(request: HTTPConnection) -> Caller | None:
    """The person whose session `gateway.authorize` has checked."""
    caller: Caller | None = request.scope.get("state", {}).get("signed_in_caller")
    return caller


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


def caller_of_token(token: str, access: Access) -> Caller:
    """Raises AccessDenied for a token that is not known. A write key is none: it is public, and pages must not learn to send
    it as a secret.
    """
    grant = access.grant_of(token)
    if grant is None or (grant.key_id is None and digest_of_secret(token) in access.write_keys):
        raise AccessDenied(401, "this API token is not known, was revoked or has expired")
    return _caller_of_grant(grant, token)


def allowed(caller: Caller, scope: str) -> Caller:
    """The caller, if it has the scope. Raises AccessDenied."""
    if scope in caller.scopes:
        return caller
    kind = "your role" if caller.actor.startswith("user:") else "this API token"
    raise AccessDenied(403, f"{kind} lacks the scope {scope}")


def _caller_of_grant(grant: TokenGrant, secret: str) -> Caller:
    digest = digest_of_secret(secret)[:16]
    actor = f"setting:{digest[:8]}" if grant.key_id is None else f"key:{grant.key_id}"
    return Caller(grant.tenant, grant.scopes, digest, actor)


def _local_caller(request: HTTPConnection) -> Caller:
    """Somebody on this machine, and no page of a foreign site that speaks through their browser."""
    if (sign := sign_of_other_machine(request)) is not None:
        raise AccessDenied(403, f"{NO_KEYS_REMEDY}. {sign[0].upper()}{sign[1:]}")
    tenant = request.headers.get("x-tenant")
    if tenant is not None and not TENANT_NAME_PATTERN.fullmatch(tenant):
        raise AccessDenied(403, "X-Tenant: lower-case letters, digits and -, at most 32")
    return Caller(tenant, SCOPES, "open", "local")


def bearer_token(request: HTTPConnection) -> str | None:
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


def _is_in_networks(text: str, networks: tuple[Network, ...]) -> bool:
    address = ip_address_of(text)
    return address is not None and any(address in network for network in networks)


class RateLimit(NamedTuple):
    """A bucket per key: so many events a second, and so many at once."""

    per_second: float = 20_000
    burst: float = 100_000


MOST_BUCKETS = 10_000
"""Keys and addresses that are remembered; the one that has been idle longest is forgotten."""


class TokenBuckets:
    """Token buckets, by key, person or address; their number is bounded. `what` is counted, for the refusal."""

    def __init__(self, rate: RateLimit, what: str = "this key may send {} events a second") -> None:
        self._rate = rate
        self._what = what
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def require(self, key: str, at: float) -> None:
        """Takes nothing, and raises AccessDenied(429) if the key's bucket is empty at the second `at`."""
        if (level := self._level(key, at)) < 1:
            raise self._denied(1 - level)

    def take(self, key: str, cost: int, at: float) -> None:
        """Takes `cost` from the key's bucket at the second `at`, or raises AccessDenied(429)."""
        level = self._level(key, at)
        cost_now = min(cost, self._rate.burst)
        self._levels[key] = (level if level < cost_now else level - cost_now, at)
        self._levels.move_to_end(key)
        if len(self._levels) > MOST_BUCKETS:
            self._levels.popitem(last=False)
        if level < cost_now:
            raise self._denied(cost_now - level)

    def _level(self, key: str, at: float) -> float:
        level, since = self._levels.get(key, (self._rate.burst, at))
        return min(self._rate.burst, level + (at - since) * self._rate.per_second)

    def _denied(self, missing: float) -> AccessDenied:
        reason = self._what.format(f"{self._rate.per_second:g}")
        return AccessDenied(429, reason, retry_after_s=missing / self._rate.per_second)

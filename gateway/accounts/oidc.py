"""Sign-in by OpenID Connect: the authorization code flow with PKCE, state and nonce (OpenID Connect Core 1.0, RFC 7636,
RFC 9207), by Authlib and joserfc.

What a sign-in under way must remember is in a cookie of the browser that began it, so nothing is stored for strangers, and an
answer that somebody else began is refused.
"""

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import DecodeError, Struct, ValidationError, json

from gateway.accounts.account_settings import OIDC_SIGN_IN_SECONDS, OidcSettings
from gateway.answers import RequestProblem

SCOPES = "openid email profile"
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""Of ID tokens; never none, nor one by which a public key becomes a shared secret."""
PROVIDER_SECONDS = 10.0
METADATA_SECONDS = 3_600.0
"""How long the provider's addresses and keys are used without a question."""
NEW_KEYS_SECONDS = 30.0
"""How soon its keys are read again for a token by a key that is not known."""
CLOCK_LEEWAY_SECONDS = 60


class UnderWay(Struct, frozen=True):
    """A sign-in that waits for the provider's answer, in the cookie of its browser."""

    state: str
    nonce: str
    verifier: str
    then: str
    begun_at: int


class OidcPerson(NamedTuple):
    subject: str
    email: str | None
    """None: the provider has not verified one."""


class OidcClient:
    """Of one provider. Raises RequestProblem: 502 if it does not answer, 403 for an answer that is not right."""

    def __init__(self, settings: OidcSettings) -> None:
        self.settings = settings
        self._metadata: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._read_at = 0.0

    async def begin(self, redirect_uri: str, then: str) -> tuple[str, str]:
        """The address to go to, and the cookie."""
        await self._read_metadata(METADATA_SECONDS)
        under_way = UnderWay(
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(48),
            then,
            int(time.time()),
        )
        async with self._client(redirect_uri) as client:
            address, _ = client.create_authorization_url(
                self._metadata["authorization_endpoint"],
                state=under_way.state,
                nonce=under_way.nonce,
                code_verifier=under_way.verifier,
            )
        return str(address), urlsafe_b64encode(json.encode(under_way)).decode()

    async def finish(
        self, redirect_uri: str, cookie: str | None, answer: Mapping[str, str]
    ) -> tuple[OidcPerson, str]:
        """Who has signed in there, and where to go then."""
        under_way = _under_way(cookie)
        if not hmac.compare_digest(answer.get("state", "").encode(), under_way.state.encode()):
            raise RequestProblem(403, "this answer belongs to another sign-in: begin again")
        if "iss" in answer and answer["iss"] != self.settings.issuer:
            raise RequestProblem(403, "this answer is of another provider: begin again")
        if "code" not in answer:
            raise RequestProblem(403, f"{self.settings.label} has not let you in: begin again")
        await self._read_metadata(METADATA_SECONDS)
        try:
            async with self._client(redirect_uri) as client:
                token = await client.fetch_token(
                    self._metadata["token_endpoint"],
                    grant_type="authorization_code",
                    code=answer["code"],
                    code_verifier=under_way.verifier,
                )
        except OAuthError:
            raise RequestProblem(403, f"{self.settings.label} refuses this answer: begin again") from None
        except (httpx.HTTPError, ValueError) as error:
            raise self._unavailable() from error
        claims = await self._claims_of(str(token.get("id_token", "")), under_way.nonce)
        email = claims.get("email") if claims.get("email_verified") is True else None
        return OidcPerson(str(claims["sub"]), email if isinstance(email, str) else None), under_way.then

    async def _claims_of(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        try:
            claims = self._decoded(id_token)
        except (JoseError, ValueError):
            await self._read_metadata(NEW_KEYS_SECONDS)  # perhaps it has new keys
            try:
                claims = self._decoded(id_token)
            except (JoseError, ValueError) as error:
                raise RequestProblem(
                    403, f"the identity from {self.settings.label} is not signed rightly"
                ) from error
        registry = jwt.JWTClaimsRegistry(
            leeway=CLOCK_LEEWAY_SECONDS,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(dict(claims))
        except JoseError as error:
            raise RequestProblem(
                403, f"the identity from {self.settings.label} is not for this sign-in"
            ) from error
        party = claims.get("azp")
        if party is not None and party != self.settings.client_id:
            raise RequestProblem(403, f"the identity from {self.settings.label} is for another program")
        return claims

    def _decoded(self, id_token: str) -> Mapping[str, Any]:
        if self._keys is None:
            raise ValueError("no keys")
        return jwt.decode(id_token, self._keys, algorithms=ALGORITHMS).claims

    async def _read_metadata(self, older_than: float) -> None:
        if self._keys is not None and time.monotonic() - self._read_at < older_than:
            return
        address = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            async with httpx.AsyncClient(timeout=PROVIDER_SECONDS) as http:
                metadata = (await http.get(address)).raise_for_status().json()
                keys = (await http.get(metadata["jwks_uri"])).raise_for_status().json()
            _check_metadata(metadata, self.settings.issuer)
            self._keys = KeySet.import_key_set(keys)
        except (httpx.HTTPError, httpx.InvalidURL, JoseError, ValueError, KeyError, TypeError) as error:
            raise self._unavailable() from error
        self._metadata, self._read_at = metadata, time.monotonic()

    def _client(self, redirect_uri: str) -> AsyncOAuth2Client:
        method = "client_secret_basic" if self.settings.client_secret else "none"
        return AsyncOAuth2Client(
            self.settings.client_id,
            self.settings.client_secret,
            token_endpoint_auth_method=method,
            scope=SCOPES,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=PROVIDER_SECONDS,
        )

    def _unavailable(self) -> RequestProblem:
        return RequestProblem(502, f"{self.settings.label} does not answer", retry_after_s=5)


def _check_metadata(metadata: Mapping[str, Any], issuer: str) -> None:
    """Raises ValueError, or KeyError for an address that is missing."""
    if metadata["issuer"] != issuer or not (
        metadata["token_endpoint"] and metadata["authorization_endpoint"]
    ):
        raise ValueError(f"the provider is {metadata['issuer']!r}, not {issuer!r}")


def _under_way(cookie: str | None) -> UnderWay:
    try:
        under_way = json.decode(urlsafe_b64decode(cookie or ""), type=UnderWay)
    except (ValueError, DecodeError, ValidationError):
        raise RequestProblem(403, "this browser has begun no sign-in: begin again") from None
    if not 0 <= time.time() - under_way.begun_at <= OIDC_SIGN_IN_SECONDS:
        raise RequestProblem(403, "this sign-in has taken too long: begin again")
    return under_way

"""Sessions of people who have signed in: rows in the database, found by the SHA-256 of the cookie.

A sign-in always makes a new one and ends the browser's old one, so a cookie that somebody planted is worth nothing. A session
ends after some time without a request, and after some time at all. Role and tenant are read with each request, so a change
counts at once. The token against forged requests follows from the cookie, and no page of another site can read it.
"""

import hmac
import secrets
from datetime import datetime
from typing import Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.responses import Response

from gateway.access import Access, Caller, digest_of_secret
from gateway.accounts.account_settings import SessionTimes
from gateway.accounts.database import AccountsConnection
from gateway.local_access import ip_address_of
from gateway.scopes import ROLE_SCOPES, with_included

COOKIE = "leadstream-session"
SECURE_PREFIX = "__Host-"
"""Browsers take a cookie of such a name only over https, from this host itself."""
SEEN_SECONDS = 60
"""How often it is written that a session is in use."""
LONGEST_COOKIE = 200
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"
MOST_SESSIONS = 50
"""Of one person; the one that has been idle longest ends."""


class UserSession(NamedTuple):
    token: str
    user_id: str
    tenant: str
    email: str
    name: str
    role: str
    expires_at: datetime

    @property
    def caller(self) -> Caller:
        scopes = with_included(ROLE_SCOPES[self.role])
        return Caller(self.tenant, scopes, f"user:{self.user_id}", f"user:{self.user_id}")

    @property
    def csrf_token(self) -> str:
        return csrf_token_of(self.token)


def csrf_token_of(token: str) -> str:
    """Of a session's cookie, or of that of a form."""
    return hmac.new(token.encode(), b"leadstream csrf", "sha256").hexdigest()


def is_csrf_token(token: str, presented: str) -> bool:
    return hmac.compare_digest(csrf_token_of(token).encode(), presented.encode(errors="replace"))


async def begin_session(
    connection: AccountsConnection,
    user_id: str,
    at: datetime,
    times: SessionTimes,
    *,
    address: str,
    replaces: str | None,
) -> str:
    """The cookie of a new session; the one that the browser had, `replaces`, ends."""
    if replaces is not None:
        await end_session(connection, replaces)
    await connection.execute(
        "delete from user_sessions where expires_at <= %s or last_seen_at <= %s", (at, at - times.idle)
    )
    await connection.execute(
        """delete from user_sessions where digest in (
             select digest from user_sessions where user_id = %s order by last_seen_at desc offset %s)""",
        (user_id, MOST_SESSIONS - 1),
    )
    token = secrets.token_urlsafe(32)
    await connection.execute(
        """insert into user_sessions (digest, user_id, created_at, last_seen_at, expires_at, address)
           values (%s, %s, %s, %s, %s, %s)""",
        (digest_of_secret(token), user_id, at, at, at + times.absolute, address),
    )
    await connection.execute("update users set last_signed_in_at = %s where user_id = %s", (at, user_id))
    return token


async def session_of(
    connection: AccountsConnection, token: str, at: datetime, times: SessionTimes
) -> UserSession | None:
    """None: it is not known, has ended, or its person is disabled."""
    digest = digest_of_secret(token)
    cursor = await connection.execute(
        """select s.last_seen_at, s.expires_at, u.user_id, u.tenant, u.email, u.name, u.role
           from user_sessions s join users u using (user_id)
           where s.digest = %s and s.expires_at > %s and s.last_seen_at > %s and u.disabled_at is null""",
        (digest, at, at - times.idle),
    )
    row: dict[str, Any] | None = await cursor.fetchone()
    if row is None or row["role"] not in ROLE_SCOPES:
        return None
    if (at - row.pop("last_seen_at")).total_seconds() >= SEEN_SECONDS:
        await connection.execute(
            "update user_sessions set last_seen_at = %s where digest = %s and last_seen_at < %s",
            (at, digest, at),
        )
    return UserSession(token=token, **row)


async def end_session(connection: AccountsConnection, token: str) -> None:
    await connection.execute("delete from user_sessions where digest = %s", (digest_of_secret(token),))


# Cookies


def is_https(request: HTTPConnection, access: Access, public_url: str) -> bool:
    """Whether the browser speaks https to this server, or to the proxy before it."""
    peer = ip_address_of(request.client.host if request.client else "")
    proxied = peer is not None and any(peer in network for network in access.trusted_proxies)
    forwarded = request.headers.get("x-forwarded-proto", "").strip().lower() if proxied else ""
    return request.url.scheme == "https" or forwarded == "https" or public_url.startswith("https://")


def cookie_value(request: HTTPConnection, name: str, *, secure: bool) -> str | None:
    """With https only the cookie that no other host could have set."""
    value = request.cookies.get(f"{SECURE_PREFIX}{name}" if secure else name)
    return value if value and len(value) <= LONGEST_COOKIE else None


def set_cookie(
    response: Response,
    name: str,
    value: str,
    *,
    secure: bool,
    seconds: int | None = None,
    strict: bool = False,
) -> None:
    response.set_cookie(
        f"{SECURE_PREFIX}{name}" if secure else name,
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict" if strict else "lax",
    )


def delete_cookie(response: Response, name: str, *, secure: bool) -> None:
    response.delete_cookie(
        f"{SECURE_PREFIX}{name}" if secure else name, path="/", secure=secure, httponly=True, samesite="lax"
    )

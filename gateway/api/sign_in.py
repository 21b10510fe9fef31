"""/sign-in: the page by which people sign in and out, without JavaScript; OpenID Connect; and /api/session: who am I.

Every refusal reads alike and takes as long, whether or not somebody has the e-mail address. A form carries a token of the
browser's cookie, so that no other site can sign anybody in or out.
"""

import re
import secrets
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from gateway.access import Caller, client_address
from gateway.accounts import users
from gateway.accounts.account_settings import OIDC_SIGN_IN_SECONDS
from gateway.accounts.audit import DONE, EVERYBODY, REFUSED, AuditEntry, write_entries
from gateway.accounts.lock_out import (
    FREE_ATTEMPTS_OF_ACCOUNT,
    FREE_ATTEMPTS_OF_ADDRESS,
    account_subject,
    address_subject,
    count_attempt,
    forget_old_attempts,
    forgive,
)
from gateway.accounts.passwords import hash_password, is_outdated_hash
from gateway.accounts.services import AccountServices, accounts_of
from gateway.accounts.sessions import (
    COOKIE,
    CSRF_FIELD,
    CSRF_HEADER,
    SECURE_PREFIX,
    UserSession,
    begin_session,
    cookie_value,
    csrf_token_of,
    delete_cookie,
    end_session,
    is_csrf_token,
    set_cookie,
)
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.services import services_of
from gateway.authorize import session_of_request
from gateway.documented import answer_docs, example_bodies
from gateway.door.body import read_body
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from gateway.accounts.oidc import OidcClient

FORM_COOKIE = "leadstream-form"
OIDC_COOKIE = "leadstream-oidc"
CALLBACK = "/sign-in/oidc/callback"
LARGEST_FORM = 8_192
LONGEST_OIDC_COOKIE = 4_000
MOST_FIELDS = 10
LONGEST_EMAIL = 320
LONGEST_TARGET = 2_000
OWN_ADDRESS = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""An address on this server: never //host, /\\host or one with a control character."""
WRONG = "The e-mail address or the password is wrong."
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PAGE = Template((files("gateway.accounts") / "sign_in.html").read_text(encoding="utf-8"))
EXAMPLES = example_bodies("session")

router = APIRouter(tags=["access"])
Target = Annotated[str, Query(max_length=LONGEST_TARGET, alias="next")]


@router.get("/sign-in", include_in_schema=False)
@router.get("/sign-in/", include_in_schema=False)
async def sign_in_page(request: Request, target: Target = "/") -> Response:
    services = accounts_of(request)
    try:
        session = await session_of_request(request, services)
    except RequestProblem as problem:
        return _form(request, services, target, problem.reason, status=problem.status)
    if session is not None:
        return _signed_in_page(session)
    return _form(request, services, target)


@router.post("/sign-in", include_in_schema=False)
@router.post("/sign-in/", include_in_schema=False)
async def sign_in(request: Request) -> Response:
    services = accounts_of(request)
    fields, target = {}, "/"
    try:
        fields = await _form_fields(request)
        target = _own_address(fields.get("next", "/"))
        form_token = cookie_value(request, FORM_COOKIE, secure=services.is_secure(request))
        _check_form_token(form_token, fields.get(CSRF_FIELD, ""))
        token = await _sign_in_by_password(request, services, fields)
    except RequestProblem as problem:
        return _form(request, services, target, problem.reason, status=problem.status, problem=problem)
    return _with_session(request, services, token, target)


@router.get("/sign-in/oidc", include_in_schema=False)
@router.get("/sign-in/oidc/", include_in_schema=False)
async def begin_oidc(request: Request, target: Target = "/") -> Response:
    services = accounts_of(request)
    try:
        address, cookie = await _oidc(services).begin(_callback_address(services), _own_address(target))
    except RequestProblem as problem:
        return _form(request, services, target, problem.reason, status=problem.status, problem=problem)
    response = RedirectResponse(address, 303, headers=PAGE_HEADERS)
    set_cookie(
        response, OIDC_COOKIE, cookie, secure=services.is_secure(request), seconds=OIDC_SIGN_IN_SECONDS
    )
    return response


@router.get(CALLBACK, include_in_schema=False)
@router.get(f"{CALLBACK}/", include_in_schema=False)
async def finish_oidc(request: Request) -> Response:
    services = accounts_of(request)
    try:
        token, target = await _sign_in_by_oidc(request, services)
    except RequestProblem as problem:
        response = _form(request, services, "/", problem.reason, status=problem.status, problem=problem)
    else:
        response = _with_session(request, services, token, target)
    delete_cookie(response, OIDC_COOKIE, secure=services.is_secure(request))
    return response


@router.post("/sign-out", include_in_schema=False)
@router.post("/sign-out/", include_in_schema=False)
async def sign_out(request: Request) -> Response:
    services = accounts_of(request)
    secure = services.is_secure(request)
    response = RedirectResponse("/sign-in", 303, headers=PAGE_HEADERS)
    try:
        fields = await _form_fields(request)
        session = await session_of_request(request, services)
        if session is not None:
            _check_form_token(session.token, request.headers.get(CSRF_HEADER) or fields.get(CSRF_FIELD, ""))
            await _end(request, services, session, everywhere=fields.get("everywhere") == "1")
    except RequestProblem as problem:
        return _page("Not signed out", _alert(problem.reason), status=problem.status)
    delete_cookie(response, COOKIE, secure=secure)
    return response


@router.get("/api/session/", include_in_schema=False)
@router.get(
    "/api/session",
    summary="Who the caller is, and what the caller may do",
    responses=answer_docs(EXAMPLES["session"], "The key, or the person who has signed in."),
)
async def session(request: Request) -> Response:
    caller: Caller = request.state.caller
    tenant = caller.tenant or DEFAULT_TENANT
    person: UserSession | None = getattr(request.state, "user_session", None)
    return JsonAnswer(
        {
            "actor": caller.actor,
            "tenant": tenant,
            "zone": (await services_of(request).ports.published(tenant)).zone.time_zone,
            "scopes": sorted(caller.scopes),
            "person": None
            if person is None
            else {
                "email": person.email,
                "name": person.name,
                "role": person.role,
                "expires_at": person.expires_at,
                "csrf_token": person.csrf_token,
            },
        }
    )


# Signing in and out


async def _sign_in_by_password(request: Request, services: AccountServices, fields: Mapping[str, str]) -> str:
    """The cookie of the new session. Raises RequestProblem."""
    email, password = users.normal_email(fields.get("email", "")), fields.get("password", "")
    address, at = client_address(request, services.ports.access), services.ports.now()
    account, network = account_subject(email), address_subject(address)
    async with services.database.transaction() as connection:
        seconds = await count_attempt(connection, network, at, free=FREE_ATTEMPTS_OF_ADDRESS)
        if seconds is None:
            seconds = await count_attempt(connection, account, at, free=FREE_ATTEMPTS_OF_ACCOUNT)
        is_text = len(email) <= LONGEST_EMAIL and email.isprintable()
        user = await users.user_by_email(connection, email) if is_text else None
    tenant = user["tenant"] if user else EVERYBODY
    refused = AuditEntry(tenant, at, "nobody", "sign-in", account, address=address, outcome=REFUSED)
    if seconds is not None:
        services.audit.record_refusal(refused._replace(after="locked"))
        raise RequestProblem(
            429, f"Too many attempts: try again in {seconds:.0f} seconds.", retry_after_s=seconds
        )
    is_able = user is not None and user["disabled_at"] is None
    password_hash = user["password_hash"] if user is not None and is_able else None
    if not await services.passwords.is_right(password_hash, password) or user is None:
        services.audit.record_refusal(refused._replace(after="wrong e-mail address or password"))
        raise RequestProblem(403, WRONG)
    async with services.database.transaction() as connection:
        await forgive(connection, account, network, at)
        if is_outdated_hash(user["password_hash"]):
            await connection.execute(
                "update users set password_hash = %s where user_id = %s and password_hash = %s",
                (hash_password(password), user["user_id"], user["password_hash"]),
            )
        return await _begin(request, services, connection, user, "password")


async def _sign_in_by_oidc(request: Request, services: AccountServices) -> tuple[str, str]:
    """The cookie of the new session, and where to go. Raises RequestProblem."""
    client = _oidc(services)
    address, at = client_address(request, services.ports.access), services.ports.now()
    network = address_subject(address)
    async with services.database.transaction() as connection:
        seconds = await count_attempt(connection, network, at, free=FREE_ATTEMPTS_OF_ADDRESS)
    if seconds is not None:
        raise RequestProblem(
            429, f"Too many attempts: try again in {seconds:.0f} seconds.", retry_after_s=seconds
        )
    secure = services.is_secure(request)
    cookie = request.cookies.get(f"{SECURE_PREFIX}{OIDC_COOKIE}" if secure else OIDC_COOKIE, "")
    person, target = await client.finish(
        _callback_address(services), cookie[:LONGEST_OIDC_COOKIE], dict(request.query_params)
    )
    async with services.database.transaction() as connection:
        issuer = client.settings.issuer
        user = await users.user_by_subject(connection, issuer, person.subject)
        if user is None and person.email is not None:
            user = await users.user_by_email(connection, users.normal_email(person.email))
            if user is not None and not await users.link_subject(
                connection, user["user_id"], issuer, person.subject
            ):
                user = None  # another person of the provider has this address by now
        if user is not None and user["disabled_at"] is None:
            await forgive(connection, account_subject(user["email"]), network, at)
            return await _begin(request, services, connection, user, "openid connect"), target
    tenant = user["tenant"] if user else EVERYBODY
    services.audit.record_refusal(
        AuditEntry(
            tenant, at, "nobody", "sign-in", after="not entered here", address=address, outcome=REFUSED
        )
    )
    raise RequestProblem(
        403,
        f"{client.settings.label} knows you, but you have no account here, or it is disabled: ask an administrator.",
    )


async def _begin(
    request: Request, services: AccountServices, connection: Any, user: Mapping[str, Any], by: str
) -> str:
    at, address = services.ports.now(), client_address(request, services.ports.access)
    before = cookie_value(request, COOKIE, secure=services.is_secure(request))
    token = await begin_session(
        connection, user["user_id"], at, services.ports.session_times, address=address, replaces=before
    )
    actor = f"user:{user['user_id']}"
    entry = AuditEntry(user["tenant"], at, actor, "sign-in", actor, after=f"by {by}", address=address)
    await write_entries(connection, [entry])
    return token


async def _end(
    request: Request, services: AccountServices, session: UserSession, *, everywhere: bool
) -> None:
    at, actor = services.ports.now(), session.caller.actor
    async with services.database.transaction() as connection:
        await end_session(connection, session.token)
        ended = 1 + (await users.end_sessions(connection, session.user_id) if everywhere else 0)
        action = "sign-out everywhere" if everywhere else "sign-out"
        address = client_address(request, services.ports.access)
        entry = AuditEntry(
            session.tenant, at, actor, action, actor, after=f"{ended} sessions", address=address, outcome=DONE
        )
        await write_entries(connection, [entry])
        await forget_old_attempts(connection, at)


def _check_form_token(token: str | None, presented: str) -> None:
    """Raises RequestProblem for a form that this browser did not get from here."""
    if token is None or not is_csrf_token(token, presented):
        raise RequestProblem(403, "This form was open for too long, or cookies are off: try again.")


def _oidc(services: AccountServices) -> "OidcClient":
    if services.oidc is None:
        raise RequestProblem(404, "Sign-in by OpenID Connect is not configured: see docs/access.md.")
    return services.oidc


def _callback_address(services: AccountServices) -> str:
    return f"{services.ports.public_url.rstrip('/')}{CALLBACK}"


def _own_address(target: str) -> str:
    return target if len(target) <= LONGEST_TARGET and OWN_ADDRESS.fullmatch(target) else "/"


async def _form_fields(request: Request) -> dict[str, str]:
    """Raises RequestProblem."""
    body = await read_body(request, LARGEST_FORM)
    try:
        return dict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
        )
    except ValueError:  # no text, or too many fields
        raise RequestProblem(422, "This is not the form of this page.") from None


# Pages


def _with_session(request: Request, services: AccountServices, token: str, target: str) -> Response:
    response = RedirectResponse(target, 303, headers=PAGE_HEADERS)
    secure = services.is_secure(request)
    seconds = int(services.ports.session_times.absolute.total_seconds())
    set_cookie(response, COOKIE, token, secure=secure, seconds=seconds)
    delete_cookie(response, FORM_COOKIE, secure=secure)
    return response


def _form(
    request: Request,
    services: AccountServices,
    target: str,
    reason: str | None = None,
    *,
    status: int = 200,
    problem: RequestProblem | None = None,
) -> Response:
    secure, then = services.is_secure(request), _own_address(target)
    token = cookie_value(request, FORM_COOKIE, secure=secure) or secrets.token_urlsafe(24)
    parts = [_alert(reason)] if reason else []
    if services.ports.access.is_open:
        parts.append(
            "<p>This server asks nobody on this machine to sign in, until the first key or person is made: "
            "<code>leadstream users create EMAIL --role admin</code>.</p>"
        )
    parts.append(f"""<form method="post" action="/sign-in">
  <input type="hidden" name="{CSRF_FIELD}" value="{csrf_token_of(token)}">
  <input type="hidden" name="next" value="{escape(then)}">
  <p><label class="field"><span>E-mail</span> <input type="email" name="email" autocomplete="username" required maxlength="{LONGEST_EMAIL}" autofocus></label></p>
  <p><label class="field"><span>Password</span> <input type="password" name="password" autocomplete="current-password" required></label></p>
  <button type="submit">Sign in</button>
</form>""")
    if services.oidc is not None:
        label = escape(services.oidc.settings.label)
        parts.append(f'<p><a href="/sign-in/oidc?next={quote(then, safe="")}">Sign in with {label}</a></p>')
    response = _page("Sign in", "\n".join(parts), status=status)
    set_cookie(response, FORM_COOKIE, token, secure=secure, strict=True)
    if problem is not None and problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    return response


def _signed_in_page(session: UserSession) -> Response:
    token = f'<input type="hidden" name="{CSRF_FIELD}" value="{session.csrf_token}">'
    person = escape(f"{session.name} ({session.email})")
    return _page(
        "Signed in",
        f"""<p>You are {person}, {escape(session.role)} of {escape(session.tenant)}. <a href="/">Open the board</a></p>
<form method="post" action="/sign-out">{token}<button type="submit">Sign out</button></form>
<form method="post" action="/sign-out">{token}<input type="hidden" name="everywhere" value="1"><button type="submit">Sign out everywhere</button></form>""",
    )


def _alert(reason: str) -> str:
    return f'<p class="notice" role="alert">{escape(reason)}</p>'


def _page(title: str, content: str, *, status: int = 200) -> Response:
    text = PAGE.substitute(title=escape(title), content=content)
    return Response(text, status, media_type="text/html", headers=PAGE_HEADERS)

"""/api/users: the people of a tenant who may sign in. A password is in the answer that makes it, and nowhere afterwards."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from msgspec import Struct
from starlette.responses import Response

from gateway.access import Caller
from gateway.accounts import users
from gateway.accounts.database import AccountsConnection
from gateway.accounts.passwords import checked_password, generated_password
from gateway.accounts.services import AccountServices, accounts_of, refreshed_keys, stored_accounts
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.services import authorized_caller
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of

LARGEST_BODY = 10_000
EXAMPLES = example_bodies("users")
UserId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{1,32}$", description="The person's id, as the list shows it.")
]


class NewUser(Struct, forbid_unknown_fields=True):
    email: str
    name: str | None = None
    role: str = "viewer"
    password: str | None = None
    generate_password: bool = False


class UserChange(Struct, forbid_unknown_fields=True):
    role: str | None = None
    disabled: bool | None = None


class NewPassword(Struct, forbid_unknown_fields=True):
    password: str | None = None


router = APIRouter(tags=["access"])


@router.get("/api/users/", include_in_schema=False)
@router.get(
    "/api/users",
    summary="The people of the tenant, by their e-mail addresses",
    responses=answer_docs(EXAMPLES["users"], "Without passwords, which nobody can read."),
)
async def list_users(request: Request) -> Response:
    services = stored_accounts(accounts_of(request))
    tenant, _ = authorized_caller(request)
    async with services.database.transaction() as connection:
        rows = await users.list_users(connection, tenant)
    return JsonAnswer({"users": [users.user_json(row) for row in rows]})


@router.post("/api/users/", include_in_schema=False)
@router.post(
    "/api/users",
    status_code=201,
    summary="Enter a person",
    openapi_extra=request_docs(EXAMPLES["new_user"], body_schema_of(NewUser)),
    responses=answer_docs(
        EXAMPLES["entered"],
        "The person, and the password if it was generated: pass it on now. Without a password the person signs in by "
        "OpenID Connect.",
        status=201,
    ),
)
async def create_user(request: Request) -> Response:
    services = stored_accounts(accounts_of(request))
    body = struct_of(json_object(await read_body(request, LARGEST_BODY)), NewUser)
    tenant, caller = authorized_caller(request)
    email, role = users.checked_email(body.email), users.checked_role(body.role)
    name = users.checked_name(body.name or email)
    if body.password is not None and body.generate_password:
        raise RequestProblem(422, "give a password, or have one generated", field="generate_password")
    password = generated_password() if body.generate_password else body.password
    password_hash = None if password is None else await _hashed(services, password, email)
    request.state.audited = True
    async with services.database.transaction() as connection:
        row = await users.create_user(
            connection,
            services.author(request, caller.actor),
            tenant=tenant,
            email=email,
            name=name,
            role=role,
            password_hash=password_hash,
        )
    await refreshed_keys(services)
    shown = {"user": users.user_json(row), "password": password if body.generate_password else None}
    return JsonAnswer(shown, 201)


@router.patch("/api/users/{user_id}/", include_in_schema=False)
@router.patch(
    "/api/users/{user_id}",
    summary="Change a person's role, disable a person or undo that",
    openapi_extra=request_docs(EXAMPLES["change"], body_schema_of(UserChange)),
    responses=answer_docs(EXAMPLES["user"], "The person. Who is disabled is signed out everywhere."),
)
async def change_user(request: Request, user_id: UserId) -> Response:
    services = stored_accounts(accounts_of(request))
    body = struct_of(json_object(await read_body(request, LARGEST_BODY)), UserChange)
    tenant, caller = authorized_caller(request)
    if body.role is None and body.disabled is None:
        raise RequestProblem(422, "role, disabled or both are needed", field="role")
    role = None if body.role is None else users.checked_role(body.role)
    author = services.author(request, caller.actor)
    request.state.audited = True
    async with services.database.transaction() as connection:
        row = await _existing(connection, tenant, user_id)
        _refuse_own_account(caller, row, body)
        if role is not None and role != row["role"]:
            row = await users.set_role(connection, author, row["email"], role)
        if body.disabled is not None and body.disabled != (row["disabled_at"] is not None):
            row = await users.disable_user(connection, author, row["email"], disabled=body.disabled)
    return JsonAnswer({"user": users.user_json(row)})


@router.post("/api/users/{user_id}/password/", include_in_schema=False)
@router.post(
    "/api/users/{user_id}/password",
    summary="Give a person a new password",
    openapi_extra=request_docs(EXAMPLES["new_password"], body_schema_of(NewPassword), required=False),
    responses=answer_docs(
        EXAMPLES["entered"],
        "The person, and the password if none was sent: one is generated. All sessions end.",
    ),
)
async def reset_password(request: Request, user_id: UserId) -> Response:
    services = stored_accounts(accounts_of(request))
    text = await read_body(request, LARGEST_BODY)
    body = struct_of(json_object(text), NewPassword) if text else NewPassword()
    tenant, caller = authorized_caller(request)
    async with services.database.transaction() as connection:
        email = (await _existing(connection, tenant, user_id))["email"]
    password = generated_password() if body.password is None else body.password
    password_hash = await _hashed(services, password, email)
    request.state.audited = True
    async with services.database.transaction() as connection:
        row = await users.set_password(
            connection, services.author(request, caller.actor), email, password_hash
        )
    return JsonAnswer({"user": users.user_json(row), "password": password if body.password is None else None})


async def _hashed(services: AccountServices, password: str, email: str) -> str:
    return await services.passwords.hashed(checked_password(password, email))


async def _existing(connection: AccountsConnection, tenant: str, user_id: str) -> dict[str, Any]:
    """A person of another tenant is as absent as nobody."""
    row = await users.user_by_id(connection, tenant, user_id)
    if row is None:
        raise RequestProblem(404, "nobody has this id", field="user_id")
    return row


def _refuse_own_account(caller: Caller, row: dict[str, Any], body: UserChange) -> None:
    """So that no administrator is shut out by a slip."""
    if caller.actor == f"user:{row['user_id']}" and (body.disabled or body.role not in {None, row["role"]}):
        raise RequestProblem(
            409, "this is your own account: another administrator has to do it", field="user_id"
        )

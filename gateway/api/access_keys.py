"""/api/keys: the keys of a tenant. A secret is in the answer that makes it, and nowhere afterwards."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from msgspec import Struct
from starlette.responses import Response

from gateway.accounts import keys
from gateway.accounts.keys import MadeKey
from gateway.accounts.services import AccountServices, accounts_of, refreshed_keys, stored_accounts
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.services import authorized_caller
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from schemas.envelope import Moment

LARGEST_BODY = 10_000
USUAL_OVERLAP_HOURS = 24.0
EXAMPLES = example_bodies("keys")
KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$", description="The key's id, as the list shows it.")]


class NewKey(Struct, forbid_unknown_fields=True):
    name: str
    scopes: list[str]
    expires_at: Moment | None = None


class KeyRotation(Struct, forbid_unknown_fields=True):
    overlap_hours: float = USUAL_OVERLAP_HOURS


router = APIRouter(tags=["access"])


@router.get("/api/keys/", include_in_schema=False)
@router.get(
    "/api/keys",
    summary="The keys of the tenant, newest first",
    responses=answer_docs(EXAMPLES["keys"], "Without their secrets, which nobody can read again."),
)
async def list_keys(
    request: Request,
    ended: Annotated[bool, Query(description="Whether revoked and expired keys are listed, too.")] = False,  # noqa: FBT002 - a parameter of the address
) -> Response:
    services = accounts_of(request)
    tenant, _ = authorized_caller(request)
    async with stored_accounts(services).database.transaction() as connection:
        rows = await keys.list_keys(connection, tenant, now=services.ports.now(), ended=ended)
    return JsonAnswer({"keys": [keys.key_json(row) for row in rows]})


@router.post("/api/keys/", include_in_schema=False)
@router.post(
    "/api/keys",
    status_code=201,
    summary="Make a key",
    openapi_extra=request_docs(EXAMPLES["new_key"], body_schema_of(NewKey)),
    responses=answer_docs(EXAMPLES["made_key"], "The key and its secret: store it now.", status=201),
)
async def create_key(request: Request) -> Response:
    services = stored_accounts(accounts_of(request))
    body = struct_of(json_object(await read_body(request, LARGEST_BODY)), NewKey)
    tenant, caller = authorized_caller(request)
    author = services.author(request, caller.actor)
    name = keys.checked_name(body.name)
    scopes = keys.checked_scopes(body.scopes, operator=False)
    expires_at = keys.checked_expiry(body.expires_at, author.at)
    request.state.audited = True
    async with services.database.transaction() as connection:
        made = await keys.create_key(connection, author, tenant, name, scopes, expires_at)
    return await _answer_with_secret(services, made)


@router.delete("/api/keys/{key_id}/", include_in_schema=False)
@router.delete(
    "/api/keys/{key_id}",
    summary="Revoke a key",
    responses=answer_docs(EXAMPLES["revoked_key"], "The key. It is refused from now on."),
)
async def revoke_key(request: Request, key_id: KeyId) -> Response:
    services = stored_accounts(accounts_of(request))
    tenant, caller = authorized_caller(request)
    request.state.audited = True
    async with services.database.transaction() as connection:
        row = await keys.revoke_key(connection, services.author(request, caller.actor), tenant, key_id)
    await refreshed_keys(services)
    return JsonAnswer({"key": keys.key_json(row)})


@router.post("/api/keys/{key_id}/rotate/", include_in_schema=False)
@router.post(
    "/api/keys/{key_id}/rotate",
    status_code=201,
    summary="Make the successor of a key",
    openapi_extra=request_docs(EXAMPLES["rotation"], body_schema_of(KeyRotation), required=False),
    responses=answer_docs(
        EXAMPLES["made_key"], "The new key and its secret. The old one ends after the overlap.", status=201
    ),
)
async def rotate_key(request: Request, key_id: KeyId) -> Response:
    services = stored_accounts(accounts_of(request))
    text = await read_body(request, LARGEST_BODY)
    body = struct_of(json_object(text), KeyRotation) if text else KeyRotation()
    tenant, caller = authorized_caller(request)
    if not 0 <= body.overlap_hours <= keys.LONGEST_OVERLAP.total_seconds() / 3600:
        raise RequestProblem(
            422, f"hours from 0 to {keys.LONGEST_OVERLAP.total_seconds() / 3600:g}", field="overlap_hours"
        )
    request.state.audited = True
    async with services.database.transaction() as connection:
        made = await keys.rotate_key(
            connection,
            services.author(request, caller.actor),
            tenant,
            key_id,
            timedelta(hours=body.overlap_hours),
        )
    return await _answer_with_secret(services, made)


async def _answer_with_secret(services: AccountServices, made: MadeKey) -> Response:
    await refreshed_keys(services)
    return JsonAnswer({"key": keys.key_json(made.row), "secret": made.secret}, 201)

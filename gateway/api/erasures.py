"""/api/erasures and /api/person-exports: what people may ask for. An erasure goes on after its answer, and after a crash.

No answer and no row of the audit log names a person who was erased.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO, cast

from fastapi import APIRouter, Path, Request
from msgspec import Struct
from starlette.responses import Response, StreamingResponse

from gateway.accounts.audit import AuditEntry, hashed_id
from gateway.accounts.services import accounts_of
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.services import authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.addresses import searched_addresses
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.ports import ExportPerson
from projections.person import select_lead_of_id, select_leads_of_addresses

LARGEST_BODY = 10_000
IN_MEMORY_BYTES = 4_000_000
"""Of an archive; a larger one is written to a file without a name first."""
PART_BYTES = 65_536
EXAMPLES = example_bodies("erasures")
ErasureId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{16}$", description="The erasure's id, as its request was answered.")
]
_SELECT = """select erasure_id, requested_at, requested_by, step, step = 'done' as done, finished_at, removed, remains
             from erasures where tenant = %s and (%s::text is null or erasure_id = %s)
             order by requested_at desc, erasure_id limit 1000"""


class PersonRequest(Struct, forbid_unknown_fields=True):
    """Exactly one of the three names the person."""

    lead_id: str | int | None = None
    email: str | None = None
    phone: str | None = None


class ErasureRequest(PersonRequest):
    dry_run: bool = False


router = APIRouter(tags=["privacy"])


@router.post("/api/erasures/", include_in_schema=False)
@router.post(
    "/api/erasures",
    status_code=202,
    summary="Erase a person",
    description="The lead, every lead merged with it, and everything that was recorded about them. It goes on by itself, also "
    "after a restart; `GET /api/erasures/{erasure_id}` shows how far it is. Later events about the person are refused. It "
    "cannot be undone. With `dry_run`, it only answers what would go.",
    openapi_extra=request_docs(EXAMPLES["request"], body_schema_of(ErasureRequest)),
    responses=answer_docs(EXAMPLES["erasure"], "It has begun.", status=202)
    | answer_docs(EXAMPLES["preview"], "With `dry_run`: what would go, by table and topic."),
)
async def erase_person(request: Request) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY)), ErasureRequest)
    lead_id = await _lead_named(request, body)
    if body.dry_run:
        request.state.audited = True
        preview = await asyncio.to_thread(
            services_of(request).ports.people.preview, tenant_of(request), lead_id
        )
        return JsonAnswer(_existing(preview))
    return await _begin(request, lead_id)


@router.delete("/api/leads/{lead_id:path}/", include_in_schema=False)
@router.delete(
    "/api/leads/{lead_id:path}",
    status_code=202,
    summary="Erase the person of a lead",
    description="As `POST /api/erasures` with this id.",
    responses=answer_docs(EXAMPLES["erasure"], "It has begun.", status=202),
)
async def erase_lead(request: Request, lead_id: str) -> Response:
    return await _begin(request, await _lead_named(request, PersonRequest(lead_id=lead_id)))


@router.get("/api/erasures/", include_in_schema=False)
@router.get(
    "/api/erasures",
    summary="The erasures of the tenant, newest first",
    responses=answer_docs(EXAMPLES["erasures"], "At most 1,000. None of them names anybody."),
)
async def list_erasures(request: Request) -> Response:
    return JsonAnswer({"erasures": await _erasures(request, None)})


@router.get("/api/erasures/{erasure_id}/", include_in_schema=False)
@router.get(
    "/api/erasures/{erasure_id}",
    summary="How far an erasure is",
    responses=answer_docs(EXAMPLES["finished"], "The erasure."),
)
async def read_erasure(request: Request, erasure_id: ErasureId) -> Response:
    rows = await _erasures(request, erasure_id)
    if not rows:
        raise RequestProblem(404, "no erasure has this id", field="erasure_id")
    return JsonAnswer(rows[0])


@router.post("/api/person-exports/", include_in_schema=False)
@router.post(
    "/api/person-exports",
    summary="Everything about a person, as one archive",
    description="A ZIP archive of JSON files with a README in plain English: profile, events, scores with their explanation, "
    "sessions, messages, attribution, workflows, mails, and what staff did. It is personal data.",
    openapi_extra=request_docs(EXAMPLES["person"], body_schema_of(PersonRequest)),
    response_class=Response,
    responses={
        200: {
            "description": "The archive.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def export_person(request: Request) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY)), PersonRequest)
    lead_id = await _lead_named(request, body)
    await _record(request, "person.export", f"lead_id={hashed_id(tenant_of(request), lead_id)}")
    archive = await asyncio.to_thread(
        _archive_of, services_of(request).ports.people.export, tenant_of(request), lead_id
    )
    disposition = {"Content-Disposition": 'attachment; filename="person.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(_parts(archive), media_type="application/zip", headers=disposition)


def _archive_of(export: ExportPerson, tenant: str, lead_id: str) -> BinaryIO:
    """The archive, at its beginning; whoever reads it closes it."""
    with contextlib.ExitStack() as closing:
        archive = cast(
            "BinaryIO", closing.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))
        )
        if not export(tenant, lead_id, archive):
            raise _no_lead()
        archive.seek(0)
        closing.pop_all()
    return archive


async def _parts(archive: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while part := await asyncio.to_thread(archive.read, PART_BYTES):
            yield part
    finally:
        archive.close()


async def _begin(request: Request, lead_id: str) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    request.state.audited = True
    begun = _existing(await asyncio.to_thread(services.ports.people.erase, tenant, lead_id, caller.actor))
    await accounts_of(request).erased.refresh()
    await _record(request, "person.erase", f"erasure={begun['erasure_id']}")
    location = f"/api/erasures/{begun['erasure_id']}"
    return JsonAnswer(
        {name: begun[name] for name in ("erasure_id", "requested_at", "requested_by", "step", "done")}
        | {"location": location},
        202,
    )


async def _record(request: Request, action: str, target: str) -> None:
    """The audit log names no person: an erasure has its id, an export a hash."""
    request.state.audited = True
    services = accounts_of(request)
    tenant, caller = authorized_caller(request)
    author = services.author(request, caller.actor)
    await services.audit.record(
        AuditEntry(tenant, author.at, author.actor, action, target, address=author.address)
    )


async def _lead_named(request: Request, person: PersonRequest) -> str:
    names = [
        (name, value)
        for name in ("lead_id", "email", "phone")
        if (value := getattr(person, name)) is not None
    ]
    if len(names) != 1:
        raise RequestProblem(
            422, "name the person by exactly one of lead_id, email and phone", field="lead_id"
        )
    name, value = names[0]
    text = str(value)
    if "\0" in text:
        raise RequestProblem(422, "has a character that no id has", field=name)
    services = services_of(request)
    tenant = tenant_of(request)
    question = (
        select_lead_of_id(tenant, text)
        if name == "lead_id"
        else select_leads_of_addresses(tenant, searched_addresses(text, services.ports.phone_region))
    )
    async with services.store.snapshot() as ask:
        rows = await ask(question)
    if not rows:
        raise _no_lead(name)
    if len(rows) > 1:
        leads = ", ".join(row["lead_id"] for row in rows)
        raise RequestProblem(409, f"several leads have it: {leads}; name one by its lead_id", field=name)
    return str(rows[0]["lead_id"])


async def _erasures(request: Request, erasure_id: str | None) -> list[dict[str, Any]]:
    async with accounts_of(request).database.transaction() as connection:
        rows = await connection.execute(_SELECT, (tenant_of(request), erasure_id, erasure_id))
        return await rows.fetchall()


def _existing(result: Any) -> dict[str, Any]:
    if result is None:
        raise _no_lead()
    return dict(result)


def _no_lead(field: str = "lead_id") -> RequestProblem:
    return RequestProblem(404, "no lead has this id or address", field=field)

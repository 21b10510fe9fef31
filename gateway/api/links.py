"""/api/links: makes the links that `gateway.door.followed_links` answers, and draws their codes (docs/links.md).

Nothing is stored: a link is its address.
"""

import asyncio
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request
from msgspec import Struct
from starlette.responses import Response

from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.services import services_of, tenant_of
from gateway.documented import Responses, answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.door.link_definitions import LinkDefinition, MailDefinition, address_of_link
from gateway.door.signed_links import NO_KEYS_REMEDY, open_link
from gateway.link_making import LinkMaker, MadeLink, hints_of, make_link, make_mail, shown_link
from gateway.ports import Ports
from gateway.qr_codes import LONGEST_CONTENT, ErrorCorrection, qr_png, qr_svg
from schemas.broken_text import refuse_broken_ids, repair_broken_text
from schemas.refusal import Refusal

LARGEST_DEFINITION = 20_000
LARGEST_MAIL = 1_000_000
SMALLEST_PNG, LARGEST_PNG, USUAL_PNG = 64, 4_096, 512
EXAMPLES = example_bodies("links")

T = TypeVar("T", bound=Struct)
Token = Annotated[str, Path(description="The link's token, which its address ends with.")]
Error = Annotated[
    ErrorCorrection,
    Query(description="How much of the code may be damaged: l 7 %, m 15 %, q 25 %, h 30 %."),
]
NO_LINK: Responses = {404: {"description": "No link of this tenant, or a changed one."}}
NO_KEYS: Responses = {409: {"description": "LEADSTREAM_LINK_KEYS is not set."}}

router = APIRouter(tags=["links"])


@router.post(
    "/api/links",
    summary="Make a QR or catalogue link",
    description="The same definition always gives the same link. Nothing is stored.",
    openapi_extra=request_docs(EXAMPLES["qr"], body_schema_of(LinkDefinition)),
    responses={
        **answer_docs(
            EXAMPLES["link"],
            "The link, and where its code is.",
            others={"catalogue": EXAMPLES["catalogue_link"]},
        ),
        **NO_KEYS,
    },
)
@router.post("/api/links/", include_in_schema=False)
async def post_link(request: Request) -> Response:
    ports = services_of(request).ports
    maker = _maker(ports, tenant_of(request))
    definition = _decoded(await read_body(request, LARGEST_DEFINITION), LinkDefinition)
    try:
        made = make_link(definition, maker)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    return JsonAnswer(_shown(made, ports))


@router.post(
    "/api/links/email",
    summary="Make the links of a mail measured",
    description="For one lead. Give the whole mail as `html`, or the `targets` of its links.",
    openapi_extra=request_docs(EXAMPLES["mail"], body_schema_of(MailDefinition)),
    responses={**answer_docs(EXAMPLES["made_mail"], "The mail, its links and its picture."), **NO_KEYS},
)
@router.post("/api/links/email/", include_in_schema=False)
async def post_mail(request: Request) -> Response:
    ports = services_of(request).ports
    maker = _maker(ports, tenant_of(request))
    body = await read_body(request, min(LARGEST_MAIL, ports.max_body_bytes))
    mail = _decoded(body, MailDefinition)
    try:
        made = await asyncio.to_thread(make_mail, mail, maker)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    links = [{"target": target, "url": url} for target, url in made.links.items()]
    return JsonAnswer(
        {"pixel": made.pixel, "links": links, "html": made.html, "hints": hints_of(ports.public_url)}
    )


@router.get(
    "/api/links/{token}",
    summary="What a link says",
    responses={
        **answer_docs(
            EXAMPLES["link"],
            others={"catalogue": EXAMPLES["catalogue_link"], "mail": EXAMPLES["mail_link"]},
        ),
        **NO_LINK,
    },
)
@router.get("/api/links/{token}/", include_in_schema=False)
async def get_link(request: Request, token: Token) -> Response:
    return JsonAnswer(_shown(_link_of_tenant(request, token), services_of(request).ports))


@router.get(
    "/api/links/{token}/qr.svg",
    summary="The code of a link, for print",
    responses={
        200: {
            "description": "The code.",
            "content": {"image/svg+xml": {"schema": {"type": "string"}, "example": "<svg ...></svg>"}},
        },
        **NO_LINK,
    },
    response_class=Response,
)
async def get_svg(request: Request, token: Token, error: Error = "m") -> Response:
    content = _content_of_code(_link_of_tenant(request, token))
    return Response(await asyncio.to_thread(qr_svg, content, error), media_type="image/svg+xml")


@router.get(
    "/api/links/{token}/qr.png",
    summary="The code of a link, as a picture",
    responses={
        200: {
            "description": "The code.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        **NO_LINK,
    },
    response_class=Response,
)
async def get_png(
    request: Request,
    token: Token,
    error: Error = "m",
    size: Annotated[
        int, Query(ge=SMALLEST_PNG, le=LARGEST_PNG, description="The most pixels of a side.")
    ] = USUAL_PNG,
) -> Response:
    content = _content_of_code(_link_of_tenant(request, token))
    picture = await asyncio.to_thread(qr_png, content, error, size)
    if picture is None:
        raise RequestProblem(422, "this code has more modules than that: ask for more pixels", field="size")
    return Response(picture, media_type="image/png")


def _maker(ports: Ports, tenant: str) -> LinkMaker:
    if not ports.link_keys.ciphers:
        raise RequestProblem(409, NO_KEYS_REMEDY)
    return LinkMaker(tenant, ports.public_url, ports.link_keys, ports.now())


def _link_of_tenant(request: Request, token: str) -> MadeLink:
    tenant = tenant_of(request)
    ports = services_of(request).ports
    link = open_link(token, ports.link_keys)
    if link is None or link.tenant != tenant:
        raise RequestProblem(404, "this is no link of this tenant, or not all of it", field="token")
    return MadeLink(link, token, address_of_link(link, token, ports.public_url))


def _shown(made: MadeLink, ports: Ports) -> dict[str, object]:
    code = f"{ports.public_url.rstrip('/')}/api/links/{made.token}/qr"
    return {**shown_link(made, ports.public_url), "qr_svg": f"{code}.svg", "qr_png": f"{code}.png"}


def _content_of_code(made: MadeLink) -> str:
    if len(made.url) > LONGEST_CONTENT:
        raise RequestProblem(
            422,
            f"the address has more than {LONGEST_CONTENT} characters, too many for a code: shorten the target",
        )
    return made.url


def _decoded(body: bytes, kind: type[T]) -> T:
    decoded = struct_of(json_object(repair_broken_text(body)), kind)
    try:
        refuse_broken_ids(decoded)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    return decoded

"""GET /api/tenants/{tenant}/leads: the leads of a property agent, as a bare array in the shape that agents' tools know.

`lead_score` is the model `temperature`. The highest rounded score comes first, then the newest lead; the header `Link`
has the address of the next page.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from gateway.access import TENANT_NAME_PATTERN
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api import statements
from gateway.api.lead_flags import bands_and_flags
from gateway.api.lead_pages import PAGE, After, Limit, Offset, leads_page, page_start
from gateway.api.leads import BOARD_MODEL, LONGEST_SEARCH, NO_NUL
from gateway.api.overrides import override_in_row
from gateway.api.points import plain
from gateway.api.services import authorized_caller, services_of
from gateway.documented import answer_docs, example_bodies
from gateway.door.addresses import searched_addresses
from gateway.door.telegram_updates import TELEGRAM_BOT
from gateway.store import Row
from projections import queries
from projections.lead_lists import LeadFilters
from scoring.features.profile_fields import BUDGET_FIELDS, PROPERTY_FIELDS
from scoring.features.signals import LARGEST_AMOUNT
from scoring.models.model import Model

COLDEST = "cold"
router = APIRouter(tags=["leads"])


@router.get(
    "/api/tenants/{tenant}/leads",
    summary="A tenant's leads as an array, the highest temperature score first",
    responses=answer_docs(
        example_bodies("telegram")["leads"],
        "A page of leads. The header `Link` (rel=next) leads to the next one.",
    )
    | {404: {"description": "The token belongs to another tenant."}},
)
@router.get("/api/tenants/{tenant}/leads/", include_in_schema=False)
async def tenant_leads(
    request: Request,
    tenant: Annotated[str, Path(description="The tenant; the token must be its own.")],
    temperature: Annotated[
        Literal["burning", "hot", "warm", "cold"] | None, Query(description="Only leads of this band.")
    ] = None,
    min_score: Annotated[
        int | None, Query(ge=0, le=LARGEST_AMOUNT, description="Only leads with at least this score.")
    ] = None,
    stage: Annotated[
        str | None, Query(max_length=32, pattern=NO_NUL, description="Only leads in this stage.")
    ] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=LONGEST_SEARCH,
            pattern=NO_NUL,
            description="Part of a name, e-mail address, phone number or id.",
        ),
    ] = None,
    include_anonymous: Annotated[
        bool | None,
        Query(
            description="Whether anonymous visitors are listed, too. By default only if nobody is identified yet."
        ),
    ] = None,
    limit: Limit = PAGE,
    after: After = None,
    offset: Offset = 0,
) -> Response:
    services = services_of(request)
    _, caller = authorized_caller(request)
    if caller.tenant not in {None, tenant} or not TENANT_NAME_PATTERN.fullmatch(tenant):
        raise RequestProblem(404, "there is no such tenant for this token", field="tenant")
    start = page_start(after, offset)
    async with services.store.snapshot() as ask:
        if include_anonymous is None:
            include_anonymous = not await ask(queries.any_identified(tenant))
        filters = LeadFilters(
            anonymous=include_anonymous,
            stage=stage,
            band=None if temperature is None else (BOARD_MODEL, temperature),
            lowest_band=COLDEST,
            minimum=min_score,
            search=q or None,
            addresses=searched_addresses(q, services.ports.phone_region) if q else (),
        )
        page = await leads_page(ask, tenant, BOARD_MODEL, filters, start, limit)
        keys = [row["lead_key"] for row in page.rows]
        voices = await ask(statements.latest_voices(keys)) if keys else ()
    model = (await services.ports.published(tenant)).models.get(BOARD_MODEL) if keys else None
    recordings = {voice["lead_key"]: voice for voice in voices}
    following, now = page.following, services.ports.now()
    return JsonAnswer(
        [_lead(row, recordings.get(row["lead_key"], {}), model, now) for row in page.rows],
        headers=None if following is None else {"Link": f'<{_next(request, following)}>; rel="next"'},
    )


def _next(request: Request, after: str) -> str:
    """The address of the page that begins there."""
    parameters = {**dict(request.query_params), "after": after}
    parameters.pop("offset", None)
    return f"{services_of(request).ports.public_url}{quote(request.url.path)}?{urlencode(parameters)}"


def _lead(row: Row, voice: Mapping[str, Any], model: Model | None, now: datetime) -> dict[str, Any]:
    counts, fields, refuses = row["counts"], row["fields"], queries.refuses_profiling(row)
    scans, views, messages = (
        counts.get(signal, 0) for signal in ("qr_scanned", "catalog_viewed", "message_received")
    )
    return {
        "id": _id(row["lead_id"]),
        "name": row["name"],
        "phone": row["phone"],
        "email": row["email"],
        **{name: decimal_or_given(fields.get(name)) for name in BUDGET_FIELDS},
        **{name: fields.get(name) for name in PROPERTY_FIELDS},
        "lead_score": None if refuses else row["rounded"] or 0,
        "temperature": None if refuses else (row["bands"] or {}).get(BOARD_MODEL) or COLDEST,
        "flags": bands_and_flags(row["bands"] or {}, model)["flags"],
        "qr_scan_count": scans,
        "catalog_views": views,
        "messages_count": messages,
        "total_interactions": scans + views + messages,
        "voice_transcript": voice.get("text"),
        "voice_seconds": decimal_or_given(voice.get("duration_s")),
        "voice_url": voice_url(voice),
        "stage": row["stage"],
        "qualification_override": override_in_row(row, now),
        "created_at": row["created_at"],
        "last_interaction_at": row["last_interaction_at"],
    }


def _id(lead_id: str) -> str | int:
    """Ids are texts; one of digits only is shown as the number that the agents' tools expect."""
    is_number = lead_id.isascii() and lead_id.isdigit() and len(lead_id) <= 15 and lead_id[0] != "0"
    return int(lead_id) if is_number else lead_id


def decimal_or_given(value: object) -> object:
    """A number that is written as a text, as a number; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    return plain(number) if number.is_finite() and abs(number) < LARGEST_AMOUNT else value


def voice_url(voice: Mapping[str, Any]) -> str | None:
    """Of a recording that a bot of Telegram has received; others are not served here."""
    if voice.get("source_type") != TELEGRAM_BOT or not voice["source_id"] or not voice["file_id"]:
        return None
    return f"/v1/telegram/{quote(voice['source_id'], safe='')}/files/{quote(voice['file_id'], safe='')}"

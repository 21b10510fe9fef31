"""/api/operations and /api/dead-letters: what an operator looks after. For administrators of the tenant."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.accounts.services import accounts_of
from gateway.answers import JsonAnswer
from gateway.api.probes import status_in_time
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.store import Row
from projections import operating_queries as queries
from projections.dead_letter_retries import record_to_retry
from projections.queries import mark_retried, select_dead_letter, sql_and_parameters
from projections.table_definition import LIVE_SCHEMA, SHADOW_SCHEMA
from schemas.decode import Refusal, decode_source
from schemas.envelope import Event
from schemas.record import Outgoing

PAGE: Final = 50
MOST_RETRIED: Final = 100
LARGEST_BODY: Final = 500_000
OPEN_STATUSES: Final = ("waiting", "delivering", "failed", "dead", "skipped")
"""Of an action of a workflow that is not delivered."""
LONGEST_SHOWN: Final = 4_000
"""Bytes of a dead letter that are shown."""
EXAMPLES = example_bodies("operations")

router = APIRouter(tags=["operations"])


class DeadLetterAddress(Struct, forbid_unknown_fields=True):
    topic: Annotated[str, Meta(max_length=300)]
    partition: Annotated[int, Meta(ge=0, lt=2**31)]
    position: Annotated[int, Meta(ge=0, lt=2**53)]
    replacement: str | None = None
    """The corrected event, as JSON; None: as it is."""


class RetryRequest(Struct, forbid_unknown_fields=True):
    dead_letters: Annotated[list[DeadLetterAddress], Meta(min_length=1, max_length=MOST_RETRIED)]


@router.get(
    "/api/operations",
    summary="How far scoring and the read models are behind, what waits, and how far a rebuild is",
    responses=answer_docs(EXAMPLES["operations"], "As it is now."),
)
@router.get("/api/operations/", include_in_schema=False)
async def operations(request: Request) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    status = await status_in_time(services.ports)
    of_tenant = _tenant_of_dead_letters(request)
    async with services.store.snapshot() as ask:
        reasons, deliveries, contained = await ask.all(
            queries.select_dead_letter_reasons(of_tenant),
            queries.select_deliveries(tenant),
            queries.select_contained_positions(),
        )
    behind: Mapping[str, int | None] = status.get("behind") or {}  # type: ignore[assignment] # a mapping, if it is there
    ages: Mapping[str, float] = status.get("ages") or {}  # type: ignore[assignment] # as above
    unowned: Mapping[str, int] = status.get("unowned") or {}  # type: ignore[assignment] # as above
    return JsonAnswer(
        {
            "ready": bool(status["ready"]),
            "reason": status.get("reason"),
            "backlog": status.get("backlog"),
            "stages": [
                {
                    "stage": stage,
                    "behind": count,
                    "age_seconds": ages.get(stage),
                    "unowned": unowned.get(stage, 0),
                }
                for stage, count in behind.items()
            ],
            "rebuild": _rebuild(contained),
            "dead_letters": [dict(row) for row in reasons],
            "deliveries": dict.fromkeys(OPEN_STATUSES, 0)
            | {row["status"]: row["count"] for row in deliveries},
        }
    )


def _rebuild(contained: Sequence[Row]) -> dict[str, Any] | None:
    """None: no rebuild is under way."""
    counts = {row["generation"]: int(row["count"]) for row in contained}
    if SHADOW_SCHEMA not in counts:
        return None
    return {"done": counts[SHADOW_SCHEMA], "of": max(counts.get(LIVE_SCHEMA, 0), counts[SHADOW_SCHEMA])}


@router.get(
    "/api/dead-letters",
    summary="Records that could not be read or applied, and were not sent again",
    responses=answer_docs(EXAMPLES["dead_letters"], "A page of them, in the order of the log."),
)
@router.get("/api/dead-letters/", include_in_schema=False)
async def dead_letters(
    request: Request,
    after: Annotated[
        str | None,
        Query(
            pattern=r"^[A-Za-z0-9._-]+:[0-9]{1,9}:[0-9]{1,15}$",
            max_length=280,
            description="The `after` of the page before.",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_RETRIED, description="The most of an answer.")] = PAGE,
) -> Response:
    begin = None
    if after is not None:
        topic, partition, position = after.rsplit(":", 2)
        begin = topic, int(partition), int(position)
    rows = await services_of(request).store.rows(
        queries.select_waiting_dead_letters(_tenant_of_dead_letters(request), limit=limit + 1, after=begin)
    )
    shown = rows[:limit]
    last = shown[-1] if len(rows) > limit else None
    return JsonAnswer(
        {
            "dead_letters": [_dead_letter(row) for row in shown],
            "after": None if last is None else f"{last['topic']}:{last['partition']}:{last['position']}",
        }
    )


def _dead_letter(row: Row) -> dict[str, Any]:
    original = bytes(row["original"])
    return {
        **{name: row[name] for name in ("topic", "partition", "position", "reason", "field", "key")},
        "bytes": len(original),
        "text": _text(original),
    }


def _text(original: bytes) -> str | None:
    """None: it is no text, or too long to be shown."""
    if len(original) > LONGEST_SHOWN:
        return None
    try:
        return original.decode()
    except UnicodeDecodeError:
        return None


@router.post(
    "/api/dead-letters/retry",
    summary="Send dead letters again, as they are or corrected",
    openapi_extra=request_docs(EXAMPLES["retry"]),
    responses=answer_docs(EXAMPLES["retried"], "How many were sent, and why each of the others was not."),
)
@router.post("/api/dead-letters/retry/", include_in_schema=False)
async def retry(request: Request) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY)), RetryRequest)
    services, tenant = services_of(request), _tenant_of_dead_letters(request)
    sent: list[DeadLetterAddress] = []
    records: list[Outgoing] = []
    problems: list[dict[str, Any]] = []
    for address in body.dead_letters:
        rows = await services.store.rows(
            select_dead_letter(address.topic, address.partition, address.position)
        )
        try:
            records.append(_record(address, rows, tenant))
            sent.append(address)
        except Refusal as refusal:
            problems.append(
                {
                    "topic": address.topic,
                    "partition": address.partition,
                    "position": address.position,
                    "field": refusal.field,
                    "reason": refusal.reason,
                }
            )
    if records:
        await services.ports.append(records)
        async with accounts_of(request).database.transaction() as connection:
            for address in sent:
                now = services.ports.now()
                statement = mark_retried(address.topic, address.partition, address.position, now)
                await connection.execute(*sql_and_parameters(statement))
    return JsonAnswer({"sent": len(sent), "problems": problems})


def _record(address: DeadLetterAddress, rows: Sequence[Row], tenant: str | None) -> Outgoing:
    """An event only: control records come by commands of the operator. Raises Refusal."""
    if not rows or (tenant is not None and not _is_key_of(rows[0]["key"], tenant)):
        raise Refusal(None, "there is no such dead letter")
    value = bytes(rows[0]["original"]) if address.replacement is None else address.replacement.encode()
    record = record_to_retry(address.topic, rows[0]["key"], value)
    event = decode_source(value)
    if not isinstance(event, Event):
        raise Refusal(None, "is a control record: `leadstream dead-letters retry` sends it again")
    if tenant is not None and event.tenant != tenant:
        raise Refusal("tenant", "is another tenant's")
    return record


def _is_key_of(key: str | None, tenant: str) -> bool:
    return key is not None and key.startswith((f"{tenant}/v/", f"{tenant}/l/"))


def _tenant_of_dead_letters(request: Request) -> str | None:
    """Where there is one tenant, all are its own; else those whose keys name it."""
    tenants = services_of(request).ports.access.tenants
    return None if len(tenants) <= 1 else tenant_of(request)

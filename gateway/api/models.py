"""/api/models: the models that score a tenant's leads, their versions, drafts, and how far a sweep is.

What is published over the API is the tenant's own; what every tenant has is published by the operator
(`leadstream publish`). How publishing goes is in `authoring.authoring`; here are only its words.
"""

import asyncio
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from msgspec import UNSET, DecodeError, Meta, Struct, UnsetType, ValidationError, json, structs
from starlette.responses import Response

from authoring.authoring import Authoring, Publication
from authoring.revisions import difference, unknown_model
from authoring.sweep_progress import SweepProgress
from gateway.access import READ, WRITE, Caller, api_caller
from gateway.answers import Json, RequestProblem
from gateway.api import models_documented as documented
from gateway.api.leads import NO_NUL
from gateway.door.body import read_body
from gateway.ports import Ports
from projections.authoring import Draft, Version
from schemas.control import EVERY_TENANT, WholeText
from schemas.control import Version as Number
from schemas.envelope import DEFAULT_TENANT, MAX_INTEGER, Moment
from schemas.topics import lead_key
from scoring.models.model import all_models, optional_models

T = TypeVar("T")
LARGEST_BODY = 1_300_000
"""A whole text, as JSON escapes it at worst."""

ShortText = Annotated[str, Meta(max_length=512, pattern=NO_NUL)]
Asked = Annotated[str | None, Query(max_length=512, pattern=NO_NUL)]
Basis = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
"""A version; 0: there was none."""
Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
DraftId = Annotated[int, Path(ge=1, le=2**63 - 1)]
_DIFF = re.compile(r"(\d{1,16})\.\.(\d{1,16})")


class ChangeNote(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every change may say of itself."""

    by: ShortText | None = None
    note: ShortText | None = None


class NewDraft(ChangeNote, kw_only=True):
    text: WholeText
    based_on: Basis | None = None
    """The version that the author has changed; None: the newest one."""
    fire: bool = False
    effective_from: Moment | None = None


class ChangedDraft(Struct, forbid_unknown_fields=True, kw_only=True):
    by: ShortText | UnsetType | None = UNSET
    note: ShortText | UnsetType | None = UNSET
    text: WholeText | UnsetType = UNSET
    fire: bool | UnsetType = UNSET
    effective_from: Moment | UnsetType | None = UNSET
    based_on: Basis | UnsetType = UNSET
    changed_at: Moment | None = None
    """As the author read it: a draft that somebody has changed since then stays as it is."""


class PublishDraftRequest(ChangeNote, kw_only=True):
    fire: bool | None = None
    effective_from: Moment | None = None
    force: bool = False


class PublishRequest(ChangeNote, kw_only=True):
    text: WholeText | None = None
    shipped: bool = False
    """In place of a text: the one that comes with Leadstream under this name."""
    based_on: Basis | None = None
    fire: bool = False
    effective_from: Moment | None = None


class RolledBack(ChangeNote, kw_only=True):
    version: Number
    fire: bool = False


def models_api(ports: Ports, authoring: Authoring) -> APIRouter:
    router = APIRouter(prefix="/api/models", tags=["models"])

    def called(request: Request, scope: str) -> tuple[str, Caller]:
        caller = api_caller(request, ports.access, scope)
        return caller.tenant or DEFAULT_TENANT, caller

    @router.get(
        "", summary="The models in force, and those that may be published", responses=documented.MODELS
    )
    async def models(request: Request) -> Response:
        tenant, _ = called(request, READ)
        in_force = await authoring.in_force(tenant)
        optional = {name: text for name, text in optional_models().items() if name not in in_force}

        def told() -> dict[str, Any]:
            return {
                "models": [_model(each) for each in in_force.values()],
                "optional": [{"model": name, "about": _about(text)} for name, text in optional.items()],
            }

        return Json(await asyncio.to_thread(told))

    @router.get("/{name}", summary="A model: its text, and what it says", responses=documented.MODEL)
    async def model(request: Request, name: Name) -> Response:
        tenant, _ = called(request, READ)
        found = await authoring.newest(tenant, name)
        if found is None:
            raise unknown_model(name)
        outlined = None if found.text is None else await asyncio.to_thread(outline, found.text)
        return Json({**_model(found), "text": found.text, "outline": outlined})

    @router.delete(
        "/{name}",
        summary="Retire a model: it scores the tenant's leads no more",
        responses=documented.PUBLISHED,
    )
    async def retire(
        request: Request,
        name: Name,
        by: Asked = None,
        note: Asked = None,
        force: bool = False,  # noqa: FBT001, FBT002 - a query parameter
    ) -> Response:
        tenant, caller = called(request, WRITE)
        return Json(
            _published(await authoring.retire(tenant, name, by=by or author(caller), note=note, force=force))
        )

    @router.get(
        "/{name}/versions",
        summary="Every version, newest first; or what changed",
        responses=documented.VERSIONS,
    )
    async def versions(
        request: Request,
        name: Name,
        diff: Annotated[str | None, Query(description="3..5: what 5 changed in 3.", max_length=40)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
    ) -> Response:
        tenant, _ = called(request, READ)
        asked = None if diff is None else _DIFF.fullmatch(diff)
        if diff is not None and asked is None:
            raise RequestProblem(422, "two versions like 3..5 are needed", field="diff")
        compared = [] if asked is None else [int(version) for version in asked.groups()]
        history = await authoring.history(tenant, name, texts_of=compared)
        if not history:
            raise unknown_model(name)
        if not compared:
            shown, end = history[offset : offset + limit], offset + limit
            return Json(
                {
                    "model": name,
                    "versions": [_version(each) for each in shown],
                    "next_offset": end if end < len(history) else None,
                }
            )
        old, new = compared
        diff = await asyncio.to_thread(difference, history, name, old, new)
        return Json({"model": name, "from": old, "to": new, "diff": diff})

    @router.get(
        "/{name}/progress",
        summary="How far scoring is with the newest version",
        responses=documented.PROGRESS,
    )
    async def progress(request: Request, name: Name) -> Response:
        tenant, _ = called(request, READ)
        return Json(_progress(name, await authoring.progress(tenant, name), tenant))

    @router.post(
        "/{name}/publish",
        summary="Publish a text",
        openapi_extra=documented.takes(PublishRequest, documented.TEXT),
        responses=documented.PUBLISHED,
    )
    async def publish(request: Request, name: Name) -> Response:
        tenant, caller = called(request, WRITE)
        asked = await _asked(request, PublishRequest)
        if (asked.text is None) != asked.shipped:
            raise RequestProblem(
                422,
                'give a text, or "shipped": true without one for that which comes with Leadstream under this name',
                field="text",
            )
        text = shipped(name) if asked.text is None else asked.text
        by = asked.by or author(caller)
        if asked.effective_from is not None:
            return _drafted(
                caller,
                await authoring.schedule(
                    tenant,
                    name,
                    text,
                    asked.effective_from,
                    by=by,
                    note=asked.note,
                    fire=asked.fire,
                    based_on=asked.based_on,
                ),
            )
        return Json(
            _published(
                await authoring.publish(
                    tenant,
                    name,
                    lambda _: text,
                    by=by,
                    note=asked.note,
                    fire=asked.fire,
                    based_on=asked.based_on,
                )
            )
        )

    @router.post(
        "/{name}/rollback",
        summary="Publish the text of an earlier version again",
        openapi_extra=documented.takes(RolledBack, {"version": 3, "note": "the new weights were too kind"}),
        responses=documented.PUBLISHED,
    )
    async def roll_back(request: Request, name: Name) -> Response:
        tenant, caller = called(request, WRITE)
        asked = await _asked(request, RolledBack)
        by = asked.by or author(caller)
        return Json(
            _published(
                await authoring.roll_back(
                    tenant, name, asked.version, by=by, note=asked.note, fire=asked.fire
                )
            )
        )

    @router.get(
        "/{name}/drafts",
        summary="The 50 newest drafts, newest first, and what is scheduled",
        responses=documented.DRAFTS,
    )
    async def drafts(
        request: Request,
        name: Name,
        before: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="Only drafts older than this one, by its id.")
        ] = None,
    ) -> Response:
        tenant, _ = called(request, READ)
        found = await authoring.drafts(tenant, name, before=before)
        return Json({"drafts": [_draft(each) for each in found]})

    @router.post(
        "/{name}/drafts",
        summary="Write a draft",
        openapi_extra=documented.takes(NewDraft, documented.TEXT),
        responses=documented.WRITTEN,
        status_code=201,
    )
    async def write_draft(request: Request, name: Name) -> Response:
        tenant, caller = called(request, WRITE)
        asked = await _asked(request, NewDraft)
        by = asked.by or author(caller)
        written = await authoring.write_draft(
            tenant,
            name,
            asked.text,
            by=by,
            note=asked.note,
            fire=asked.fire,
            effective_from=asked.effective_from,
            based_on=asked.based_on,
        )
        return Json(_told(written, caller), 201)

    @router.get("/{name}/drafts/{number}", summary="A draft, with its text", responses=documented.DRAFT)
    async def draft(request: Request, name: Name, number: DraftId) -> Response:
        tenant, _ = called(request, READ)
        return Json(_whole(await authoring.draft(tenant, name, number)))

    @router.put(
        "/{name}/drafts/{number}",
        summary="Change a draft",
        openapi_extra=documented.takes(ChangedDraft, {"note": "with the new rule", "based_on": 5}),
        responses=documented.DRAFT,
    )
    async def change_draft(request: Request, name: Name, number: DraftId) -> Response:
        tenant, caller = called(request, WRITE)
        asked = structs.asdict(await _asked(request, ChangedDraft))
        seen = asked.pop("changed_at")
        given = {"by": author(caller)} | {
            field: value for field, value in asked.items() if value is not UNSET
        }
        return Json(_told(await authoring.change_draft(tenant, name, number, seen=seen, **given), caller))

    @router.delete("/{name}/drafts/{number}", summary="Discard a draft", responses=documented.DRAFT)
    async def discard_draft(request: Request, name: Name, number: DraftId) -> Response:
        tenant, caller = called(request, WRITE)
        return Json(_told(await authoring.discard_draft(tenant, name, number), caller, _draft))

    @router.post(
        "/{name}/drafts/{number}/publish",
        summary="Publish a draft, now or when its moment comes",
        openapi_extra=documented.takes(
            PublishDraftRequest, {"note": "as discussed", "effective_from": "2030-02-01T00:00:00Z"}
        ),
        responses=documented.DRAFT,
    )
    async def publish_draft(request: Request, name: Name, number: DraftId) -> Response:
        tenant, caller = called(request, WRITE)
        asked = await _asked(request, PublishDraftRequest)
        return _drafted(
            caller,
            await authoring.publish_draft(
                tenant,
                name,
                number,
                by=asked.by or author(caller),
                note=asked.note,
                fire=asked.fire,
                effective_from=asked.effective_from,
                force=asked.force,
            ),
        )

    return router


def author(caller: Caller) -> str:
    """Who does it, where nobody is named: the token, told apart by its digest."""
    return "open" if caller.key == "open" else f"token {caller.key[:4]}"


def shipped(name: str) -> str:
    found = all_models().get(name)
    if found is None:
        raise RequestProblem(422, f"give a text: no model {name} comes with Leadstream", field="text")
    return found


def outline(text: str) -> dict[str, Any]:
    """What a model says, as data: groups with their rules as they are written, bands, and the rest."""
    document = tomllib.loads(text, parse_float=Decimal)
    groups = [{"name": name, **group} for name, group in document.pop("groups", {}).items()]
    return {**document, "groups": groups}


# Shapes


def _model(told: Version) -> dict[str, Any]:
    return {
        "model": told.model,
        "version": told.version,
        "shared": told.tenant == EVERY_TENANT,
        "retired": told.text is None,
        "about": told.text and _about(told.text),
        "since": told.recorded_at,
        "by": told.by,
        "note": told.note,
    }


def _about(text: str) -> str | None:
    return tomllib.loads(text).get("about")


def _version(told: Version) -> dict[str, Any]:
    return {
        "version": told.version,
        "at": told.recorded_at,
        "by": told.by,
        "note": told.note,
        "change": told.change,
        "fire": told.fire,
        "retired": told.text is None,
        "shared": told.tenant == EVERY_TENANT,
    }


def _published(said: Publication) -> dict[str, Any]:
    return {
        "model": said.model,
        "version": said.version,
        "state": "unchanged" if said.unchanged else "published",
        "by": said.by,
        "note": said.note,
        "change": said.change,
        "published_at": said.at,
    }


_TOLD = tuple(field for field in Draft._fields if field not in {"tenant", "text", "based_on_tenant"})


def _draft(draft: Draft) -> dict[str, Any]:
    told = draft._asdict()
    return {field: told[field] for field in _TOLD}


def _whole(draft: Draft) -> dict[str, Any]:
    return {**_draft(draft), "text": draft.text}


def _told(draft: Draft, caller: Caller, shown: Callable[[Draft], dict[str, Any]] = _whole) -> dict[str, Any]:
    """The answer to a change. Whoever may only write is told that it is done, not what there is."""
    if READ in caller.scopes:
        return shown(draft)
    return {"id": draft.id, "model": draft.model, "state": draft.state, "version": draft.version}


def _drafted(caller: Caller, draft: Draft) -> Json:
    """202: it is for later."""
    return Json(_told(draft, caller, _draft), 200 if draft.version is not None else 202)


def _progress(model: str, progress: SweepProgress, tenant: str) -> dict[str, Any]:
    mine = lead_key(tenant, "")
    return {
        "model": model,
        "version": progress.version,
        "complete": progress.complete,
        "partitions": {"done": progress.done, "of": len(progress.partitions)},
        "leads": None if progress.leads is None else {"visited": progress.visited, "of": progress.leads},
        "by_partition": [
            {
                "partition": each.partition,
                "version": each.version,
                "state": each.state,
                # A sweep of everybody's model passes leads of other tenants.
                "cursor": each.cursor if each.cursor and each.cursor.startswith(mine) else None,
            }
            for each in progress.partitions
        ],
    }


# Requests


async def _asked(request: Request, kind: type[T]) -> T:
    body = await read_body(request, LARGEST_BODY)
    try:
        return json.decode(body or b"{}", type=kind)
    except ValidationError as refusal:
        raise RequestProblem(422, str(refusal), field="body") from None
    except (DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise RequestProblem(400, f"no JSON: {broken}", field="body") from None

"""/api/models: the models that score a tenant's leads, their versions, drafts, and how far a sweep is.

What is published over the API is the tenant's own; what every tenant has is published by the operator
(`leadstream publish`). How publishing goes is in `authoring.authoring`; this module maps it to HTTP.
"""

import asyncio
import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from msgspec import UNSET, DecodeError, Meta, Struct, UnsetType, ValidationError, json, structs
from starlette.responses import Response

from authoring.published_texts import WORKFLOWS
from authoring.revisions import Publication, text_of_version, unknown_model_problem, version_diff
from authoring.sweep_progress import SweepProgress
from gateway.access import READ_SCOPE, Caller
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.leads import NO_NUL
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from projections.authoring import Draft, PublishedVersion
from schemas.control import EVERY_TENANT, LongText
from schemas.control import PublicationVersion as Number
from schemas.envelope import MAX_INTEGER, Moment
from schemas.publications import EXPERIMENT_PREFIX
from schemas.topics import lead_key
from scoring.editing.model_check import changes_between
from scoring.models.model import ModelError, all_models, optional_models

T = TypeVar("T")
LARGEST_BODY_BYTES = 1_300_000
"""A whole text, as JSON escapes it at worst."""

ShortText = Annotated[str, Meta(max_length=512, pattern=NO_NUL)]
OptionalText = Annotated[str | None, Query(max_length=512, pattern=NO_NUL)]
BaseVersion = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
"""A version; 0: there was none."""
ModelNameInPath = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
DraftId = Annotated[int, Path(ge=1, le=2**63 - 1)]
EXAMPLES = example_bodies("models")
PUBLISHED_ANSWER = answer_docs(
    EXAMPLES["published"],
    "On record and in the log; its progress says when every lead is rescored. A text that is the newest already is "
    "not published again: its state is unchanged.",
)
DRAFT_ANSWER = answer_docs(EXAMPLES["draft"], "The draft as it is now.")
WHOLE_DRAFT_ANSWER = answer_docs(EXAMPLES["draft_with_text"], "The draft as it is now, with its text.")
VERSIONS_TO_DIFF = re.compile(r"(\d{1,16})\.\.(\d{1,16})")


class ChangeNote(Struct, forbid_unknown_fields=True, kw_only=True):
    """What every change may say of itself."""

    by: ShortText | None = None
    note: ShortText | None = None


class NewDraft(ChangeNote, kw_only=True):
    text: LongText
    based_on: BaseVersion | None = None
    """The version that the author has changed; None: the newest one."""
    fire: bool = False
    effective_from: Moment | None = None


class ChangedDraft(Struct, forbid_unknown_fields=True, kw_only=True):
    by: ShortText | UnsetType | None = UNSET
    note: ShortText | UnsetType | None = UNSET
    text: LongText | UnsetType = UNSET
    fire: bool | UnsetType = UNSET
    effective_from: Moment | UnsetType | None = UNSET
    based_on: BaseVersion | UnsetType = UNSET
    changed_at: Moment | None = None
    """As the author read it: a draft that somebody has changed since then stays as it is."""


class PublishDraftRequest(ChangeNote, kw_only=True):
    fire: bool | None = None
    effective_from: Moment | None = None
    force: bool = False


class PublishRequest(ChangeNote, kw_only=True):
    text: LongText | None = None
    shipped: bool = False
    """In place of a text: the one that comes with Leadstream under this name."""
    based_on: BaseVersion | None = None
    fire: bool = False
    effective_from: Moment | None = None


class RolledBack(ChangeNote, kw_only=True):
    version: Number
    fire: bool = False


router = APIRouter(prefix="/api/models", tags=["models"])


@router.get(
    "",
    summary="The models in force, and those that may be published",
    responses=answer_docs(
        EXAMPLES["models"],
        "The models that score the tenant's leads, and optional ones that are not in force.",
    ),
)
async def models(request: Request) -> Response:
    tenant = tenant_of(request)
    active = await services_of(request).authoring.active(tenant)
    optional = {name: text for name, text in optional_models().items() if name not in active}

    def content() -> dict[str, Any]:
        return {
            "models": [_model_json(each) for each in active.values()],
            "optional": [{"model": name, "about": _about_of_text(text)} for name, text in optional.items()],
        }

    return JsonAnswer(await asyncio.to_thread(content))


@router.get(
    "/{name}",
    summary="A model: its text, and what it says",
    responses=answer_docs(EXAMPLES["model"], "The newest version: its text, and the text as data."),
)
async def model(request: Request, name: ModelNameInPath) -> Response:
    tenant = tenant_of(request)
    newest = await services_of(request).authoring.newest(tenant, name)
    if newest is None:
        raise unknown_model_problem(name)
    outlined = None if newest.text is None else await asyncio.to_thread(model_outline, newest.text)
    return JsonAnswer({**_model_json(newest), "text": newest.text, "outline": outlined})


@router.delete(
    "/{name}",
    summary="Retire a model: it scores the tenant's leads no more",
    responses=PUBLISHED_ANSWER,
)
async def retire(
    request: Request,
    name: ModelNameInPath,
    by: OptionalText = None,
    note: OptionalText = None,
    force: bool = False,  # noqa: FBT001, FBT002 - a query parameter
) -> Response:
    tenant, caller = authorized_caller(request)
    return JsonAnswer(
        publication_json(
            await services_of(request).authoring.retire(
                tenant, name, by=by or author_of_caller(caller), note=note, force=force
            )
        )
    )


@router.get(
    "/{name}/versions",
    summary="Every version, newest first; or what changed",
    responses=answer_docs(
        EXAMPLES["versions"],
        "Versions, at most `limit` from `offset` on; with diff, what one changed in another (`diff`: unified; `changes`: "
        "by rules).",
        others={"diff": EXAMPLES["diff"]},
    ),
)
async def versions(
    request: Request,
    name: ModelNameInPath,
    diff: Annotated[str | None, Query(description="3..5: what 5 changed in 3.", max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> Response:
    compared = versions_to_compare(diff)
    history = await services_of(request).authoring.history(tenant_of(request), name, texts_of=compared)
    if not history:
        raise unknown_model_problem(name)
    return await answer_of_versions(history, name, compared, limit, offset)


def versions_to_compare(diff: str | None) -> list[int]:
    """[3, 5] of 3..5; empty: none are compared."""
    pair = None if diff is None else VERSIONS_TO_DIFF.fullmatch(diff)
    if diff is not None and pair is None:
        raise RequestProblem(422, "two versions like 3..5 are needed", field="diff")
    return [] if pair is None else [int(version) for version in pair.groups()]


async def answer_of_versions(
    history: list[PublishedVersion], name: str, compared: list[int], limit: int, offset: int
) -> Response:
    if not compared:
        shown, end = history[offset : offset + limit], offset + limit
        return JsonAnswer(
            {
                **named_text(name),
                "versions": [version_json(each) for each in shown],
                "next_offset": end if end < len(history) else None,
            }
        )
    old, new = compared
    texts = [text_of_version(history, name, version) for version in compared]
    diff = await asyncio.to_thread(version_diff, history, name, old, new)
    changes = await asyncio.to_thread(changes_between, *texts)
    return JsonAnswer(
        {
            **named_text(name),
            "from": old,
            "to": new,
            "diff": diff,
            "changes": [
                {
                    **each._asdict(),
                    "fields": [
                        {"field": field, "before": before, "after": after}
                        for field, before, after in each.fields
                    ],
                }
                for each in changes
            ],
        }
    )


@router.get(
    "/{name}/progress",
    summary="How far scoring is with the newest version",
    responses=answer_docs(
        EXAMPLES["progress"],
        "How far each partition of scoring has come; leads are estimated, and null once it is complete.",
    ),
)
async def progress(request: Request, name: ModelNameInPath) -> Response:
    tenant = tenant_of(request)
    return JsonAnswer(
        _progress_json(name, await services_of(request).authoring.progress(tenant, name), tenant)
    )


@router.post(
    "/{name}/publish",
    summary="Publish a text",
    openapi_extra=request_docs(EXAMPLES["text"], body_schema_of(PublishRequest)),
    responses=PUBLISHED_ANSWER
    | answer_docs(EXAMPLES["draft"], "It is for later: the draft of it.", status=202),
)
async def publish(request: Request, name: ModelNameInPath) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, PublishRequest)
    if (body.text is None) != body.shipped:
        raise RequestProblem(
            422,
            'give a text, or "shipped": true without one for that which comes with Leadstream under this name',
            field="text",
        )
    text = built_in_text(name) if body.text is None else body.text
    by = body.by or author_of_caller(caller)
    if body.effective_from is not None:
        return answer_for_later(
            caller,
            await services_of(request).authoring.schedule(
                tenant,
                name,
                text,
                body.effective_from,
                by=by,
                note=body.note,
                fire=body.fire,
                based_on=body.based_on,
            ),
        )
    to_fire = await _workflows_to_fire(services_of(request), tenant, name, text) if body.fire else {}
    published = await services_of(request).authoring.publish(
        tenant,
        name,
        lambda _: text,
        by=by,
        note=body.note,
        fire=body.fire,
        based_on=body.based_on,
    )
    return JsonAnswer({**publication_json(published), **({} if published.unchanged else to_fire)})


async def _workflows_to_fire(services: ApiServices, tenant: str, name: str, text: str) -> dict[str, Any]:
    """What the publication will set off, counted before it; nothing for a text that it will refuse."""
    try:
        async with services.what_if_turns:
            *_, last = await asyncio.to_thread(list, services.ports.fire_on_publication(tenant, name, text))
    except ModelError:
        return {}
    return {"workflows": last["workflows"]} if isinstance(last, Mapping) else {}


@router.post(
    "/{name}/rollback",
    summary="Publish the text of an earlier version again",
    openapi_extra=request_docs(EXAMPLES["rollback"], body_schema_of(RolledBack)),
    responses=PUBLISHED_ANSWER,
)
async def roll_back(request: Request, name: ModelNameInPath) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, RolledBack)
    by = body.by or author_of_caller(caller)
    return JsonAnswer(
        publication_json(
            await services_of(request).authoring.roll_back(
                tenant, name, body.version, by=by, note=body.note, fire=body.fire
            )
        )
    )


@router.get(
    "/{name}/drafts",
    summary="The 50 newest drafts, newest first, and what is scheduled",
    responses=answer_docs(EXAMPLES["drafts"], "Drafts that may still be published."),
)
async def drafts(
    request: Request,
    name: ModelNameInPath,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="Only drafts older than this one, by its id.")
    ] = None,
) -> Response:
    tenant = tenant_of(request)
    open_drafts = await services_of(request).authoring.drafts(tenant, name, before=before)
    return JsonAnswer({"drafts": [draft_json(each) for each in open_drafts]})


@router.post(
    "/{name}/drafts",
    summary="Write a draft",
    openapi_extra=request_docs(EXAMPLES["text"], body_schema_of(NewDraft)),
    responses=answer_docs(EXAMPLES["draft_with_text"], "The draft, with its number.", status=201),
    status_code=201,
)
async def write_draft(request: Request, name: ModelNameInPath) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, NewDraft)
    by = body.by or author_of_caller(caller)
    written = await services_of(request).authoring.write_draft(
        tenant,
        name,
        body.text,
        by=by,
        note=body.note,
        fire=body.fire,
        effective_from=body.effective_from,
        based_on=body.based_on,
    )
    return JsonAnswer(changed_draft_json(written, caller), 201)


@router.get("/{name}/drafts/{number}", summary="A draft, with its text", responses=WHOLE_DRAFT_ANSWER)
async def draft(request: Request, name: ModelNameInPath, number: DraftId) -> Response:
    tenant = tenant_of(request)
    return JsonAnswer(draft_json_with_text(await services_of(request).authoring.draft(tenant, name, number)))


@router.put(
    "/{name}/drafts/{number}",
    summary="Change a draft",
    openapi_extra=request_docs(EXAMPLES["change_draft"], body_schema_of(ChangedDraft)),
    responses=WHOLE_DRAFT_ANSWER,
)
async def change_draft(request: Request, name: ModelNameInPath, number: DraftId) -> Response:
    tenant, caller = authorized_caller(request)
    body = structs.asdict(await decoded_body(request, ChangedDraft))
    seen = body.pop("changed_at")
    changes = {"by": author_of_caller(caller)} | {
        field: value for field, value in body.items() if value is not UNSET
    }
    return JsonAnswer(
        changed_draft_json(
            await services_of(request).authoring.change_draft(tenant, name, number, seen=seen, **changes),
            caller,
        )
    )


@router.delete("/{name}/drafts/{number}", summary="Discard a draft", responses=DRAFT_ANSWER)
async def discard_draft(request: Request, name: ModelNameInPath, number: DraftId) -> Response:
    tenant, caller = authorized_caller(request)
    return JsonAnswer(
        changed_draft_json(
            await services_of(request).authoring.discard_draft(tenant, name, number), caller, draft_json
        )
    )


@router.post(
    "/{name}/drafts/{number}/publish",
    summary="Publish a draft, now or when its moment comes",
    openapi_extra=request_docs(EXAMPLES["publish_draft"], body_schema_of(PublishDraftRequest)),
    responses=DRAFT_ANSWER | {202: {"description": "It is for later."}},
)
async def publish_draft(request: Request, name: ModelNameInPath, number: DraftId) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, PublishDraftRequest)
    return answer_for_later(
        caller,
        await services_of(request).authoring.publish_draft(
            tenant,
            name,
            number,
            by=body.by or author_of_caller(caller),
            note=body.note,
            fire=body.fire,
            effective_from=body.effective_from,
            force=body.force,
        ),
    )


def author_of_caller(caller: Caller) -> str:
    """The author when none is named: the token, identified by its digest."""
    return "open" if caller.key == "open" else f"token {caller.key[:4]}"


def built_in_text(name: str) -> str:
    text = all_models().get(name)
    if text is None:
        raise RequestProblem(422, f"give a text: no model {name} comes with Leadstream", field="text")
    return text


def model_outline(text: str) -> dict[str, Any]:
    """What a model says, as data: groups with their rules as they are written, bands, and the rest."""
    document = tomllib.loads(text, parse_float=Decimal)
    groups = [{"name": name, **group} for name, group in document.pop("groups", {}).items()]
    return {**document, "groups": groups}


# Shapes


def _model_json(version: PublishedVersion) -> dict[str, Any]:
    return {
        "model": version.model,
        "version": version.version,
        "shared": version.tenant == EVERY_TENANT,
        "retired": version.text is None,
        "about": version.text and _about_of_text(version.text),
        "since": version.recorded_at,
        "by": version.by,
        "note": version.note,
        "folding": version.folding,
    }


def _about_of_text(text: str) -> str | None:
    return tomllib.loads(text).get("about")


def version_json(version: PublishedVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "at": version.recorded_at,
        "by": version.by,
        "note": version.note,
        "change": version.change,
        "fire": version.fire,
        "retired": version.text is None,
        "shared": version.tenant == EVERY_TENANT,
        "folding": version.folding,
    }


def named_text(name: str) -> dict[str, Any]:
    """What an answer says of the text that it is about: the name of the model or experiment, or nothing, for workflows."""
    if name.startswith(EXPERIMENT_PREFIX):
        return {"experiment": name.removeprefix(EXPERIMENT_PREFIX)}
    return {} if name == WORKFLOWS else {"model": name}


def publication_json(publication: Publication) -> dict[str, Any]:
    return {
        **named_text(publication.model),
        "version": publication.version,
        "state": "unchanged" if publication.unchanged else "published",
        "by": publication.by,
        "note": publication.note,
        "change": publication.change,
        "published_at": publication.at,
    }


_SHOWN_DRAFT_FIELDS = tuple(
    field for field in Draft._fields if field not in {"tenant", "model", "text", "based_on_tenant"}
)


def draft_json(draft: Draft) -> dict[str, Any]:
    columns = draft._asdict()
    shown = {field: columns[field] for field in _SHOWN_DRAFT_FIELDS}
    return shown | named_text(draft.model)


def draft_json_with_text(draft: Draft) -> dict[str, Any]:
    return {**draft_json(draft), "text": draft.text}


def changed_draft_json(
    draft: Draft, caller: Caller, shown: Callable[[Draft], dict[str, Any]] = draft_json_with_text
) -> dict[str, Any]:
    """The answer to a change. A token that may only write learns that it is done, not what there is."""
    if READ_SCOPE in caller.scopes:
        return shown(draft)
    return {"id": draft.id, **named_text(draft.model), "state": draft.state, "version": draft.version}


def answer_for_later(caller: Caller, draft: Draft) -> JsonAnswer:
    """202: it is for later."""
    return JsonAnswer(
        changed_draft_json(draft, caller, draft_json), 200 if draft.version is not None else 202
    )


def _progress_json(model: str, progress: SweepProgress, tenant: str) -> dict[str, Any]:
    mine = lead_key(tenant, "")
    return {
        "model": model,
        "version": progress.version,
        "complete": progress.complete,
        "partitions": {"done": progress.partitions_done, "of": len(progress.partitions)},
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


async def decoded_body(request: Request, kind: type[T]) -> T:
    content = await read_body(request, LARGEST_BODY_BYTES)
    try:
        return json.decode(content or b"{}", type=kind)
    except ValidationError as refusal:
        raise RequestProblem(422, str(refusal), field="body") from None
    except (DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise RequestProblem(400, f"no JSON: {broken}", field="body") from None

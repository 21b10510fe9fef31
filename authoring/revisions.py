"""Versions of models and drafts of them, compared: what may be published on top of what. Pure.

Refusals are Problems, in the words that the API and the command line say.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import unified_diff
from itertools import takewhile
from typing import Any, NamedTuple

from msgspec import ValidationError, convert

from gateway.answers import RequestProblem
from projections.authoring import DRAFT, SCHEDULED, Draft, Version
from schemas.control import EVERY_TENANT, ModelPublished, ModelRetired
from schemas.envelope import Line
from schemas.moment import millis, moment
from scoring.models.model import ModelError, compile_model

OPEN = (DRAFT, SCHEDULED)
"""A draft's states in which it may still be changed and published."""

COMPARED = 2_000
"""Lines of a text that are compared one by one with those of another."""
CONTEXT = 3
"""Lines before and after a change that a diff shows."""

NewestVersions = Mapping[tuple[str, str], Version]
"""(tenant, model) -> its newest publication."""


class Overtaken(RequestProblem):
    """Somebody has published since the version that this was based on."""

    def __init__(self, model: str, based_on: int | None, newest: int) -> None:
        super().__init__(
            409,
            f"this is based on version {based_on}, and version {newest} is the newest: see what changed at "
            f"/api/models/{model}/versions?diff={based_on}..{newest}, bring it into the text and send that with "
            f"based_on {newest}, or publish with force to replace it",
            field="based_on",
        )
        self.model, self.based_on, self.newest = model, based_on, newest


class ScheduledAlready(RequestProblem):
    """Of two publications that wait for their moments the later one would undo the other."""

    def __init__(self, other: Draft) -> None:
        moment = None if other.effective_from is None else other.effective_from.isoformat()
        super().__init__(
            409,
            f"draft {other.id} of {other.model} is scheduled already, for {moment}: discard it at "
            f"/api/models/{other.model}/drafts/{other.id}, or publish this draft with force",
            field="effective_from",
        )
        self.other = other


class Publication(NamedTuple):
    tenant: str
    model: str
    version: int
    text: str
    """Empty: the model was retired."""
    by: str | None
    note: str | None
    change: str | None
    at: datetime
    unchanged: bool = False
    """This text was the newest already, and was not published again."""


def checked(model: str, text: str) -> str:
    """The text, if it is a model of this name without a mistake; else Problem 422."""
    try:
        named = compile_model(text).name
    except ModelError as refusal:
        raise RequestProblem(422, str(refusal), field="text") from refusal
    if named != model:
        raise RequestProblem(422, f"the text is of the model {named!r}, not of {model!r}", field="text")
    return text


def storable(columns: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of drafts is to hold, if the log takes its words, too; else Problem 422. A moment that no
    calendar has is the nearest one that it has: the database would take it, and never give it back.
    """
    for field in ("by", "note", "change"):
        try:
            convert(columns.get(field), Line | None)
        except ValidationError as refusal:
            raise RequestProblem(422, f"{field}: {refusal}", field=field) from None
    at = columns.get("effective_from")
    return {**columns} if at is None else {**columns, "effective_from": moment(millis(at))}


def text_of(history: list[Version], model: str, version: int) -> str:
    """The text of a version; Problem 404 if there is none."""
    found = next((each for each in history if each.version == version), None)
    if found is None:
        known = ", ".join(str(each.version) for each in history[:20]) or "none"
        raise RequestProblem(
            404, f"there is no version {version} of {model}; there are: {known}", field="version"
        )
    if found.text is None:
        raise RequestProblem(
            404, f"version {version} of {model} is its retirement and has no text", field="version"
        )
    return found.text


def difference(history: list[Version], model: str, old: int, new: int) -> str:
    """What the newer text changed in the older, as a unified diff."""
    before, after = (text_of(history, model, version).splitlines(keepends=True) for version in (old, new))
    return "".join(unified(before, after, f"{model} version {old}", f"{model} version {new}"))


def unified(before: list[str], after: list[str], old: str, new: str) -> Iterable[str]:
    """The unified diff of two texts' lines. In long ones, for which difflib may take hours, all that lies
    between the first and the last change is shown as replaced.
    """
    if max(len(before), len(after)) <= COMPARED:
        return unified_diff(before, after, old, new)
    if before == after:
        return []
    head = _alike(before, after)
    tail = min(_alike(before[::-1], after[::-1]), len(before) - head, len(after) - head)
    changed = len(before) - head - tail, len(after) - head - tail
    first = max(0, head - CONTEXT)
    last = before[len(before) - tail :][:CONTEXT]
    context = head - first, len(last)
    return [
        f"--- {old}\n",
        f"+++ {new}\n",
        f"@@ -{first + 1},{changed[0] + sum(context)} +{first + 1},{changed[1] + sum(context)} @@\n",
        *(f" {line}" for line in before[first:head]),
        *(f"-{line}" for line in before[head : len(before) - tail]),
        *(f"+{line}" for line in after[head : len(after) - tail]),
        *(f" {line}" for line in last),
    ]


def _alike(before: list[str], after: list[str]) -> int:
    """How many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))


def outdated(draft: Draft, newest: Version | None) -> bool:
    """Whether somebody has published since the draft was begun."""
    if draft.based_on is None:
        return False
    return (draft.based_on_tenant, draft.based_on) != _place(newest, draft.tenant)


def unknown_model(model: str) -> RequestProblem:
    return RequestProblem(
        404, f"no model {model} is in force: /api/models lists those that are", field="model"
    )


def unpublishable(draft: Draft, newest: Version | None) -> str | None:
    if outdated(draft, newest):
        return conflict(draft.model, draft.based_on, newest).reason
    try:
        checked(draft.model, draft.text or "")
    except RequestProblem as refusal:
        return refusal.reason
    return None


def conflict(model: str, based_on: int | None, newest: Version | None) -> Overtaken:
    return Overtaken(model, based_on, newest.version if newest else 0)


def draft_numbered(draft: Draft | None, model: str, number: int) -> Draft:
    if draft is None:
        raise RequestProblem(404, f"there is no draft {number} of {model}", field="id")
    return draft


def open_draft(draft: Draft | None, model: str, number: int) -> Draft:
    draft = draft_numbered(draft, model, number)
    if draft.state not in OPEN:
        raise RequestProblem(409, f"draft {number} of {model} is {draft.state} already", field="id")
    return draft


def changed_meanwhile(draft: Draft) -> RequestProblem:
    return RequestProblem(
        409,
        f"draft {draft.id} of {draft.model} was changed at {draft.changed_at.isoformat()} by {draft.by}: read it "
        "again, bring your change into it, and send that",
        field="changed_at",
    )


def newest_of(known: NewestVersions, tenant: str, model: str) -> Version | None:
    return known.get((tenant, model)) or known.get((EVERY_TENANT, model))


def basis_of(newest: Version | None, tenant: str, model: str, claimed: int | None) -> dict[str, Any]:
    """The newest version, which the author means, too, if they say which."""
    check_basis(newest, model, claimed)
    whose, version = _place(newest, tenant)
    return {"based_on": version, "based_on_tenant": whose}


def check_basis(newest: Version | None, model: str, claimed: int | None) -> None:
    if claimed is not None and claimed != (newest.version if newest else 0):
        raise conflict(model, claimed, newest)


def _place(newest: Version | None, tenant: str) -> tuple[str, int]:
    """0: there is no version yet."""
    return (tenant, 0) if newest is None else (newest.tenant, newest.version)


def publication_of(claimed: Draft) -> Publication:
    if claimed.version is None or claimed.published_at is None:
        raise ValueError(f"draft {claimed.id} has no version")
    return Publication(
        claimed.tenant,
        claimed.model,
        claimed.version,
        claimed.text or "",
        claimed.by,
        claimed.note,
        claimed.change,
        claimed.published_at,
    )


def unchanged(newest: Version | None, tenant: str, text: str) -> Publication | None:
    """The newest publication, if it is of this text, and the tenant's own. What nobody published, the text that
    a log begins with, may be published once more: then it is somebody's.
    """
    if newest is None or (newest.tenant, newest.text) != (tenant, text):
        return None
    if newest.by is None or newest.recorded_at is None:
        return None
    return Publication(
        tenant,
        newest.model,
        newest.version,
        text,
        newest.by,
        newest.note,
        newest.change,
        newest.recorded_at,
        unchanged=True,
    )


def record_of(said: Publication, *, fire: bool) -> ModelPublished | ModelRetired:
    if not said.text:
        return ModelRetired(
            tenant=said.tenant,
            recorded_at=said.at,
            model=said.model,
            version=said.version,
            by=said.by,
            note=said.note,
        )
    return ModelPublished(
        tenant=said.tenant,
        recorded_at=said.at,
        model=said.model,
        version=said.version,
        text=said.text,
        fire=fire,
        by=said.by,
        note=said.note,
        change=said.change,
    )

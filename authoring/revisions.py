"""Which text may be published on top of which version: versions and drafts compared. Pure.

Every refusal is a Problem; its reason is what the API and the command line print.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import unified_diff
from itertools import takewhile
from typing import Any, NamedTuple

from msgspec import ValidationError, convert

from authoring.problem import Conflict, Invalid, NotFound, Problem
from authoring.published_texts import WORKFLOWS, address_of, finished_text, title_of
from projections.authoring import STATE_DRAFT, STATE_SCHEDULED, Draft, PublishedVersion
from schemas.control import (
    EVERY_TENANT,
    ExperimentPublished,
    ModelPublished,
    ModelRetired,
    WorkflowsPublished,
)
from schemas.envelope import Line
from schemas.moment import millis, moment
from schemas.publications import EXPERIMENT_PREFIX
from scoring.features.comparison import NEWEST_COMPARISON

OPEN_DRAFT_STATES = (STATE_DRAFT, STATE_SCHEDULED)
"""A draft's states in which it may still be changed and published."""

MOST_LINES_COMPARED = 2_000
"""Lines of a text that are compared one by one with those of another."""
DIFF_CONTEXT_LINES = 3
"""Lines before and after a change that a diff shows."""

NewestVersions = Mapping[tuple[str, str], PublishedVersion]
"""(tenant, model) -> its newest publication."""


class OutdatedBasis(Conflict):
    """Somebody has published since the version that this was based on."""

    def __init__(self, model: str, based_on: int | None, newest: int) -> None:
        super().__init__(
            f"this is based on version {based_on}, and version {newest} is the newest: see what changed at "
            f"{address_of(model)}/versions?diff={based_on}..{newest}, bring it into the text and send that with "
            f"based_on {newest}, or publish with force to replace it",
            field="based_on",
        )
        self.model, self.based_on, self.newest = model, based_on, newest


class OtherDraftScheduled(Conflict):
    """Another draft is scheduled: of two scheduled drafts the later one would undo the first."""

    def __init__(self, other: Draft) -> None:
        moment = None if other.effective_from is None else other.effective_from.isoformat()
        super().__init__(
            f"draft {other.id} of {title_of(other.model)} is scheduled already, for {moment}: discard it at "
            f"{address_of(other.model)}/drafts/{other.id}, or publish this draft with force",
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
    folding: int = 1
    """How its rules compare texts."""


def checked_draft_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a draft, checked as the log checks its texts. Raises Invalid. A moment outside the calendar
    becomes the nearest one inside: the database would store it, and fail to read it.
    """
    for field in ("by", "note", "change"):
        try:
            convert(columns.get(field), Line | None)
        except ValidationError as refusal:
            raise Invalid(f"{field}: {refusal}", field=field) from None
    at = columns.get("effective_from")
    return {**columns} if at is None else {**columns, "effective_from": moment(millis(at))}


def text_of_version(history: list[PublishedVersion], model: str, version: int) -> str:
    """The text of a version; raises NotFound if there is none."""
    chosen = next((each for each in history if each.version == version), None)
    if chosen is None:
        numbers = ", ".join(str(each.version) for each in history[:20]) or "none"
        raise NotFound(
            f"there is no version {version} of {title_of(model)}; there are: {numbers}", field="version"
        )
    if chosen.text is None:
        raise NotFound(f"version {version} of {model} is its retirement and has no text", field="version")
    return chosen.text


def version_diff(history: list[PublishedVersion], model: str, old: int, new: int) -> str:
    """What the newer text changed in the older, as a unified diff. Its first two lines name each version, when it was
    published, by whom and why.
    """
    before, after = (
        text_of_version(history, model, version).splitlines(keepends=True) for version in (old, new)
    )
    versions = {each.version: each for each in history}
    return "".join(
        unified_diff_of_lines(before, after, version_headline(versions[old]), version_headline(versions[new]))
    )


def version_headline(version: PublishedVersion) -> str:
    """`rules version 2, 2030-01-31 12:00:00Z, by ada: demos count more`, on one line."""
    at = "" if version.recorded_at is None else f", {version.recorded_at:%Y-%m-%d %H:%M:%S}Z"
    by, reason = author_of_version(version), reason_of_version(version)
    headline = f"{title_of(version.model)} version {version.version}{at}{f', by {by}' if by else ''}{f': {reason}' if reason else ''}"
    return " ".join(headline.split())


def author_of_version(version: PublishedVersion) -> str | None:
    """Leadstream itself has published the models that a log begins with."""
    return "Leadstream" if _is_genesis(version) else version.by


def reason_of_version(version: PublishedVersion) -> str | None:
    """The author's note, else what was changed."""
    return "built in" if _is_genesis(version) else version.note or version.change


def _is_genesis(version: PublishedVersion) -> bool:
    return version.version == 1 and version.by is None and version.tenant == EVERY_TENANT


def unified_diff_of_lines(before: list[str], after: list[str], old: str, new: str) -> Iterable[str]:
    """The unified diff of two texts' lines. In long ones, for which difflib may take hours, all that lies
    between the first and the last change is shown as replaced.
    """
    if max(len(before), len(after)) <= MOST_LINES_COMPARED:
        return unified_diff(before, after, old, new)
    if before == after:
        return []
    head = _shared_beginning(before, after)
    tail = min(_shared_beginning(before[::-1], after[::-1]), len(before) - head, len(after) - head)
    changed = len(before) - head - tail, len(after) - head - tail
    first = max(0, head - DIFF_CONTEXT_LINES)
    last = before[len(before) - tail :][:DIFF_CONTEXT_LINES]
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


def _shared_beginning(before: list[str], after: list[str]) -> int:
    """How many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))


def is_outdated(draft: Draft, newest: PublishedVersion | None) -> bool:
    """Whether somebody has published since the draft was begun."""
    if draft.based_on is None:
        return False
    return (draft.based_on_tenant, draft.based_on) != _tenant_and_version(newest, draft.tenant)


def unknown_model_problem(model: str) -> NotFound:
    if model == WORKFLOWS:
        return NotFound("no workflows are published yet: publish some at /api/workflows/publish")
    return NotFound(f"no model {model} is active: /api/models lists the active ones", field="model")


def unpublishable_reason(draft: Draft, newest: PublishedVersion | None, now: datetime) -> str | None:
    if is_outdated(draft, newest):
        return outdated_basis(draft.model, draft.based_on, newest).reason
    try:
        finished_text(draft.model, draft.text or "", newest and newest.text, now)
    except Problem as refusal:
        return refusal.reason
    return None


def outdated_basis(model: str, based_on: int | None, newest: PublishedVersion | None) -> OutdatedBasis:
    return OutdatedBasis(model, based_on, newest.version if newest else 0)


def draft_numbered(draft: Draft | None, model: str, number: int) -> Draft:
    if draft is None:
        raise NotFound(f"there is no draft {number} of {title_of(model)}", field="id")
    return draft


def open_draft(draft: Draft | None, model: str, number: int) -> Draft:
    draft = draft_numbered(draft, model, number)
    if draft.state not in OPEN_DRAFT_STATES:
        raise Conflict(f"draft {number} of {title_of(model)} is {draft.state} already", field="id")
    return draft


def changed_meanwhile_conflict(draft: Draft) -> Conflict:
    return Conflict(
        f"draft {draft.id} of {title_of(draft.model)} was changed at {draft.changed_at.isoformat()} by {draft.by}: read it "
        "again, bring your change into it, and send that",
        field="changed_at",
    )


def newest_for_tenant(newest_versions: NewestVersions, tenant: str, model: str) -> PublishedVersion | None:
    return newest_versions.get((tenant, model)) or newest_versions.get((EVERY_TENANT, model))


def draft_basis(
    newest: PublishedVersion | None, tenant: str, model: str, claimed: int | None
) -> dict[str, Any]:
    """The newest version, which the author means, too, if they say which."""
    check_basis(newest, model, claimed)
    owner, version = _tenant_and_version(newest, tenant)
    return {"based_on": version, "based_on_tenant": owner}


def check_basis(newest: PublishedVersion | None, model: str, claimed: int | None) -> None:
    if claimed is not None and claimed != (newest.version if newest else 0):
        raise outdated_basis(model, claimed, newest)


def _tenant_and_version(newest: PublishedVersion | None, tenant: str) -> tuple[str, int]:
    """0: there is no version yet."""
    return (tenant, 0) if newest is None else (newest.tenant, newest.version)


def publication_of_draft(claimed: Draft) -> Publication:
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
        folding=claimed.folding or 1,
    )


def newest_if_unchanged(newest: PublishedVersion | None, tenant: str, text: str) -> Publication | None:
    """The newest publication, if it has this text, is the tenant's own and compares texts as a new one would. The text
    that a log begins with has no author; publishing it again gives it one.
    """
    if newest is None or (newest.tenant, newest.text, newest.folding) != (
        tenant,
        text,
        NEWEST_COMPARISON.folding,
    ):
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
        folding=newest.folding,
    )


def control_record_of(
    publication: Publication, *, fire: bool
) -> ModelPublished | ModelRetired | WorkflowsPublished | ExperimentPublished:
    if publication.model.startswith(EXPERIMENT_PREFIX):
        return ExperimentPublished(
            tenant=publication.tenant,
            recorded_at=publication.at,
            experiment=publication.model.removeprefix(EXPERIMENT_PREFIX),
            version=publication.version,
            text=publication.text,
            by=publication.by,
            note=publication.note,
            change=publication.change,
        )
    if publication.model == WORKFLOWS:
        return WorkflowsPublished(
            tenant=publication.tenant,
            recorded_at=publication.at,
            version=publication.version,
            text=publication.text,
            by=publication.by,
            note=publication.note,
            change=publication.change,
            folding=publication.folding,
        )
    if not publication.text:
        return ModelRetired(
            tenant=publication.tenant,
            recorded_at=publication.at,
            model=publication.model,
            version=publication.version,
            by=publication.by,
            note=publication.note,
        )
    return ModelPublished(
        tenant=publication.tenant,
        recorded_at=publication.at,
        model=publication.model,
        version=publication.version,
        text=publication.text,
        fire=fire,
        by=publication.by,
        note=publication.note,
        change=publication.change,
        folding=publication.folding,
    )

"""Models, told: which score whose leads, what is scheduled, every version and what changed in it.

Publishes nothing. Texts go to standard output as they are, so that one can be edited and published again.
"""

from collections.abc import Sequence
from datetime import datetime

from authoring.revisions import difference, text_of, unknown_model
from leadstream.console import Failure, print_records, print_status, print_text
from leadstream.operations.publishing import done, reading, refusals
from projections.authoring import SCHEDULED, Draft, Version
from schemas.control import EVERY_TENANT
from scoring.models.model import optional_models


def print_models(database_url: str, tenant: str | None) -> None:
    """In force for one tenant, or whatever anybody has; what is scheduled; what may be published by name."""
    authoring = reading(database_url)
    found = done(authoring.everywhere()) if tenant is None else list(done(authoring.active(tenant)).values())
    in_force = [each for each in found if each.text is not None]
    _tell(
        ("Model", "Version", "For", "Since", "By", "Note"),
        [
            (each.model, each.version, each.tenant, _moment(each.recorded_at), each.by, each.note)
            for each in sorted(in_force, key=lambda each: (each.model, each.tenant))
        ],
    )
    for draft in done(authoring.coming(tenant)):
        print_status(f"{draft.model} for {draft.tenant}, draft {draft.id}: {_coming(draft)}")
    for name in sorted(optional_models().keys() - {each.model for each in in_force}):
        print_status(f"{name} may be published, too: leadstream publish {name}")


def print_own_models(database_url: str, model: str) -> None:
    """Whom a publication for everybody does not concern."""
    for each in done(reading(database_url).everywhere()):
        if each.model == model and each.tenant != EVERY_TENANT:
            what = "has retired it" if each.text is None else f"has its own, version {each.version}"
            print_status(f"{each.tenant} {what}, which this does not change.")


def print_versions(database_url: str, tenant: str, model: str) -> None:
    """Newest first."""
    _tell(
        ("Version", "For", "At", "By", "Change", "Note"),
        [
            (each.version, each.tenant, _moment(each.recorded_at), each.by, each.change, each.note)
            for each in _history(database_url, tenant, model)
        ],
    )


def show_text(database_url: str, tenant: str, model: str, version: int | None) -> None:
    """Of one version, or of the newest; and what the next publication is based on."""
    newest = _history(database_url, tenant, model)[0].version
    shown = newest if version is None else version
    with refusals():
        print_text(text_of(_history(database_url, tenant, model, shown), model, shown))
    whose = "" if tenant == EVERY_TENANT else f" --tenant {tenant}"
    print_status(
        f"This is version {shown} of {model}{'' if shown == newest else f', the newest is {newest}'}. To publish it "
        f"changed: leadstream publish FILE{whose} --based-on {newest}"
    )


def show_difference(database_url: str, tenant: str, model: str, old: int, new: int) -> None:
    with refusals():
        print_text(difference(_history(database_url, tenant, model, old, new), model, old, new))


def print_drafts(database_url: str, tenant: str | None) -> None:
    """What is scheduled, and what was and could not be published."""
    _tell(
        ("Draft", "Model", "For", "By", "Note", "What becomes of it"),
        [
            (each.id, each.model, each.tenant, each.by, each.note, _coming(each))
            for each in done(reading(database_url).coming(tenant))
        ],
    )


def discard(database_url: str, number: int) -> Draft:
    """One that `print_drafts` lists. Raises Failure."""
    authoring = reading(database_url)
    found = next((each for each in done(authoring.coming(None)) if each.id == number), None)
    if found is None:
        raise Failure(f"No scheduled draft has the number {number}: `leadstream models drafts` lists them.")
    return done(authoring.discard_draft(found.tenant, found.model, number))


def _history(database_url: str, tenant: str, model: str, *texts_of: int) -> list[Version]:
    history = done(reading(database_url).history(tenant, model, texts_of=texts_of))
    with refusals():
        if not history:
            raise unknown_model(model)
    return history


def _coming(draft: Draft) -> str:
    if draft.state == SCHEDULED:
        return f"takes effect at {_moment(draft.effective_from)}"
    return f"was not published at {_moment(draft.effective_from)}: {draft.problem}"


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _tell(names: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    print_records(names, [["" if each is None else str(each) for each in line] for line in lines])

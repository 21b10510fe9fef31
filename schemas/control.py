"""Records that are no events of a producer, yet change results, and so travel in the log.

`events` carries these as JSON beside the events (their `type` never collides with an event's);
`lead-activity` carries those it needs in its own encoding (see `activity`).
"""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.envelope import MAX_INTEGER, Line, Moment
from schemas.events import Stage

EVERY_TENANT = "*"
"""Published for every tenant that has nothing of its own under that name."""

PublishedFor = Annotated[
    str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,31})$(?!\n)", description="a tenant, or * for every tenant")
]
WholeText = Annotated[str, Meta(max_length=200_000)]
Version = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
"""Of a publication: unique under its name, and the highest wins."""
Identity = Annotated[
    str,
    Meta(
        max_length=512,
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}/[vl]/.+#[0-9]{1,3}$(?!\n)",
        description="the key of a visitor or lead, and the number of the person behind it",
    ),
]
LeadId = Annotated[str, Meta(max_length=512)]
"""Also an anonymous lead's, which is longer than what a producer may send."""


class Control(Struct, kw_only=True, omit_defaults=True, tag_field="type", frozen=True):
    tenant: PublishedFor
    recorded_at: Moment


class ModelPublished(Control, tag="model_published", frozen=True, kw_only=True):
    """A scoring model takes effect here, in every partition: the whole text, nothing by reference.

    A shard ignores a `version` that is not above its own. `fire`: whether crossings found by the sweep act.
    """

    model: Line
    version: Version
    text: WholeText
    fire: bool = False
    by: Line | None = None
    """Who published it."""
    note: Line | None = None
    """Why, in their words."""
    change: Line | None = None
    """What they did, where that was less than a whole text: rule_created 5."""


class ModelRetired(Control, tag="model_retired", frozen=True, kw_only=True):
    """The model scores the tenant's leads no more, from here on; retired under its next version."""

    model: Line
    version: Version
    by: Line | None = None
    note: Line | None = None


class SettingsPublished(Control, tag="settings_published", frozen=True, kw_only=True):
    """The tenant's settings that a fold reads, whole."""

    version: Version
    time_zone: Line = "UTC"
    idle_minutes: Annotated[int, Meta(ge=1, le=240)] = 30
    lifecycle: WholeText = ""
    """How leads move from stage to stage; without a text, as the lifecycle that comes with Leadstream."""
    by: Line | None = None


class Derived(Struct, kw_only=True, omit_defaults=True, tag_field="type", frozen=True):
    """Written by stage 2 into `events`, back to the visitor that owns the identity.

    Never archived and skipped when `events` is folded anew.
    """

    tenant: Line
    recorded_at: Moment
    identity: Identity
    epoch: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


class Carried(Struct, array_like=True, frozen=True):
    """What a redirected lead hands on with an identity: its stage, and when that was entered."""

    stage: Stage
    entered_at: Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class Reassigned(Derived, tag="reassigned", frozen=True, kw_only=True):
    """The identity shall move: on to `to`, or, when `to` is null, back to its home to walk anew.

    `path` are the redirected leads walked so far; `final` settles a cycle of redirects.
    """

    holder: LeadId
    to: LeadId | None = None
    path: list[LeadId] = []
    final: bool = False
    carried: Carried | None = None


class Refused(Derived, tag="refused", frozen=True, kw_only=True):
    """The lead is full: the identity parks in an anonymous lead of its own."""


CONTROL_TYPES: tuple[type[Control], ...] = (ModelPublished, ModelRetired, SettingsPublished)
DERIVED_TYPES: tuple[type[Derived], ...] = (Reassigned, Refused)

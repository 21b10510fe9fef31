"""Records that no producer sends but that change results, so they must be in the log, too.

`events` carries these as JSON beside the events (their `type` never collides with an event's);
`lead-activity` carries those it needs in its own encoding (see `activity`).
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.envelope import MAX_INTEGER, EventId, FieldName, Line, Moment, Tenant
from schemas.events import Stage

EVERY_TENANT = "*"
"""A publication for this tenant applies to every tenant that has no publication of its own under the same name."""

TenantOrEveryTenant = Annotated[
    str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,31})$(?!\n)", description="a tenant, or * for every tenant")
]
LongText = Annotated[str, Meta(max_length=200_000)]
PublicationVersion = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
"""The version of a publication: unique under its name; the highest wins."""
FoldingVersion = Annotated[
    int,
    Meta(
        ge=1, le=MAX_INTEGER, description="a version of how texts are compared; a publication keeps its own"
    ),
]
Identity = Annotated[
    str,
    Meta(
        max_length=512,
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}/[vl]/.+#[0-9]{1,3}$(?!\n)",
        description="the key of a visitor or lead, and the number of the person behind it",
    ),
]
LeadId = Annotated[str, Meta(max_length=512)]
"""Longer than what a producer may send, since an anonymous lead's id is longer."""


FieldType = Literal["text", "number", "flag", "list", "money", "date"]
"""The type of a profile field: how its values are read, and which of them are blank."""


class Control(Struct, kw_only=True, omit_defaults=True, tag_field="type", frozen=True):
    tenant: TenantOrEveryTenant
    recorded_at: Moment


class ModelPublished(Control, tag="model_published", frozen=True, kw_only=True):
    """From this record on, the model is active. Every partition gets the record, with the model's whole text.

    A shard ignores a `version` that is not above its own. `fire`: whether thresholds crossed by the sweep fire.
    """

    model: Line
    version: PublicationVersion
    text: LongText
    fire: bool = False
    by: Line | None = None
    """The person who published it."""
    note: Line | None = None
    """The reason that the publisher gave."""
    change: Line | None = None
    """The change, if it was smaller than a whole text: rule_created 5."""
    folding: FoldingVersion = 1
    """How the model compares texts."""


class ModelRetired(Control, tag="model_retired", frozen=True, kw_only=True):
    """From here on the model no longer scores the tenant's leads. It is retired under its next version."""

    model: Line
    version: PublicationVersion
    by: Line | None = None
    note: Line | None = None


class SettingsPublished(Control, tag="settings_published", frozen=True, kw_only=True):
    """All settings of the tenant that results depend on."""

    version: PublicationVersion
    time_zone: Line = "UTC"
    idle_minutes: Annotated[int, Meta(ge=1, le=240)] = 30
    lifecycle: LongText = ""
    """How leads move from stage to stage; empty: the lifecycle that comes with Leadstream."""
    by: Line | None = None
    profile_fields: dict[FieldName, FieldType] = {}
    """The types of the tenant's own profile fields, for the events that follow."""
    attribution: LongText = ""
    """What earns credit for conversions, which no fold reads; empty: the text that comes with Leadstream."""
    consent_required_since: Moment | None = None
    """Web events of visitors that are recorded from then on need `tracking_consent`; null: they need none."""
    unique_fields: list[FieldName] = []
    """Profile fields of which a person has one value: two leads with different ones are never made one. No fold reads it."""


class WorkflowsPublished(Control, tag="workflows_published", frozen=True, kw_only=True):
    """From this record on, these are the tenant's workflows: the whole text. It fires nothing by itself.

    A shard ignores a `version` that is not above its own. An empty text means that the tenant has none.
    """

    tenant: Tenant
    version: PublicationVersion
    text: LongText
    by: Line | None = None
    note: Line | None = None
    change: Line | None = None
    """The change, if it was smaller than a whole text: workflow_created 5."""
    folding: FoldingVersion = 1
    """How its conditions compare texts."""


class ExperimentPublished(Control, tag="experiment_published", frozen=True, kw_only=True):
    """From this record on, the experiment of this name has this text. No fold reads it: a variant is a hash of the visitor.
    The read models keep every version, the highest is active.
    """

    tenant: Tenant
    experiment: Line
    version: PublicationVersion
    text: LongText
    by: Line | None = None
    note: Line | None = None
    change: Line | None = None
    """The change, if it was smaller than a whole text: started."""


WorkflowId = Annotated[int, Meta(ge=1, le=MAX_INTEGER - 1)]
"""Given once by whoever writes the text, and never used again for another workflow."""


class WorkflowsDue(Control, tag="workflows_due", frozen=True, kw_only=True):
    """A moment of a workflow's schedule has come. A shard visits the tenant's leads once, and ignores a moment that is not
    later than the last one of the workflow. So a lost record may be sent again, and a doubled one changes nothing.
    """

    tenant: Tenant
    workflow_id: WorkflowId
    scheduled_for: Moment


ErasureHash = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{16}$(?!\n)", description="a keyed hash of one id, address or number of the person"
    ),
]
MOST_ERASURE_HASHES = 2_000
"""Of one record; a person with more has several records."""


class PersonErased(Control, tag="person_erased", frozen=True, kw_only=True):
    """A person was erased. From this record on, every event that names the person is refused, and so is what other
    partitions still send about the person's leads. Again, it changes nothing. The record names nobody: it has hashes.
    """

    tenant: Tenant
    salt: Annotated[
        str,
        Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", description="the tenant's key of these hashes, in hexadecimal"),
    ]
    hashes: Annotated[list[ErasureHash], Meta(min_length=1, max_length=MOST_ERASURE_HASHES)]


class Derived(Struct, kw_only=True, omit_defaults=True, tag_field="type", frozen=True):
    """Written by stage 2 into `events`, back to the visitor that owns the identity.

    Never archived, and skipped when `events` is folded again.
    """

    tenant: Line
    recorded_at: Moment
    identity: Identity
    epoch: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


_Millis = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class CarriedClock(Struct, array_like=True, frozen=True):
    """The clock from qualified to the first contact (ms) that runs for a redirected lead."""

    qualified_at: _Millis
    limit_at: _Millis | None = None
    contacted_at: _Millis | None = None
    fired: Annotated[list[int], Meta(max_length=100)] = []
    """The workflows that it has set off."""


class Carried(Struct, array_like=True, frozen=True):
    """The stage that a redirected lead passes on with an identity, when the lead entered it, and the clock that runs for it."""

    stage: Stage
    entered_at: _Millis
    clock: CarriedClock | None = None


class Reassigned(Derived, tag="reassigned", frozen=True, kw_only=True):
    """Asks the identity's owner to assign the identity to the lead `to`. If `to` is null, it returns to its home lead
    and follows the redirects again from there.

    `path`: the redirected leads that it has passed. `final`: it stays at `to`, since the redirects form a cycle or a
    chain that is too long.
    """

    holder: LeadId
    to: LeadId | None = None
    path: list[LeadId] = []
    final: bool = False
    carried: Carried | None = None


class IdentityErased(Derived, tag="identity_erased", frozen=True, kw_only=True):
    """The person behind this identity was erased: stage 1 forgets what it knows of the identity. It comes after
    `person_erased`, and an embedded log forgets it again.
    """


class Refused(Derived, tag="refused", frozen=True, kw_only=True):
    """The lead is full: the identity goes to an anonymous lead of its own."""


class LeftBehind(Derived, tag="left_behind", frozen=True, kw_only=True):
    """What a lead has of an identity that left it, and that its owner lacks: the stage that the visitor had reached before
    anybody knew who it was, and sessions that the lead could no longer score.
    """

    carried: Carried | None = None
    sessions: Annotated[list[EventId], Meta(max_length=500)] = []
    """Ids of sessions that were put."""
    retracted: Annotated[list[EventId], Meta(max_length=500)] = []
    """Ids of sessions that a late event joined to others."""


CONTROL_TYPES: tuple[type[Control], ...] = (
    ModelPublished,
    ModelRetired,
    SettingsPublished,
    WorkflowsPublished,
    WorkflowsDue,
    ExperimentPublished,
    PersonErased,
)
DERIVED_TYPES: tuple[type[Derived], ...] = (Reassigned, Refused, IdentityErased, LeftBehind)

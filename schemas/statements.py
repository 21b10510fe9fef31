"""Statements: what Leadstream concludes, for consumers, projections and delivery.

They are JSON. Each has a deterministic id, by which a consumer can drop repetitions, and names its cause: `event:ID`, `due:MOMENT` (time alone), `model:NAME:VERSION` (a publication),
`attached:IDENTITY`, `detached:IDENTITY`, `redirect:EVENT_ID`, `schedule:MOMENT` (of a workflow).
Points are JSON numbers with at most six decimals: millionths of a point are exact.
"""

from decimal import Decimal
from typing import Any, Final, Literal

from msgspec import Struct

from schemas.envelope import Moment

MASKED_CAUSE: Final = "***"
"""Behind the kind of a cause, where it named a person who was erased: `attached:***`."""


class Line(Struct, array_like=True, frozen=True):
    """One line of a breakdown or of a ledger: [group, rule, kind, points].

    `kind` is points, rule cap, group cap, limit, decay, mean or rounding.
    """

    group: str
    rule: str
    kind: str
    points: float


class Statement(Struct, kw_only=True, omit_defaults=True, tag_field="type", frozen=True):
    statement_id: str
    tenant: str
    lead_id: str
    at: Moment
    """The lead's clock when it was concluded."""
    caused_by: str


class SessionScored(Statement, tag="session_scored", frozen=True, kw_only=True):
    """A session's score by the model that reads sessions; emitted whenever the session changes."""

    identity: str
    session_id: str
    producer_id: str | None = None
    model: str
    version: int
    score: float
    lines: list[Line]
    ended: bool
    started_at: Moment
    last_at: Moment
    pages: int
    clicks: int
    important_clicks: int


class SessionRetracted(Statement, tag="session_retracted", frozen=True, kw_only=True):
    """The session's scores are void: a late event joined the session to another one, or the lead objects to profiling."""

    identity: str
    session_id: str


class ScoreChanged(Statement, tag="score_changed", frozen=True, kw_only=True):
    """A total or a band changed. `lines` are all differences since the last statement and sum to
    `change`. The lines of all statements of a lead and model sum to its total.
    """

    model: str
    version: int
    total: float
    previous: float
    change: float
    bands: dict[str, str | None]
    lines: list[Line]
    removed: bool = False
    """The model no longer scores the lead: it was retired, or the lead objects to profiling. The total of 0 is no score."""


class BandChanged(Statement, tag="band_changed", frozen=True, kw_only=True):
    """The lead's band changed. `crossed` are the bands whose armed thresholds the rounded total rose through.

    `silent`: it triggers nothing (an import, or a sweep that does not fire).
    """

    model: str
    version: int
    scale: str
    """The set of bands: temperature, grade, stage ..."""
    band: str | None
    previous: str | None
    crossed: list[str] = []
    silent: bool = False


class QualificationOverridden(Statement, tag="qualification_overridden", frozen=True, kw_only=True):
    """Somebody set the lead's band by hand, or that has ended. The computed band goes on in `score_changed`; the lifecycle and
    workflows read `band` instead of it.
    """

    model: str
    scale: str
    band: str | None
    """By hand; None: the computed band counts again."""
    previous: str | None
    """The band by hand before, if there was one."""
    by: str | None = None
    until: Moment | None = None
    """It ends then; None: when somebody removes it."""
    silent: bool = False


class StageEntered(Statement, tag="stage_entered", frozen=True, kw_only=True):
    """The lead's stage changed; `reason` names the rule or the person."""

    stage: str
    previous: str
    reason: str
    by: str | None = None
    """The person who moved it, if known; `note` is the reason that they gave."""
    note: str | None = None


WorkflowTriggerType = Literal[
    "score_threshold",
    "score_falls",
    "stage_change",
    "field_update",
    "event",
    "time_based",
    "not_contacted",
    "manual",
]
SilencedBy = Literal["", "import", "late", "consent", "hops", "publication"]


class WorkflowTriggered(Statement, tag="workflow_triggered", frozen=True, kw_only=True):
    """A workflow has something to do for the lead: its trigger came and its conditions held. `silent`: it was concluded, but
    nothing may be done, as `silenced_by` says: `import`, `late` (an event more than 24 hours old), `consent` (the lead may
    not be profiled), `hops` (too many actions of workflows led here) or `publication` (of a model or of settings).
    """

    workflow_id: int
    workflow: str
    """Its name."""
    version: int
    """Of the published workflows."""
    trigger: WorkflowTriggerType
    reason: str
    """One sentence: rules rose from 71 to 78, through 75."""
    action: str
    config: dict[str, Any] = {}
    """Of the action, as published."""
    arm: str
    """With the lead and the workflow, what makes this firing unique. It names the cause and no position of the log, so another
    copy of the log has the same."""
    silent: bool = False
    silenced_by: SilencedBy = ""
    hops: int = 0
    """How many actions of workflows, one after the other, led here. The events of this action have one more."""
    priority: int = 0
    """Of the workflow: of what waits for one channel, the highest is carried out first."""
    execution_id: int | None = None
    """Its number, where an erasure has masked `arm`, from which it is computed otherwise."""


class EventApplied(Statement, tag="event_applied", frozen=True, kw_only=True):
    """The answer to an event whose producer waits. `outcome`: applied, duplicate, bot or no_consent."""

    event_id: str
    outcome: str
    scores: dict[str, float]
    key: str = ""
    """The key of the event's record, within which event ids are unique; empty in statements of earlier versions."""


class ModelScore(Struct, kw_only=True, omit_defaults=True, frozen=True):
    version: int
    total: float
    bands: dict[str, str | None]
    as_of: Moment
    next_due: Moment | None = None
    """Time alone does not change the score before this moment."""


class OverriddenBand(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A qualification that somebody set by hand."""

    band: str
    since: Moment
    by: str | None = None
    until: Moment | None = None


class ContactTimes(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """How long a qualified lead has waited for its first contact."""

    qualified_at: Moment
    limit_at: Moment | None = None
    """The limit; None: there is none, since an import or a publication qualified the lead."""
    contacted_at: Moment | None = None
    ended_at: Moment | None = None
    """When the lead no longer waited: it was put aside, became a customer, or fell below the band."""


class LeadScored(Statement, tag="lead_scored", frozen=True, kw_only=True):
    """The whole current lead. The topic keeps the newest record of each lead; a tombstone means that the lead no
    longer exists.
    """

    identified: bool
    created_at: Moment
    last_interaction_at: Moment | None = None
    stage: str
    redirect: str | None = None
    identities: int = 0
    counts: dict[str, int] = {}
    """Signals counted so far: qr_scanned, page_viewed, interaction ..."""
    fields: dict[str, Any] = {}
    scores: dict[str, ModelScore] = {}
    revenue: dict[str, Decimal] | None = None
    """Purchases less refunds, by currency, in major units (49.95); None: an older version wrote the record."""
    qualification_override: OverriddenBand | None = None
    speed_to_lead: ContactTimes | None = None
    """Of its latest qualification."""
    last_event: str | None = None
    """The type of its latest event, `custom:NAME` of one of your own; None: it has none, or an older version wrote the record."""
    other_addresses: list[str] = []
    """E-mails and phones that its identities have beside those of `fields`, sorted: after a merge, those of the lead that went."""


class DeadLetter(Struct, kw_only=True, omit_defaults=True, frozen=True, tag_field="type", tag="dead_letter"):
    """A record that could not be read or applied, with everything needed to fix and retry it."""

    topic: str
    partition: int
    position: int
    reason: str
    field: str | None = None
    key: str | None = None
    original: bytes
    """The bytes as they came (base64 in JSON)."""


STATEMENT_TYPES: tuple[type[Statement], ...] = (
    SessionScored,
    SessionRetracted,
    ScoreChanged,
    BandChanged,
    QualificationOverridden,
    StageEntered,
    WorkflowTriggered,
    EventApplied,
    LeadScored,
)

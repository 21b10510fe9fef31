"""The records that stage 1 (`track_sessions`) sends to stage 2 (`score_leads`) on `lead-activity`.

The topic is internal, but it is kept: scores were made in the recorded order of these records, and folding
them again gives the same scores. Each record is a MessagePack array that begins with its tag. New fields go to
the end and have a default. Times are milliseconds since the epoch.
"""

from msgspec import Struct

from schemas.control import Carried, FieldType, FoldingVersion, PublicationVersion, WorkflowId


class Activity(Struct, array_like=True, tag_field="type", frozen=True):
    tenant: str
    lead_id: str
    """The lead that the record concerns; empty in control records, which concern every lead of the partition."""
    recorded_at: int
    """The lead's clock advances to here before the record is applied."""


class SessionPut(Struct, array_like=True, frozen=True):
    """One session as stage 1 sees it now; a higher `revision` replaces a lower one."""

    session_id: str
    """The id of the event that opens the session."""
    revision: int
    opened_at: int
    last_at: int
    closed: bool
    """True: it ended before it fell idle. False: it ends when the idle time has passed since `last_at`."""
    pages: int
    clicks: int
    important_clicks: int
    producer_id: str | None = None
    """The producer's own id of the session."""
    campaign: str | None = None


class IdentityAttached(Activity, tag="attached", frozen=True):
    """The identity now belongs to this lead. `features` are its encoded features (scoring.features.features).

    `home` is the identity's home lead, `path` the redirected leads it came through, `final` whether it is settled.
    `event` is the original JSON of the event that created the identity (epoch 1), else None.
    """

    identity: str
    epoch: int
    home: str
    features: bytes
    path: list[str] = []
    final: bool = False
    carried: Carried | None = None
    event: bytes | None = None
    event_id: str | None = None
    sessions: list[SessionPut] = []
    silent: bool = False
    reply: bool = False
    identified: Carried | None = None
    """The stage that the identity had reached before anybody knew who it was."""


class IdentityCompleted(Activity, tag="completed", frozen=True):
    """What the identity left behind at a lead (`control.LeftBehind`), for its owner. Applied under the same epoch only."""

    identity: str
    epoch: int
    identified: Carried | None = None
    sessions: list[SessionPut] = []
    retracted: list[str] = []


class IdentityDetached(Activity, tag="detached", frozen=True):
    """The identity left the lead. `gone`: it will not follow this lead's redirect again."""

    identity: str
    epoch: int
    gone: bool = False


class IdentityDelta(Activity, tag="delta", frozen=True):
    """One event's effect on one identity. `lift` is the encoded `scoring.features.features.FeatureDelta`."""

    identity: str
    epoch: int
    event: bytes
    event_id: str
    lift: bytes
    sessions: list[SessionPut] = []
    retracted: list[str] = []
    """Ids of sessions that a late event joined to others: they never were sessions."""
    late: bool = False
    silent: bool = False
    reply: bool = False
    forgotten: list[str] = []
    """Ids of sessions that leave the features only, since just the 200 latest count."""
    revision: int = 0
    """The revision of this delta's sessions and retractions; rises with every event of the identity."""


class EventNoted(Activity, tag="noted", frozen=True):
    """Only an answer: a caller waits until the lead has come this far."""

    event_id: str
    outcome: str
    """duplicate or bot: the event changes nothing; applied: the caller asked to wait only."""
    key: str = ""
    """The key of the event's record; empty in records of earlier versions."""


class RedirectChanged(Activity, tag="redirect", frozen=True):
    """The lead was merged into `to`; None: its merge was undone."""

    to: str | None
    event_id: str


class TimePassed(Activity, tag="time", frozen=True):
    """A timer fired at `recorded_at`. It only advances the clock; a lost or doubled one does no harm."""


class ModelChanged(Activity, tag="model", frozen=True):
    """`control.ModelPublished` in this partition."""

    model: str
    version: PublicationVersion
    text: str
    fire: bool = False
    by: str | None = None
    note: str | None = None
    change: str | None = None
    folding: FoldingVersion = 1


class ModelRemoved(Activity, tag="unmodel", frozen=True):
    """`control.ModelRetired` in this partition."""

    model: str
    version: PublicationVersion
    by: str | None = None
    note: str | None = None


class SettingsChanged(Activity, tag="settings", frozen=True):
    """`control.SettingsPublished` in this partition."""

    version: PublicationVersion
    time_zone: str
    idle_minutes: int
    lifecycle: str = ""
    by: str | None = None
    profile_fields: dict[str, FieldType] = {}
    attribution: str = ""
    consent_required_since: int | None = None
    unique_fields: list[str] = []


class WorkflowsChanged(Activity, tag="workflows", frozen=True):
    """`control.WorkflowsPublished` in this partition."""

    version: PublicationVersion
    text: str
    by: str | None = None
    note: str | None = None
    change: str | None = None
    folding: FoldingVersion = 1


class ExperimentChanged(Activity, tag="experiment", frozen=True):
    """`control.ExperimentPublished` in this partition."""

    experiment: str
    version: PublicationVersion
    text: str
    by: str | None = None
    note: str | None = None
    change: str | None = None


class WorkflowMomentCame(Activity, tag="moment", frozen=True):
    """`control.WorkflowsDue` in this partition."""

    workflow_id: WorkflowId
    scheduled_for: int


class ErasureRecorded(Activity, tag="erased", frozen=True):
    """`control.PersonErased` in this partition. Whatever comes later about a lead of these hashes removes that lead."""

    salt: str
    hashes: list[str]


ACTIVITY_TYPES: tuple[type[Activity], ...] = (
    IdentityAttached,
    IdentityCompleted,
    IdentityDetached,
    IdentityDelta,
    EventNoted,
    RedirectChanged,
    TimePassed,
    ModelChanged,
    ModelRemoved,
    SettingsChanged,
    WorkflowsChanged,
    WorkflowMomentCame,
    ExperimentChanged,
    ErasureRecorded,
)

"""What stage 1 (`track_sessions`) tells stage 2 (`score_leads`), on `lead-activity`.

Internal, but kept: the recorded order of these records is the order in which scores were made, and
folding it again gives the same scores. MessagePack arrays, a tag first; fields are only ever added
at the end, with a default. Times are milliseconds since the epoch.
"""

from msgspec import Struct

from schemas.control import Carried, Version


class Activity(Struct, array_like=True, tag_field="type", frozen=True):
    tenant: str
    lead_id: str
    """Whom it concerns; empty in control records, which concern every lead of the partition."""
    recorded_at: int
    """The lead's clock advances to here before the record is applied."""


class SessionPut(Struct, array_like=True, frozen=True):
    """One session as stage 1 cuts it now; a higher `revision` replaces a lower one."""

    session_id: str
    """The id of the event that opens it in the canonical cut."""
    revision: int
    opened_at: int
    last_at: int
    closed: bool
    """Ended before it fell idle; otherwise it has ended once `last_at` is the idle time ago."""
    pages: int
    clicks: int
    important_clicks: int
    producer_id: str | None = None
    """The producer's own id of it."""
    campaign: str | None = None


class IdentityAttached(Activity, tag="attached", frozen=True):
    """The identity now belongs to this lead; its features come along, encoded (scoring.features.features).

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


class IdentityDetached(Activity, tag="detached", frozen=True):
    """The identity left; `gone`: it will not walk through this lead's redirect again."""

    identity: str
    epoch: int
    gone: bool = False


class IdentityDelta(Activity, tag="delta", frozen=True):
    """One event's effect on one identity: `lift` is the encoded scoring.features.features.Lift."""

    identity: str
    epoch: int
    event: bytes
    event_id: str
    lift: bytes
    sessions: list[SessionPut] = []
    retracted: list[str] = []
    """Session ids that the cut no longer contains: they never were sessions."""
    late: bool = False
    silent: bool = False
    reply: bool = False
    forgotten: list[str] = []
    """Session ids that leave the features only, since the 200 latest count."""
    revision: int = 0
    """Of this delta's session puts and retractions; rises with every event of the identity."""


class EventNoted(Activity, tag="noted", frozen=True):
    """Nothing but an answer: somebody waits to hear that the lead has come this far."""

    event_id: str
    outcome: str
    """duplicate or bot, of an event that changes nothing; applied, of a wish to look."""


class RedirectChanged(Activity, tag="redirect", frozen=True):
    """The lead was merged into `to`, or (None) stands for itself again."""

    to: str | None
    event_id: str


class TimePassed(Activity, tag="time", frozen=True):
    """A timer: `recorded_at` has come. It only advances the clock; losing or doubling it is harmless."""


class ModelChanged(Activity, tag="model", frozen=True):
    """`control.ModelPublished` in this partition."""

    model: str
    version: Version
    text: str
    fire: bool = False
    by: str | None = None
    note: str | None = None
    change: str | None = None


class ModelRemoved(Activity, tag="unmodel", frozen=True):
    """`control.ModelRetired` in this partition."""

    model: str
    version: Version
    by: str | None = None
    note: str | None = None


class SettingsChanged(Activity, tag="settings", frozen=True):
    """`control.SettingsPublished` in this partition."""

    version: Version
    time_zone: str
    idle_minutes: int
    lifecycle: str = ""
    by: str | None = None


ACTIVITY_TYPES: tuple[type[Activity], ...] = (
    IdentityAttached,
    IdentityDetached,
    IdentityDelta,
    EventNoted,
    RedirectChanged,
    TimePassed,
    ModelChanged,
    ModelRemoved,
    SettingsChanged,
)

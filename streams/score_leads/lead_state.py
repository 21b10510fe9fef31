"""The stored state of one lead: a head, and one part per identity.

Each part is encoded with its codec version. The identities are merged when that is needed; the merge, and what each
rule gave last, are kept up to date event by event and never stored. About 0.6 KB for a head, and what the features need per identity (see
scoring.features.features).
"""

from msgspec import Struct, field, msgpack

from schemas import statements
from schemas.activity import IdentityDelta
from schemas.moment import moment
from scoring.features.features import (
    FeatureDelta,
    Features,
    Session,
    evolve,
    put_session,
    refuses_profiling,
    retract_session,
)
from scoring.features.identity import is_anonymous
from scoring.features.lead_identity import (
    LeadIdentity,
    decode_lead_identity,
    encode_lead_identity,
    features_of_lead,
    other_addresses,
)
from scoring.features.qualification_override import QualificationOverride
from scoring.features.signals import latest_event_type, revenue
from scoring.features.view import View
from scoring.lifecycle import lifecycle
from scoring.models.kept_points import KeptPoints, shape_of
from scoring.models.model import NEVER, ONE_POINT, Model
from streams.published import body_behind_codec

LEAD_CODEC = 2
"""2 added what somebody set by hand, and the clock from qualified to the first contact: a worker that reads less would forget
them."""
SESSIONS_TIMER, STAGE_TIMER, LAPSE_TIMER, OVERRIDE_TIMER, CONTACT_TIMER = (
    "~sessions",
    "~stage",
    "~lapse",
    "~override",
    "~contact",
)
COUNTED_SIGNALS = (
    "interaction",
    "page_viewed",
    "element_clicked",
    "qr_scanned",
    "catalog_viewed",
    "message_received",
    "email_opened",
    "email_clicked",
    "form_submitted",
    "purchase_made",
)
"""The signals whose counts a lead's card shows."""


class EmittedScore(Struct, array_like=True):
    """What was last emitted of a lead by a model: the lines since then are differences to this."""

    version: int
    at: int
    """The lead's clock then."""
    total: int
    vector: list[int]
    bands: dict[str, str | None]
    disarmed: list[str]


class LeadWorkflows(Struct, array_like=True, frozen=True):
    """What workflows remember of a lead; at most as many numbers as the tenant has workflows."""

    disarmed: tuple[int, ...] = ()
    """The workflows that wait for a score and have fired since it last moved back far enough; ascending."""
    late: bool = False
    """The last event was late, and so what time changes next fires nothing."""


class ContactClock(Struct, array_like=True, frozen=True):
    """From qualified to the first contact; all times in milliseconds."""

    started_at: int
    limit_at: int | None
    """The limit of that time; None: nobody is late, since an import or a publication qualified the lead."""
    contacted_at: int | None = None
    ended_at: int | None = None
    """The lead no longer waits."""
    fired: tuple[int, ...] = ()
    """The workflows whose minutes are over; ascending."""
    passed_on: bool = False
    """It ended here, and goes on at the lead that this one was merged into."""

    @property
    def waits(self) -> bool:
        return self.contacted_at is None and self.ended_at is None


class LeadHead(Struct, array_like=True):
    clock: int = 0
    position: lifecycle.StagePosition = field(default_factory=lifecycle.StagePosition)
    redirect: str | None = None
    forwarded: list[str] = []
    """Identities that came here and were forwarded, or would be."""
    emitted: dict[str, EmittedScore] = {}
    silent: bool = False
    """The last event was imported or late: what time changes next fires no crossing, either."""
    timers: dict[str, int] = {}
    """Per model (and SESSIONS, STAGE, LAPSE, OVERRIDE, CONTACT): no time before this changes it; missing: time never does."""
    workflows: LeadWorkflows | None = None
    """None: there is nothing to remember."""
    override: QualificationOverride | None = None
    """The qualification by hand that was last emitted."""
    contact: ContactClock | None = None
    """Of the latest qualification."""


class LeadState:
    """One lead: head, a part per identity, and their merged features (never stored)."""

    def __init__(self, key: str, parts: dict[str, bytes]) -> None:
        self.key = key
        self.tenant, _, self.lead_id = key.split("/", 2)
        stored = parts.get("head")
        self.exists = stored is not None
        self.head = (
            msgpack.decode(body_behind_codec(stored, LEAD_CODEC), type=LeadHead) if stored else LeadHead()
        )
        self.identities: dict[str, LeadIdentity] = {}
        for name, value in parts.items():
            if name.startswith("id:"):
                self.identities[name[3:]] = decode_lead_identity(value)
        self._merged: Features | None = None
        self._kept_points: dict[str, KeptPoints] = {}
        """Model -> what its rules gave last."""
        self._refuses_profiling: bool | None = None
        """None: not known since an identity or a field changed."""
        self._changed: set[str] = set()
        self.card_changed = False
        """Something that the lead's card shows changed in this chunk."""

    @property
    def features(self) -> Features:
        if self._merged is None:
            self._merged = features_of_lead(self.lead_id, self.identities)
        return self._merged

    @property
    def refuses_profiling(self) -> bool:
        if self._refuses_profiling is None:
            self._refuses_profiling = refuses_profiling(each.features for each in self.identities.values())
        return self._refuses_profiling

    def kept_points(self, model: Model, view: View) -> KeptPoints:
        """Of a model that reads leads; `view` shows this lead."""
        kept = self._kept_points.get(model.name)
        if kept is None or kept.model is not model:
            kept = self._kept_points[model.name] = KeptPoints(model, view)
        return kept

    def mark_changed(self, identity: str | None = None) -> None:
        self.exists = self.card_changed = True
        self._changed.add("head")
        if identity is not None:
            self._changed.add(f"id:{identity}")

    def mark_head_changed(self) -> None:
        """Something changed that the lead's card does not show."""
        self._changed.add("head")

    def attach(self, name: str, current: LeadIdentity) -> None:
        self.identities[name] = current
        self._forget_conclusions()
        self.mark_changed(name)

    def detach(self, name: str) -> None:
        if self.identities.pop(name, None) is not None:
            self._forget_conclusions()
            self.mark_changed(name)

    def apply(self, name: str, feature_delta: FeatureDelta, delta: IdentityDelta) -> None:
        """Applies one event to its identity and to the merge: `evolve(merge(a, b))` equals
        `merge(evolve(a), b)`, except for sessions, fields, keyed events and sequences, which depend on all.
        """
        mine = self.identities[name].features
        _apply_delta(mine, feature_delta, delta)
        if feature_delta.key is not None or feature_delta.refund is not None or feature_delta.sequences:
            self._merged = None
        elif self._merged is not None and self._merged is not mine:
            if feature_delta.fields or delta.sessions or delta.retracted or delta.forgotten:
                self._merged = None
            else:
                evolve(self._merged, feature_delta)
        if feature_delta.fields:
            self._refuses_profiling = None
        if self._kept_points:
            self._mark_kept_points(feature_delta)
        self.mark_changed(name)

    def _mark_kept_points(self, feature_delta: FeatureDelta) -> None:
        shape = shape_of(feature_delta, self.features)
        if shape is None:
            self._kept_points.clear()
        else:
            for kept in self._kept_points.values():
                kept.mark(shape)

    def _forget_conclusions(self) -> None:
        """An identity came or went."""
        self._merged = self._refuses_profiling = None
        self._kept_points.clear()

    def remove(self) -> None:
        """An empty anonymous shell leaves nothing behind."""
        if self.exists:
            self._changed.add("head")
        self.exists = False
        self.head = LeadHead()

    def erase(self) -> None:
        """Nothing is left of the lead. Again, it changes nothing."""
        self._changed |= {f"id:{name}" for name in self.identities}
        self.identities = {}
        self._forget_conclusions()
        self.card_changed = self.card_changed or self.exists
        self.remove()

    def changes(self) -> dict[str, bytes | None]:
        changed: dict[str, bytes | None] = {}
        for part in sorted(self._changed):
            if part == "head":
                changed[part] = bytes([LEAD_CODEC]) + msgpack.encode(self.head) if self.exists else None
            else:
                current = self.identities.get(part[3:])
                changed[part] = None if current is None else encode_lead_identity(current)
        self._changed.clear()
        return changed

    def next_timer(self) -> int | None:
        return self.fires_at if self.exists and self.fires_at < NEVER else None

    @property
    def fires_at(self) -> int:
        """No time before this changes the lead by itself."""
        return min(self.head.timers.values(), default=NEVER)


def _apply_delta(features: Features, feature_delta: FeatureDelta, delta: IdentityDelta) -> None:
    for put in delta.sessions:
        put_session(
            features,
            put.session_id,
            Session(
                put.revision,
                put.opened_at,
                put.last_at,
                put.closed,
                put.pages,
                put.clicks,
                put.important_clicks,
            ),
        )
    for session_id in (*delta.retracted, *delta.forgotten):
        retract_session(features, session_id)
    evolve(features, feature_delta)


def lead_card(state: LeadState) -> statements.LeadScored:
    """The lead as it is now, whole."""
    head, features = state.head, state.features if state.identities else Features()
    signals = features.signals
    interaction = signals.get("interaction")
    created = min((s.first for s in signals.values()), default=head.clock)
    return statements.LeadScored(
        statement_id=f"card:{state.key}:{head.clock}",
        tenant=state.tenant,
        lead_id=state.lead_id,
        at=moment(head.clock),
        caused_by="",
        identified=not is_anonymous(state.lead_id),
        created_at=moment(created),
        last_interaction_at=moment(interaction.last) if interaction else None,
        stage=head.position.stage,
        redirect=head.redirect,
        identities=len(state.identities),
        counts={name: signals[name].count for name in COUNTED_SIGNALS if name in signals},
        fields={name: value[2] for name, value in sorted(features.fields.items())},
        scores={
            name: statements.ModelScore(
                version=emitted.version,
                total=emitted.total / ONE_POINT,
                bands=emitted.bands,
                as_of=moment(emitted.at),
                next_due=moment(head.timers[name]) if name in head.timers else None,
            )
            for name, emitted in sorted(head.emitted.items())
        },
        revenue=revenue(features.sums),
        qualification_override=_overridden_band(head.override),
        speed_to_lead=_contact_times(head.contact),
        last_event=latest_event_type(signals),
        other_addresses=other_addresses(features.fields, state.identities.values()),
    )


def _overridden_band(override: QualificationOverride | None) -> statements.OverriddenBand | None:
    if override is None:
        return None
    until = None if override.until is None else moment(override.until)
    return statements.OverriddenBand(
        band=override.band, since=moment(override.since), by=override.by, until=until
    )


def _contact_times(clock: ContactClock | None) -> statements.ContactTimes | None:
    if clock is None:
        return None
    due, contacted, ended = (
        None if at is None else moment(at) for at in (clock.limit_at, clock.contacted_at, clock.ended_at)
    )
    return statements.ContactTimes(
        qualified_at=moment(clock.started_at), limit_at=due, contacted_at=contacted, ended_at=ended
    )

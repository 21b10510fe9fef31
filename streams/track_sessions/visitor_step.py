"""One record of one visitor, and the activity that it emits to leads."""

from schemas.activity import (
    Activity,
    IdentityAttached,
    IdentityDetached,
    SessionPut,
)
from schemas.control import (
    Carried,
)
from schemas.decode import encode_activity
from schemas.envelope import Event
from schemas.topics import LEAD_ACTIVITY, lead_key
from scoring.features import identity
from scoring.features.features import encode_features
from scoring.features.identity import Reassignment
from streams.engine.shard import Emit
from streams.track_sessions.visitor_state import VisitorState


class VisitorStep:
    """One record of one visitor: emits the activity that it causes."""

    def __init__(self, state: VisitorState, emit: Emit, idle_ms: int) -> None:
        self.state = state
        self.idle_ms = idle_ms
        self.visitor = state.visitor
        self.emit = emit

    def emit_activity(self, activity: Activity) -> None:
        key = lead_key(activity.tenant, activity.lead_id)
        self.emit(LEAD_ACTIVITY, key, encode_activity(activity))

    @property
    def clock(self) -> int:
        """The clock of emitted activity: never behind a lead that reassigned this visitor."""
        return max(self.visitor.clock, self.visitor.moved)

    def identity(self, at: int) -> str:
        return identity.identity_id(self.state.key, at)

    def emit_reassignment(
        self, reassignment: Reassignment | None, carried: Carried | None = None, *, silent: bool = False
    ) -> None:
        """Emit to the leads that a segment leaves, and to the one it comes to."""
        if reassignment is None:
            return
        segment = self.visitor.segments[reassignment.segment]
        name = self.identity(reassignment.segment)
        for lead in reassignment.leave:
            self.emit_activity(
                IdentityDetached(
                    self.state.tenant, lead, self.clock, name, segment.epoch, gone=lead in reassignment.gone
                )
            )
        self.attach(reassignment.segment, carried=carried, silent=silent)
        self.state.mark_changed()

    def attach(
        self,
        at: int,
        *,
        carried: Carried | None = None,
        event: tuple[bytes, Event, list[SessionPut]] | None = None,
        silent: bool = False,
    ) -> None:
        segment = self.visitor.segments[at]
        segment.born = True
        raw, first, put = event or (None, None, [])
        self.emit_activity(
            IdentityAttached(
                self.state.tenant,
                segment.owner,
                self.clock,
                self.identity(at),
                segment.epoch,
                segment.home,
                encode_features(self.state.body(at).features),
                path=segment.path,
                final=segment.final,
                carried=carried,
                event=raw,
                event_id=first.event_id if first else None,
                sessions=put,
                silent=silent,
                reply=bool(first and first.reply),
                identified=segment.identified,
            )
        )

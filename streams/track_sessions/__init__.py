"""Stage 1: `stage` is what the engine calls; `visitor_state` and `signal_catalogues` are stored state; `web_sessions`
decides which events belong to sessions; `visitor_step` emits to leads.
"""

from streams.track_sessions.stage import TRACK_SESSIONS, TrackSessions
from streams.track_sessions.visitor_state import VisitorState

__all__ = ["TRACK_SESSIONS", "TrackSessions", "VisitorState"]

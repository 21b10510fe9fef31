"""Cuts a visitor's recent web events into sessions.

Sessions depend on the sorted events, never on the order of arrival: each event is added to those still kept, and
the whole window is cut again. An event up to 24 hours late therefore joins, splits or lengthens sessions exactly
as if it had come in time. `MOST_EVENTS_KEPT` bounds the cost of an event.

Rules (web session scoring): a session ends by `session_ended`, after the idle time, at a change of
campaign or of the producer's session id, or at 24 hours.
"""

from collections.abc import Sequence

from msgspec import Struct

from scoring.features.features import Session

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
LARGEST_LATENESS_MS = 24 * HOUR_MS
"""A later event counts in features, but changes no session."""
LONGEST_SESSION_MS = 24 * HOUR_MS
MOST_SESSIONS_COUNTED = 200
"""Old sessions that still count in a lead's mean; their events are no longer kept."""
MOST_EVENTS_KEPT = 64
"""Events kept one by one; beyond it the older ones of a session are combined."""

KIND_INTERACTION, KIND_HEARTBEAT, KIND_END = 0, 1, 2


class SessionEvent(Struct, array_like=True, gc=False):
    """One event, or several of one session that were combined (`first` < `last`)."""

    first: int
    event_id: str
    last: int
    kind: int = KIND_INTERACTION
    pages: int = 0
    clicks: int = 0
    important_clicks: int = 0
    campaign: str = ""
    producer_id: str = ""


class SessionCut(Struct, gc=False):
    """One session with its events. The `session_id` "" collects ends and heartbeats that belong to no session."""

    session_id: str
    opened_at: int
    last_at: int
    closed: bool
    pages: int
    clicks: int
    important_clicks: int
    campaign: str
    producer_id: str
    events: list[SessionEvent]


class KeptEvents(Struct, array_like=True):
    """What a segment keeps of its sessions: the events that late ones may still join, and the ids of older sessions
    that its features still count, oldest first.
    """

    events: list[SessionEvent] = []
    counted_ids: list[str] = []
    revision: int = 0
    campaigns: dict[str, str] = {}
    """The names of the campaigns that events name by a hash."""


class SessionChanges(Struct):
    """How one event changed the sessions. `forgotten` ones were sessions; `retracted` ones never were."""

    put: list[tuple[SessionCut, Session]]
    retracted: list[str]
    forgotten: list[str]


def _event_order(event: SessionEvent) -> tuple[int, str]:
    return event.first, event.event_id


def cut_into_sessions(events: Sequence[SessionEvent], idle_ms: int) -> list[SessionCut]:
    """Cut sorted events into sessions."""
    cuts: list[SessionCut] = []
    now: SessionCut | None = None
    ended = True
    for event in events:
        fits = (
            now is not None
            and not ended
            and event.first - now.last_at < idle_ms
            and event.first - now.opened_at < LONGEST_SESSION_MS
            and not (event.campaign and event.campaign != now.campaign)
            and not (event.producer_id and now.producer_id and event.producer_id != now.producer_id)
        )
        if fits and now is not None:
            now.events.append(event)
            now.last_at = max(now.last_at, event.last)
            now.pages += event.pages
            now.clicks += event.clicks
            now.important_clicks += event.important_clicks
            now.producer_id = now.producer_id or event.producer_id
            if event.kind == KIND_END:
                now.closed = ended = True
        elif event.kind == KIND_INTERACTION:
            if now is not None and not ended:
                now.closed = event.first - now.last_at < idle_ms
            now = SessionCut(
                event.event_id, event.first, event.last, False, event.pages, event.clicks, event.important_clicks,
                event.campaign, event.producer_id, [event],
            )  # fmt: skip
            ended = False
            cuts.append(now)
        else:
            cuts.append(SessionCut("", event.first, event.last, True, 0, 0, 0, "", "", [event]))
    return cuts


def combine_older_events(cuts: Sequence[SessionCut]) -> list[SessionEvent]:
    """The events of the cuts, with the older ones of each session combined.

    Exact for a late event of the same campaign and session id: inside combined events it only adds its counts. A
    late end, or a late event of another campaign, no longer splits them.
    """
    events: list[SessionEvent] = []
    spare = sum(len(c.events) for c in cuts) - MOST_EVENTS_KEPT // 2
    for session in cuts:
        run: SessionEvent | None = None
        for event in session.events:
            if run is None or spare <= 0 or event.kind == KIND_END:
                events.append(event)
                run = event
            else:
                run = SessionEvent(
                    run.first, run.event_id, max(run.last, event.last), run.kind, run.pages + event.pages,
                    run.clicks + event.clicks, run.important_clicks + event.important_clicks,
                    run.campaign or event.campaign, run.producer_id or event.producer_id,
                )  # fmt: skip
                events[-1] = run
                spare -= 1
    return events


def track_session_event(
    kept: KeptEvents, current: dict[str, Session], event: SessionEvent | None, clock: int, idle_ms: int
) -> SessionChanges:
    """Add an event (None: only drop what has become old) and cut again.

    `current` are the sessions of the features; it is only read. `clock` is the visitor's highest `recorded_at`.
    Changes `kept` in place.
    """
    if event is not None:
        kept.events.append(event)
        kept.events.sort(key=_event_order)
    kept.revision += 1
    cuts = cut_into_sessions(kept.events, idle_ms)
    counted = set(kept.counted_ids)
    live = {c.session_id: c for c in cuts if c.session_id}
    put = []
    for session_id, c in live.items():
        old = current.get(session_id)
        new = (c.opened_at, c.last_at, c.closed, c.pages, c.clicks, c.important_clicks)
        if old is None or new != (
            old.opened_at, old.last_at, old.closed, old.pages, old.clicks, old.important_clicks
        ):  # fmt: skip
            put.append((c, Session(kept.revision, *new)))
    retracted = sorted(s for s in current if s not in live and s not in counted)
    forgotten = _drop_settled_sessions(kept, cuts, clock - LARGEST_LATENESS_MS - idle_ms)
    return SessionChanges(put, retracted, forgotten)


def _drop_settled_sessions(kept: KeptEvents, cuts: list[SessionCut], before: int) -> list[str]:
    """Drop the events of sessions that no event in time can change, and bound what is kept."""
    old = [c for c in cuts if c.last_at < before]
    recent = [c for c in cuts if c.last_at >= before]
    surplus = max(0, len(recent) - MOST_EVENTS_KEPT)
    old, recent = old + recent[:surplus], recent[surplus:]
    if old:
        kept.events = sorted((a for c in recent for a in c.events), key=_event_order)
        kept.counted_ids += [c.session_id for c in old if c.session_id]
    if len(kept.events) > MOST_EVENTS_KEPT:
        kept.events = sorted(combine_older_events(recent), key=_event_order)
    forgotten = kept.counted_ids[:-MOST_SESSIONS_COUNTED]
    kept.counted_ids = kept.counted_ids[-MOST_SESSIONS_COUNTED:]
    return forgotten

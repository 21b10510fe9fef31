"""Sessions: the canonical cut of a visitor's recent web acts.

Sessions are a function of the sorted acts, never of their arrival: each event adds its act to those
still kept and the whole window is cut anew. An act up to 24 hours late therefore joins, splits or
lengthens sessions exactly as if it had come in time. Cost per event is bounded by `KEPT_EVENTS`.

Rules (web session scoring): a session ends by `session_ended`, after the idle time, at a change of
campaign or of the producer's session id, or at 24 hours.
"""

from collections.abc import Sequence

from msgspec import Struct

from scoring.features.features import Session

MINUTE = 60_000
HOUR = 60 * MINUTE
LATENESS = 24 * HOUR
"""An act that is later than this counts in features and cuts nothing."""
LONGEST = 24 * HOUR
SESSIONS_COUNTED = 200
"""Forgotten sessions that still count in a lead's mean."""
KEPT_EVENTS = 64
"""Acts kept one by one; beyond it the older ones of a session coalesce."""

INTERACTION, HEARTBEAT, END = 0, 1, 2


class SessionEvent(Struct, array_like=True, gc=False):
    """One act, or a run of acts of one session that coalesced (`first` < `last`)."""

    first: int
    event_id: str
    last: int
    kind: int = INTERACTION
    pages: int = 0
    clicks: int = 0
    important_clicks: int = 0
    campaign: str = ""
    producer_id: str = ""


class SessionCut(Struct, gc=False):
    """One session of the cut, with the acts it is made of; `session_id` "" holds stray ends and
    heartbeats that belong to no session.
    """

    session_id: str
    opened_at: int
    last_at: int
    closed: bool
    pages: int
    clicks: int
    important_clicks: int
    campaign: str
    producer_id: str
    acts: list[SessionEvent]


class KeptEvents(Struct, array_like=True):
    """What a segment keeps of its sessions: the acts still open to late ones, and the ids of the
    forgotten sessions that its features still hold, oldest first.
    """

    acts: list[SessionEvent] = []
    remembered: list[str] = []
    revision: int = 0


class Changes(Struct):
    """What one act did to the sessions. Forgotten ones were sessions; retracted ones never were."""

    put: list[tuple[SessionCut, Session]]
    retracted: list[str]
    forgotten: list[str]


def _order(act: SessionEvent) -> tuple[int, str]:
    return act.first, act.event_id


def cut(acts: Sequence[SessionEvent], idle_ms: int) -> list[SessionCut]:
    """Cut sorted acts into sessions."""
    cuts: list[SessionCut] = []
    now: SessionCut | None = None
    ended = True
    for act in acts:
        fits = (
            now is not None
            and not ended
            and act.first - now.last_at < idle_ms
            and act.first - now.opened_at < LONGEST
            and not (act.campaign and act.campaign != now.campaign)
            and not (act.producer_id and now.producer_id and act.producer_id != now.producer_id)
        )
        if fits and now is not None:
            now.acts.append(act)
            now.last_at = max(now.last_at, act.last)
            now.pages += act.pages
            now.clicks += act.clicks
            now.important_clicks += act.important_clicks
            now.producer_id = now.producer_id or act.producer_id
            if act.kind == END:
                now.closed = ended = True
        elif act.kind == INTERACTION:
            if now is not None and not ended:
                now.closed = act.first - now.last_at < idle_ms
            now = SessionCut(
                act.event_id, act.first, act.last, False, act.pages, act.clicks, act.important_clicks,
                act.campaign, act.producer_id, [act],
            )  # fmt: skip
            ended = False
            cuts.append(now)
        else:
            cuts.append(SessionCut("", act.first, act.last, True, 0, 0, 0, "", "", [act]))
    return cuts


def coalesce(cuts: Sequence[SessionCut]) -> list[SessionEvent]:
    """The acts of the cuts, where older runs within one session have become one act each.

    Exact for a late act of the same campaign and session id: inside a run it can only add its
    counts. A late end, or a late act of another campaign, no longer splits a run.
    """
    acts: list[SessionEvent] = []
    spare = sum(len(c.acts) for c in cuts) - KEPT_EVENTS // 2
    for session in cuts:
        run: SessionEvent | None = None
        for act in session.acts:
            if run is None or spare <= 0 or act.kind == END:
                acts.append(act)
                run = act
            else:
                run = SessionEvent(
                    run.first, run.event_id, max(run.last, act.last), run.kind, run.pages + act.pages,
                    run.clicks + act.clicks, run.important_clicks + act.important_clicks,
                    run.campaign or act.campaign, run.producer_id or act.producer_id,
                )  # fmt: skip
                acts[-1] = run
                spare -= 1
    return acts


def track(
    kept: KeptEvents, held: dict[str, Session], act: SessionEvent | None, clock: int, idle_ms: int
) -> Changes:
    """Add an act (None: only forget what has become old) and cut anew.

    `held` are the sessions the features hold now; it is read, not changed. `clock` is the highest
    `recorded_at` of the visitor. Changes `kept` in place.
    """
    if act is not None:
        kept.acts.append(act)
        kept.acts.sort(key=_order)
    kept.revision += 1
    cuts = cut(kept.acts, idle_ms)
    known = set(kept.remembered)
    live = {c.session_id: c for c in cuts if c.session_id}
    put = []
    for session_id, c in live.items():
        old = held.get(session_id)
        new = (c.opened_at, c.last_at, c.closed, c.pages, c.clicks, c.important_clicks)
        if old is None or new != (
            old.opened_at, old.last_at, old.closed, old.pages, old.clicks, old.important_clicks
        ):  # fmt: skip
            put.append((c, Session(kept.revision, *new)))
    retracted = sorted(s for s in held if s not in live and s not in known)
    forgotten = _forget(kept, cuts, clock - LATENESS - idle_ms)
    return Changes(put, retracted, forgotten)


def _forget(kept: KeptEvents, cuts: list[SessionCut], before: int) -> list[str]:
    """Let go of whole sessions that no admissible act can touch, and bound what is kept."""
    old = [c for c in cuts if c.last_at < before]
    recent = [c for c in cuts if c.last_at >= before]
    surplus = max(0, len(recent) - KEPT_EVENTS)
    old, recent = old + recent[:surplus], recent[surplus:]
    if old:
        kept.acts = sorted((a for c in recent for a in c.acts), key=_order)
        kept.remembered += [c.session_id for c in old if c.session_id]
    if len(kept.acts) > KEPT_EVENTS:
        kept.acts = sorted(coalesce(recent), key=_order)
    forgotten = kept.remembered[:-SESSIONS_COUNTED]
    kept.remembered = kept.remembered[-SESSIONS_COUNTED:]
    return forgotten

"""Which events make and lengthen web sessions. Every event type stands in exactly one of the three lists; a test asks."""

from collections.abc import Callable

from schemas import events as e
from schemas.activity import (
    SessionPut,
)
from schemas.envelope import Event
from scoring.features.features import Session
from scoring.features.sessions import END, HEARTBEAT, SessionCut, SessionEvent

STARTS_OR_LENGTHENS: tuple[type[Event], ...] = (
    e.SessionStarted,
    e.PageViewed,
    e.ElementClicked,
    e.LinkClicked,
    e.FormSubmitted,
    e.ContentDownloaded,
    e.AdClicked,
    e.SocialInteraction,
    e.ProductClicked,
    e.DemoRequested,
    e.CtaClicked,
    e.ContactShared,
    e.MeetingScheduled,
    e.PurchaseMade,
    e.Custom,
)
"""A visitor's own events on the web: they start a session or lengthen it."""
BELONGS_TO_OPEN_SESSION: tuple[type[Event], ...] = (e.SessionEnded, e.SessionHeartbeat)
"""They end or lengthen the session that is open, and start none."""
OUTSIDE_SESSIONS: frozenset[type[Event]] = frozenset(
    (
        e.QrScanned,
        e.CatalogViewed,
        e.MessageReceived,
        e.GreetingReplied,
        e.QuestionAnswered,
        e.QuestionsCompleted,
        e.EmailSent,
        e.EmailOpened,
        e.EmailClicked,
        e.EmailReplied,
        e.SmsSent,
        e.SmsReplied,
        e.CallMade,
        e.PurchaseRefunded,
        e.ConsentChanged,
        e.ProfileUpdated,
        e.LeadIdentified,
        e.LeadsMerged,
        e.MergeUndone,
        e.StageChanged,
        e.ConversionRecorded,
        e.LeadAssigned,
        e.TaskCreated,
        e.CampaignJoined,
        e.NoteAdded,
        e.ExperimentExposed,
        e.LeadErased,
    )
)
"""Chats, scans, e-mails, calls and the work of staff: never part of a web session, also where their producer leaves
the source out."""


def session_event(event: Event, occurred: int, is_important: Callable[[Event], bool]) -> SessionEvent | None:
    """The event as part of a web session; None if it is no part of one. Ends and heartbeats belong to whatever
    session is open, so they bring no campaign.
    """
    if event.source != "web" or event.visitor_id is None or type(event) in OUTSIDE_SESSIONS:
        return None
    part = SessionEvent(occurred, event.event_id, occurred, producer_id=event.session_id or "")
    if isinstance(event, BELONGS_TO_OPEN_SESSION):
        part.kind = END if isinstance(event, e.SessionEnded) else HEARTBEAT
        return part
    if isinstance(event, e.PageViewed):
        part.pages = 1
    elif isinstance(event, e.ElementClicked | e.LinkClicked):
        if is_important(event):
            part.important_clicks = 1
        else:
            part.clicks = 1
    part.campaign = _campaign(event)
    return part


def _campaign(event: Event) -> str:
    """What tells one campaign from another; empty if the event names none."""
    if event.context is None or event.context.campaign is None:
        return ""
    c = event.context.campaign
    return (
        "/".join(part or "" for part in (c.source, c.medium, c.name))
        .encode()[:64]
        .decode(errors="ignore")
        .strip("/")
    )


def session_put(cut: SessionCut, session: Session) -> SessionPut:
    return SessionPut(
        cut.session_id,
        session.revision,
        session.opened_at,
        session.last_at,
        session.closed,
        session.pages,
        session.clicks,
        session.important_clicks,
        cut.producer_id or None,
        cut.campaign or None,
    )

"""Which events make and lengthen web sessions. Every event type stands in exactly one of the three lists; a test asks."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b

from msgspec.structs import astuple

from schemas import events as e
from schemas.activity import (
    SessionPut,
)
from schemas.envelope import Event
from scoring.features.features import Session
from scoring.features.sessions import (
    KIND_END,
    KIND_HEARTBEAT,
    KeptEvents,
    SessionCut,
    SessionEvent,
    cut_into_sessions,
)

LONGEST_CAMPAIGN_KEY_BYTES = 64
"""Bytes of a campaign's name in kept events; of a longer one they keep a hash."""
MOST_CAMPAIGN_NAME_BYTES = 24 * 1024
"""Bytes of the long names that one visitor's kept events refer to. Beyond it a session shows the hash."""

STARTS_OR_LENGTHENS_SESSION: tuple[type[Event], ...] = (
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
        e.LeadSnoozed,
        e.TaskCreated,
        e.CampaignJoined,
        e.NoteAdded,
        e.ExperimentExposed,
        e.WorkflowRequested,
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
        part.kind = KIND_END if isinstance(event, e.SessionEnded) else KIND_HEARTBEAT
        return part
    if isinstance(event, e.PageViewed):
        part.pages = 1
    elif isinstance(event, e.ElementClicked | e.LinkClicked):
        if is_important(event):
            part.important_clicks = 1
        else:
            part.clicks = 1
    part.campaign = campaign_key(campaign_name(event))
    return part


def campaign_name(event: Event) -> str:
    """What distinguishes one campaign from another, as people read it; empty if the event names none."""
    if event.context is None or event.context.campaign is None:
        return ""
    c = event.context.campaign
    return "/".join((part or "").strip() for part in (c.source, c.medium, c.name or c.id)).strip("/")


def campaign_key(name: str) -> str:
    """The name, or a hash of one that is long: kept events stay small, and long names that begin alike stay two."""
    text = name.encode(errors="replace")
    return (
        name if len(text) <= LONGEST_CAMPAIGN_KEY_BYTES else "#" + blake2b(text, digest_size=16).hexdigest()
    )


def remember_campaign(names: dict[str, str], name: str) -> None:
    """Keeps a long name beside its key, while there is room."""
    key = campaign_key(name)
    size = sum(len(kept.encode(errors="replace")) for kept in names.values())
    if key != name and size + len(name.encode(errors="replace")) <= MOST_CAMPAIGN_NAME_BYTES:
        names[key] = name


def forget_campaigns(kept: KeptEvents) -> None:
    """Drops the names that no kept event refers to."""
    if kept.campaigns:
        used = {event.campaign for event in kept.events}
        kept.campaigns = {key: name for key, name in kept.campaigns.items() if key in used}


def session_put_of(cut: SessionCut, session: Session, names: Mapping[str, str]) -> SessionPut:
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
        names.get(cut.campaign, cut.campaign) or None,
    )


def session_puts_of(
    kept: KeptEvents, current: Mapping[str, Session], session_ids: Sequence[str], idle_ms: int
) -> list[SessionPut]:
    """These sessions as they are now; without those that are none any more. Of a session whose events are no longer kept,
    nobody knows the producer's id and the campaign.
    """
    cuts = {cut.session_id: cut for cut in cut_into_sessions(kept.events, idle_ms)}
    puts = []
    for session_id in session_ids:
        if (session := current.get(session_id)) is None:
            continue
        cut = cuts.get(session_id)
        puts.append(
            SessionPut(session_id, *astuple(session))
            if cut is None
            else session_put_of(cut, session, kept.campaigns)
        )
    return puts

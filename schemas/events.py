"""The catalogue of events: one class for each type, and the only list of them.

ARCHITECTURE.md ("Where to add") lists what a new event type needs. A published type only ever gains optional
fields.
"""

from decimal import Decimal
from typing import Annotated, Final, Literal

from msgspec import Meta

from schemas.envelope import (
    Event,
    FieldName,
    Fields,
    Identifier,
    Line,
    Moment,
    Properties,
    Text,
    Url,
)

Seconds = Annotated[float, Meta(ge=0, le=86_400 * 365)]
Currency = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}$(?!\n)", description="three capital letters (ISO 4217): EUR")
]
Amount = Annotated[
    Decimal, Meta(description="a number or its text, 0 to 1000000000000 with at most six decimals")
]
"""`decode` checks the limits, since msgspec cannot bound decimals."""
AMOUNT_LIMITS: Final = {"minimum": 0, "maximum": 10**12, "pattern": r"^[0-9]{1,13}(\.[0-9]{1,6})?$"}
"""The same in words of JSON Schema: of an amount as a number, and as a text."""
Stage = Literal[
    "new",
    "contacted",
    "qualified",
    "engaged",
    "opportunity",
    "customer",
    "recycled",
    "disqualified",
    "churned",
    "lost",
]


class SessionStarted(Event, tag="session_started", frozen=True, kw_only=True):
    """A visit or a chat was opened."""


class SessionEnded(Event, tag="session_ended", frozen=True, kw_only=True):
    """The visitor left: tab closed, chat closed."""


class SessionHeartbeat(Event, tag="session_heartbeat", frozen=True, kw_only=True):
    """The visitor is still there. It lengthens the session, but is no interaction."""


class PageViewed(Event, tag="page_viewed", frozen=True, kw_only=True):
    """A page was shown to the visitor."""

    url: Url | None = None
    title: Line | None = None


class ElementClicked(Event, tag="element_clicked", frozen=True, kw_only=True):
    """A click on a button or another element; `text` is its label."""

    text: Line | None = None
    element_id: Line | None = None
    url: Url | None = None


class LinkClicked(Event, tag="link_clicked", frozen=True, kw_only=True):
    """A click on a link."""

    text: Line | None = None
    url: Url | None = None


class FormSubmitted(Event, tag="form_submitted", frozen=True, kw_only=True):
    """A form was sent; `fields` become profile fields of the lead. A blank field says nothing; null clears it.
    `submission_id` names the submission, which counts once; `form_id` names the form.
    """

    form_id: Line | None = None
    form_name: Line | None = None
    fields: Fields | None = None
    submission_id: Line | None = None


class ContentDownloaded(Event, tag="content_downloaded", frozen=True, kw_only=True):
    """A brochure, price list or other file was downloaded."""

    content_id: Line | None = None
    title: Line | None = None
    url: Url | None = None


class AdClicked(Event, tag="ad_clicked", frozen=True, kw_only=True):
    """The visitor came by an advertisement."""

    ad_id: Line | None = None
    network: Line | None = None


class SocialInteraction(Event, tag="social_interaction", frozen=True, kw_only=True):
    """A like, share, comment or follow on a social network."""

    network: Line | None = None
    action: Line | None = None


class QrScanned(Event, tag="qr_scanned", frozen=True, kw_only=True):
    """A printed QR code was scanned: on a badge, a stand, a sign."""

    qr_id: Line | None = None
    place: Line | None = None


class CatalogViewed(Event, tag="catalog_viewed", frozen=True, kw_only=True):
    """A catalogue was opened."""

    catalog_id: Line | None = None
    title: Line | None = None


class MessageReceived(Event, tag="message_received", frozen=True, kw_only=True):
    """The lead wrote or spoke to us."""

    kind: Literal["text", "voice"] = "text"
    text: Text | None = None
    """The text; of a voice message its transcript."""
    file_id: Line | None = None
    """The recording of a voice message, as the messenger names it."""
    duration_s: Seconds | None = None
    """How long a voice message is."""


class GreetingReplied(Event, tag="greeting_replied", frozen=True, kw_only=True):
    """The lead answered the chat's greeting."""

    text: Text | None = None


class QuestionAnswered(Event, tag="question_answered", frozen=True, kw_only=True):
    """The lead answered a question; `profile_field` names the profile field that the answer fills, if any; a blank
    answer fills none.
    """

    question_id: Identifier
    question: Line | None = None
    text: Text = ""
    time_taken_s: Seconds | None = None
    profile_field: FieldName | None = None


class QuestionsCompleted(Event, tag="questions_completed", frozen=True, kw_only=True):
    """Every question of the flow was answered."""


class ContactShared(Event, tag="contact_shared", frozen=True, kw_only=True):
    """The lead gave a way to reach them. A field that is blank or null says nothing."""

    name: Line | None = None
    first_name: Line | None = None
    last_name: Line | None = None
    email: Line | None = None
    phone: Line | None = None


class ProductClicked(Event, tag="product_clicked", frozen=True, kw_only=True):
    """A product was chosen: in a chat, a list, a shop."""

    product_id: Line | None = None
    product_name: Line | None = None


class DemoRequested(Event, tag="demo_requested", frozen=True, kw_only=True):
    """The lead asked for a demonstration."""

    text: Text | None = None


class CtaClicked(Event, tag="cta_clicked", frozen=True, kw_only=True):
    """A call to action was followed."""

    cta_id: Line | None = None
    text: Line | None = None


class EmailEvent(Event, frozen=True, kw_only=True):
    """The fields that the four e-mail events share; not an event itself."""

    campaign_id: Line | None = None
    campaign_name: Line | None = None
    message_id: Line | None = None
    subject: Line | None = None


class EmailSent(EmailEvent, tag="email_sent", frozen=True, kw_only=True):
    """We sent the lead an e-mail. A `message_id` counts once."""


class EmailOpened(EmailEvent, tag="email_opened", frozen=True, kw_only=True):
    """The lead opened our e-mail."""


class EmailClicked(EmailEvent, tag="email_clicked", frozen=True, kw_only=True):
    """The lead followed a link in our e-mail."""

    url: Url | None = None


class EmailReplied(EmailEvent, tag="email_replied", frozen=True, kw_only=True):
    """The lead answered our e-mail."""

    text: Text | None = None


class SmsSent(Event, tag="sms_sent", frozen=True, kw_only=True):
    """We sent the lead a text message."""

    text: Text | None = None
    campaign_id: Line | None = None


class SmsReplied(Event, tag="sms_replied", frozen=True, kw_only=True):
    """The lead answered our text message."""

    text: Text | None = None


class CallMade(Event, tag="call_made", frozen=True, kw_only=True):
    """We called the lead; an `answered` call is an interaction of the lead, too."""

    answered: bool = False
    duration_s: Seconds | None = None
    outcome: Line | None = None


class MeetingScheduled(Event, tag="meeting_scheduled", frozen=True, kw_only=True):
    """A meeting was agreed on."""

    starts_at: Moment | None = None
    title: Line | None = None


class PurchaseMade(Event, tag="purchase_made", frozen=True, kw_only=True):
    """The lead bought something. `value` is in major units (12.50), kept exactly, and summed per currency in minor units.
    An `order_id` is one purchase: sent again, it updates the value.
    """

    value: Amount
    currency: Currency
    order_id: Line | None = None


class PurchaseRefunded(Event, tag="purchase_refunded", frozen=True, kw_only=True):
    """Money of an order was returned. `value` lowers the order's, never below zero; a `refund_id` counts once."""

    order_id: Line
    value: Amount
    currency: Currency
    refund_id: Line | None = None


class ConsentChanged(Event, tag="consent_changed", frozen=True, kw_only=True):
    """The lead allowed or forbade e-mail or text messages, agreed or objected to profiling (being scored), or the visitor
    to being tracked; null changes nothing.
    """

    email: bool | None = None
    sms: bool | None = None
    profiling: bool | None = None
    tracking: bool | None = None


class ProfileUpdated(Event, tag="profile_updated", frozen=True, kw_only=True):
    """Profile fields changed. The last writer of a field wins, by (occurred_at, event_id). A blank field says
    nothing; null clears it.
    """

    fields: Fields


class LeadIdentified(Event, tag="lead_identified", frozen=True, kw_only=True):
    """The visitor is this lead: log-in, a form, a link in an e-mail. `lead_id` is required."""

    method: Line | None = None


class LeadsMerged(Event, tag="leads_merged", frozen=True, kw_only=True):
    """Two leads are one: `lead_id` is merged into `into`, which stays."""

    into: Identifier


class MergeUndone(Event, tag="merge_undone", frozen=True, kw_only=True):
    """A merge was undone: `lead_id` is a lead of its own again."""


class StageChanged(Event, tag="stage_changed", frozen=True, kw_only=True):
    """A person moved the lead to a stage. The lifecycle may advance from there, but never reverses it."""

    stage: Stage
    reason: Line | None = None
    by: Line | None = None


class ConversionRecorded(Event, tag="conversion_recorded", frozen=True, kw_only=True):
    """A goal was reached. A second one under the same id replaces the first."""

    conversion_type: Line
    conversion_id: Line = ""
    value: Amount | None = None
    currency: Currency | None = None


class LeadAssigned(Event, tag="lead_assigned", frozen=True, kw_only=True):
    """The lead was assigned to a sales person; null removes the assignment, a blank says nothing."""

    assigned_to: Line | None = None
    by: Line | None = None


class LeadSnoozed(Event, tag="lead_snoozed", frozen=True, kw_only=True):
    """Nobody needs to see the lead on a call list until this moment; null shows it again."""

    until: Moment | None = None
    by: Line | None = None


class TaskCreated(Event, tag="task_created", frozen=True, kw_only=True):
    """A task about the lead was created."""

    title: Line
    description: Text | None = None
    due_at: Moment | None = None
    priority: Line | None = None


class CampaignJoined(Event, tag="campaign_joined", frozen=True, kw_only=True):
    """The lead was added to a campaign."""

    campaign_id: Line
    campaign_name: Line | None = None


class NoteAdded(Event, tag="note_added", frozen=True, kw_only=True):
    """A note about the lead was written."""

    text: Text
    by: Line | None = None


class ExperimentExposed(Event, tag="experiment_exposed", frozen=True, kw_only=True):
    """The lead saw a variant of an experiment."""

    experiment: Line
    variant: Line


class WorkflowRequested(Event, tag="workflow_requested", frozen=True, kw_only=True):
    """A person runs a workflow for the lead now, whatever it waits for. Its conditions must hold."""

    workflow_id: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    by: Line | None = None


class LeadErased(Event, tag="lead_erased", frozen=True, kw_only=True):
    """The person asked for erasure."""

    reason: Line | None = None


class Custom(Event, tag="custom", frozen=True, kw_only=True):
    """An event of your own; rules refer to it as `custom:NAME`."""

    name: FieldName
    properties: Properties | None = None


IDENTITY_EVENT_TYPES: tuple[type[Event], ...] = (LeadIdentified, LeadsMerged, MergeUndone)
"""Events about known leads, which need a `lead_id`."""

EVENT_TYPES: tuple[type[Event], ...] = (
    SessionStarted,
    SessionEnded,
    SessionHeartbeat,
    PageViewed,
    ElementClicked,
    LinkClicked,
    FormSubmitted,
    ContentDownloaded,
    AdClicked,
    SocialInteraction,
    QrScanned,
    CatalogViewed,
    MessageReceived,
    GreetingReplied,
    QuestionAnswered,
    QuestionsCompleted,
    ContactShared,
    ProductClicked,
    DemoRequested,
    CtaClicked,
    EmailSent,
    EmailOpened,
    EmailClicked,
    EmailReplied,
    SmsSent,
    SmsReplied,
    CallMade,
    MeetingScheduled,
    PurchaseMade,
    PurchaseRefunded,
    ConsentChanged,
    ProfileUpdated,
    LeadIdentified,
    LeadsMerged,
    MergeUndone,
    StageChanged,
    ConversionRecorded,
    LeadAssigned,
    LeadSnoozed,
    TaskCreated,
    CampaignJoined,
    NoteAdded,
    ExperimentExposed,
    WorkflowRequested,
    LeadErased,
    Custom,
)
"""Every event type there is."""

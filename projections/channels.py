"""The channel of an event, as reports count it. Pure; every event type has a channel."""

from typing import Final

from schemas.envelope import Event, tag_of

CHANNEL_FIXED_BY_TYPE: Final = {
    tag: channel
    for channel, tags in {
        "ads": "ad_clicked",
        "email": "email_clicked email_opened email_replied email_sent",
        "phone": "call_made",
        "qr": "qr_scanned",
        "sales": "lead_assigned lead_snoozed note_added stage_changed task_created workflow_requested",
        "sms": "sms_replied sms_sent",
        "social": "social_interaction",
    }.items()
    for tag in tags.split()
}
CHANNEL_OF_SOURCE: Final = {
    "ads": "ads",
    "chatbot": "chat",
    "crm": "sales",
    "email": "email",
    "phone": "phone",
    "qr": "qr",
    "sms": "sms",
    "social": "social",
    "telegram": "telegram",
    "web": "web",
}
DEFAULT_CHANNEL_OF_TYPE: Final = {
    tag: channel
    for channel, tags in {
        "chat": "contact_shared greeting_replied message_received question_answered questions_completed",
        "sales": "campaign_joined conversion_recorded meeting_scheduled purchase_made purchase_refunded",
        "web": "catalog_viewed content_downloaded cta_clicked demo_requested element_clicked form_submitted "
        "link_clicked page_viewed product_clicked session_ended session_heartbeat session_started",
        "other": "consent_changed custom experiment_exposed lead_erased lead_identified leads_merged "
        "merge_undone profile_updated",
    }.items()
    for tag in tags.split()
}
"""For events whose source does not decide the channel, such as an import. It contains every type that
`CHANNEL_FIXED_BY_TYPE` does not.
"""


def channel_of(event: Event) -> str:
    """By the event's type where that decides, else by its source."""
    tag = tag_of(type(event))
    return (
        CHANNEL_FIXED_BY_TYPE.get(tag) or CHANNEL_OF_SOURCE.get(event.source) or DEFAULT_CHANNEL_OF_TYPE[tag]
    )

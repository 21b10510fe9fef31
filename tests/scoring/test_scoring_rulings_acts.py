"""Which of all events are a person's own doing, and what else a single event may and may not count as.

The lists stand here once more, written from the rulings: a new type has to be put into one of them.
"""

from decimal import Decimal

import pytest
from leads_given import DAY_MS, T0, features_of, happened, lines, scored, shipped

from schemas.envelope import Campaign, Context
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.models.model import built_in_models

WHAT_WE_DID = {"email_sent", "sms_sent", "call_made"}
PROFILE_CRM_CONSENT_IDENTITY = {
    "profile_updated",
    "consent_changed",
    "lead_identified",
    "leads_merged",
    "merge_undone",
    "lead_erased",
    "stage_changed",
    "lead_assigned",
    "lead_snoozed",
    "task_created",
    "campaign_joined",
    "note_added",
    "conversion_recorded",
    "purchase_refunded",
    "experiment_exposed",
    "workflow_requested",
}
TIME = {"session_heartbeat", "session_ended"}
WHAT_THE_PERSON_DID = {
    "session_started",
    "page_viewed",
    "element_clicked",
    "link_clicked",
    "form_submitted",
    "content_downloaded",
    "ad_clicked",
    "social_interaction",
    "qr_scanned",
    "catalog_viewed",
    "message_received",
    "greeting_replied",
    "question_answered",
    "questions_completed",
    "contact_shared",
    "product_clicked",
    "demo_requested",
    "cta_clicked",
    "email_opened",
    "email_clicked",
    "email_replied",
    "sms_replied",
    "meeting_scheduled",
    "purchase_made",
    "custom",
}
HIGH_INTENT = {"demo_requested", "meeting_scheduled", "form_submitted", "purchase_made", "cta_clicked"}

NEEDED = {
    "question_answered": {"question_id": "1"},
    "purchase_made": {"value": Decimal(1), "currency": "EUR"},
    "purchase_refunded": {"order_id": "A-1", "value": Decimal(1), "currency": "EUR"},
    "profile_updated": {"fields": {}},
    "lead_identified": {"lead_id": "L"},
    "leads_merged": {"lead_id": "L", "into": "M"},
    "merge_undone": {"lead_id": "L"},
    "stage_changed": {"stage": "lost"},
    "task_created": {"title": "Call"},
    "campaign_joined": {"campaign_id": "1"},
    "note_added": {"text": "Called"},
    "conversion_recorded": {"conversion_type": "order"},
    "experiment_exposed": {"experiment": "greeting", "variant": "A"},
    "workflow_requested": {"workflow_id": 1},
    "custom": {"name": "tour_taken"},
}


def one(kind, at=T0):
    return happened(kind, at, **NEEDED.get(kind, {}))


@pytest.mark.parametrize("kind", EVENT_TYPE_BY_TAG)
def test_an_interaction_is_everything_that_the_person_did_and_nothing_else(kind):
    lists = [WHAT_THE_PERSON_DID, WHAT_WE_DID, PROFILE_CRM_CONSENT_IDENTITY, TIME]
    assert sum(kind in each for each in lists) == 1, f"put {kind} into one list: whose doing is it?"
    assert ("interaction" in features_of([one(kind)]).signals) is (kind in WHAT_THE_PERSON_DID)


def test_a_call_that_was_answered_is_the_persons_doing_too():
    assert "interaction" in features_of([happened("call_made", answered=True)]).signals


@pytest.mark.parametrize("kind", EVENT_TYPE_BY_TAG)
def test_only_high_intent_acts_count_as_high_intent(kind):
    assert ("high_intent" in features_of([one(kind)]).signals) is (kind in HIGH_INTENT)


@pytest.mark.parametrize("kind", sorted(PROFILE_CRM_CONSENT_IDENTITY | WHAT_WE_DID | TIME))
@pytest.mark.parametrize(
    "model", [name for name in built_in_models() if name not in {"web_session", "rules"}]
)
def test_what_is_not_the_persons_doing_changes_no_score_by_itself(model, kind):
    """Of the fields that it may fill none is given here; a lead that nobody knew has the same lines."""
    assert lines(shipped(model), scored(shipped(model), [one(kind)])) == lines(
        shipped(model), scored(shipped(model), [])
    )


def test_a_shared_contact_a_button_and_a_scan_are_interactions_but_no_messages():
    told = [
        happened("contact_shared", source="telegram", phone="1"),
        happened("element_clicked", source="telegram", text="Show me"),
        happened("qr_scanned", source="telegram", qr_id="expo"),
    ]
    signals = features_of(told).signals
    assert signals["interaction"].count == 3
    assert "message_received" not in signals


def test_neither_the_envelopes_source_nor_utm_source_is_the_profiles():
    """The link says utm_source=google, the envelope says web; what came of it is ads."""
    came = happened(
        "page_viewed", source="web", context=Context(campaign=Campaign(source="google", medium="cpc"))
    )
    model = shipped("composite")
    assert lines(model, scored(model, [came]))["Source quality"] == 10 * 150_000
    untold = happened("page_viewed", source="referral", context=Context(campaign=Campaign(source="partner")))
    assert "Source quality" not in lines(model, scored(model, [untold]))


@pytest.mark.parametrize(
    ("medium", "points"),
    [
        ("referral", 15),
        ("partner", 15),
        ("affiliate", 15),
        ("cpc", 10),
        ("email", 0),
        ("social", 0),
        ("x", 0),
    ],
)
def test_the_first_touch_gives_the_source_a_quality(medium, points):
    model = shipped("composite")
    first = happened("page_viewed", T0 - DAY_MS, context=Context(campaign=Campaign(medium=medium)))
    form = happened("form_submitted")
    given = lines(model, scored(model, [first, form])).get("Source quality", 0)
    assert given == (points * 150_000 if medium != "x" else 10 * 150_000)

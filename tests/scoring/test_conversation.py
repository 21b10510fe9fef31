"""The ids of a chat's events: what is sent again counts once, what is changed is another event."""

import re

from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import EventId
from scoring.chat.conversation import (
    NO_EVENTS,
    ChatEvent,
    Conversation,
    answered,
    behaved,
    completed,
    contact_answered,
    contact_shared,
    greeting_replied,
    started,
)
from scoring.models.model import built_in_models, compile_model

FLOW = compile_model(built_in_models()["chatbot"]).flow
QUESTION = FLOW.questions[0]


def recorded(before, events):
    """The conversation after these events, as a log that drops repetitions has it."""
    ids = {each.event_id for each in before.events}
    new = [ChatEvent(each["event_id"], each["type"], each.get("question_id")) for each in events]
    return Conversation((*before.events, *(each for each in new if each.event_id not in ids)))


@given(st.lists(st.sampled_from(["Restaurant", "E-commerce", "a shop"]), max_size=12))
def test_an_answer_is_a_new_event_exactly_if_it_differs_from_the_last(texts):
    conversation, last, changes = NO_EVENTS, None, 0
    for text in texts:
        conversation = recorded(conversation, answered(conversation, FLOW, QUESTION, text))
        changes += text != last
        last = text
        assert len(conversation.events) == changes
    assert conversation.answered() == ({1} if texts else set())


def test_what_a_session_has_once_has_one_id():
    assert started({"source": "google"})["event_id"] == started({})["event_id"]
    assert completed()["event_id"] == behaved(NO_EVENTS, "answered_all_questions", {"a": 1})["event_id"]
    assert started({"source": "google", "medium": None})["context"] == {"campaign": {"source": "google"}}


def test_actions_and_the_gateway_make_the_same_events():
    greeting = greeting_replied(NO_EVENTS, "Hi")
    assert behaved(NO_EVENTS, "replied_to_greeting", {"text": "Hi"}) == greeting
    (contact,) = contact_shared(NO_EVENTS, {"email": "ada@acme.io"})
    assert behaved(NO_EVENTS, "shared_contact", {"email": "ada@acme.io"}) == contact
    assert contact_answered(NO_EVENTS, "ada@acme.io") == [contact]


def test_a_contact_needs_a_way_to_reach_the_person():
    (named,) = contact_answered(NO_EVENTS, "Ada")
    assert (named["type"], named["fields"]) == ("profile_updated", {"name": "Ada"})
    (blank,) = contact_shared(NO_EVENTS, {"email": " ", "phone": None})
    assert (blank["type"], blank["fields"]) == ("profile_updated", {"email": " ", "phone": None})
    both = contact_shared(NO_EVENTS, {"contact_info": 9123456789, "name": "Ada", "location": "Pune"})
    assert [each["type"] for each in both] == ["contact_shared", "profile_updated"]
    assert (both[0]["phone"], both[0]["name"]) == ("9123456789", "Ada")
    assert both[1]["fields"] == {"location": "Pune"}
    assert contact_shared(NO_EVENTS, {}) == []


def test_an_action_of_the_bots_own_keeps_its_name():
    event = behaved(NO_EVENTS, "watched_video", {"seconds": 12})
    assert (event["type"], event["name"], event["properties"]) == ("custom", "watched_video", {"seconds": 12})
    click = behaved(NO_EVENTS, "clicked_product", {"product": "Billing", "from": "menu"})
    assert (click["product_name"], click["metadata"]) == ("Billing", {"from": "menu"})


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=20), st.integers(), max_size=3))
def test_ids_are_ids_of_events(action, metadata):
    pattern = EventId.__metadata__[0].pattern
    assert re.match(pattern, behaved(NO_EVENTS, action, metadata)["event_id"])

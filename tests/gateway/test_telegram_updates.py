"""What updates of Telegram's Bot API mean. The examples are those that Telegram publishes, and some derived from them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.messenger_content import ANSWER_FIELDS
from gateway.door.telegram_bots import read_bots
from gateway.door.telegram_updates import events_of
from schemas.envelope import tag_of
from schemas.events import CatalogViewed, ContactShared, MessageReceived, QuestionAnswered

NOW = datetime(2030, 1, 31, 10, 30, tzinfo=UTC)
SENT = datetime(2030, 1, 31, 10, 0, tzinfo=UTC)
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "telegram" / "updates.jsonl"
AHMAD = {"id": 1111111, "is_bot": False, "first_name": "Ahmad", "last_name": "Rezaei", "username": "ahmad"}
CHAT = {"id": 1111111, "type": "private"}
MEANINGS = {
    "text_start": ["session_started", "profile_updated"],
    "text_start_no_chat_type": ["session_started", "profile_updated"],
    "forwarded": ["message_received"],
    "forwarded_channel": ["message_received"],
    "reply": ["session_started", "profile_updated"],
    "edited": "other_kind",
    "entities": ["message_received"],
    "audio": ["custom"],
    "voice": ["message_received"],
    "document": ["custom"],
    "inline_query": "other_kind",
    "chosen_inline_result": "other_kind",
    "callback_query": ["element_clicked"],
    "derived_start_deeplink": ["qr_scanned", "profile_updated"],
    "derived_start_deeplink_b64": ["qr_scanned", "profile_updated"],
}


def message(**fields):
    return {
        "update_id": 10000,
        "message": {"date": int(SENT.timestamp()), "chat": CHAT, "message_id": 1, "from": AHMAD, **fields},
    }


def press(data, **fields):
    return {"update_id": 10001, "callback_query": {"id": "4382", "from": AHMAD, "data": data, **fields}}


def recorded(update, **facts):
    """The events of the update as the door records them."""
    return [
        admit_event(
            read_producer_event(json.dumps(raw).encode(), raw["event_id"], NOW),
            RequestFacts("default", **facts),
            NOW,
        )
        for raw in events_of("realty", update).events
    ]


def test_telegrams_own_examples():
    if not PUBLISHED.exists():
        pytest.skip("../shared/data/telegram/updates.jsonl is not here")
    examples = [json.loads(line) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    assert {each["name"] for each in examples} == MEANINGS.keys()
    for each in examples:
        read_update = events_of("realty", each["update"])
        meaning = read_update.skipped or [tag_of(type(event)) for event in recorded(each["update"])]
        assert meaning == MEANINGS[each["name"]], each["name"]


def test_the_envelope_names_the_person_the_bot_and_the_update():
    (event,) = recorded(message(text="Hello"))
    assert isinstance(event, MessageReceived)
    assert (event.kind, event.text) == ("text", "Hello")
    assert (event.event_id, event.visitor_id, event.source) == (
        "telegram-10000",
        "telegram-realty-1111111",
        "telegram",
    )
    assert event.occurred_at == SENT
    assert event.context.source_id == "realty"
    assert event.lead_id is None


@pytest.mark.parametrize(
    ("payload", "kind", "name"),
    [
        ("qr_spring-expo_A12", "qr_scanned", "spring-expo_A12"),
        ("cXI6c3ByaW5nLWV4cG8", "qr_scanned", "spring-expo"),
        ("stand7", "qr_scanned", "stand7"),
        ("catalog_towers", "catalog_viewed", "towers"),
        ("link_newsletter", "link_clicked", "newsletter"),
    ],
)
def test_a_deep_link_says_what_was_scanned_or_opened(payload, kind, name):
    event, profile = recorded(message(text=f"/start {payload}"))
    assert tag_of(type(event)) == kind
    assert name in {getattr(event, field, None) for field in ("qr_id", "catalog_id", "text")}
    assert profile.fields == {"first_name": "Ahmad", "last_name": "Rezaei", "telegram_username": "ahmad"}


def test_a_forwarded_start_is_no_scan():
    (event,) = recorded(message(text="/start qr_1", forward_date=1, forward_origin={"type": "user"}))
    assert isinstance(event, MessageReceived)


def test_a_voice_message_keeps_duration_and_file():
    (event,) = recorded(message(voice={"file_id": "AwAD", "duration": 5, "mime_type": "audio/ogg"}))
    assert (event.kind, event.file_id, event.duration_s) == ("voice", "AwAD", 5)
    assert event.text is None


def test_the_senders_own_contact_is_shared():
    contact = {"phone_number": "971501234567", "first_name": "Ahmad", "user_id": 1111111}
    (event,) = recorded(message(contact=contact))
    assert isinstance(event, ContactShared)
    assert (event.phone, event.first_name) == ("+971501234567", "Ahmad")


@pytest.mark.parametrize(
    "fields",
    [
        {"contact": {"phone_number": "971501234567", "first_name": "Somebody", "user_id": 2222222}},
        {"contact": {"phone_number": "971501234567", "first_name": "Somebody"}},
        {"contact": {"phone_number": "971501234567", "user_id": 1111111}, "forward_date": 1},
    ],
)
def test_the_contact_of_somebody_else_identifies_nobody(fields):
    (event,) = recorded(message(**fields))
    assert (event.name, event.properties) == ("telegram_message", {"kind": "contact"})


def test_a_button_fills_a_profile_field():
    question = {"chat": CHAT, "text": "What is your budget?"}
    (event,) = recorded(press("budget_max:2000000", message=question))
    assert isinstance(event, QuestionAnswered)
    assert (event.question_id, event.profile_field, event.text) == ("budget_max", "budget_max", "2000000")
    assert event.question == "What is your budget?"
    assert event.occurred_at == NOW


def test_a_button_opens_a_catalogue_and_shows_its_label():
    keyboard = {"inline_keyboard": [[{"text": "Marina Towers", "callback_data": "catalog:towers"}]]}
    (event,) = recorded(press("catalog:towers", message={"chat": CHAT, "reply_markup": keyboard}))
    assert isinstance(event, CatalogViewed)
    assert (event.catalog_id, event.title) == ("towers", "Marina Towers")


@pytest.mark.parametrize("data", ["phone:+971501234567", "email:a@b.example", "assigned_to:me", "more"])
def test_a_button_fills_no_other_field(data):
    (event,) = recorded(press(data))
    assert tag_of(type(event)) == "element_clicked"
    assert event.element_id == data


def test_the_press_of_a_button_is_to_be_answered():
    assert events_of("realty", press("more")).callback_query_id == "4382"


def test_a_form_of_a_mini_app_fills_the_known_fields_and_no_address():
    sent = {"location": "Dubai Marina", "budget_max": 2_000_000, "phone": "+971501234567", "bedrooms": None}
    (event,) = recorded(message(web_app_data={"data": json.dumps(sent), "button_text": "Search"}))
    assert event.fields == {"location": "Dubai Marina", "budget_max": 2_000_000}
    assert event.form_name == "Search"
    (event,) = recorded(message(web_app_data={"data": "no JSON", "button_text": "Search"}))
    assert event.properties == {"kind": "web_app_data"}


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ([], "unreadable"),
        ({"message": {"text": "Hello"}}, "unreadable"),
        ({"update_id": True}, "unreadable"),
        ({"update_id": 1, "poll": {}}, "other_kind"),
        ({"update_id": 1, "message": "Hello"}, "other_kind"),
        (message(chat={"id": -100, "type": "supergroup"}, text="Hello"), "not_private"),
        (message(chat={"id": -100}, text="Hello"), "not_private"),
        (message(**{"from": {"id": 7, "is_bot": True}}, text="Hello"), "no_person"),
        (message(**{"from": None}, text="Hello"), "no_person"),
    ],
)
def test_what_is_not_read_is_skipped_with_a_reason(update, reason):
    assert events_of("realty", update)[:2] == ([], reason)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
known = st.sampled_from(
    ["text", "caption", "voice", "contact", "date", "chat", "from", "web_app_data", "reply_markup", "photo"]
)


@given(st.dictionaries(known, json_values), st.dictionaries(known, json_values))
def test_no_update_breaks_the_reading(strange, query):
    for update in (message(**strange), press("x", **query), {"update_id": 1, "message": strange}):
        for raw in events_of("realty", update).events:
            assert raw["visitor_id"].startswith("telegram-realty-")


def test_answers_are_no_addresses():
    assert not ANSWER_FIELDS & {"phone", "email", "name", "lead_id"}


GOOD = "default:realty:a-secret-of-our-own:110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


def test_bots_are_read_and_show_no_secret():
    (bot,) = read_bots([GOOD]).values()
    assert (bot.name, bot.tenant) == ("realty", "default")
    assert bot.token == "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
    assert bot.has_secret("a-secret-of-our-own")
    assert not bot.has_secret("a-secret-of-our-owN")
    assert not bot.has_secret("é")
    assert "AAHd" not in repr(bot)
    assert "secret-of" not in repr(bot)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["Default:" + GOOD.partition(":")[2]], "must begin with its tenant"),
        ([GOOD.replace("realty", "Realty!")], "the name is"),
        ([GOOD.replace("a-secret-of-our-own", "short")], "the secret is"),
        ([GOOD[:-30]], "the token is"),
        ([GOOD, GOOD], "of this name already"),
        ([GOOD, GOOD.replace("realty", "other")], "has this token already"),
    ],
)
def test_a_wrong_bot_is_refused_without_its_secrets(texts, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        read_bots(texts)
    assert "AAHd" not in str(refused.value)
    assert "secret-of" not in str(refused.value)

"""Recorded events at today's door: what older doors decided is decided again, and what producers sent stays."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.door.admission import RequestFacts, admit_event, admit_import, readmit
from gateway.door.undecided import without_second_code
from schemas.envelope import Context, Device, Event, TrafficOrigin
from schemas.events import ContactShared, FormSubmitted, PageViewed, ProfileUpdated, QuestionAnswered

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def page(**fields: object) -> PageViewed:
    return PageViewed(event_id="e", occurred_at=AT, recorded_at=AT, visitor_id="v", url="/", **fields)


def contact(**fields: object) -> ContactShared:
    return ContactShared(event_id="e", occurred_at=AT, recorded_at=AT, **{"visitor_id": "v", **fields})


def test_a_person_whom_an_older_list_took_for_a_bot_is_a_person():
    for name in ("chrome", "Apple Web Kit"):
        assert readmit(page(context=Context(user_agent=CHROME), bot=name)).bot is None


def test_a_bot_that_an_older_list_missed_is_a_bot():
    assert readmit(page(context=Context(user_agent=GOOGLEBOT))).bot is not None


def test_a_bot_that_the_producer_names_stays_one():
    assert readmit(page(context=Context(user_agent=CHROME), bot="our own monitor")).bot == "our own monitor"
    assert readmit(page(bot="(no user agent)")).bot == "(no user agent)"


def test_a_device_is_read_again_from_the_user_agent_and_kept_without_one():
    television = Device(type="tv")
    assert readmit(page(context=Context(user_agent=CHROME), device=television)).device.type == "desktop"
    assert readmit(page(device=television)).device == television


def test_times_and_the_flag_of_imports_stay():
    stated = {"stated_occurred_at": (AT - timedelta(minutes=10)).isoformat()}
    for imported in (False, True):
        recorded = page(extra=stated, imported=imported, reply=True)
        restated = readmit(recorded)
        assert (restated.occurred_at, restated.recorded_at) == (AT, AT)
        assert (restated.imported, restated.reply, restated.extra) == (imported, True, stated)


def test_a_referral_that_the_request_showed_to_be_the_own_site_stays_internal():
    origin = TrafficOrigin(channel="internal", group="Internal")
    recorded = page(context=Context(referrer="https://shop.example/cart"), traffic_origin=origin)
    assert readmit(recorded).traffic_origin.channel == "internal"
    unknown = structs.replace(recorded, traffic_origin=None)
    assert readmit(unknown).traffic_origin.channel == "unassigned"


def test_a_lead_that_an_address_had_decided_is_decided_again_but_not_that_of_an_import():
    resolved = contact(lead_id="c-1", email="ada@lovelace.example", extra={"resolved_by": "email", "shop": 7})
    assert readmit(resolved).lead_id is None
    assert readmit(resolved).extra == {"shop": 7}
    imported = structs.replace(resolved, imported=True)
    assert readmit(imported) == structs.replace(imported, traffic_origin=readmit(imported).traffic_origin)
    named = contact(lead_id="ada", email="ada@lovelace.example")
    assert readmit(named).lead_id == "ada"


def test_addresses_are_read_from_what_was_typed():
    typed = {"stated_phone": "4915112345678"}
    recorded = contact(source="telegram", phone="+494915112345678", extra=typed)
    assert readmit(recorded, "DE").phone == "+4915112345678"
    assert readmit(recorded, "DE").extra == typed
    answer = QuestionAnswered(
        event_id="e",
        occurred_at=AT,
        recorded_at=AT,
        visitor_id="v",
        question_id="q",
        profile_field="email",
        text="wrong",
        extra={"stated_email": "Ada <ada@lovelace.example>"},
    )
    assert readmit(answer).text == "ada@lovelace.example"


@pytest.mark.parametrize(
    ("number", "region", "source", "digits"),
    [
        ("+494915112345678", "DE", "telegram", "4915112345678"),
        ("+494915112345678", "DE", "crm", "4915112345678"),
        ("+971971501234567", "AE", "telegram", "971501234567"),
        ("+4915112345678", "DE", "telegram", "+4915112345678"),
        ("+4930123456", "DE", "crm", "+4930123456"),
        ("+494915112345678", None, "telegram", "+494915112345678"),
        ("+494915112345678", "US", "telegram", "+494915112345678"),
        ("not a number", "DE", "telegram", "not a number"),
    ],
)
def test_a_second_country_code_is_removed_only_where_an_older_door_put_it(
    number: str, region: str | None, source: str, digits: str
):
    assert without_second_code(number, region, source) == digits


AGENTS = st.sampled_from([None, CHROME, GOOGLEBOT])
ADDRESSES = st.sampled_from(
    [
        "",
        "  ",
        "ada@lovelace.example",
        "Ada <Ada@Lovelace.example>",
        "4915112345678",
        "0151 12345678",
        "+1 512 345 6789",
        "x",
    ]
)
SOURCES = st.sampled_from(["web", "telegram", "crm", "chatbot"])
CONTEXTS = st.builds(
    Context,
    user_agent=AGENTS,
    url=st.sampled_from([None, "https://shop.example/?utm_source=news&utm_medium=email"]),
    referrer=st.sampled_from(
        [None, "https://chatgpt.com/", "https://shop.example/", "https://www.google.com/"]
    ),
)
COMMON = {
    "event_id": st.just("e"),
    "occurred_at": st.just(AT),
    "visitor_id": st.just("v"),
    "source": SOURCES,
    "context": st.none() | CONTEXTS,
}
EVENTS = st.one_of(
    st.builds(PageViewed, url=st.sampled_from(["/", "https://shop.example/"]), **COMMON),
    st.builds(ContactShared, email=st.none() | ADDRESSES, phone=st.none() | ADDRESSES, **COMMON),
    st.builds(
        FormSubmitted, fields=st.fixed_dictionaries({"email": ADDRESSES, "phone": ADDRESSES}), **COMMON
    ),
    st.builds(ProfileUpdated, fields=st.fixed_dictionaries({"phone": ADDRESSES}), **COMMON),
    st.builds(
        QuestionAnswered,
        question_id=st.just("q"),
        profile_field=st.sampled_from([None, "email", "phone"]),
        text=ADDRESSES,
        **COMMON,
    ),
)


@given(
    event=EVENTS,
    agent=AGENTS,
    origin=st.sampled_from([None, "https://shop.example"]),
    region=st.sampled_from([None, "DE", "AE"]),
)
def test_an_event_that_this_door_took_stays_as_it_is(
    event: Event, agent: str | None, origin: str | None, region: str | None
):
    for taken in (
        admit_event(event, RequestFacts(None, user_agent=agent, page=origin, phone_region=region), AT),
        admit_import(event, AT, region),
    ):
        assert readmit(taken, region) == taken

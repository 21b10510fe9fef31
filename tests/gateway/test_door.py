"""What the door decides and records, with hand-written expectations."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.door.addresses import normalize_email, normalize_phone
from gateway.door.admission import (
    RequestFacts,
    admit_event,
    admit_import,
    misspelling_hint,
    read_producer_event,
)
from schemas.decode import MAX_EXTRA_FIELDS, Refusal, decode_source, encode_source
from schemas.envelope import Context
from schemas.events import ContactShared, EmailClicked, EmailOpened, FormSubmitted, PageViewed, ProfileUpdated

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/16.5 Mobile/15E148 Safari/604.1"
)
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
TABLET = "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
GMAIL_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def viewed(**fields):
    return PageViewed(**({"event_id": "e1", "occurred_at": NOW, "visitor_id": "v"} | fields))


def admitted(event, **facts):
    return admit_event(event, RequestFacts(**({"tenant": None} | facts)), NOW)


def imported(event):
    return admit_import(event, NOW)


def test_recorded_at_is_the_doors_clock_whatever_the_producer_says():
    event = admitted(viewed(recorded_at=datetime(2001, 1, 1, tzinfo=UTC)))
    assert event.recorded_at == NOW


def test_a_producer_cannot_mark_its_own_events_as_imported_or_waited_for():
    event = admitted(viewed(imported=True, reply=True))
    assert (event.imported, event.reply) == (False, False)


def test_a_waiting_caller_marks_its_event():
    assert admitted(viewed(), reply=True).reply


@pytest.mark.parametrize("admits", [admitted, imported], ids=["over HTTP", "imported"])
def test_a_blank_is_no_bots_name(admits):
    assert [admits(viewed(bot=name)).bot for name in ("", " ", "null", "N/A", "ours")] == [
        *[None] * 4,
        "ours",
    ]


def test_a_crawler_is_named():
    event = admitted(viewed(context=Context(user_agent=GOOGLEBOT)))
    assert event.bot == "Googlebot"


@pytest.mark.parametrize("admits", [admitted, imported], ids=["over HTTP", "imported"])
@pytest.mark.parametrize(
    ("kind", "user_agent", "is_bot"),
    [
        (EmailOpened, GMAIL_PROXY, False),
        (EmailOpened, "Mozilla/5.0", True),
        (EmailOpened, "Barracuda Sentinel (EE)", True),
        (EmailClicked, GMAIL_PROXY, True),
        (EmailClicked, "Barracuda Sentinel (EE)", True),
        (EmailClicked, DESKTOP, False),
        (PageViewed, GMAIL_PROXY, True),
        (PageViewed, "Mozilla/4.0 (compatible; ms-office; MSOffice 16)", False),
    ],
)
def test_what_is_a_bot_depends_on_what_happened(admits, kind, user_agent, is_bot):
    event = kind(event_id="e1", occurred_at=NOW, visitor_id="v", context=Context(user_agent=user_agent))
    assert (admits(event).bot is not None) == is_bot


@pytest.mark.skipif(not FIELD_CASES.exists(), reason=f"{FIELD_CASES} is not there")
@pytest.mark.parametrize(
    ("file", "verdicts"),
    [
        ("open-by-mail-client.ndjson", [None, None, None, None, None, None]),
        ("bot-in-the-name.ndjson", [None, None, None, "WhatsApp"]),
        ("same-mail-opened-again.ndjson", [None, None, None, None]),
    ],
)
def test_the_field_cases_are_peoples_but_for_the_link_preview(file, verdicts):
    lines = (FIELD_CASES / file).read_bytes().splitlines()
    assert [admitted(read_producer_event(line, "e", NOW)).bot for line in lines] == verdicts


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        (IPHONE, ("mobile", "iOS", "Mobile Safari")),
        (DESKTOP, ("desktop", "Windows", "Chrome")),
        (TABLET, ("tablet", "Android", "Chrome")),
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/538.1 Version/6.0 TV Safari/538.1", "tv"),
        ("something of our own", "other"),
    ],
)
def test_a_person_is_no_crawler_and_has_a_device(user_agent, device):
    event = admitted(viewed(context=Context(user_agent=user_agent)))
    assert event.bot is None
    if isinstance(device, str):
        assert event.device.type == device
    else:
        assert (event.device.type, event.device.os, event.device.browser) == device


def test_a_browsers_own_request_speaks_for_the_visitor():
    event = admitted(viewed(), user_agent=IPHONE, client_ip="203.0.113.7")
    assert event.context.ip == "203.0.113.7"
    assert event.device.type == "mobile"


def test_a_producers_server_does_not_speak_for_the_visitor():
    """Or every event that a server sends with its HTTP library would be a bot's."""
    event = admitted(viewed(), user_agent="python-requests/2.32", client_ip="10.0.0.5")
    assert (event.bot, event.device, event.context) == (None, None, None)


def test_what_the_producer_says_of_the_visitor_wins_over_the_request():
    event = admitted(
        viewed(context=Context(user_agent=DESKTOP, ip="198.51.100.1")),
        user_agent=IPHONE,
        client_ip="10.1.1.1",
    )
    assert (event.context.ip, event.device.type) == ("198.51.100.1", "desktop")


def test_a_chat_message_is_not_the_browsers_that_relays_it():
    assert admitted(viewed(source="telegram"), user_agent=IPHONE, client_ip="1.2.3.4").context is None


@pytest.mark.parametrize(
    ("typed", "email"),
    [
        (" Ada.Lovelace@Example.COM ", "ada.lovelace@example.com"),
        ("ada@bücher.example", "ada@bücher.example"),
        ("no address", "no address"),
        ("", ""),
    ],
)
def test_emails_have_one_form_and_what_is_none_stays(typed, email):
    assert normalize_email(typed) == email


@pytest.mark.parametrize(
    ("typed", "region", "phone"),
    [
        ("+971 50 123 4567", None, "+971501234567"),
        ("050 123 4567", "AE", "+971501234567"),
        ("050 123 4567", None, "050 123 4567"),
        ("+1 0", None, "+1 0"),
        ("call me", "AE", "call me"),
    ],
)
def test_phones_have_one_form_and_what_is_none_stays(typed, region, phone):
    assert normalize_phone(typed, region) == phone


def test_addresses_are_brought_into_one_form_wherever_they_come():
    shared = admitted(
        ContactShared(event_id="e", occurred_at=NOW, lead_id="a", email="A@B.example", phone="0501234567"),
        phone_region="AE",
    )
    form = admitted(
        FormSubmitted(event_id="e", occurred_at=NOW, lead_id="a", fields={"email": "A@B.example", "size": 3})
    )
    profile = admitted(
        ProfileUpdated(
            event_id="e", occurred_at=NOW, lead_id="a", fields={"phone": "+971 50 123 4567", "email": None}
        )
    )
    assert (shared.email, shared.phone) == ("a@b.example", "+971501234567")
    assert form.fields == {"email": "a@b.example", "size": 3}
    assert profile.fields == {"phone": "+971501234567", "email": None}


def test_an_event_from_the_future_happened_now_and_its_own_time_is_kept():
    early = NOW + timedelta(minutes=6)
    event = admitted(viewed(occurred_at=early))
    assert event.occurred_at == NOW
    assert event.extra == {"stated_occurred_at": "2030-01-31T12:06:00+00:00"}


def test_five_minutes_ahead_is_left_alone():
    early = NOW + timedelta(minutes=5)
    assert admitted(viewed(occurred_at=early)).occurred_at == early


def test_a_clock_that_is_two_hours_slow_is_mended_by_what_it_says_when_sending():
    """Sent at 10:00 by its own clock, received at 12:00: an act of 9:59 was at 11:59."""
    event = admitted(
        viewed(occurred_at=datetime(2030, 1, 31, 9, 59, tzinfo=UTC)),
        sent_at=datetime(2030, 1, 31, 10, 0, tzinfo=UTC),
    )
    assert event.occurred_at == datetime(2030, 1, 31, 11, 59, tzinfo=UTC)
    assert event.extra == {"stated_occurred_at": "2030-01-31T09:59:00+00:00"}


@pytest.mark.parametrize(
    "underway", [timedelta(seconds=50), timedelta(seconds=90), timedelta(minutes=10), timedelta(minutes=55)]
)
def test_a_request_that_was_on_its_way_for_long_is_no_wrong_clock(underway):
    at = NOW - timedelta(hours=3)
    event = admitted(viewed(occurred_at=at), sent_at=NOW - underway)
    assert (event.occurred_at, event.extra) == (at, None)


@pytest.mark.parametrize(
    ("off", "corrected"),
    [
        (timedelta(minutes=1), False),
        (timedelta(minutes=1, seconds=1), True),
        (timedelta(hours=2), True),
        (timedelta(days=400), True),
        (-timedelta(minutes=55, seconds=1), True),
        (-timedelta(hours=1), True),
        (-timedelta(days=3), True),
    ],
)
def test_a_clock_is_corrected_where_no_journey_explains_the_difference(off, corrected):
    """An event of ten minutes ago, by a clock that is off by so much."""
    stated = NOW - timedelta(minutes=10) + off
    event = admitted(viewed(occurred_at=stated), sent_at=NOW + off)
    assert event.occurred_at == (NOW - timedelta(minutes=10) if corrected else stated)


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_time_that_the_door_fills_in_is_not_corrected_by_the_producers_clock(hours):
    event = read_producer_event(b'{"type":"qr_scanned","lead_id":"ahmad"}', "made-here", NOW)
    taken = admitted(event, sent_at=NOW + timedelta(hours=hours))
    assert (taken.occurred_at, taken.extra) == (NOW, None)


def test_half_an_emoji_costs_no_event_without_id_and_time():
    event = read_producer_event(
        rb'{"type":"demo_requested","lead_id":"ahmad","text":"\ud83d"}', "made-here", NOW
    )
    assert (event.event_id, event.text) == ("made-here", "\ufffd")


@pytest.mark.parametrize("year", [1, 9999])
def test_the_edges_of_time_do_not_break_the_door(year):
    edge = datetime(year, 6, 1, tzinfo=UTC)
    for sent_at in (None, edge, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)):
        event = admitted(viewed(occurred_at=edge), sent_at=sent_at)
        assert event.occurred_at <= NOW + timedelta(minutes=5)


def test_the_key_decides_the_tenant():
    assert admitted(viewed(), tenant="acme").tenant == "acme"
    assert admitted(viewed(tenant="acme"), tenant="acme").tenant == "acme"


def test_an_event_of_another_tenant_is_refused():
    with pytest.raises(Refusal, match="tenant: this key belongs to the tenant acme"):
        admitted(viewed(tenant="globex"), tenant="acme")


def test_an_import_is_recorded_when_it_happened_and_marked():
    at = datetime(2020, 1, 1, tzinfo=UTC)
    event = admit_import(viewed(occurred_at=at, context=Context(user_agent=GOOGLEBOT)), NOW)
    assert (event.recorded_at, event.imported, event.bot) == (at, True, "Googlebot")


def test_a_simple_producer_may_leave_out_id_and_time():
    event = read_producer_event(b'{"type":"qr_scanned","lead_id":"ahmad"}', "made-here", NOW)
    assert (event.event_id, event.occurred_at) == ("made-here", NOW)


def test_what_is_given_is_never_replaced():
    event = read_producer_event(
        b'{"type":"qr_scanned","lead_id":"ahmad","event_id":"mine"}', "made-here", NOW
    )
    assert event.event_id == "mine"


def test_a_completed_amount_stays_exact():
    event = read_producer_event(
        b'{"type":"purchase_made","lead_id":"a","value":0.100001,"currency":"EUR"}', "x", NOW
    )
    assert str(event.value) == "0.100001"


@pytest.mark.parametrize(
    ("raw", "field", "advice"),
    [
        (b'{"eventType": "page_viewed", "visitor_id": "v"}', "type", "eventType is not read, perhaps type"),
        (
            b'{"type": "page_viewed", "visitorId": "v"}',
            "visitor_id",
            "visitorId is not read, perhaps visitor_id",
        ),
        (b'{"type": "page_viewed", "lead-id": "v"}', "visitor_id", "lead-id is not read, perhaps lead_id"),
        (b'{"type": "lead_identified", "visitor_id": "v", "leadId": "l"}', "lead_id", "leadId is not read"),
        (b"  ", None, "a comma too many"),
    ],
)
def test_a_careless_producer_is_told_what_was_probably_meant(raw, field, advice):
    with pytest.raises(Refusal) as refusal:
        read_producer_event(raw, "e1", NOW)
    assert refusal.value.field == field
    assert advice in refusal.value.reason


def test_a_field_that_is_kept_but_probably_meant_to_be_read_is_pointed_out():
    event = read_producer_event(
        b'{"type": "page_viewed", "visitor_id": "v", "eventId": "e", "Shoe size": 44}', "e1", NOW
    )
    assert misspelling_hint(event) == "eventId is not read, perhaps event_id is meant"
    assert misspelling_hint(viewed(extra={"colour": "red"})) is None
    assert "beside the events" in (misspelling_hint(viewed(extra={"sent_at": "2030-01-31T12:00:00Z"})) or "")


@pytest.mark.parametrize("admits", [admitted, imported], ids=["over HTTP", "imported"])
@pytest.mark.parametrize("field", ["visitor_id", "lead_id"])
@pytest.mark.parametrize("value", ["N/A", "#N/A", "(not set)", "<NA>", "\\N", "{{user_id}}", "---", "\u3164"])
def test_an_id_that_says_nothing_joins_no_strangers(admits, field, value):
    with pytest.raises(Refusal, match="is a placeholder") as refusal:
        admits(viewed(**{field: value}))
    assert refusal.value.field == field


def test_an_empty_id_is_refused_not_replaced():
    with pytest.raises(Refusal, match="event_id"):
        read_producer_event(b'{"type":"qr_scanned","lead_id":"ahmad","event_id":""}', "made-here", NOW)


def test_what_the_door_lets_in_the_log_can_read():
    event = admitted(
        viewed(
            context=Context(user_agent="M" * 1024, url="https://x.example"), extra={"a": [1, {"b": None}]}
        ),
        client_ip="2001:db8::1",
        user_agent=IPHONE,
    )
    assert decode_source(encode_source(event)) == event


def test_what_a_producer_adds_leaves_room_for_what_the_door_adds():
    """Or the log would refuse what was answered to be in it."""
    full = {f"k{number}": number for number in range(MAX_EXTRA_FIELDS)}
    early = NOW + timedelta(hours=1)
    event = admitted(viewed(extra=full, occurred_at=early))
    assert decode_source(encode_source(event)).extra == full | {"stated_occurred_at": early.isoformat()}
    with pytest.raises(Refusal) as refused:
        admitted(viewed(extra=full | {"one": "more"}))
    assert refused.value.field == "extra"

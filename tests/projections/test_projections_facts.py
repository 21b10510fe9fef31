"""Events and statements to rows, without a database."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projection_records import TENANT, at, attached, delta, lead_scored, page_view, recorded

import schemas
from projections import column_values
from projections.channels import CHANNEL_FIXED_BY_TYPE, CHANNEL_OF_SOURCE, DEFAULT_CHANNEL_OF_TYPE, channel_of
from projections.facts import CHANGES_OF_STATEMENT, changes_of_record
from projections.row_keys import hashed_key
from projections.rows import EngagementRow, LeadRow, LeadScoreRow
from schemas import events as e
from schemas.decode import decode_source
from schemas.envelope import Campaign, Context, Device, Event, TrafficOrigin, tag_of
from schemas.events import EVENT_TYPES
from schemas.statements import STATEMENT_TYPES

WHEN = {"event_id": "e", "occurred_at": at(0), "visitor_id": "v"}


def engagement(event: Event) -> EngagementRow:
    (row,) = (
        each
        for record in recorded([delta("default/v/v#0", "l", 1, event)])
        for each in changes_of_record(record)
        if isinstance(each, EngagementRow)
    )
    return row


def lead(**fields) -> LeadRow:
    (record,) = recorded([lead_scored("l", **fields)])
    return next(each for each in changes_of_record(record) if isinstance(each, LeadRow))


def test_an_event_becomes_an_engagement_of_its_identity():
    row = engagement(
        e.PurchaseMade(
            **WHEN,
            recorded_at=at(1),
            session_id="s",
            source="crm",
            value=Decimal("19.99"),
            currency="EUR",
            order_id="o-1",
            imported=True,
            device=Device(type="mobile", os="iOS", browser="Safari"),
            traffic_origin=TrafficOrigin(channel="paid", group="Paid Search", edition="2026-11.0"),
            context=Context(
                ip="10.0.0.1",
                url="https://x.test/",
                referrer="https://y.test/",
                title="Order",
                campaign=Campaign(source="google", medium="cpc", name="spring", term="t", content="c"),
                source_type="form",
                source_id="456",
                source_name="Shop",
                location="Berlin",
                engagement_value=85,
            ),
        )
    )
    assert row == EngagementRow(
        identity_key=hashed_key("default/v/v#0"),
        occurred_at=at(0),
        partition=row.partition,
        position=0,
        tenant=TENANT,
        event_id="e",
        type="purchase_made",
        channel="sales",
        source="crm",
        recorded_at=at(1),
        session_id="s",
        late=False,
        imported=True,
        title="Order",
        url="https://x.test/",
        referrer="https://y.test/",
        engagement_value=85,
        revenue_minor=1999,
        currency="EUR",
        source_type="form",
        source_id="456",
        source_name="Shop",
        campaign_source="google",
        campaign_medium="cpc",
        campaign_name="spring",
        campaign_term="t",
        campaign_content="c",
        device_type="mobile",
        os="iOS",
        browser="Safari",
        location="Berlin",
        ip="10.0.0.1",
        details='{"value":19.99,"currency":"EUR","order_id":"o-1"}',
        channel_group="Paid Search",
    )


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("19.99", "EUR", 1999), ("500", "JPY", 500), ("1.234", "KWD", 1234), ("1000000000000", "USD", 10**14)],
)
def test_revenue_is_counted_in_the_currencys_smallest_unit(amount, currency, minor):
    row = engagement(e.PurchaseMade(**WHEN, value=Decimal(amount), currency=currency))
    assert (row.revenue_minor, row.currency) == (minor, currency)
    assert json.loads(row.details, parse_float=Decimal, parse_int=Decimal)["value"] == Decimal(amount)


def test_an_events_own_title_and_address_come_before_the_contexts():
    context = Context(title="page", url="https://page.test/")
    row = engagement(e.PageViewed(**WHEN, title="own", url="https://own.test/", context=context))
    assert (row.title, row.url, row.details) == ("own", "https://own.test/", None)


def test_details_keep_what_is_false_or_zero_and_leave_out_what_is_absent():
    row = engagement(e.CallMade(**WHEN, answered=False, duration_s=0))
    assert json.loads(row.details) == {"answered": False, "duration_s": 0}
    assert engagement(e.SessionStarted(**WHEN)).details is None


def test_fields_of_an_unknown_kind_are_kept_apart():
    row = engagement(e.Custom(**WHEN, name="booked", properties={"x": [1, {"y": None}]}, extra={"z": "ü"}))
    assert json.loads(row.details) == {
        "name": "booked",
        "properties": {"x": [1, {"y": None}]},
        "extra": {"z": "ü"},
    }


def test_an_event_that_no_door_recorded_counts_as_recorded_when_it_occurred():
    assert engagement(e.SessionStarted(**WHEN)).recorded_at == at(0)


def test_only_a_first_attach_brings_an_engagement():
    first, again = recorded([attached("i#0", "a", 1, page_view("e")), attached("i#0", "b", 2)])
    assert [type(each).__name__ for each in changes_of_record(first)] == [
        "IdentityRow",
        "IdentityAttachmentRow",
        "LeadRecordRow",
        "EngagementRow",
    ]
    assert [type(each).__name__ for each in changes_of_record(again)] == [
        "IdentityRow",
        "IdentityAttachmentRow",
        "LeadRecordRow",
    ]


EXAMPLES = (Path(schemas.__file__).parent / "examples" / "events.jsonl").read_bytes().splitlines()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: json.loads(example)["type"])
def test_every_example_event_becomes_a_row(example):
    """The golden corpus of the event catalogue."""
    row = engagement(decode_source(example))
    assert (row.type, row.event_id) == (json.loads(example)["type"], json.loads(example)["event_id"])


# Channels


def test_every_statement_changes_something():
    assert CHANGES_OF_STATEMENT.keys() == set(STATEMENT_TYPES)


def test_every_event_type_has_a_channel():
    assert CHANNEL_FIXED_BY_TYPE.keys() | DEFAULT_CHANNEL_OF_TYPE.keys() == set(map(tag_of, EVENT_TYPES))
    assert not CHANNEL_FIXED_BY_TYPE.keys() & DEFAULT_CHANNEL_OF_TYPE.keys()


@pytest.mark.parametrize(
    ("event", "channel"),
    [
        (e.PageViewed(**WHEN), "web"),
        (e.PageViewed(**WHEN, source="import"), "web"),
        (e.MessageReceived(**WHEN, source="chatbot"), "chat"),
        (e.MessageReceived(**WHEN, source="telegram"), "telegram"),
        (e.MessageReceived(**WHEN, source="whatsapp"), "chat"),
        (e.EmailOpened(**WHEN, source="crm"), "email"),
        (e.SmsReplied(**WHEN, source="import"), "sms"),
        (e.CallMade(**WHEN, source="crm"), "phone"),
        (e.QrScanned(**WHEN), "qr"),
        (e.AdClicked(**WHEN), "ads"),
        (e.SocialInteraction(**WHEN), "social"),
        (e.NoteAdded(**WHEN, text="t"), "sales"),
        (e.PurchaseMade(**WHEN, value=Decimal(1), currency="EUR"), "web"),
        (e.PurchaseMade(**WHEN, value=Decimal(1), currency="EUR", source="import"), "sales"),
        (e.Custom(**WHEN, name="x", source="kiosk"), "other"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else value,
)
def test_a_channel_is_where_the_lead_was_met(event, channel):
    assert channel_of(event) == channel


def test_channels_are_few():
    named = {*CHANNEL_FIXED_BY_TYPE.values(), *CHANNEL_OF_SOURCE.values(), *DEFAULT_CHANNEL_OF_TYPE.values()}
    assert named == {
        "ads",
        "chat",
        "email",
        "other",
        "phone",
        "qr",
        "sales",
        "sms",
        "social",
        "telegram",
        "web",
    }


# Leads


def test_a_name_is_the_given_one_or_made_of_its_parts():
    assert lead(fields={"name": "Ann", "first_name": "X"}).name == "Ann"
    assert lead(fields={"last_name": "Öz"}).name == "Öz"
    assert lead(fields={"name": ""}).name is None
    assert lead(fields={"name": 5}).name == "5"


@pytest.mark.parametrize(
    ("total", "whole"), [(77.45, 77), (77.5, 78), (-0.5, 0), (-0.6, -1), (0.4999995, 0), (1e300, 2**31 - 1)]
)
def test_whole_points_are_rounded_half_up(total, whole):
    (record,) = recorded([lead_scored("l", 0, {"m": total})])
    (score,) = (each for each in changes_of_record(record) if isinstance(each, LeadScoreRow))
    assert score.rounded == whole


# Text


@given(st.text())
def test_ordinary_text_is_kept_and_the_rest_replaced(text):
    kept = column_values.storable_text(text)
    assert len(kept) == len(text)
    assert all(
        k == t or (k == "\ufffd" and (t == "\0" or "\ud800" <= t <= "\udfff"))
        for k, t in zip(kept, text, strict=True)
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
        max_leaves=10,
    )
)  # fmt: skip
def test_json_says_the_same_without_what_cannot_be_stored(value):
    encoded = column_values.jsonb_text(value)
    encoded.encode()
    assert json.loads(encoded) == replaced(value)


def replaced(value):
    match value:
        case str():
            return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in value)
        case dict():
            return {replaced(name): replaced(entry) for name, entry in value.items()}
        case list():
            return [replaced(entry) for entry in value]
        case _:
            return value

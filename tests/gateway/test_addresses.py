"""Which address a text holds: expected values are from the numbering plans, by hand, and from what people paste."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from gateway.door.addresses import (
    email_of_one_person,
    normalize_email,
    normalize_phone,
    phone_of_one_person,
    searched_addresses,
)
from gateway.door.admission import RequestFacts, admit_event, admit_import
from gateway.door.emails import certain_email
from gateway.door.phones import certain_phone
from schemas.decode import encode_source, read_event
from schemas.events import ContactShared, FormSubmitted, MessageReceived, ProfileUpdated, QuestionAnswered

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
JO = "jo@kunde08.example"
BERLIN = "+4915112345678"
FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"

# -- e-mails

SAME_EMAIL = [
    "JO@Kunde08.example ",
    "\u200bjo@kunde08.example",
    "jo@\u200dkunde08\u200c.example",
    "\u200ejo@kunde08.example\u200f",
    "\u202ajo@kunde08.example\u202c",
    "\u2068jo@kunde08.example\u2069",
    "\ufeffjo@kunde08.example",
    "jo@kun\u00adde08.example",
    "jo@kunde08.example\ufe0f",
    "jo\u2060@kunde08.example",
    "\u061cjo@kunde08.example",
    "jo@kunde08.example\U000e0101",
    "\tjo@kunde08.example\r\n",
    "\u00a0jo@kunde08.example\u3000",
    "jo\u00a0@kunde08.example",
    "jo @ kunde08.example",
    "jo@ kunde08.example",
    "jo\uff20kunde08.example",
    "jo\ufe6bkunde08\uff0eexample",
    "\uff4a\uff4f\uff20\uff4b\uff55\uff4e\uff44\uff45\uff10\uff18\uff0e\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45",
    "jo@kunde08\u3002example",
    "jo@kunde08.example.",
    "jo@kunde08.example,",
    "jo@kunde08.example;",
    "jo@kunde08.example: ",
    "jo@kunde08.example).",
    "jo@kunde08.example \U0001f600",
    "<jo@kunde08.example>",
    "<<jo@kunde08.example>>;",
    "<jo@kunde08.example",
    "\uff1cjo@kunde08.example\uff1e",
    "\u2039jo@kunde08.example\u203a",
    "(jo@kunde08.example)",
    '"jo@kunde08.example"',
    "'jo@kunde08.example'",
    "'jo@kunde08.example",
    "`jo@kunde08.example`",
    "\u00b4jo@kunde08.example\u00b4",
    "\u201ejo@kunde08.example\u201c",
    "\u2018jo@kunde08.example\u2019",
    "\u00abjo@kunde08.example\u00bb",
    "Jo Doe <jo@kunde08.example>",
    '="jo@kunde08.example"',
    '=HYPERLINK("mailto:jo@kunde08.example","Jo Doe")',
    '=HYPERLINK("mailto:jo@kunde08.example";"jo@kunde08.example")',
    '<a href="mailto:jo@kunde08.example?subject=Hi">Jo Doe</a>',
    "#mailto:jo@kunde08.example#",
    "jo@kunde08.example#mailto:jo@kunde08.example#",
    "jo&commat;kunde08.example",
    "jo@kunde08.example\\r\\n",
    '"Doe, Jo" <jo@kunde08.example>',
    "=?utf-8?Q?J=C3=B6?= <Jo@kunde08.example>,",
    "Jo @ Work <jo@kunde08.example>",
    "jo@kunde08.example <jo@kunde08.example>",
    "Jo Doe [mailto:jo@kunde08.example]",
    "jo@kunde08.example (work)",
    "jo@kunde08.example; jo@kunde08.example",
    "E-Mail: jo@kunde08.example",
    "mailto:jo@kunde08.example",
    "MAILTO:jo@kunde08.example?subject=Hello, you&cc=ann@acme.io",
    "<mailto:jo@kunde08.example?subject=Hello>",
    "mailto:jo%40kunde08.example",
    "jo@kunde08.example?subject=Hello, Ann",
    "jo@kunde08.example?",
    "mailto:%E2%80%8Bjo@kunde08.example",
    "<mailto:jo@kunde08.example|jo@kunde08.example>",
    "[jo@kunde08.example](mailto:jo@kunde08.example)",
    "jo%40kunde08.example",
    "&lt;jo@kunde08.example&gt;",
    "jo&#64;kunde08.example&nbsp;",
]


@pytest.mark.parametrize("typed", SAME_EMAIL)
def test_an_address_is_the_same_however_it_was_pasted(typed):
    assert normalize_email(typed) == email_of_one_person(typed) == JO


@pytest.mark.parametrize(
    "typed",
    [
        "ann@b\u00fccher.example",
        "ANN@B\u00dcCHER.example.",
        "ann@bu\u0308cher.example",
        "ann@XN--bcher-kva.example",
    ],
)
def test_a_domain_in_punycode_is_the_same_as_in_its_own_letters(typed):
    assert normalize_email(typed) == "ann@b\u00fccher.example"


@pytest.mark.parametrize(
    "typed",
    ["jo+news@kunde08.example", "j.o@kunde08.example", "jo_@kunde08.example", "jo@mail.kunde08.example"],
)
def test_tags_and_dots_are_part_of_an_address(typed):
    assert email_of_one_person(typed) == typed


@pytest.mark.parametrize(
    "typed",
    [
        "ann@acme.io, bob@acme.io",
        "Ann <ann@acme.io>; Bob <bob@acme.io>",
        '"bob@acme.io via list" <ann@acme.io>',
        "ann@acme.io (not bob@acme.io)",
        "mailto:ann@acme.io,bob@acme.io",
        "please write to ann@acme.io",
        "not ann@acme.io",
        "ann@acme.io. Thanks",
        "ann (at) acme.io",
        "Ann @ Acme",
        "ann@@acme.io",
        "ann@acme,io",
        "is it ann@acme.io? no",
        "ann@acme.io? bob@acme.io",
        "@ann",
        "ann@",
        "@",
        "<>",
        " ",
        "\u200b",
    ],
)
def test_a_text_without_a_certain_address_stays_as_typed_and_is_nobody(typed):
    assert (normalize_email(typed), email_of_one_person(typed)) == (typed, None)


# -- phones: every expected value is by hand from the plan of its country


@pytest.mark.parametrize("region", [None, "DE", "US", "IR"])
@pytest.mark.parametrize(
    "typed",
    [
        "+4915112345678",
        "+49 (0)151 12345678",
        "+(49) 151/1234-5678",
        "(+49) 151.1234.5678",
        "004915112345678",
        "00 49 (0) 151 / 1234-5678",
        "(0049) 151 12345678",
        "011 49 151 12345678",
        "tel:+49-151-12345678",
        "TEL:0151-12345678;phone-context=+49",
        "tel:+49-151-12345678;ext=12",
        "+49 151 12345678 ext. 3",
        "sms:+4915112345678",
        "whatsapp:+4915112345678",
        "\u202a+49 151 12345678\u202c",
        "\u2068+49\u00a0151\u00a012345678\u2069",
        "+49\u2011151\u201112345678",
        "+49\u2013151\u201312345678\u200f",
        "\uff0b\uff14\uff19\uff11\uff15\uff11\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",
        "+\u0664\u0669\u0661\u0665\u0661\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        "\u06f0\u06f0\u06f4\u06f9\u06f1\u06f5\u06f1\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8",
        "Mobile: +49 151 12345678",
        "+49 151 12345678 (mobile)",
        "4915112345678@c.us",
        "4915112345678@s.whatsapp.net",
        "4915112345678:12@s.whatsapp.net",
        "https://wa.me/4915112345678?text=Hello",
        "https://api.whatsapp.com/send?phone=4915112345678&text=Hello",
        "4915112345678",
        "49 151 12345678",
        "49.151.12345678",
        "4915112345678.0",
        '="4915112345678"',
        "%2B49%20151%2012345678",
        "&#43;49&nbsp;151 12345678",
        "https://api.whatsapp.com/send?phone=%2B4915112345678",
        "+0049 151 12345678",
        "+49 151 12345678\ufe0f",
        " 4915112345678",
    ],
)
def test_a_number_with_its_country_code_is_the_same_in_every_region(typed, region):
    assert normalize_phone(typed, region) == BERLIN
    for source in ("telegram", "whatsapp", "crm"):
        assert phone_of_one_person(typed, region, source) == BERLIN


PERSON, SYSTEM, MESSENGER = "web", "crm", "telegram"


@pytest.mark.parametrize(
    ("typed", "region", "source", "phone"),
    [
        # DE: the 0 is needed. +49 49 1511... is a valid landline, too; +1 520 234 5678 is one in Arizona.
        ("0151 12345678", "DE", PERSON, "+4915112345678"),
        ("0151 12345678", "DE", MESSENGER, "+4915112345678"),
        ("15112345678", "DE", PERSON, "+4915112345678"),
        ("+0151 12345678", "DE", PERSON, "+4915112345678"),
        ("+(0)151 12345678", "DE", PERSON, "+4915112345678"),
        ("15202345678", "DE", PERSON, "+4915202345678"),
        ("15202345678", "DE", SYSTEM, "+15202345678"),
        ("15202345678", "DE", MESSENGER, "+15202345678"),
        ("971501234567", "DE", PERSON, "+971501234567"),
        # US: ten digits; 659 is an area code of Alabama, 65 Singapore.
        ("212 555 1234", "US", PERSON, "+12125551234"),
        ("1 (212) 555-1234", "US", PERSON, "+12125551234"),
        ("12125551234", "US", SYSTEM, "+12125551234"),
        ("12125551234", "DE", MESSENGER, "+12125551234"),
        ("6592345678", "US", PERSON, "+16592345678"),
        ("6592345678", "US", SYSTEM, "+16592345678"),
        ("6592345678", "US", MESSENGER, "+6592345678"),
        ("1-800-FLOWERS", "US", PERSON, "+18003569377"),
        # without a region, few digits may lack a country code
        ("6592345678", None, MESSENGER, "+6592345678"),
        ("6592345678", None, SYSTEM, None),
        ("33612345678", None, SYSTEM, "+33612345678"),
        ("13122345678", None, PERSON, None),
        ("971501234567", None, PERSON, "+971501234567"),
        # IR: 0 and ten digits
        ("0912 345 6789", "IR", PERSON, "+989123456789"),
        ("\u06f0\u06f9\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6\u06f7\u06f8\u06f9", "IR", PERSON, "+989123456789"),
        ("9123456789", "IR", PERSON, "+989123456789"),
        ("989123456789", "IR", PERSON, "+989123456789"),
        ("989123456789", "DE", PERSON, "+989123456789"),
        # IN: ten digits, mobiles from 6 to 9
        ("98765 43210", "IN", SYSTEM, "+919876543210"),
        ("919876543210", "IN", PERSON, "+919876543210"),
        ("919876543210", "DE", PERSON, "+919876543210"),
        # IT: the 0 belongs to the number; 39 also begins mobiles
        ("06 6981 2345", "IT", PERSON, "+390669812345"),
        ("390669812345", "DE", MESSENGER, "+390669812345"),
        ("+39 (0)6 69812345", "US", PERSON, "+390669812345"),
        ("391 234 5678", "IT", SYSTEM, "+393912345678"),
        ("393912345678", "IT", PERSON, "+393912345678"),
        # BR: 55 is also an area code; the ninth digit came until 2016
        ("(11) 96123-4567", "BR", PERSON, "+5511961234567"),
        ("5511961234567", "BR", SYSTEM, "+5511961234567"),
        ("55 99123-4567", "BR", PERSON, "+5555991234567"),
        ("551161234567@c.us", "DE", PERSON, "+5511961234567"),
        # AR: 9 behind the country code is 15 behind the area code
        ("011 15 2345-6789", "AR", PERSON, "+5491123456789"),
        ("+54 11 15 2345-6789", "DE", PERSON, "+5491123456789"),
        ("5491123456789", "DE", MESSENGER, "+5491123456789"),
        ("011 2345-6789", "AR", PERSON, "+541123456789"),
        # MX: 1 before mobiles, and 01, 044 and 045, until 2019
        ("55 1234 5678", "MX", PERSON, "+525512345678"),
        ("+52 1 55 1234 5678", "US", PERSON, "+525512345678"),
        ("5215512345678", "DE", MESSENGER, "+525512345678"),
        ("044 55 1234 5678", "MX", PERSON, "+525512345678"),
        ("01 55 1234 5678", "MX", PERSON, "+525512345678"),
        # RU: 8 before a number of the country, 84 Vietnam
        ("8 (495) 123-45-67", "RU", PERSON, "+74951234567"),
        ("84951234567", "RU", MESSENGER, "+84951234567"),
        # what is dialled before a country code: 0011 in AU, 010 in JP, 011 in America; 011 is Johannesburg in ZA
        ("0011 49 151 12345678", "AU", PERSON, "+4915112345678"),
        ("010 49 151 12345678", "JP", PERSON, "+4915112345678"),
        ("011 234 5678", "ZA", PERSON, "+27112345678"),
        # no certain number
        ("0151 12345678, 0170 1234567", "DE", PERSON, None),
        ("4.91511E+12", "DE", SYSTEM, None),
        ("4915112345678-1612345678@g.us", "DE", MESSENGER, None),
        ("ann4915112345678@acme.io", "DE", PERSON, None),
        ("050 123 4567", None, PERSON, None),
        ("+1 0", "US", PERSON, None),
        ("\u200b", "DE", PERSON, None),
    ],
)
def test_digits_mean_the_number_that_their_writer_means(typed, region, source, phone):
    assert certain_phone(typed, region, source) == phone
    assert normalize_phone(typed, region, source) == (phone or typed)


PRODUCING = Path(__file__).parents[2] / "docs/producing.md"
DOCUMENTED = re.findall(
    r"^\| `([\d ]+)` \| (.+?) \| (.+?) \| (`\+\d+`|none) \|", PRODUCING.read_text("utf-8"), re.MULTILINE
)


def test_the_documented_examples_are_so():
    assert len(DOCUMENTED) == 7
    for typed, regions, sources, phone in DOCUMENTED:
        for region in re.findall(r"[A-Z]{2}|none", regions):
            for source in re.findall(r"[a-z]+", sources):
                number = certain_phone(typed, None if region == "none" else region, source)
                assert f"`{number}`" == phone or (number, phone) == (None, "none")


REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)


def test_a_mobile_of_germany_needs_no_plus_sign_anywhere():
    read = {
        normalize_phone("4915112345678", region, source)
        for region in REGIONS
        for source in (PERSON, SYSTEM, MESSENGER)
    }
    assert read == {BERLIN}


numbers = st.sampled_from(
    [
        (region, phonenumbers.format_number(number, PhoneNumberFormat.E164))
        for region in REGIONS
        for kind in KINDS
        if (number := phonenumbers.example_number_for_type(region, kind)) is not None
    ]
)
"""The region and a number of each numbering plan, from the examples of phonenumbers."""


@given(numbers, st.none() | st.sampled_from(REGIONS))
def test_a_number_of_any_country_is_the_same_in_every_region(of: tuple[str, str], region: str | None):
    """There is no exception: digits from a messenger have a country code, whatever else they could mean."""
    _, phone = of
    assert normalize_phone(phone, region) == phone
    assert normalize_phone(f"00{phone[1:]}", region) == phone
    assert normalize_phone(f"{phone[1:]}@c.us", region) == phone
    assert normalize_phone(phone[1:], region, "telegram") == phone


@given(numbers, st.sampled_from(["web", "crm", "telegram"]))
def test_a_number_of_the_region_is_the_same_with_its_country_code_and_as_the_region_writes_it(
    of: tuple[str, str], source: str
):
    region, phone = of
    parsed = phonenumbers.parse(phone)
    assert normalize_phone(phone[1:], region, source) == phone
    if source != "telegram":
        assert (
            normalize_phone(phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL), region, source)
            == phone
        )


@given(st.text(max_size=60) | st.from_regex(r"[<+0-9a-z@. \u200b(\[\"';,?:%]{1,40}", fullmatch=True))
@example("<mailto:ann@acme.io?x=%40|ann@acme.io>")
@example("5215512345678")
def test_the_one_form_has_the_one_form(text: str):
    assert normalize_email(normalize_email(text)) == normalize_email(text)
    for region in (None, "DE", "MX"):
        assert normalize_phone(normalize_phone(text, region), region) == normalize_phone(text, region)


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "@",
        "a@",
        "<@",
        "mailto:",
        "<a href=mailto:",
        '=hyperlink("',
        "mailto:?",
        " @ ",
        ".",
        "\u0301\u0327",
        "%40",
        "&#64;",
        "a@b.de,",
        "\ufdfa",
        "(",
    ],
)
@pytest.mark.parametrize("size", [320, 1024, 65_536])
def test_a_hostile_text_costs_milliseconds(unit, size):
    text = (unit * size)[: size - 1] + "@"
    phone = (unit * size)[: size // 2] + "1" * (size // 2)
    certain_email("warm@acme.io"), certain_phone("0151 12345678", "DE")
    started = time.process_time()
    certain_email(text), certain_phone(text, "DE"), certain_phone(phone, "DE")
    assert time.process_time() - started < 1


# -- what the door keeps


def admitted(kind, region="DE", **fields):
    event = kind(**({"event_id": "e", "occurred_at": NOW, "visitor_id": "v"} | fields))
    by_request = admit_event(event, RequestFacts(None, phone_region=region), NOW)
    by_import = admit_import(event, NOW, region)
    assert by_request.extra == by_import.extra
    assert by_request == admit_event(
        read_event(encode_source(event)), RequestFacts(None, phone_region=region), NOW
    )
    return by_request


def test_every_event_with_an_address_has_its_one_form_and_keeps_what_was_typed():
    typed = {"email": "Jo <JO@kunde08.example>", "phone": "4915112345678"}
    one_form = {"email": JO, "phone": BERLIN}
    kept = {"stated_email": typed["email"], "stated_phone": typed["phone"]}
    shared = admitted(ContactShared, source="crm", **typed)
    assert (shared.email, shared.phone, shared.extra) == (JO, BERLIN, kept)
    for kind in (FormSubmitted, ProfileUpdated):
        event = admitted(kind, source="crm", fields=typed | {"company": "+4915112345678 GmbH"})
        assert event.fields == one_form | {"company": "+4915112345678 GmbH"}
        assert event.extra == kept
    for field in ("email", "phone"):
        answer = admitted(QuestionAnswered, question_id="q", profile_field=field, text=typed[field])
        assert (answer.text, answer.extra) == (one_form[field], {f"stated_{field}": typed[field]})


def test_each_event_is_read_by_its_source():
    """+1 520 234 5678 for a messenger, a mobile of Germany without its 0 for a person."""
    phone = {"phone": "15202345678"}
    for source, read in (("telegram", "+15202345678"), ("web", "+4915202345678")):
        assert admitted(ContactShared, source=source, **phone).phone == read
        assert admitted(FormSubmitted, source=source, fields=phone).fields == {"phone": read}
        answer = admitted(
            QuestionAnswered, source=source, question_id="q", profile_field="phone", text=phone["phone"]
        )
        assert answer.text == read


def test_a_producer_cannot_write_what_only_the_door_keeps():
    claimed = ContactShared(
        event_id="e",
        occurred_at=NOW,
        visitor_id="v",
        email=JO,
        extra={"stated_email": "x", "stated_phone": "y", "plan": 1},
    )
    assert admit_event(claimed, RequestFacts(None), NOW).extra == {"plan": 1}


def test_what_only_looks_different_is_not_kept_beside():
    event = admitted(
        ContactShared, email=" Jo@Kunde08.Example ", phone="+49 (151) 123-456 78", extra={"plan": "gold"}
    )
    assert (event.email, event.phone, event.extra) == (JO, BERLIN, {"plan": "gold"})


def test_what_holds_no_address_stays_as_typed_and_nothing_is_kept_beside():
    event = admitted(FormSubmitted, fields={"email": "ask me", "phone": "later", "size": None})
    assert (event.fields, event.extra) == ({"email": "ask me", "phone": "later", "size": None}, None)


def test_a_phone_may_be_a_json_number():
    for number in (4915112345678, 4915112345678.0):
        event = admitted(FormSubmitted, fields={"phone": number})
        assert event.fields == {"phone": BERLIN}
        assert event.extra == {"stated_phone": number}
    for other in (True, 7, 0.5, ["+4915112345678"], None):
        assert admitted(FormSubmitted, fields={"phone": other}).fields == {"phone": other}


def test_ids_and_texts_of_other_fields_are_no_addresses():
    lead = admitted(MessageReceived, lead_id="4915112345678", text="4915112345678")
    assert (lead.lead_id, lead.visitor_id, lead.text) == ("4915112345678", "v", "4915112345678")
    answer = admitted(QuestionAnswered, question_id="q", profile_field="company", text="<jo@kunde08.example>")
    assert answer.text == "<jo@kunde08.example>"


def test_an_export_that_is_imported_again_keeps_what_was_typed_first():
    first = admitted(ContactShared, source="telegram", phone="4915112345678")
    assert admit_import(first, NOW, "US").extra == {"stated_phone": "4915112345678"}
    assert admit_import(first, NOW, "US").phone == BERLIN


def test_a_search_finds_the_address_that_was_pasted_into_it():
    assert searched_addresses("Jo <JO@kunde08.example>", "DE") == [JO]
    assert searched_addresses("0151 12345678", "DE") == [BERLIN]
    assert searched_addresses("4915112345678", None) == [BERLIN]
    assert searched_addresses("6592345678", "US") == ["+16592345678", "+6592345678"]
    assert searched_addresses("Jo Doe", "DE") == []


@pytest.mark.skipif(not FIELD_CASES.exists(), reason="needs ../shared/data/field-cases")
@pytest.mark.parametrize(("name", "address"), [("phone-without-plus", BERLIN), ("unseen-in-email", JO)])
def test_field_cases_give_one_address(name, address):
    lines = [
        line for each in (1, 2) for line in (FIELD_CASES / f"{name}.{each}.ndjson").read_bytes().splitlines()
    ]
    events = [
        read_event(line.replace(b'"event_id"', b'"occurred_at":"2030-01-31T12:00:00Z","event_id"'))
        for line in lines
        if line
    ]
    taken = [admit_event(event, RequestFacts(None, phone_region="DE"), NOW) for event in events]
    assert len(taken) >= 2
    assert {event.phone or event.email for event in taken} == {address}

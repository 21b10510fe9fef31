"""Whose address it is, decided at the door: what is known comes from a mapping, what is expected by hand."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.door.addresses import email_of_one_person, phone_of_one_person
from gateway.door.admission import RequestFacts, admit_event
from gateway.door.resolving import AddressMatches, with_resolved_leads
from gateway.metrics import REGISTRY
from schemas.decode import decode_source, encode_source
from schemas.events import (
    EVENT_TYPES,
    ConsentChanged,
    ContactShared,
    FormSubmitted,
    LeadIdentified,
    PageViewed,
    ProfileUpdated,
    QuestionAnswered,
)

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
ANN, BOB = "ann@acme.io", "bob@acme.io"
PHONE = "+971501234567"


class Directory:
    """Who has which address, and who is behind which visitor, as `LookUpAddresses` is asked it."""

    def __init__(self):
        self.emails, self.phones = defaultdict(list), defaultdict(list)
        self.visitors = {}
        self.away = False
        self.asked = []

    def lead(self, lead_id, *, email=None, phone=None, tenant="default"):
        if email:
            self.emails[tenant, email].append(lead_id)
        if phone:
            self.phones[tenant, phone].append((lead_id, email))
        return self

    def visitor(self, visitor_id, lead_id, owner=None, *, tenant="default"):
        self.visitors[tenant, visitor_id] = (lead_id, owner or lead_id)
        return self

    async def resolve(self, asked):
        self.asked.extend(asked)
        return [None if self.away else self._known(each) for each in asked]

    def _known(self, asked):
        return AddressMatches(
            *self.visitors.get((asked.tenant, asked.visitor_id), (None, None)),
            tuple(self.emails[asked.tenant, asked.email]),
            tuple(
                lead_id
                for lead_id, email in self.phones[asked.tenant, asked.phone]
                if asked.email is None or email in {None, asked.email}
            ),
        )


@pytest.fixture
def known():
    return Directory()


def shared(visitor_id="v", **fields):
    return said(ContactShared, visitor_id=visitor_id, **fields)


def said(kind, **fields):
    envelope = {"event_id": "e", "occurred_at": NOW, "visitor_id": "v"}
    return admit_event(kind(**(envelope | fields)), RequestFacts(None, phone_region="AE"), NOW)


async def leads(known, *events, **options):
    """The lead of each event, and by what it was found."""
    found = await with_resolved_leads(events, known.resolve, region="AE", **options)
    return [(event.lead_id, (event.extra or {}).get("resolved_by")) for event in found]


def made_from(text):
    """Twenty hex digits of the tenant and the address: as the documents say."""
    return "c-" + blake2b(text.encode(), digest_size=10).hexdigest()


ANNS = made_from("default/email/ann@acme.io")


@pytest.mark.anyio
async def test_an_email_that_a_lead_has_makes_the_visitor_that_lead(known):
    known.lead("lead-1", email=ANN)
    assert await leads(known, shared(email="Ann@Acme.IO ")) == [("lead-1", "email")]


@pytest.mark.anyio
async def test_an_email_goes_before_a_phone(known):
    known.lead("lead-1", email=ANN).lead("lead-2", phone=PHONE)
    assert await leads(known, shared(email=ANN, phone="050 123 4567")) == [("lead-1", "email")]
    assert await leads(known, shared(email=BOB, phone="050 123 4567")) == [("lead-2", "phone")]


@pytest.mark.anyio
async def test_colleagues_who_share_a_telephone_are_not_one(known):
    known.lead("lead-1", email=ANN, phone=PHONE)
    assert await leads(known, shared(email=BOB, phone=PHONE)) == [
        (made_from("default/email/bob@acme.io"), "email")
    ]
    assert await leads(known, shared(phone=PHONE)) == [("lead-1", "phone")]


@pytest.mark.anyio
async def test_an_address_that_nobody_has_makes_a_lead_by_it(known):
    assert await leads(known, shared(email=ANN, phone=PHONE)) == [(ANNS, "email")]
    assert await leads(known, shared(phone=PHONE)) == [(made_from(f"default/phone/{PHONE}"), "phone")]


@pytest.mark.anyio
async def test_two_devices_that_give_a_new_address_before_anybody_knows_it_become_one_lead(known):
    (first,), (second,) = (
        await leads(known, shared("phone", email=ANN)),
        await leads(known, shared("laptop", email=" ANN@acme.io")),
    )
    assert first == second == (ANNS, "email")


@pytest.mark.anyio
async def test_tenants_share_no_address(known):
    known.lead("lead-1", email=ANN)
    other = said(ContactShared, email=ANN, tenant="other")
    assert await leads(known, other) == [(made_from("other/email/ann@acme.io"), "email")]


@pytest.mark.anyio
async def test_a_new_address_of_a_known_visitor_is_their_new_address(known):
    known.visitor("v", "lead-1")
    assert await leads(known, shared(email=ANN)) == [(None, None)]


@pytest.mark.anyio
async def test_somebody_else_on_a_known_device_is_told_by_the_address(known):
    known.visitor("v", "lead-1").lead("lead-2", email=BOB)
    assert await leads(known, shared(email=BOB)) == [("lead-2", "email")]


@pytest.mark.anyio
async def test_an_address_of_several_leads_tells_nobody_apart(known):
    known.lead("lead-1", email=ANN).lead("lead-2", email=ANN)
    assert await leads(known, shared(email=ANN)) == [(None, None)]


@pytest.mark.anyio
async def test_of_several_leads_with_the_email_the_phone_tells_which(known):
    known.lead("lead-1", email=ANN).lead("lead-2", email=ANN, phone=PHONE)
    assert await leads(known, shared(email=ANN, phone=PHONE)) == [("lead-2", "phone")]


@pytest.mark.anyio
async def test_a_lead_that_others_named_goes_before_one_that_was_made_from_the_address(known):
    known.lead(ANNS, email=ANN).lead("crm-7", email=ANN)
    assert await leads(known, shared(email=ANN)) == [("crm-7", "email")]
    known.lead("crm-8", email=ANN)
    assert await leads(known, shared(email=ANN)) == [(None, None)]


@pytest.mark.anyio
async def test_who_was_merged_stays_the_person_that_a_split_would_bring_back(known):
    """The visitor is lead-1, who was merged into lead-2: their own address does not make a second person."""
    known.visitor("v", "lead-1", "lead-2").lead("lead-2", email=ANN)
    assert await leads(known, shared(email=ANN)) == [("lead-1", "email")]
    assert await leads(known, shared("another", email=ANN)) == [("lead-2", "email")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "event",
    [
        said(FormSubmitted, fields={"email": "ANN@acme.io", "company": "Acme"}),
        said(ProfileUpdated, fields={"email": ANN}),
        said(QuestionAnswered, question_id="q", text=" Ann@acme.io", profile_field="email"),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_whatever_fills_a_leads_address_tells_who_it_is(known, event):
    known.lead("lead-1", email=ANN)
    assert await leads(known, event) == [("lead-1", "email")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "event",
    [
        said(PageViewed),
        shared(name="Ann"),
        shared(email="call me"),
        shared(email="noreply@acme.io"),
        shared(phone="123"),
        shared(phone="+1 000 000 0000"),
        shared(email=ANN, bot="Googlebot", context=None),
        said(FormSubmitted, fields={"email": 7, "phone": True}),
        said(FormSubmitted),
        said(QuestionAnswered, question_id="q", text=ANN, profile_field="comment"),
    ],
    ids=repr,
)
async def test_nobody_is_asked_about_what_tells_nobody(known, event):
    assert await with_resolved_leads([event], known.resolve, region="AE") == [event]
    assert known.asked == []


@pytest.mark.anyio
async def test_a_lead_id_that_is_given_stands(known):
    known.lead("lead-1", email=ANN)
    event = shared(email=ANN, lead_id="lead-9")
    assert await with_resolved_leads([event], known.resolve) == [event]
    assert known.asked == []


@pytest.mark.anyio
async def test_it_is_looked_up_by_what_the_settings_say(known):
    known.lead("lead-1", email=ANN).lead("lead-2", phone=PHONE)
    event = shared(email=ANN, phone=PHONE)
    assert await leads(known, event, by=["phone"]) == [("lead-2", "phone")]
    assert await leads(known, shared(phone=PHONE), by=["email"]) == [(None, None)]


@pytest.mark.anyio
async def test_while_nobody_knows_events_stay_as_they_are(known):
    known.lead("lead-1", email=ANN)
    known.away = True
    event, before = shared(email=ANN), unanswered()
    assert await with_resolved_leads([event], known.resolve) == [event]
    assert unanswered() == before + 1


def unanswered():
    return REGISTRY.get_sample_value("leadstream_contacts_asked_total", {"answer": "unanswered"}) or 0


# -- within one request


@pytest.mark.anyio
async def test_events_of_one_request_see_each_other(known):
    assert await leads(
        known,
        shared("v", email=ANN),
        shared("v", email=BOB),  # their second address
        shared("w", email=BOB),
        said(PageViewed, visitor_id="v"),
    ) == [(ANNS, "email"), (None, None), (ANNS, "email"), (None, None)]


@pytest.mark.anyio
async def test_a_log_in_earlier_in_the_request_is_seen(known):
    assert await leads(
        known, said(LeadIdentified, lead_id="lead-1"), shared(email=ANN), shared("w", email=ANN)
    ) == [("lead-1", None), (None, None), ("lead-1", "email")]


@pytest.mark.anyio
async def test_two_strangers_in_one_request_stay_two(known):
    found = await leads(known, shared("v", email=ANN, phone=PHONE), shared("w", email=BOB, phone=PHONE))
    assert found == [(ANNS, "email"), (made_from("default/email/bob@acme.io"), "email")]


@pytest.mark.anyio
async def test_an_address_given_to_another_lead_in_the_request_is_of_several(known):
    known.lead("lead-1", email=ANN)
    assert await leads(known, shared("v", email=ANN, lead_id="lead-2"), shared("w", email=ANN)) == [
        ("lead-2", None),
        (None, None),
    ]


@pytest.mark.anyio
async def test_all_questions_of_a_request_are_asked_at_once(known):
    calls = []

    async def resolve(asked):
        calls.append(len(asked))
        return await known.resolve(asked)

    await with_resolved_leads([shared(f"v{n}", email=f"ann{n}@acme.io") for n in range(50)], resolve)
    assert calls == [50]


# -- what is recorded


@pytest.mark.anyio
async def test_what_was_decided_stands_in_the_log(known):
    (event,) = await with_resolved_leads([shared(email=ANN, extra={"plan": "gold"})], known.resolve)
    again = decode_source(encode_source(event))
    assert (again.lead_id, again.extra) == (ANNS, {"plan": "gold", "resolved_by": "email"})
    assert (again.visitor_id, again.email) == ("v", ANN)


def test_a_producer_cannot_say_what_only_the_door_may():
    event = shared(email=ANN, extra={"resolved_by": "email", "stated_occurred_at": "x", "plan": "gold"})
    assert event.extra == {"plan": "gold"}


# -- addresses of nobody


@pytest.mark.parametrize(
    "text",
    [
        "test@test.com",
        "NoReply@acme.io",
        "no-reply+7@acme.io",
        "null@acme.io",
        "x@example.com",
        "ann",
        "",
        "@",
    ],
)
def test_an_email_that_many_type_or_nobody_reads_is_no_persons(text):
    assert email_of_one_person(text) is None


@pytest.mark.parametrize("text", [ANN, "ann+test@acme.io", "test.pilot@acme.io", "info@acme.io"])
def test_an_email_of_somebody_is_a_persons(text):
    assert email_of_one_person(text) == text


@pytest.mark.parametrize("text", ["0000000000", "+0000000000", "+971 50 000 0000", "12", "no", ""])
def test_a_phone_of_zeros_or_none_at_all_is_no_persons(text):
    assert phone_of_one_person(text, "AE") is None


def test_a_phone_is_a_persons_in_its_one_form_only():
    assert phone_of_one_person("050 123 4567", "AE") == PHONE
    assert phone_of_one_person("050 123 4567", None) is None


WITH_ADDRESSES = {ContactShared, FormSubmitted, ProfileUpdated, QuestionAnswered}
"""The types whose addresses the door reads."""
NO_ADDRESS = {ConsentChanged: "its `email` says whether e-mail is allowed"}


def test_a_new_type_with_an_address_makes_somebody_decide_whether_the_door_reads_it():
    named = {"email", "phone", "fields", "profile_field"}
    with_fields = {each for each in EVENT_TYPES if named & set(each.__struct_fields__)}
    assert with_fields == WITH_ADDRESSES | NO_ADDRESS.keys()


BLANK = ["", "  ", "\u200b", "-", "NULL", "N/A", "undefined", "[object Object]", [], [""], False, 0]
addresses = st.fixed_dictionaries(
    {}, optional={"email": st.sampled_from([ANN, BOB, None]), "phone": st.sampled_from([PHONE, None])}
)


@given(
    addresses, st.dictionaries(st.sampled_from(["email", "phone", "name", "topic"]), st.sampled_from(BLANK))
)
def test_blank_fields_never_change_whose_event_it_is(fields, blanks):
    for kind in (FormSubmitted, ProfileUpdated):
        known = Directory().lead("lead-1", email=ANN).lead("lead-2", phone=PHONE)
        one, other = (said(kind, fields=each) for each in (fields, {**blanks, **fields}))
        assert asyncio.run(leads(known, one)) == asyncio.run(leads(known, other))


@given(addresses, st.dictionaries(st.sampled_from(["email", "phone", "name"]), st.sampled_from(BLANK[:8])))
def test_blank_fields_of_a_contact_never_change_whose_event_it_is(fields, blanks):
    known = Directory().lead("lead-1", email=ANN).lead("lead-2", phone=PHONE)
    one, other = (shared(**each) for each in (fields, {**blanks, **fields}))
    assert asyncio.run(leads(known, one)) == asyncio.run(leads(known, other))


@pytest.mark.anyio
@pytest.mark.parametrize("blank", BLANK[:8])
async def test_a_blank_answer_identifies_nobody(known, blank):
    known.lead("lead-1", email=ANN)
    for field in ("email", "phone"):
        answer = said(QuestionAnswered, question_id="q", text=blank, profile_field=field)
        assert await leads(known, answer) == [(None, None)]
    assert known.asked == []

"""A blank of another type than its field says nothing, too, and costs no event."""

import json

import pytest

from schemas.blank import with_typed_blanks
from schemas.decode import Refusal, decode_source, encode_source, read_event
from schemas.events import LeadAssigned, ProfileUpdated

ENVELOPE = {"event_id": "e1", "occurred_at": "2030-01-31T12:00:00Z", "visitor_id": "v"}


def received(type_, **fields):
    return read_event(json.dumps({**ENVELOPE, "type": type_, **fields}).encode())


@pytest.mark.parametrize("blank", [[""], [], [" ", None], {}, False, 0, 0.0])
def test_a_blank_of_any_type_is_a_blank_text(blank):
    event = received("contact_shared", phone=blank, email=blank, name="Jo")
    assert (event.phone, event.email, event.name) == ("", "", "Jo")
    assert received("question_answered", question_id="q", text=blank, profile_field="phone").text == ""
    assert received("lead_assigned", assigned_to=blank).assigned_to == ""


def test_null_is_no_answer_and_still_removes_an_assignment():
    assert received("question_answered", question_id="q", text=None).text == ""
    assert received("lead_assigned", assigned_to=None).assigned_to is None
    assert with_typed_blanks(LeadAssigned, {"by": "x"}) == {"by": "x"}


@pytest.mark.parametrize("blank", ["", "  ", "N/A", [""], [], {}])
def test_a_blank_consent_changes_nothing_and_false_forbids(blank):
    event = received("consent_changed", email=blank, sms=False)
    assert (event.email, event.sms) == (None, False)


@pytest.mark.parametrize("type_", ["form_submitted", "profile_updated"])
@pytest.mark.parametrize("blank", ["", [], "null", [""]])
def test_fields_that_are_blank_as_a_whole_are_no_fields(type_, blank):
    assert received(type_, fields=blank).fields == {}


def test_lists_of_a_form_lose_what_is_no_text_but_blank_and_numbers_stay_exact():
    event = received(
        "form_submitted", fields={"tags": ["a", None], "topics": {}, "none": [None], "size": 0.1}
    )
    assert event.fields == {"tags": ["a"], "topics": [], "none": [], "size": 0.1}
    assert decode_source(encode_source(event)) == event


@pytest.mark.parametrize(
    ("type_", "fields", "field"),
    [
        ("contact_shared", {"phone": ["+4915112345678"], "name": [""]}, "phone"),
        ("contact_shared", {"phone": 4915112345678}, "phone"),
        ("consent_changed", {"email": "no"}, "email"),
        ("consent_changed", {"email": 0}, "email"),
        ("form_submitted", {"fields": "x"}, "fields"),
        ("form_submitted", {"fields": {"a": [1]}}, "fields.a.0"),
        ("page_viewed", {"title": [""]}, "title"),
    ],
)
def test_a_value_of_another_type_is_still_refused(type_, fields, field):
    with pytest.raises(Refusal) as refusal:
        received(type_, **fields)
    assert refusal.value.field == field


@pytest.mark.parametrize("blank", ["", [], [None]])
def test_an_object_that_is_blank_is_left_out(blank):
    event = received("custom", name="tour", properties=blank, context=blank, extra=blank)
    assert (event.properties, event.context, event.extra) == (None, None, None)


def test_a_deep_value_is_refused_and_not_searched():
    raw = (
        b'{"type":"profile_updated","event_id":"e","visitor_id":"v","fields":'
        + b"[" * 30_000
        + b"]" * 30_000
        + b"}"
    )
    with pytest.raises(Refusal):
        read_event(raw)
    assert with_typed_blanks(ProfileUpdated, {"fields": [[]]}) == {"fields": [[]]}

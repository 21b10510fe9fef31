"""What is a value of a profile field, by its type; a blank changes nothing, wherever it comes."""

import time

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from leads_given import T0, features_of, happened

from scoring.features.features import encode_features
from scoring.features.profile_fields import (
    BUILT_IN_FIELDS,
    FIELD_TYPES,
    stated_fields,
    types_of_fields,
)
from scoring.features.signals import EFFECT_BY_EVENT_TYPE, SignalCatalogue, define_signal, profile_fields_of
from scoring.models.profile_fields_text import MOST_FIELDS, ProfileFieldsError, read_profile_fields

EMPTY = ["", " ", "\t\n", "\u00a0", "\u2003\u3000", "\u2028"]
UNSEEN = [
    "\u200b", "\ufeff", "\u200e\u200f", "\u00ad", "\u2060", "\u180e", "\u034f", "\ufe0f", "\u3164", "\u2800",
    " \u200b \u2800 ", "\ufffd", "\u0001",
]  # fmt: skip
PUNCTUATION = [
    "-",
    "--",
    "---",
    "—",
    "–",
    "...",
    "…",
    ".",
    "?",
    "/",
    "*",
    "_",
    '""',
    "''",
    "[]",
    "{}",
    "()",
    "+",
]
PLACEHOLDERS = [
    "NULL", "null", "Null", "nULL", "None", "none", "NONE", "nil", "undefined", "Undefined", "NaN", "nan", "NaT",
    "N/A", "n/a", "N/a", "n.a.", "#N/A", "#n/a", "NA", "na", "<NA>", "(null)", "[null]", "<null>", '"NULL"', "'null'",
    "`null`", "“N/A”", " null ", "null.", "\u200bnull\u200b", "ＮＵＬＬ", "Ｎ／Ａ", "--None--", "-None-", "(none)",
    "(not set)", "[not provided]", "not_set", "Not Available", "not applicable", "(No value)", "undefined undefined",
    "null null", "N/A, n/a", "N / A", "null/undefined", "Select...", "none given", "None, None", "[object Object]", "[object Undefined]", "[object Object],[object Object]", "Invalid Date",
    "NaN-NaN-NaN", "\\N", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "(blank)", "[[unknown]]", "-- Select --",
    "Please select", "Please select...", "{{phone}}", "{{ first_name }} {{ last_name }}", "${phone}", "*|PHONE|*",
    "{!Contact.Phone}", "[[phone]]", "<%= phone %>", "%PHONE%", "Invalid DateTime", "%%phone%%", "&nbsp;", "<p><br></p>", "<br/>", "<p>&nbsp;</p>",
]  # fmt: skip
BLANK_TEXTS = [*EMPTY, *UNSEEN, *PUNCTUATION, *PLACEHOLDERS]
BLANK = [*BLANK_TEXTS, [], [""], ["", " "], ["\u200b"], ["N/A", "null"]]

TEXTS = [
    "x", "0", "00", "false", "no", "off", "1", "-1", "Berlin", "Nullmeier", "Nana", "Nil Desperandum", "NA-7", "none yet",
    "Nonesuch GmbH", "unknown", "Unknown Pleasures Ltd", "select", "Select Hotels", "value", "Name", "empty", "N/A (remote)",
    "$", "€€€", "😀", "日本", "C++", "a-b", "Jennifer Null", "null@acme.io", "50%", "[a]", "{a}", "<b>bold</b>", "n" * 65_536,
]  # fmt: skip
"""Texts that say something, whatever they look like."""

VALUES_OF_TYPES = {
    "text": [*TEXTS, True, 5, -1, 0.5, ["a"]],
    "number": [0, 0.0, 5, -3, "0", "12", "12.5", "many", "1.200", "10k", True, ["12"]],
    "flag": [True, False, "maybe", "ja", 2, ["yes"]],
    "list": [["a"], ["a", "b"], "a; b", "a, b", True],
    "money": [0, 5, "500000", "0", "12.50", "about 50", "10k EUR", "5-10", "ABC1", "€"],
    "date": ["2026-03-01", "01.03.2026", "2026-03-01T00:00:00Z", "soon", 1_700_000_000],
}
READ = [
    ("number", "1,200", 1200),
    ("number", "1,234,567", 1_234_567),
    ("number", "12,34,567", 1_234_567),
    ("number", "1,200.5", 1200.5),
    ("number", "1.200.000", 1_200_000),
    ("number", "1.200,50", 1200.5),
    ("number", "0,00", 0.0),
    ("number", "0,500", 0.5),
    ("number", "1200,500", 1200.5),
    ("number", "1200,5", 1200.5),
    ("number", "1 200", 1200),
    ("number", "1\u00a0200", 1200),
    ("number", "1\u202f200,5", 1200.5),
    ("number", "1'200", 1200),
    ("number", "1’200", 1200),
    ("number", "-1,200", -1200),
    ("number", "\u22121,200", -1200),
    ("number", "۵۰۰۰۰۰", 500_000),
    ("number", "١٬٢٠٠٫٥", 1200.5),
    ("number", "５００", 500),
    ("number", "1,200\u200b", 1200),
    ("money", "1,200", 1200),
    ("money", "$1,200", 1200),
    ("money", "€ 5000", 5000),
    ("money", "5.000,00 €", 5000.0),
    ("money", "US$1,200.50", 1200.5),
    ("money", "EUR 1,200", 1200),
    ("money", "1200 USD", 1200),
    ("money", "€ 1.200", 1200),
    ("money", "1.200 €", 1200),
    ("money", "EUR 1.200", 1200),
    ("money", "1.200 EUR", 1200),
    ("money", "\u20ba1.200", 1200),
    ("money", "R$ 1.234,56", 1234.56),
    ("money", "CHF 1'200", 1200),
    ("money", "\uffe5１，２００", 1200),
    ("money", "-5 €", -5),
    ("flag", "yes", True),
    ("flag", "Yes", True),
    ("flag", " ON ", True),
    ("flag", "true", True),
    ("flag", "1", True),
    ("flag", 1, True),
    ("flag", "no", False),
    ("flag", "off", False),
    ("flag", "FALSE", False),
    ("flag", "0", False),
    ("flag", "1.0", True),
    ("flag", "0.0", False),
    ("flag", 0, False),
    ("list", ["a", "", "N/A", "b"], ["a", "b"]),
]


@pytest.mark.parametrize("field_type", FIELD_TYPES)
def test_a_blank_says_nothing_whatever_the_type(field_type):
    said = {
        value if isinstance(value, str) else repr(value): stated_fields({"f": value}, {"f": field_type})
        for value in BLANK
    }
    assert {value for value, fields in said.items() if fields} == set()


@pytest.mark.parametrize("field_type", VALUES_OF_TYPES)
def test_what_a_type_cannot_read_for_certain_stays_as_it_is(field_type):
    for value in VALUES_OF_TYPES[field_type]:
        read = stated_fields({"f": value}, {"f": field_type})
        assert read == {"f": value}
        assert type(read["f"]) is type(value)


@pytest.mark.parametrize(("field_type", "value", "expected"), READ)
def test_another_form_of_a_value_is_read_by_the_type_of_its_field(field_type, value, expected):
    read = stated_fields({"f": value}, {"f": field_type})
    assert read == {"f": expected}
    assert type(read["f"]) is type(expected)


@pytest.mark.parametrize(
    ("field_type", "blank"),
    [
        *[(kind, False) for kind in ("text", "number", "list", "money", "date")],
        *[(kind, zero) for kind in ("text", "list", "date") for zero in (0, 0.0, -0.0)],
        *[
            ("date", text)
            for text in (
                "0000-00-00",
                "0000-00-00 00:00:00",
                "00/00/0000",
                "0001-01-01T00:00:00",
                "1900-01-00",
                "1/0/1900",
                "1899-12-30",
            )
        ],
    ],
)
def test_false_and_0_are_values_of_flags_and_numbers_only(field_type, blank):
    assert stated_fields({"f": blank}, {"f": field_type}) == {}


def test_a_field_that_nobody_declared_is_a_text():
    assert stated_fields({"seats": 0, "newsletter": False, "age": 5, "topic": "a"}) == {
        "age": 5,
        "topic": "a",
    }


def test_a_built_in_field_has_its_type():
    fields = {
        "budget": 0,
        "email_consent": False,
        "sms_consent": "on",
        "company": 0,
        "budget_max": "USD 1,000",
    }
    assert stated_fields(fields) == {
        "budget": 0,
        "email_consent": False,
        "sms_consent": True,
        "budget_max": 1000,
    }


def test_names_that_look_like_placeholders_and_namibia_are_values():
    fields = {"first_name": "Nan", "last_name": "Nat", "name": "Na", "country": "NA", "region": "NA"}
    assert stated_fields(fields) == fields
    assert (
        stated_fields(
            {"first_name": "nan", "last_name": "NULL", "country": "n/a", "company": "Nan", "phone": "NA"}
        )
        == {}
    )


def test_null_clears():
    assert stated_fields({"phone": None, "budget": None, "seats": None}) == {
        "phone": None,
        "budget": None,
        "seats": None,
    }


names = st.sampled_from([*types_of_fields(), "topic", "seats", "x"])
declared = st.dictionaries(st.sampled_from(["topic", "seats"]), st.sampled_from(list(FIELD_TYPES)))
values = st.one_of(
    st.text(max_size=20),
    st.sampled_from([*BLANK_TEXTS, *(text for text in TEXTS if len(text) < 100)]),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(-1e15, 1e15),
    st.none(),
    st.lists(st.text(max_size=5) | st.sampled_from(BLANK_TEXTS), max_size=4),
)
fields_of_events = st.dictionaries(names, values, max_size=6)
BLANK_ANYWHERE = [value for value in BLANK if value != "NA"]
"""NA is Namibia in some fields."""
blank_fields = st.dictionaries(names, st.sampled_from(BLANK_ANYWHERE), max_size=6)
CONTACT = ("name", "first_name", "last_name", "email", "phone")


def lifted(events, types):
    catalogue_of_signals = SignalCatalogue.of([WithSignals])
    return [
        catalogue_of_signals.feature_delta_of(event, T0 + number, 0, types)
        for number, event in enumerate(events)
    ]


class WithSignals:
    """A model that counts forms with a phone, contacts with an e-mail, and distinct companies."""

    signals = (
        define_signal("with_phone", {"event": "form_submitted", "field": "fields.phone", "is_set": True}),
        define_signal("with_email", {"event": "contact_shared", "field": "email", "is_set": True}),
        define_signal("companies", {"event": "profile_updated", "distinct": "fields.company"}),
    )


@settings(max_examples=scaled(300))
@given(fields_of_events, blank_fields, declared, st.sampled_from(["form_submitted", "profile_updated"]))
def test_blank_fields_in_a_form_or_an_update_never_change_the_features(fields, blanks, types, kind):
    more = {**blanks, **fields}
    without, with_blanks = lifted(
        [happened(kind, event_id="e", fields=fields), happened(kind, event_id="e", fields=more)], types
    )
    with_blanks.at = without.at
    assert with_blanks == without


@given(fields_of_events, declared)
def test_what_was_read_reads_the_same_again(fields, types):
    assert stated_fields(stated_fields(fields, types), types) == stated_fields(fields, types)


@pytest.mark.parametrize("value", [" " * 300 + "x", "\u200b" * 100 + "x", ["x" * 256]])
def test_a_value_of_which_nothing_is_left_after_the_cut_erases_nothing(value):
    first = happened("profile_updated", T0, fields={"topic": "a"})
    long = happened("profile_updated", T0 + 1, fields={"topic": value})
    assert features_of([first, long]).fields["topic"][2] == "a"


@settings(max_examples=scaled(200))
@given(
    st.dictionaries(st.sampled_from(CONTACT), st.text(max_size=12)),
    st.dictionaries(st.sampled_from(CONTACT), st.sampled_from(BLANK_TEXTS)),
)
def test_blank_fields_in_a_contact_never_change_the_features(shared, blanks):
    without, with_blanks = lifted(
        [happened("contact_shared", event_id="e", **each) for each in (shared, {**blanks, **shared})], {}
    )
    with_blanks.at = without.at
    assert with_blanks == without


@pytest.mark.parametrize("text", BLANK_TEXTS)
def test_a_blank_answer_owner_contact_or_form_fills_no_field(text):
    happenings = [
        happened("question_answered", question_id="q", text=text, profile_field="industry"),
        happened("lead_assigned", assigned_to=text),
        happened("contact_shared", name=text, first_name=text, last_name=text, email=text, phone=text),
        happened(
            "form_submitted", fields={"email": text, "budget": text, "email_consent": text, "topic": text}
        ),
        happened("profile_updated", fields={"email": text}),
    ]
    assert [profile_fields_of(event) for event in happenings] == [{}] * 5
    assert lifted(happenings[:1], {})[0].signals == ["question_answered", "interaction"], (
        "it was answered, though"
    )


def test_a_blank_field_is_not_set_for_the_signals_of_a_model():
    with_phone, without = lifted(
        [happened("form_submitted", fields={"phone": phone}) for phone in ("+971501234567", "N/A")], {}
    )
    assert (len(with_phone.signals), len(without.signals)) == (4, 3)


def test_every_event_type_has_its_fields_read():
    """Of each type with a field of the profile's name, the profile of an event with blanks alone is empty."""
    for kind in EFFECT_BY_EVENT_TYPE:
        profile_like = {
            "name",
            "first_name",
            "last_name",
            "email",
            "phone",
            "fields",
            "assigned_to",
            "profile_field",
        }
        own = profile_like & set(kind.__struct_fields__)
        tag = kind.__struct_config__.tag
        if tag in {"consent_changed", "custom"}:  # true or false; a name of its own
            continue
        blanks = {name: {"email": "", "topic": "-"} if name == "fields" else "" for name in own}
        if tag == "question_answered":
            blanks = {"question_id": "q", "text": "", "profile_field": "email"}
        if own:
            assert profile_fields_of(happened(tag, **blanks)) == {}, tag


def test_the_phone_of_an_earlier_form_stays():
    first = happened(
        "form_submitted", T0, event_id="1", fields={"phone": "+971501234599", "company": "Rae GmbH"}
    )
    blank = happened("form_submitted", T0 + 1, event_id="2", fields={"phone": "", "company": "  "})
    cleared = happened("form_submitted", T0 + 2, event_id="3", fields={"phone": None})
    assert features_of([first, blank]).fields == features_of([first]).fields
    assert features_of([first, blank, cleared]).fields["phone"][2] is None
    assert features_of([first, blank]).fields["company"][2] == "Rae GmbH"


def test_a_hostile_text_costs_no_more_than_its_length():
    hostile = [
        " " * 65_536, "\u200b" * 65_536, "-" * 65_536, "<p>" * 20_000, "{{" * 30_000, "null " * 13_000,
        "[object Object]" * 4_000, "1," * 30_000, "<p" * 30_000, "&nbsp;" * 10_000, "\u0301" * 60_000,
    ]  # fmt: skip
    begun = time.process_time()
    for text in hostile:
        for field_type in FIELD_TYPES:
            stated_fields({"f": text}, {"f": field_type})
    assert time.process_time() - begun < 3


def test_the_order_of_the_standard_fields_is_as_it_was():
    """Which of too many fields a lead keeps depends on which names are standard: none may be added or removed without need.
    An objection to profiling, or a qualification set by hand, must never be the one that goes.
    """
    from scoring.features.profile_fields import STANDARD_FIELDS

    assert sorted(STANDARD_FIELDS) == sorted(
        [
            "email",
            "phone",
            "name",
            "first_name",
            "last_name",
            "company",
            "title",
            "industry",
            "company_size",
            "location",
            "country",
            "status",
            "source",
            "customer_type",
            "budget",
            "budget_min",
            "budget_max",
            "transaction_type",
            "property_type",
            "payment_method",
            "email_consent",
            "sms_consent",
            "profiling_consent",
            "qualification_override",
            "qualification_override_by",
            "qualification_override_until",
            "assigned_to",
            "snoozed_until",
            "manual_stage",
        ]
    )
    assert encode_features(features_of([])) == encode_features(features_of([]))


# Declarations


def test_a_table_declares_types():
    text = '[profile_fields]\nseats = "number"\nnewsletter = "flag"\ntags = "list"\nrenewal = "date"\nemail = "text"\n'
    assert read_profile_fields(text) == {
        "seats": "number", "newsletter": "flag", "tags": "list", "renewal": "date", "email": "text",
    }  # fmt: skip
    assert read_profile_fields("[profile_fields]") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\nseats = 'number'", "line 2, seats: unknown; the only table is [profile_fields]"),
        ("", "line 1: the table [profile_fields] is missing"),
        ("profile_fields = 5", "line 1: the table [profile_fields] is missing"),
        ("[profile_fields", "line 1: Expected"),
        ('[profile_fields]\nseats = "number"\nseats = "flag"', "line 3: Cannot overwrite a value"),
        (
            '[profile_fields]\nseats = "nubmer"',
            "line 2, seats: 'nubmer' is no type; types are text, number, flag",
        ),
        ("[profile_fields]\nseats = 5", "line 2, seats: 5 is no type"),
        ('[profile_fields]\nseats = ["number"]', "line 2, seats: ['number'] is no type"),
        ('[profile_fields]\nSeats = "number"', "line 2, Seats: is no name of a field: use 1 to 64 of a-z"),
        ('[profile_fields]\n"a b" = "number"', "line 2, a b: is no name of a field"),
        ('[profile_fields]\n\nemail = "number"', "line 3, email: is built in, with the type text"),
        ('[profile_fields]\nemail_consent = "text"', "is built in, with the type flag"),
        ('[profile_fields]\nstage = "text"', "line 2, stage: the stage comes from the lifecycle"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_reason(text, reason):
    with pytest.raises(ProfileFieldsError) as refused:
        read_profile_fields(text)
    assert reason in str(refused.value)


def test_the_number_of_declared_fields_is_bounded():
    lines = [f'f{n} = "number"' for n in range(MOST_FIELDS + 1)]
    assert len(read_profile_fields("\n".join(["[profile_fields]", *lines[:-1]]))) == MOST_FIELDS
    with pytest.raises(ProfileFieldsError, match=f"at most {MOST_FIELDS}"):
        read_profile_fields("\n".join(["[profile_fields]", *lines]))


def test_a_declaration_made_before_a_field_was_built_in_stays():
    assert stated_fields({"company": 0}, {"company": "number"}) == {"company": 0}
    assert "manual_stage" not in types_of_fields()
    assert types_of_fields({"seats": "number"}) == {
        name: kind for name, kind in BUILT_IN_FIELDS.items() if name != "manual_stage"
    } | {"seats": "number"}

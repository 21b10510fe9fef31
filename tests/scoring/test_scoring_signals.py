"""What one event means: every type classified, fields filled, sums exact, own signals versioned."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leads_given import T0, features_of, happened, shipped

from schemas.envelope import Campaign, Context, tag_of
from schemas.events import EVENT_TYPES
from scoring.features.signals import (
    EFFECT_BY_EVENT_TYPE,
    SignalCatalogue,
    SignalError,
    define_signal,
    minor_units,
)
from scoring.features.sources import source_of
from scoring.models.model import compile_model

PLAIN = SignalCatalogue.of([])


def lift(event, *models):
    return SignalCatalogue.of(models).feature_delta_of(event, T0, T0 // 86_400_000)


def needed(kind):
    """The least that an event of the type says."""
    return {
        "question_answered": {"question_id": "q"},
        "purchase_made": {"value": Decimal(1), "currency": "EUR"},
        "purchase_refunded": {"order_id": "A", "value": Decimal(1), "currency": "EUR"},
        "profile_updated": {"fields": {}},
        "leads_merged": {"into": "x"},
        "stage_changed": {"stage": "customer"},
        "conversion_recorded": {"conversion_type": "x"},
        "task_created": {"title": "x"},
        "campaign_joined": {"campaign_id": "x"},
        "note_added": {"text": "x"},
        "experiment_exposed": {"experiment": "x", "variant": "y"},
        "workflow_requested": {"workflow_id": 1},
        "custom": {"name": "x"},
    }.get(kind, {})


KINDS = [event_type.__struct_config__.tag for event_type in EVENT_TYPES]


def test_every_event_type_is_classified():
    undecided = {tag_of(kind) for kind in set(EVENT_TYPES) ^ EFFECT_BY_EVENT_TYPE.keys()}
    assert not undecided, "decide in EFFECTS whether the event is an interaction and what it fills"


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_counts_under_the_name_of_its_type(kind):
    lifted = lift(happened(kind, **needed(kind)), *[shipped(name) for name in ("chatbot", "temperature")])
    assert lifted.signals[0] == ("custom:x" if kind == "custom" else kind)


def test_what_a_profile_form_contact_consent_owner_answer_and_stage_fill():
    filled = {
        "profile_updated": (
            {"fields": {"company": "Acme", "size": 5, "old": None}},
            {"company": "Acme", "size": 5, "old": None},
        ),
        "form_submitted": ({"fields": {"email": "a@b.c"}}, {"email": "a@b.c"}),
        "contact_shared": ({"email": "a@b.c", "first_name": "A"}, {"email": "a@b.c", "first_name": "A"}),
        "consent_changed": ({"email": True, "sms": False}, {"email_consent": True, "sms_consent": False}),
        "lead_assigned": ({"assigned_to": None}, {"assigned_to": None}),
        "lead_snoozed": (
            {"until": datetime(2026, 3, 9, 9, tzinfo=timezone(timedelta(hours=1)))},
            {"snoozed_until": "2026-03-09T08:00:00+00:00"},
        ),
        "question_answered": (
            {"question_id": "q", "text": "Retail", "profile_field": "industry"},
            {"industry": "Retail"},
        ),
        "stage_changed": ({"stage": "customer"}, {"manual_stage": "customer"}),
        "page_viewed": ({}, {}),
    }
    for kind, (said, fields) in filled.items():
        assert lift(happened(kind, **said)).fields == fields


def test_an_empty_answer_does_not_empty_a_field():
    assert (
        lift(happened("question_answered", question_id="q", text=" ", profile_field="industry")).fields == {}
    )


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("profile_updated", {"fields": {"manual_stage": "customer", "email": "x"}}),
        ("form_submitted", {"fields": {"manual_stage": "customer"}}),
        ("question_answered", {"question_id": "q", "text": "customer", "profile_field": "manual_stage"}),
    ],
)
def test_only_a_stage_change_sets_the_stage(kind, fields):
    assert "manual_stage" not in lift(happened(kind, **fields)).fields


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("12.50", "EUR", 1250),
        ("12.505", "EUR", 1250),
        ("12.515", "EUR", 1252),
        ("1000", "JPY", 1000),
        ("0.5", "JPY", 0),
        ("1.5", "KRW", 2),
        ("1.234", "KWD", 1234),
        ("0.0005", "BHD", 0),
        ("0", "EUR", 0),
        ("-5", "EUR", 0),
        ("NaN", "EUR", 0),
        ("Infinity", "EUR", 0),
        ("1e400", "EUR", 2**53),
        ("1e12", "USD", 10**14),
    ],
)
def test_purchases_are_summed_in_minor_units_rounded_half_to_even(value, currency, minor):
    assert minor_units(Decimal(value), currency) == minor
    assert lift(happened("purchase_made", value=Decimal(value), currency=currency)).sums == [
        (f"purchase:{currency}", minor)
    ]


IMPORTANT = [" get a demo ", "GET A DEMO", "Be an Early Bird"]


@pytest.mark.parametrize("text", IMPORTANT)
def test_an_important_click_is_known_by_its_words(text):
    catalogue = SignalCatalogue.of([shipped("web_session")])
    assert catalogue.is_important_click(happened("element_clicked", text=text))
    assert not catalogue.is_important_click(happened("element_clicked", text=text + "!"))
    assert not catalogue.is_important_click(happened("link_clicked", text=text))
    assert not PLAIN.is_important_click(happened("element_clicked", text=text))


def test_a_changed_definition_counts_from_zero_under_a_new_name():
    first = define_signal("voice", {"event": "message_received", "field": "kind", "equals": "voice"})
    same = define_signal("voice", {"field": "kind", "event": "message_received", "equals": "voice"})
    changed = define_signal("voice", {"event": "message_received", "field": "kind", "equals": "text"})
    assert first.stored == same.stored != changed.stored
    assert first.stored.startswith("voice@")
    assert len(first.stored) == len("voice@") + 8


def test_models_that_define_a_signal_alike_share_it():
    one, other = shipped("temperature"), shipped("temperature")
    voice = happened("message_received", kind="voice")
    signals = SignalCatalogue.of([one, other]).feature_delta_of(voice, T0, 0).signals
    assert len(signals) == len(set(signals)) == 3


def test_signals_may_test_source_several_fields_and_custom_properties():
    text = """
    model = "m"
    [signals]
    paid  = { event = "custom:trial", source = "crm", field = "plan", in_list = ["pro", "team"], where = [{ field = "seats", greater_than = 2 }] }
    [groups.g]
    rules = [{ name = "Paid trial", each = "paid", points = 1 }]
    """
    model = compile_model(text)
    (stored,) = [signal.stored for signal in model.signals]

    def counts(source, **properties):
        return (
            stored
            in lift(happened("custom", name="trial", source=source, properties=properties), model).signals
        )

    assert counts("crm", plan="PRO", seats=3)
    assert not counts("web", plan="PRO", seats=3)
    assert not counts("crm", plan="free", seats=3)
    assert not counts("crm", plan="pro", seats=2)
    assert not counts("crm")
    assert stored not in lift(happened("custom", name="trial", source="crm"), model).signals


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
def test_no_property_makes_a_signal_fail(value):
    tests = [
        {"equals": "x"}, {"not_equals": 1}, {"in_list": ["x", 2]}, {"not_in_list": [0.1]}, {"contains": "x"},
        {"not_contains": "x"}, {"starts_with": "x"}, {"ends_with": "x"}, {"longer_than": 1}, {"matches": "x+"},
        {"greater_than": 1}, {"less_than": 1}, {"greater_or_equal": 1}, {"less_or_equal": 1}, {"between": [0, 1]},
        {"is_set": True}, {"is_not_set": True},
    ]  # fmt: skip
    for test in tests:
        defined = define_signal("s", {"event": "custom:x", "field": "p", **test})
        assert defined.holds(happened("custom", name="x", properties={"p": value})) in {True, False}
    kept = define_signal("s", {"event": "custom:x", "distinct": "p"})
    lifted = SignalCatalogue.of([type("M", (), {"signals": (kept,)})()]).feature_delta_of(
        happened("custom", name="x", properties={"p": value}), T0, 0
    )
    assert all(len(item) <= 17 for _, item in lifted.items)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "event = None is no event type"),
        ({"event": "page_vewed"}, "event = 'page_vewed' is no event type"),
        ({"event": "custom"}, "wants a name: custom:NAME"),
        (
            {"event": "page_viewed", "field": "txet", "equals": "x"},
            "page_viewed has no field 'txet'; it has title, url",
        ),
        ({"event": "page_viewed", "field": "title"}, "wants one operator, not none"),
        (
            {"event": "page_viewed", "field": "title", "equals": "x", "contains": "y"},
            "wants one operator, not contains, equals",
        ),
        ({"event": "page_viewed", "field": "title", "is": "x"}, "wants one operator, not is"),
        ({"event": "page_viewed", "title": "x"}, "field is missing: title of what?"),
        ({"event": "page_viewed", "field": "title", "less_than": "many"}, "less_than 'many' is not a number"),
        ({"event": "page_viewed", "source": 1}, "source = 1 is not a text"),
        ({"event": "page_viewed", "distinct": "page"}, "page_viewed has no field 'page'"),
        ({"event": "page_viewed", "where": {}}, "where wants a list"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused_with_the_reason(table, reason):
    if table == {"event": "custom"}:
        table = {"event": "custom", "field": "x", "is_set": True}
    with pytest.raises(SignalError) as refused:
        define_signal("mine", table)
    assert reason in str(refused.value)


@pytest.mark.parametrize("name", ["page_viewed", "interaction", "high_intent", "created", "questions"])
def test_a_name_that_is_taken_cannot_be_defined(name):
    with pytest.raises(SignalError, match="counted anyway"):
        define_signal(name, {"event": "page_viewed"})


def from_site(referrer, url="https://shop.example/page"):
    return Context(referrer=referrer, url=url)


@pytest.mark.parametrize(
    ("event", "category"),
    [
        (happened("page_viewed", context=Context(campaign=Campaign(medium="CPC"))), "ads"),
        (happened("page_viewed", context=Context(campaign=Campaign(medium="Paid Social"))), "ads"),
        (happened("page_viewed", context=Context(campaign=Campaign(medium="referral"))), "referral"),
        (happened("page_viewed", context=Context(campaign=Campaign(medium="affiliate"))), "partner"),
        (happened("form_submitted", context=Context(campaign=Campaign(medium="partner"))), "partner"),
        (happened("page_viewed", context=Context(campaign=Campaign(medium="pigeon"))), None),
        (happened("ad_clicked"), "ads"),
        (happened("form_submitted"), "form"),
        (happened("page_viewed", context=from_site("https://blog.example/post")), "referral"),
        (happened("page_viewed", context=from_site("https://www.google.co.uk/")), "organic"),
        (happened("page_viewed", context=from_site("https://www.shop.example/")), None),
        (
            happened(
                "page_viewed", url="https://shop.example/", context=from_site("https://shop.example/a", None)
            ),
            None,
        ),
        (happened("page_viewed", context=from_site("http://[broken")), None),
        (happened("page_viewed"), None),
        (happened("message_received"), None),
    ],
)
def test_a_touch_says_where_a_lead_comes_from(event, category):
    assert source_of(event) == category
    assert lift(event).touchpoint == category


def test_what_we_send_is_no_touch_of_the_lead():
    assert lift(happened("email_sent", context=Context(campaign=Campaign(medium="email")))).touchpoint is None


def test_important_clicks_and_features_agree():
    model = shipped("web_session")
    features = features_of(
        [happened("element_clicked", text=text) for text in [*IMPORTANT, "other"]], [model]
    )
    (stored,) = [name for name in features.signals if name.startswith("important_click@")]
    assert features.signals[stored].count == 3
    assert features.signals["element_clicked"].count == 4

"""The text that defines attribution: what is refused, with line and reason, and what the built-in one counts."""

from decimal import Decimal

import pytest
from attribution_leads import DAY, LeadStory

from scoring.attribution.attribution_text import AttributionError, compile_attribution, compiled_attribution
from scoring.attribution.rules import NAME_OF_CHANNEL, built_in_attribution
from scoring.attribution.touchpoints import touchpoint_of
from scoring.features.signals import EVENT_TYPE_BY_TAG, may_be_interaction

GOOD = """attribution = "mine"
lookback_days = 30
half_life_days = 3
touchpoints = ["form_submitted"]
"""


def refused(text):
    with pytest.raises(AttributionError) as refusal:
        compile_attribution(text)
    return str(refusal.value)


def touched(rules, kind, **fields):
    (event,) = LeadStory().event(kind, 1, **fields).facts
    return touchpoint_of(event, rules)


def test_the_built_in_text_has_the_documented_windows():
    rules = compile_attribution(built_in_attribution())
    assert (rules.name, rules.lookback_ms, rules.half_life_ms) == ("default", 90 * DAY, 7 * DAY)
    assert {"email_clicked", "email_replied", "form_submitted", "ad_clicked"} <= rules.touchpoints
    assert compiled_attribution("") == rules


def test_every_event_type_that_a_person_makes_was_decided_upon():
    """A new type must be a touchpoint, an arrival or one of these, which say too little or are the goal."""
    no_touchpoints = {
        "call_made",
        "custom",
        "element_clicked",
        "email_opened",
        "purchase_made",
        "question_answered",
        "questions_completed",
    }
    rules = compiled_attribution("")
    made_by_persons = {tag for tag, kind in EVENT_TYPE_BY_TAG.items() if may_be_interaction(kind)}
    assert rules.touchpoints | rules.arrivals | no_touchpoints == made_by_persons


@pytest.mark.parametrize(
    ("changed", "line", "reason"),
    [
        (GOOD.replace("lookback_days = 30", "lookback_days = 0"), 2, "wants 1 to 3,650 days: not 0"),
        (GOOD.replace("lookback_days = 30\n", ""), 1, "lookback_days: wants 1 to 3,650 days: missing"),
        (GOOD.replace("half_life_days = 3", "half_life_days = 1.5"), 3, "not 1.5"),
        (GOOD.replace("half_life_days = 3", "half_life_days = true"), 3, "not True"),
        (GOOD.replace('"mine"', '"My Text"'), 1, "is not a name"),
        (GOOD + "half_live = 3", 5, "half_live: unknown"),
        (GOOD.replace("form_submitted", "form_sent"), 4, "'form_sent' is no event type"),
        (GOOD.replace("form_submitted", "email_sent"), 4, "email_sent is no touchpoint"),
        (GOOD.replace("form_submitted", "purchase_made"), 4, "purchase_made is no touchpoint"),
        (GOOD.replace('["form_submitted"]', "[]"), 4, "name at least one event type"),
        (GOOD.replace('["form_submitted"]', '"form_submitted"'), 4, "wants a list"),
        (GOOD + 'arrivals = ["form_submitted"]', 5, "is a touchpoint whenever it occurs"),
        (GOOD + "rates = { USD = 0.9 }", 5, "wants reporting_currency"),
        (GOOD + 'reporting_currency = "Euro"', 5, "three capital letters"),
        (GOOD + 'reporting_currency = "EUR"\nrates = { EUR = 1 }', 6, "no other currency"),
        (GOOD + 'reporting_currency = "EUR"\nrates = { USD = -1 }', 6, "USD wants a number"),
        (GOOD + 'reporting_currency = "EUR"\nrates = { USD = inf }', 6, "USD wants a number"),
        (GOOD + 'channels = ["Partners"]', 5, "wants [[channels]]"),
        (GOOD + '[[channels]]\nchannel = "P"\n', 5, "rule 1: wants a condition"),
        (GOOD + '[[channels]]\nchannel = "P"\nevent = "ad_clicked"\n[[channels]]\nevent = "x"', 8, "rule 2: wants channel"),
        (GOOD + '[[channels]]\nchannel = "P"\nmedium = "cpc"\n', 5, "medium is unknown"),
        (GOOD + '[[channels]]\nchannel = "P"\nevent = []\n', 5, "event wants a text"),
        (GOOD + "touchpoints = []", 5, "Cannot overwrite a value"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_line_and_reason(changed, line, reason):
    problem = refused(changed)
    assert problem.startswith(f"line {line}"), problem
    assert reason in problem


def test_a_long_text_and_many_rules_are_refused():
    assert "at most 100,000 characters" in refused(GOOD + "#" * 100_000)
    rule = '[[channels]]\nchannel = "P"\nevent = "ad_clicked"\n'
    assert "at most 64 rules, not 65" in refused(GOOD + rule * 65)


def test_the_first_rule_whose_conditions_all_hold_names_the_channel():
    rules = compile_attribution(
        GOOD.replace('["form_submitted"]', '["form_submitted", "ad_clicked"]')
        + """
reporting_currency = "EUR"
rates = { USD = 0.92, JPY = 1 }

[[channels]]
channel = "Partners"
channel_group = ["Affiliates", "Referral"]
campaign_source = "partner-net"

[[channels]]
channel = "Everything else from the web"
met_in = "web"
"""
    )
    partner = touched(rules, "ad_clicked", channel_group="Referral", campaign_source="partner-net")
    assert partner.channel == "Partners"
    other = touched(rules, "ad_clicked", channel_group="Referral", campaign_source="elsewhere")
    assert other.channel == "Everything else from the web"
    assert touched(rules, "ad_clicked", channel="ads").channel == NAME_OF_CHANNEL["ads"]
    assert rules.rates == {"USD": Decimal("0.92"), "JPY": 1}


def test_the_channel_is_the_channel_group_unless_that_says_nothing():
    rules = compiled_attribution("")
    assert touched(rules, "form_submitted", channel_group="Paid Search").channel == "Paid Search"
    for silent in (None, "Direct", "Internal", "Unassigned"):
        assert touched(rules, "form_submitted", channel_group=silent).channel == "Website"
    assert touched(rules, "sms_replied", channel="sms").channel == "SMS"


def test_the_source_is_what_the_event_names_else_its_campaign():
    rules = compiled_attribution("")

    def source(kind, **fields):
        found = touched(rules, kind, **fields)
        return found.source_type, found.source_name

    assert source(
        "email_clicked", source_type="sequence", source_name="Outreach Sequence", campaign_name="C"
    ) == (
        "sequence",
        "Outreach Sequence",
    )
    assert source("email_clicked", channel="email", campaign_name="Email Campaign") == (
        "campaign",
        "Email Campaign",
    )
    assert source("form_submitted", source_name="Contact Form") == ("form", "Contact Form")
    assert source("ad_clicked", channel="ads", campaign_source="google") == ("ads", "google")
    assert source("qr_scanned", channel="qr") == ("qr", "qr_scanned")

"""Red and green flags of requirement 3, and flags of one's own. Expected values come from the requirement's list."""

import pytest

from scoring.features.calendar import HOUR_MS
from scoring.models.flags import raised_flags, split_flags
from scoring.models.model import (
    ModelError,
    built_in_models,
    compile_model,
    explain_flags,
    next_visible_time_change,
    rounded_points,
    score_lead,
)
from tests.scoring.flag_leads import IDLE, NOW, UTC_DAYS, realty_lead

MODEL = compile_model(built_in_models()["temperature"])


def flags(subject, at=NOW):
    return [flag.name for flag in explain_flags(MODEL, subject, at, UTC_DAYS, IDLE)]


def test_phone_shared_and_no_follow_up_is_red_until_somebody_calls():
    assert flags(realty_lead(contact_shared=[10], fields={"phone": "+971501234567"})) == [
        "phone_without_follow_up"
    ]
    assert flags(realty_lead(fields={"phone": "+971501234567"})) == ["phone_without_follow_up"]
    called = realty_lead(contact_shared=[10], call_made=[9], fields={"phone": "+971501234567"})
    assert flags(called) == []
    before = realty_lead(contact_shared=[10], call_made=[11], fields={"phone": "+971501234567"})
    assert flags(before) == ["phone_without_follow_up"]
    assert flags(realty_lead(contact_shared=[10])) == []


def test_a_voice_message_without_response_is_red_until_somebody_answers_the_latest_one():
    assert flags(realty_lead(voice=[30])) == ["voice_without_response"]
    assert flags(realty_lead(voice=[30], sms_sent=[20])) == []
    assert flags(realty_lead(voice=[30, 5], sms_sent=[20])) == ["voice_without_response"]


FULL = {
    "budget_max": 2_000_000, "transaction_type": "buy", "property_type": "living", "location": "Marina",
    "payment_method": "cash",
}  # fmt: skip


def test_a_high_score_is_red_when_nothing_has_happened_for_three_days():
    lead = realty_lead(qr_scanned=[1] * 5, catalog_viewed=[1] * 5, fields=FULL)  # 15 + 10 + 30, and recency
    assert "old_high_score" not in flags(lead, NOW + 70 * HOUR_MS)
    assert "old_high_score" in flags(lead, NOW + 71 * HOUR_MS)
    low = realty_lead(qr_scanned=[1] * 5, fields=FULL)
    assert "old_high_score" not in flags(low, NOW + 71 * HOUR_MS)


def test_time_alone_raises_a_flag_and_the_next_timer_knows_when():
    lead = realty_lead(qr_scanned=[1] * 5, catalog_viewed=[1] * 5, fields=FULL)
    at, moments = NOW, []
    while (at := next_visible_time_change(MODEL, lead, at, UTC_DAYS, IDLE)) < NOW + 200 * HOUR_MS:
        moments.append((at - NOW) // HOUR_MS)
    assert moments == [5, 23, 71]


def test_green_flags():
    assert flags(realty_lead(qr_scanned=[1])) == []
    assert flags(realty_lead(qr_scanned=[3, 1])) == ["several_qr_scans"]
    ready = realty_lead(voice=[1], sms_sent=[1], fields={"phone": "+971501234567", "budget": 5})
    assert flags(ready) == ["ready_to_close"]
    seventy = realty_lead(qr_scanned=[1] * 5, catalog_viewed=[1] * 5, fields=FULL)  # 15 + 10 + 30 + 15
    assert rounded_points(score_lead(MODEL, seventy, NOW, UTC_DAYS, IDLE).total) == 70
    assert "hot_prospect" not in flags(seventy)
    more = realty_lead(qr_scanned=[1] * 5, catalog_viewed=[1] * 5, message_received=[1], fields=FULL)
    assert "hot_prospect" in flags(more)


def test_red_flags_come_first_each_with_its_evidence():
    lead = realty_lead(voice=[1], qr_scanned=[2, 1], fields={"phone": "1", "budget": 5})
    shown = explain_flags(MODEL, lead, NOW, UTC_DAYS, IDLE)
    assert [flag.colour for flag in shown] == ["red", "red", "green", "green"]
    assert shown[1].text == "Voice message, and no response: listen and reply"
    assert shown[1].evidence == (
        "voice message has happened; no call made, SMS sent, e-mail sent or meeting scheduled since the last voice message"
    )
    assert shown[2].evidence == "QR scanned: 2 (needed: at least 2)"


def test_flags_are_among_the_bands_only_while_they_are_raised():
    concluded = score_lead(MODEL, realty_lead(qr_scanned=[2, 1]), NOW, UTC_DAYS, IDLE)
    assert concluded.bands == {"temperature": "cold", "flag:several_qr_scans": "green"}
    assert split_flags(concluded.bands) == ({"temperature": "cold"}, {"several_qr_scans": "green"})
    (unknown,) = raised_flags({"flag:gone": "red"}, MODEL.flags)
    assert (unknown.name, unknown.colour, unknown.text) == ("gone", "red", None)


OWN = 'model = "own"\n[groups.g]\nrules = [{ name = "a", base = 1 }]\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[[flag]]\nname = "A"\n', "line 4, flag 'A': name = 'A' is not a name"),
        ('[[flag]]\nname = "a"\ncolour = "blue"\n', "line 5, flag 'a': colour is red or green"),
        ('[[flag]]\nname = "a"\ncolour = "red"\ntext = ""\n', "text is one line"),
        ('[[flag]]\nname = "a"\ncolour = "red"\ntext = "t"\n', "when is a list of 1 to 8 conditions"),
        ('[[flag]]\nname = "a"\ncolour = "red"\ntext = "t"\nwhen = [{ base = 1 }]\n', "a condition has one of"),
        ('[[flag]]\nname = "a"\ncolour = "red"\ntext = "t"\nwhen = [{ has = "x", points = 1 }]\n', "belongs to rules"),
        ('[[flag]]\nname = "a"\ncolour = "red"\ntext = "t"\nwhen = [{ none_of = ["nonsense"] }]\n', "no signal"),
        ('[[flag]]\nname = "a"\ncolour = "red"\ntext = "t"\nwhen = [{ value = "score", contains = "x" }]\n', "a text"),
        ("flag = 7\n", "flags are a list"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_refused_with_its_line_and_the_reason(text, reason):
    with pytest.raises(ModelError) as refused:
        compile_model(text + OWN if text.startswith("flag") else OWN + text)
    assert reason in str(refused.value).replace("line 5, flag 'A'", "line 4, flag 'A'")

"""Where the rules meet their limits: people who move leads back, full leads, forged records, crowds
behind one key.
"""

import msgspec
import pytest
from stream_simulator import Store
from stream_stories import DAY, HOUR, MINUTE, NOON, SHIPPED, Publish, Settings, Story, Time, given, happened

from schemas import statements as say
from schemas.record import Record
from schemas.topics import EVENTS, LEAD_ACTIVITY
from streams.engine.shard import Shard
from streams.track_sessions import TRACK_SESSIONS


def crm(kind, event_id, when, **fields):
    return happened(kind, event_id, when, **({"lead_id": "L", "source": "crm"} | fields))


@pytest.mark.parametrize(
    ("kind", "extra", "to"),
    [
        ("purchase_made", {"value": 1, "currency": "EUR"}, "qualified"),
        ("email_sent", {}, "new"),
    ],
)
def test_the_machine_never_reverses_a_persons_move(kind, extra, to):
    story = given(crm(kind, "a", 0, **extra)).when(crm("stage_changed", "b", DAY, stage=to))
    assert story.stage("L") == to
    assert len(story.said(say.StageEntered)) == 1


def test_the_machine_does_not_take_an_opportunity_back_that_a_person_took_away():
    story = given(crm("stage_changed", "a", 0, stage="qualified"), crm("meeting_scheduled", "b", HOUR))
    assert story.stage("L") == "opportunity"
    story.when(crm("stage_changed", "c", DAY, stage="qualified"))
    assert story.stage("L") == "qualified"


def test_a_stage_that_came_with_a_merge_is_said():
    story = given(
        crm("stage_changed", "a", 0, lead_id="A", stage="opportunity"),
        crm("page_viewed", "b", 0, lead_id="B"),
    )
    story.when(crm("leads_merged", "m", DAY, lead_id="A", into="B"))
    assert story.stage("B") == "opportunity"
    assert [s.stage for s in story.statements(say.StageEntered, lead="B")] == ["opportunity"]


def test_a_lead_whose_qualification_came_with_a_merge_goes_on_from_there():
    story = given(
        crm("stage_changed", "a", 0, lead_id="A", stage="qualified"),
        crm("page_viewed", "b", 0, lead_id="B"),
        crm("leads_merged", "m", DAY, lead_id="A", into="B"),
        crm("meeting_scheduled", "c", 2 * DAY, lead_id="B"),
    )
    assert story.stage("B") == "opportunity"


def reassigned(**fields):
    known = {
        "type": "reassigned",
        "tenant": "default",
        "recorded_at": "2026-03-14T08:00:00Z",
        "identity": "default/v/w#0",
        "epoch": 1,
        "holder": "h",
    }
    return Record(EVENTS, 0, 0, "k", msgspec.json.encode(known | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"identity": "foo"},
        {"identity": "foo#x"},
        {"identity": "foo#0"},
        {"identity": "default/v/w#-1"},
        {"carried": ["new", 10**30]},
    ],
    ids=str,
)
def test_a_derived_record_of_no_identity_is_a_dead_letter(fields):
    outcome = Shard(TRACK_SESSIONS, 0, Store()).fold([reassigned(**fields)])
    assert [o.topic for o in outcome.outputs] == ["dead-letters"]


def test_a_version_beyond_64_bits_is_a_dead_letter():
    raw = msgspec.json.encode(
        {
            "type": "settings_published",
            "tenant": "*",
            "recorded_at": "2026-03-14T08:00:00Z",
            "version": 10**30,
        }
    )
    outcome = Shard(TRACK_SESSIONS, 0, Store()).fold([Record(EVENTS, 0, 0, "", raw)])
    assert [o.topic for o in outcome.outputs] == ["dead-letters"]


def test_what_a_merged_lead_remembers_is_bounded():
    story = given(crm("leads_merged", "m", 0, lead_id="A", into="B"))
    for number in range(1_200):
        story.pipeline.produce(
            happened("page_viewed", f"e{number}", MINUTE, visitor_id=f"visitor-{number:040}", lead_id="A")
        )
    story.pipeline.fold_all()
    head = next(
        parts["head"]
        for store in story.pipeline.stores[LEAD_ACTIVITY]
        for key, parts in store.parts.items()
        if key.endswith("/A")
    )
    assert len(head) < 64 * 1024


def test_sessions_that_a_shorter_idle_time_ends_are_said_to_have_ended():
    story = given(happened("page_viewed", "a", 0, visitor_id="v"), Time(10 * MINUTE))
    story.when(Settings(1, 10 * MINUTE, idle_minutes=5), Time(DAY))
    assert "anon:v: session a scores 10, ended" in story.said(say.SessionScored)


def test_a_publication_of_one_model_changes_no_other():
    story = given(crm("page_viewed", "a", 0), Time(3 * DAY))
    text = dict(SHIPPED)["temperature"].replace("points = 3, max = 15", "points = 4, max = 15")
    story.when(Publish("temperature", text, 99, 3 * DAY))
    assert story.said(say.ScoreChanged, model="composite") == []


def test_whoever_waits_is_answered_by_a_full_lead_too():
    story = Story()
    for number in range(50):
        story.when(happened("page_viewed", f"e{number}", 0, visitor_id=f"v{number}", lead_id="L"))
    story.when(happened("page_viewed", "last", MINUTE, visitor_id="v50", lead_id="L", reply=True))
    assert story.said(say.EventApplied) == ["last: applied"]


def test_the_twenty_first_person_behind_a_key_is_not_taken_for_another():
    story = given(
        *(
            happened(
                "profile_updated",
                f"p{n}",
                n * MINUTE,
                visitor_id="kiosk",
                lead_id=f"P{n:02}",
                fields={"email": f"p{n}@a.example"},
            )
            for n in range(25)
        )
    )
    assert story.card("P19").fields == {"email": "p19@a.example"}


@pytest.mark.parametrize("kind", ["qr_scanned", "email_opened", "message_received", "sms_replied"])
def test_scans_mails_and_messages_never_make_a_web_session_whatever_source_they_leave_out(kind):
    story = given(happened(kind, "a", 0, visitor_id="v"))
    assert story.said(say.SessionScored) == []


def test_a_total_on_the_card_says_as_of_when_it_holds():
    """20.5 at first, 20.4 after a day; two days later it would be 20.3, if anybody asked."""
    story = given(crm("page_viewed", "a", 0)).when(crm("note_added", "n", 2 * DAY, text="x"))
    composite = story.card("L").scores["composite"]
    expected = {0: 20.5, 1: 20.4, 2: 20.3}
    days = (composite.as_of.timestamp() * 1000 - NOON) / DAY
    assert composite.total == pytest.approx(expected[int(days)])

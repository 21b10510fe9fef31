"""The lifecycle as it is published, swept and folded: by both real stages, against a plain reading of the
ruling, and with timers that come late, twice or never.
"""

from datetime import UTC, datetime

import msgspec
import pytest
from example_counts import scaled
from hypothesis import given as for_all
from hypothesis import settings as examples
from hypothesis import strategies as st
from random_lifecycles import lifecycles
from stream_stories import DAY, HOUR, NOON, SHIPPED, Settings, Story, Time, at, given, happened

from leadstream.console import Failure
from leadstream.operations.publishing import check_lifecycle_bands, lifecycle_text
from leadstream.wiring import genesis
from schemas import statements as say
from schemas.control import SettingsPublished
from schemas.decode import decode_dead_letter, decode_source, encode_source, key_of
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.lifecycle.lifecycle import built_in_lifecycle, compile_lifecycle
from streams.published import ActiveModels, ModelVersion
from streams.published import TenantSettings as Held
from streams.replay import Replay
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_stage import stage_after_conclusions

RULES = """
model = "rules"
bands = { stage = { mql = 40, none = 0 } }
[groups.g]
rules = [{ name = "Company", has = "company", points = 50 }]
"""
"""Whoever tells the company is qualified."""

RECYCLING = """
lifecycle = "recycling"
[[transitions]]
to = "contacted"
from = ["new"]
when = ["email_sent"]
reason = "written to"
[[transitions]]
to = "recycled"
from = ["contacted", "qualified"]
inactive_days = 90
reason = "idle for 90 days"
"""


def crm(kind, event_id, when, **fields):
    bought = {"value": 1, "currency": "EUR"} if kind == "purchase_made" else {}
    return happened(kind, event_id, when, lead_id="L", source="crm", **(bought | fields))


def entered(story):
    """(moment, sentence) of every stage that the lead ever entered."""
    return [
        (s.at, s.previous, s.stage, s.reason)
        for _, s in story.pipeline.said
        if isinstance(s, say.StageEntered)
    ]


# -- publishing


def test_the_log_begins_with_the_whole_text_of_the_shipped_lifecycle():
    begin = [decode_source(r.value) for r in genesis(datetime(2030, 1, 1, tzinfo=UTC)) if r.topic == EVENTS]
    [settings] = [said for said in begin if isinstance(said, SettingsPublished)]
    assert settings.lifecycle == built_in_lifecycle()


def test_a_lead_that_was_idle_too_long_is_recycled_at_the_very_moment():
    story = given(Settings(1, 0, lifecycle=RECYCLING), crm("page_viewed", "p", 0), crm("email_sent", "e", 0))
    story.when(Time(90 * DAY - 1)).then(kinds=(say.StageEntered,))
    story.when(Time(400 * DAY)).then("L: contacted -> recycled: idle for 90 days", kinds=(say.StageEntered,))
    assert entered(story)[-1][0] == at(90 * DAY)


def test_a_timer_finds_who_is_due_and_nobody_earlier():
    settings = SettingsPublished(tenant="*", recorded_at=at(0), version=1, lifecycle=RECYCLING)
    replay = Replay(publication_records(settings))
    for event in (crm("page_viewed", "p", 0), crm("email_sent", "e", 0)):
        replay.append([Outgoing(EVENTS, key_of(event), encode_source(event))])
    replay.advance_to(NOON + 90 * DAY - 1)
    assert replay.lead("default", "L").head.position.stage == "contacted"
    assert replay.lead("default", "L").head.clock == NOON, "there was no reason to wake it"
    replay.advance_to(NOON + 90 * DAY)
    assert replay.lead("default", "L").head.position.stage == "recycled"
    replay.advance_to(NOON + 900 * DAY)
    assert replay.lead("default", "L").head.clock == NOON + 90 * DAY


def test_a_lifecycle_that_is_published_moves_every_lead_at_once_and_silently():
    story = given(crm("page_viewed", "p", 0), crm("email_sent", "e", 0))
    story.when(Settings(1, 200 * DAY, lifecycle=RECYCLING))
    story.then("L: contacted -> recycled: idle for 90 days", kinds=(say.StageEntered,))
    [moved] = story.statements(say.StageEntered)
    assert (moved.caused_by, moved.at) == ("settings:*:1", at(200 * DAY))
    assert all(s.silent for s in story.statements(say.BandChanged))
    composite = story.said(say.ScoreChanged, model="composite")[-1]
    assert "Stage -5" in composite, "a stage off the way gives no points"


def test_what_an_old_lifecycle_concluded_by_time_stays_concluded_when_a_new_one_is_published():
    """Churned at day 180; the lifecycle of day 200 has no churn, and comes after that."""
    story = given(crm("purchase_made", "p", 0), Settings(1, 200 * DAY, lifecycle=RECYCLING))
    assert [(when, stage) for when, _, stage, _ in entered(story)] == [
        (at(0), "customer"),
        (at(180 * DAY), "churned"),
    ]


def test_a_tenants_own_lifecycle_moves_nobody_elses_leads():
    ours, theirs = (
        happened(kind, f"{kind}{tenant}", 0, lead_id="L", source="crm", tenant=tenant)
        for kind, tenant in (("email_sent", "ours"), ("email_sent", "theirs"))
    )
    never = 'lifecycle = "by-hand"\ntransitions = []'
    story = given(Settings(1, 0, tenant="ours", lifecycle=never), ours, theirs)
    assert [(s.tenant, s.stage) for s in story.statements(say.StageEntered)] == [("theirs", "contacted")]


def test_without_a_text_the_shipped_lifecycle_holds():
    story = given(Settings(1, 0, lifecycle=RECYCLING), Settings(2, 0), crm("sms_sent", "s", 0))
    assert story.stage("L") == "contacted"


def test_a_lifecycle_with_a_mistake_is_a_dead_letter_and_nothing_stops():
    wrong = RECYCLING.replace("email_sent", "e-mail")
    story = given(Settings(1, 0, lifecycle=RECYCLING), Settings(2, 0, lifecycle=wrong, idle_minutes=5))
    letters = [decode_dead_letter(letter) for letter in story.pipeline.dead]
    assert {(letter.field, letter.topic) for letter in letters} == {
        ("lifecycle", "events"),
        ("lifecycle", "lead-activity"),
    }
    assert "line 6, transition to 'contacted', when: 'e-mail' is no signal" in letters[0].reason
    assert story.when(crm("email_sent", "e", 0)).stage("L") == "contacted"
    assert story.pipeline.lead("L").head.timers.keys() >= {"~stage"}, "the lifecycle before it still holds"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rules": "scoring"}, "waits for scoring, stage: hot, mql, sql"),
        ({'"stage"': '"level"'}, "waits for rules, level: hot, mql, sql"),
        ({'"sql"': '"sales"'}, "waits for rules, stage: sales,"),
    ],
)
def test_a_lifecycle_that_waits_for_a_band_that_no_model_has_is_not_published(change, said):
    text = built_in_lifecycle()
    in_force = ActiveModels({"*": {name: ModelVersion(1, text) for name, text in SHIPPED}})
    check_lifecycle_bands(compile_lifecycle(text), [in_force], "default")
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(Failure, match=said):
        check_lifecycle_bands(compile_lifecycle(text), [in_force], "default")


def test_a_file_is_read_and_refused_before_anything_is_published(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(RECYCLING)
    bad.write_text(RECYCLING.replace("90", "0"))
    assert lifecycle_text(str(good)) == RECYCLING
    assert lifecycle_text("default") == built_in_lifecycle()
    with pytest.raises(Failure, match=r"bad\.toml: line 11, transition to 'recycled', inactive_days"):
        lifecycle_text(str(bad))
    with pytest.raises(Failure, match="does not exist"):
        lifecycle_text(str(tmp_path / "none.toml"))


# -- who moved a lead


@pytest.mark.parametrize(
    ("said", "sentence", "by", "note"),
    [
        ({}, "moved by a person", None, None),
        ({"by": "maria"}, "moved by maria", "maria", None),
        ({"reason": "budget is there"}, "moved by a person: budget is there", None, "budget is there"),
        (
            {"by": "maria", "reason": "budget is there"},
            "moved by maria: budget is there",
            "maria",
            "budget is there",
        ),
    ],
)
def test_the_history_says_who_moved_a_lead_and_why(said, sentence, by, note):
    [moved] = given(crm("stage_changed", "s", 0, stage="qualified", **said)).statements(say.StageEntered)
    assert (moved.reason, moved.by, moved.note) == (sentence, by, note)


def test_what_the_rules_do_after_a_move_is_no_persons_doing():
    story = given(crm("stage_changed", "s", 0, stage="qualified", by="maria"))
    [engaged] = story.when(crm("email_replied", "r", HOUR)).statements(say.StageEntered)
    assert (engaged.reason, engaged.by, engaged.note) == ("reply or form after qualifying", None, None)


def test_a_move_that_came_with_a_merged_lead_is_a_persons_move_without_a_name():
    story = given(
        happened("stage_changed", "s", HOUR, lead_id="A", source="crm", stage="qualified", by="maria"),
        happened("email_sent", "e", 0, lead_id="B", source="crm"),
    )
    story.when(happened("leads_merged", "m", 2 * HOUR, lead_id="A", source="crm", into="B"))
    [moved] = story.statements(say.StageEntered, lead="B")
    assert (moved.stage, moved.by) == ("qualified", None)


# -- the shipped lifecycle against the ruling, read plainly

CONTACTS = ("email_sent", "sms_sent", "call_made")
REPLIES = ("email_replied", "sms_replied", "message_received", "form_submitted")
MEETINGS = ("meeting_scheduled", "demo_requested")
PURCHASE = ("purchase_made",)
NOT_THEIRS = (*CONTACTS, "stage_changed", "profile_updated")
SILENCE = 180 * DAY


class Ruling:
    """One lead, as a person would follow it with the ruling in hand. Keeps every act; knows no features."""

    def __init__(self):
        self.stage, self.since, self.qualified, self.clock = "new", None, None, 0
        self.acts, self.moves, self.companies = [], [], []
        self.obeyed, self.blocked = None, False
        self.history = []

    def tell(self, event, when, recorded):
        self.wait_until(recorded)
        kind = type(event).__struct_config__.tag
        self.acts.append((when, kind))
        if kind == "stage_changed":
            self.moves.append((when, event.event_id, event.stage))
        if kind == "profile_updated":
            self.companies.append((when, event.event_id, event.fields["company"]))
        self.conclude()

    def wait_until(self, moment):
        while self.stage == "customer" and self.churns() <= moment:
            self.clock = max(self.clock, self.churns())
            self.conclude()
        self.clock = moment

    def churns(self):
        """A customer idle for 180 days; of a silence that a person saw who moved them, another 180."""
        quiet = max((when for when, kind in self.acts if kind not in NOT_THEIRS), default=self.since)
        if self.obeyed is not None and quiet + SILENCE <= self.obeyed[0]:
            quiet = self.obeyed[0]
        return quiet + SILENCE

    def happened(self, kinds, *after):
        bound = max([-1, *(moment for moment in after if moment is not None)])
        return any(when > bound for when, kind in self.acts if kind in kinds)

    def conclude(self):
        before, reason = self.stage, None
        while (step := self.step()) is not None:
            self.stage, reason = step
            # A person's move is entered at its own time: what happened later counts, whenever either came.
            self.since = self.obeyed[0] if reason == "moved by a person" else self.clock
            if self.stage in ("qualified", "engaged", "opportunity", "customer", "churned"):
                self.qualified = self.since if self.qualified is None else self.qualified
        if self.stage != before:
            self.history.append((at(self.clock), before, self.stage, reason))

    def step(self):
        # A person's move wins.
        last = max(self.moves, default=None)
        if last is not None and (self.obeyed is None or last[:2] > self.obeyed):
            self.obeyed, self.blocked = last[:2], True
            if last[2] != self.stage:
                return last[2], "moved by a person"
        mql = max(self.companies, default=("", "", None))[2] is not None
        self.blocked = self.blocked and mql
        moved = None if self.obeyed is None else self.obeyed[0]
        # Later events may advance from it, forward only.
        if self.stage in ("recycled", "disqualified", "churned", "lost"):
            return ("customer", "purchase") if self.happened(PURCHASE, moved, self.since) else None
        if self.stage == "customer":
            return ("churned", "no interaction for 180 days") if self.churns() <= self.clock else None
        if self.happened(PURCHASE, moved):
            return "customer", "purchase"
        if self.stage in ("qualified", "engaged") and self.happened(MEETINGS, moved, self.qualified):
            return "opportunity", "meeting or demo after qualifying"
        if self.stage == "qualified" and self.happened(REPLIES, moved, self.qualified):
            return "engaged", "reply or form after qualifying"
        if self.stage in ("new", "contacted") and mql and not self.blocked:
            return "qualified", "rules reached mql"
        if self.stage == "new" and self.happened(CONTACTS, moved):
            return "contacted", "e-mail, SMS or call to the lead"
        return None


KINDS = (
    *("email_sent", "call_made", "email_replied", "form_submitted", "demo_requested", "purchase_made"),
    *("page_viewed", "profile_updated", "profile_updated", "stage_changed", "stage_changed", "stage_changed"),
)
GAPS = (0, 1, HOUR, DAY, 30 * DAY, SILENCE - 1, SILENCE, SILENCE + DAY)
LATE = (0, 0, 0, 0, 1, HOUR, 2 * DAY, SILENCE)
PLACES = ("customer", "new", "contacted", "qualified", "customer", "engaged", "lost", "churned")
acts = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(GAPS),
        st.sampled_from(LATE),
        st.sampled_from(PLACES),
        st.booleans(),
    ),
    min_size=1,
    max_size=14,
)


def told(spec):
    """(event, when it happened, when it was recorded) in the order of recording."""
    recorded = SILENCE  # late acts happened before it
    for number, (kind, gap, late, stage, company) in enumerate(spec):
        recorded += gap
        fields = {}
        if kind == "stage_changed":
            fields = {"stage": stage}
        if kind == "profile_updated":
            fields = {"fields": {"company": "Acme" if company else None}}
        when = recorded - late
        yield crm(kind, f"e{number:02}", when, recorded=recorded, **fields), when, recorded


@examples(max_examples=scaled(100))
@for_all(acts, st.booleans())
def test_random_histories_go_the_way_that_the_ruling_says(spec, nightly):
    story, ruling = Story([("rules", RULES)]), Ruling()
    end = 0
    for event, when, recorded in told(spec):
        if nightly and end:
            story.when(Time(end + (recorded - end) // 2))
        story.when(event)
        ruling.tell(event, when, recorded)
        end = recorded
    story.when(Time(end + 2 * SILENCE))
    ruling.wait_until(end + 2 * SILENCE)
    assert entered(story) == ruling.history


# -- any lifecycle, under both stages


def ledger(story):
    """Everything that was said, in order, without ids: those count positions, and timers take positions."""
    return [msgspec.to_builtins(s) | {"statement_id": ""} for _, s in story.pipeline.said]


@st.composite
def stories(draw):
    """What happens, and when timers go off in between: at random, late, twice or never."""
    spec = draw(acts)
    timers = draw(st.lists(st.sampled_from([0, 0, 1, 2, 3]), min_size=len(spec), max_size=len(spec)))
    return list(told([(kind, gap % (9 * DAY), 0, *rest) for kind, gap, _, *rest in spec])), timers


@examples(max_examples=scaled(60))
@for_all(lifecycles(), lifecycles(), stories())
def test_timers_that_are_lost_late_or_doubled_change_nothing_under_any_lifecycle(first, second, story):
    events, timers = story

    def folded(timers):
        told_so_far = Story([("rules", RULES)]).when(Settings(1, 0, lifecycle=first))
        clock = 0
        for number, (event, _, recorded) in enumerate(events):
            for each in range(timers[number]):
                told_so_far.when(Time(clock + (recorded - clock) * (each + 1) // (each + 2)))
            if number == len(events) // 2:
                told_so_far.when(Settings(2, recorded, lifecycle=second))
            told_so_far.when(event)
            clock = recorded
        told_so_far.when(Time(clock + 40 * DAY))
        assert not told_so_far.pipeline.dead
        return ledger(told_so_far)

    assert folded(timers) == folded([0] * len(events))


@examples(max_examples=scaled(60))
@for_all(lifecycles(), lifecycles(), acts)
def test_a_sweep_brings_a_lead_where_the_next_event_would(first, second, spec):
    """The lead before the sweep, looked at with the new rules; and after it, nothing is left to do."""
    story, events = Story([("rules", RULES)]).when(Settings(1, 0, lifecycle=first)), list(told(spec))
    story.when(*(event for event, _, _ in events))
    before, recorded = story.lead("L"), events[-1][2]
    story.when(Settings(2, recorded, lifecycle=second))
    assert not story.pipeline.dead
    rules = LeadRules(Held(2, lifecycle=second), {"rules": ModelVersion(1, RULES)})
    assert stage_after_conclusions(rules, before, {}) == story.lead("L").head.position.stage
    story.when(crm("note_added", "n", recorded, text="nothing new")).then(kinds=(say.StageEntered,))

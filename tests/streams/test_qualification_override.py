"""Stories of qualifications that somebody sets by hand: beside the computed band, until a moment or until removed.

Scores are worked out by hand from the built-in rules: SaaS 20, 51-200 people 15, a new lead 10. That is enough points for mql, but
not what its criterion demands, so the computed band is none.
"""

import random

import pytest
from example_counts import scaled
from hypothesis import HealthCheck, settings
from hypothesis import given as examples_of
from hypothesis import strategies as st
from stream_reference import reference
from stream_simulator import Pipeline, refold
from stream_stories import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SHIPPED,
    Publish,
    PublishWorkflows,
    Time,
    at,
    given,
)
from test_workflow_stories import FIRED, FIRM, crm, profile, workflow

from schemas import statements as say
from schemas.activity import TimePassed
from schemas.decode import decode_activity, encode_activity
from schemas.moment import millis
from schemas.record import Record
from schemas.topics import LEAD_ACTIVITY, PARTITION_WIDE_KEY
from streams.score_leads.lead_state import LeadState

OVERRIDES = (say.QualificationOverridden,)
QUALIFYING = (say.QualificationOverridden, say.StageEntered)


def override(event_id, when, band, *, until=None, by="Ada", lead="L", **more):
    """As a workflow's move_to_stage writes it."""
    fields = {
        "qualification_override": band,
        "qualification_override_by": by,
        "qualification_override_until": None if until is None else at(until).isoformat(),
    }
    return profile(event_id, when, lead, **fields, **more)


def test_an_override_stands_beside_the_computed_band_until_it_ends():
    story = given(profile("a", 0, **FIRM))
    story.when(override("b", HOUR, "hot", until=DAY)).then(
        "L: rules set to hot by Ada, was None", kinds=OVERRIDES
    )
    card = story.card("L")
    assert card.scores["rules"].bands == {"stage": "none"}
    shown = card.qualification_override
    assert (shown.band, shown.by, shown.since, shown.until) == ("hot", "Ada", at(HOUR), at(DAY))
    story.when(Time(DAY - 1)).then(kinds=OVERRIDES)
    story.when(Time(3 * DAY)).then("L: rules set to None by None, was hot", kinds=OVERRIDES)
    [ended] = story.statements(*OVERRIDES)
    assert (ended.at, ended.caused_by) == (at(DAY), f"due:{NOON + DAY}")
    assert story.card("L").qualification_override is None


def test_an_override_qualifies_the_lead_and_its_end_takes_no_stage_back():
    story = given(profile("a", 0, company="Acme"))
    story.when(override("b", HOUR, "sql", until=DAY)).then(
        "L: rules set to sql by Ada, was None", "L: new -> qualified: rules reached mql", kinds=QUALIFYING
    )
    story.when(Time(2 * DAY)).then("L: rules set to None by None, was sql", kinds=QUALIFYING)
    assert story.stage("L") == "qualified"


def test_null_removes_an_override_by_hand_and_another_one_replaces_it():
    story = given(override("a", 0, "hot"))
    story.when(override("b", HOUR, "mql", by="Bo")).then(
        "L: rules set to mql by Bo, was hot", kinds=OVERRIDES
    )
    story.when(profile("c", 2 * HOUR, qualification_override=None)).then(
        "L: rules set to None by None, was mql", kinds=OVERRIDES
    )


def test_who_and_until_when_are_those_of_the_event_that_set_the_band():
    story = given(override("a", 0, "hot", until=DAY))
    story.when(profile("b", HOUR, qualification_override="sql")).then(
        "L: rules set to sql by None, was hot", kinds=OVERRIDES
    )
    story.when(Time(9 * DAY)).then(kinds=OVERRIDES)
    assert story.card("L").qualification_override.until is None


@pytest.mark.parametrize("band", ["warm", "", ["hot"], 7])
def test_what_is_no_band_of_the_rules_overrides_nothing(band):
    given().when(profile("a", 0, qualification_override=band)).then(kinds=OVERRIDES)


@pytest.mark.parametrize("until", ["soon", "0001-01-01T00:00:00+14:00", "2024-13-01", 5])
def test_an_end_that_is_no_moment_is_none(until):
    story = given(
        profile("a", 0, qualification_override="hot", qualification_override_until=until),
        Time(400 * DAY),
    )
    override_left = story.card("L").qualification_override
    assert override_left is None or override_left.until is None


def test_an_override_that_has_ended_already_says_nothing():
    given().when(override("a", 0, "hot", until=-1)).then(kinds=OVERRIDES)


def test_workflows_see_the_band_that_was_set_by_hand_and_its_end():
    to_hot = workflow('type = "stage_change", set = "stage", to = "hot"')
    from_hot = workflow('type = "stage_change", set = "stage", from = "hot"', number=2)
    asks = workflow(
        'type = "event", event = "note_added"',
        'conditions = [{ value = "band.rules.stage", equals = "hot" }]',
        number=3,
    )
    story = given(PublishWorkflows(to_hot + from_hot + asks, 1, 0), profile("a", MINUTE, **FIRM))
    story.when(override("b", HOUR, "hot", until=DAY)).then(
        "L: workflow 1: stage of rules changed from none to hot", kinds=FIRED
    )
    story.when(crm("note_added", "n", 2 * HOUR, text="x")).then(
        "L: workflow 3: the event note_added came", kinds=FIRED
    )
    story.when(Time(2 * DAY)).then("L: workflow 2: stage of rules changed from hot to none", kinds=FIRED)
    assert [s.arm for s in story.statements(*FIRED)] == [f"due:{NOON + DAY}"]


def test_an_imported_override_sets_off_nothing():
    story = given(PublishWorkflows(workflow('type = "stage_change", set = "stage", to = "hot"'), 1, 0))
    story.when(override("b", HOUR, "hot", imported=True)).then(
        "L: workflow 1: stage of rules changed from none to hot, silent (import)", kinds=FIRED
    )
    assert [s.silent for s in story.statements(*OVERRIDES)] == [True]


def test_a_merge_brings_an_override_and_its_undoing_takes_it_away():
    story = given(override("a", 0, "hot", lead="A"), profile("b", 0, "B", company="Beta"))
    story.when(crm("leads_merged", "m", HOUR, lead="A", into="B")).then(
        "A: rules set to None by None, was hot", "B: rules set to hot by Ada, was None", kinds=OVERRIDES
    )
    assert story.stage("B") == "qualified"
    story.when(crm("merge_undone", "u", 2 * HOUR, lead="A"))
    assert [(s.lead_id, s.band) for s in story.statements(*OVERRIDES)] == [("B", None), ("A", "hot")]


def test_rules_without_the_band_end_the_override():
    text = dict(SHIPPED)["rules"]
    story = given(override("a", 0, "hot"))
    story.when(
        Publish(
            "rules",
            text.replace("hot = 80, ", "").split("[needs.hot]")[0] + "[groups.x]\nrules = []\n",
            20,
            HOUR,
        )
    )
    assert [s.band for s in story.statements(*OVERRIDES)] == [None]
    story.when(Publish("rules", text, 21, 2 * HOUR))
    assert [s.band for s in story.statements(*OVERRIDES)] == ["hot"]
    story.when(Publish("rules", None, 22, 3 * HOUR))
    assert [s.band for s in story.statements(*OVERRIDES)] == [None]


# At random

LEADS = ("A", "B", "C")
moves = st.lists(
    st.tuples(
        st.sampled_from(LEADS),
        st.sampled_from(["hot", "sql", "mql", None, "warm", "merge", "undo"]),
        st.integers(0, 6 * 24),
        st.one_of(st.none(), st.integers(1, 72)),
    ),
    max_size=14,
)


def overriding_events(specs):
    events = [profile(f"p{lead}", 0, lead, company="Acme") for lead in LEADS]
    for number, (lead, band, hour, hours) in enumerate(specs):
        when = hour * HOUR + number
        if band == "merge":
            events.append(crm("leads_merged", f"e{number}", when, lead=lead, into=LEADS[number % 3]))
        elif band == "undo":
            events.append(crm("merge_undone", f"e{number}", when, lead=lead))
        else:
            until = None if hours is None else when + hours * HOUR
            events.append(override(f"e{number}", when, band, until=until, lead=lead))
    return sorted(events, key=lambda event: event.recorded_at)


def expected_band(fields, clock):
    """By the fields alone: what the last writer set, if it has not ended."""
    band = fields.get("qualification_override", (0, "", None))
    until = fields.get("qualification_override_until", (0, "", None))
    if band[2] not in {"mql", "sql", "hot"}:
        return None
    if until[2] is not None and until[:2] == band[:2]:
        ends = millis(at(0).fromisoformat(until[2]))
        if ends <= clock:
            return None
    return band[2]


@settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))
@examples_of(moves, st.integers(0, 2**30))
def test_in_any_interleaving_the_override_is_what_the_fields_say_and_timers_change_nothing(specs, seed):
    events = overriding_events(specs)
    pipeline = Pipeline((*SHIPPED,)).fold_all().run(seed, events, timers=4)
    end = NOON + 10 * DAY
    for key in sorted(pipeline.leads()):
        pipeline.wake(key, end)
    pipeline.fold_all()
    by_lead = {lead: fields for lead, (_, fields, _) in reference(events).items()}
    for lead in pipeline.leads().values():
        fields = by_lead.get(lead.lead_id, {}) if lead.identities else {}
        current = lead.head.override
        assert (current and current.band) == expected_band(fields, end)
    bands = {}
    for statement in pipeline.statements(say.QualificationOverridden):
        assert statement.previous == bands.get(statement.lead_id)
        bands[statement.lead_id] = statement.band
    again = refold(pipeline, seed, edit=with_timers(random.Random(seed)))
    assert ledger(again) == ledger(pipeline)


def with_timers(rng):
    """An edit of a recorded partition: more timers, each once or twice, and none that was there before the end."""

    def edit(log):
        edited, clock = [], {}
        for record in log:
            decoded = decode_activity(record.value)
            if record.key != PARTITION_WIDE_KEY:
                before = clock.get(record.key, decoded.recorded_at)
                if rng.random() < 0.5 and before < decoded.recorded_at:
                    tenant, _, lead = record.key.split("/", 2)
                    passed = TimePassed(tenant, lead, rng.randint(before, decoded.recorded_at))
                    timer = Record(LEAD_ACTIVITY, 0, 0, record.key, encode_activity(passed))
                    edited += [timer] * rng.choice((1, 2))
                clock[record.key] = max(before, decoded.recorded_at)
            edited.append(record)
        return edited

    return edit


def ledger(pipeline):
    return {
        lead.lead_id: [
            (s.at, s.caused_by, s.band, s.previous, s.by, s.until)
            for s in pipeline.statements(say.QualificationOverridden, lead.lead_id)
        ]
        for lead in pipeline.leads().values()
        if isinstance(lead, LeadState)
    }

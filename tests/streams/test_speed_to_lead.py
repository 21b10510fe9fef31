"""Stories of the clock from qualified to the first contact, and of the workflows that wait for it.

A lead qualifies here by an override to sql, at a moment that needs no sums. NOON of the stories is that of Friday, 4 October 2024.
"""

import random
from datetime import UTC, datetime

import pytest
from example_counts import scaled
from hypothesis import HealthCheck, settings
from hypothesis import given as examples_of
from hypothesis import strategies as st
from stream_simulator import Pipeline, refold
from stream_stories import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SHIPPED,
    Publish,
    PublishWorkflows,
    Settings,
    Time,
    at,
    given,
)
from test_qualification_override import override, with_timers
from test_workflow_stories import FIRED, crm, numbered, profile, workflow

from schemas.moment import millis, moment
from scoring.features.calendar import calendar
from scoring.workflows.built_in_workflows import built_in_workflows
from scoring.workflows.working_hours import after_working_minutes, read_hours

CLOCK = '[speed_to_lead]\nafter = "sql"\nminutes = 5\n'
LATE = CLOCK + workflow('type = "not_contacted"')


def call(event_id, when, lead="L", **more):
    return crm("call_made", event_id, when, lead, **more)


def times(story, lead="L"):
    waited = story.card(lead).speed_to_lead
    return waited and tuple(
        None if each is None else millis(each) - NOON
        for each in (waited.qualified_at, waited.limit_at, waited.contacted_at, waited.ended_at)
    )


def waiting(text=LATE, **more):
    return given(PublishWorkflows(text, 1, 0), override("q", HOUR, "sql", **more))


def test_nobody_contacts_a_qualified_lead_in_time():
    story = waiting()
    assert times(story) == (HOUR, HOUR + 5 * MINUTE, None, None)
    story.when(Time(HOUR + 5 * MINUTE - 1)).then(kinds=FIRED)
    story.when(Time(2 * HOUR)).then(
        "L: workflow 1: 5 minutes passed without contact since the lead qualified", kinds=FIRED
    )
    [fired] = story.statements(*FIRED)
    assert (fired.at, fired.trigger, fired.arm) == (
        at(HOUR + 5 * MINUTE),
        "not_contacted",
        f"qualified:{NOON + HOUR}",
    )
    story.when(Time(9 * DAY)).then(kinds=FIRED)


@pytest.mark.parametrize("kind", ["call_made", "email_sent", "sms_sent"])
def test_a_contact_in_time_stops_the_clock(kind):
    story = waiting()
    story.when(crm(kind, "c", HOUR + 4 * MINUTE), Time(DAY)).then(kinds=FIRED)
    assert times(story)[2] == HOUR + 4 * MINUTE


def test_what_was_before_is_no_contact_and_neither_is_what_the_lead_does():
    story = given(PublishWorkflows(LATE, 1, 0), call("c", MINUTE), override("q", HOUR, "sql"))
    story.when(crm("email_replied", "r", HOUR + MINUTE), Time(DAY))
    assert len(story.statements(*FIRED)) == 1


def test_a_contact_that_qualifies_the_lead_is_its_first():
    """The call moves the lead to qualified by the tenant's own lifecycle of calls; here it is the record that does both."""
    text = '[speed_to_lead]\nafter = "contacted"\n' + workflow('type = "not_contacted"')
    story = given(PublishWorkflows(text, 1, 0), profile("a", 0, company="Acme"))
    story.when(call("c", HOUR), Time(DAY)).then(kinds=FIRED)
    assert times(story)[0] == times(story)[2] == HOUR


def test_a_contact_that_is_recorded_later_counts_when_it_was():
    story = waiting()
    story.when(call("c", HOUR + 2 * MINUTE, recorded=2 * HOUR))
    assert len(story.statements(*FIRED)) == 1  # nobody knew of it in time
    assert times(story)[2] == HOUR + 2 * MINUTE


def test_each_workflow_has_its_own_minutes_and_comes_once():
    text = (
        CLOCK
        + workflow('type = "not_contacted"')
        + workflow('type = "not_contacted", minutes = 30', number=2)
    )
    story = waiting(text)
    story.when(Time(DAY)).then(
        "L: workflow 1: 5 minutes passed without contact since the lead qualified",
        "L: workflow 2: 30 minutes passed without contact since the lead qualified",
        kinds=FIRED,
    )
    assert [s.at for s in story.statements(*FIRED)] == [at(HOUR + 5 * MINUTE), at(HOUR + 30 * MINUTE)]


def test_a_lead_that_falls_back_no_longer_waits_and_a_new_qualification_is_waited_for_again():
    story = waiting()
    story.when(override("d", HOUR + MINUTE, "mql"), Time(DAY)).then(kinds=FIRED)
    assert times(story)[3] == HOUR + MINUTE
    story.when(override("e", 2 * DAY, "hot"), Time(3 * DAY))
    assert [s.arm for s in story.statements(*FIRED)] == [f"qualified:{NOON + 2 * DAY}"]


@pytest.mark.parametrize("stage", ["customer", "lost", "disqualified"])
def test_a_customer_and_a_lead_that_is_put_aside_wait_for_nobody(stage):
    story = waiting()
    story.when(crm("stage_changed", "s", HOUR + MINUTE, stage=stage), Time(DAY)).then(kinds=FIRED)
    assert times(story)[3] == HOUR + MINUTE


def test_without_a_text_a_lead_waits_from_the_stage_qualified_on():
    story = given(override("q", HOUR, "mql"))
    assert story.stage("L") == "qualified"
    assert times(story) == (HOUR, HOUR + 5 * MINUTE, None, None)


@pytest.mark.parametrize("silent", [{"imported": True}, {"recorded": 2 * DAY}])
def test_an_import_and_a_late_event_start_a_clock_without_a_limit(silent):
    story = waiting(**silent)
    story.when(Time(9 * DAY)).then(kinds=FIRED)
    assert times(story)[1] is None


@pytest.mark.parametrize(("fire", "fired"), [(False, 0), (True, 1)])
def test_a_publication_makes_nobody_late_unless_it_fires(fire, fired):
    rules = dict(SHIPPED)["rules"].replace("hot = 80, sql = 65, mql = 40", "hot = 80, sql = 20, mql = 10")
    rules = rules.split("[needs.mql]")[0] + "[groups" + rules.split("[groups", 1)[1]
    story = given(PublishWorkflows(LATE, 1, 0), profile("a", 0, industry="SaaS", company_size="51-200"))
    story.when(Publish("rules", rules, 20, HOUR, fire=fire), Time(DAY))
    assert len(story.statements(*FIRED)) == fired


def test_a_publication_of_workflows_fires_nothing_for_minutes_that_are_over():
    story = given(override("q", 0, "sql"), PublishWorkflows(LATE, 1, HOUR))
    story.when(Time(DAY)).then(kinds=FIRED)
    later = CLOCK + workflow('type = "not_contacted", minutes = 2000')
    story.when(PublishWorkflows(later, 2, DAY), Time(3 * DAY))
    assert [s.at for s in story.statements(*FIRED)] == [at(2000 * MINUTE)]


def test_only_minutes_of_working_hours_count():
    """Qualified on Friday at 16:58 in Berlin: two minutes are left, and three of Monday."""
    text = CLOCK + 'working_hours = "mon-fri 09:00-17:00"\n' + workflow('type = "not_contacted"')
    story = given(
        Settings(2, 0, time_zone="Europe/Berlin"),
        PublishWorkflows(text, 1, 0),
        override("q", 2 * HOUR + 58 * MINUTE, "sql"),
    )
    story.when(Time(4 * DAY))
    [fired] = story.statements(*FIRED)
    assert fired.at == datetime(2024, 10, 7, 7, 3, tzinfo=UTC)


def test_a_merge_carries_the_clock_along_and_nobody_waits_twice():
    text = (
        CLOCK
        + workflow('type = "not_contacted"')
        + workflow('type = "not_contacted", minutes = 60', number=2)
    )
    story = given(
        PublishWorkflows(text, 1, 0),
        override("q", HOUR, "sql", lead="A"),
        profile("b", 0, "B", company="Beta"),
        Time(HOUR + 10 * MINUTE),
        crm("leads_merged", "m", HOUR + 20 * MINUTE, lead="A", into="B"),
        Time(DAY),
    )
    fired = [(s.lead_id, s.workflow_id, s.arm) for s in story.pipeline.statements(*FIRED)]
    assert fired == [("A", 1, f"qualified:{NOON + HOUR}"), ("B", 2, f"qualified:{NOON + HOUR}")]


def test_a_lead_that_was_contacted_is_not_late_after_a_merge():
    story = given(
        PublishWorkflows(LATE, 1, 0),
        override("q", HOUR, "sql", lead="A"),
        call("c", HOUR + MINUTE, "A"),
        profile("b", 0, "B", company="Beta"),
    )
    story.when(crm("leads_merged", "m", 2 * HOUR, lead="A", into="B"), Time(DAY)).then(kinds=FIRED)
    assert times(story, "B")[:3] == (HOUR, HOUR + 5 * MINUTE, HOUR + MINUTE)


def test_a_merge_that_is_undone_in_time_leaves_the_lead_waiting():
    story = given(
        PublishWorkflows(LATE, 1, 0),
        profile("b", 0, "B", company="Beta"),
        override("q", HOUR, "sql", lead="A"),
        crm("leads_merged", "m", HOUR + MINUTE, lead="A", into="B"),
        crm("merge_undone", "u", HOUR + 2 * MINUTE, lead="A"),
    )
    story.when(Time(DAY))
    assert [(s.lead_id, s.at) for s in story.statements(*FIRED)] == [("A", at(HOUR + 5 * MINUTE))]


def test_a_merge_that_is_undone_later_makes_nobody_late_again():
    """The other lead was late meanwhile, and the one that comes back has not qualified anew."""
    story = given(
        PublishWorkflows(LATE, 1, 0),
        profile("b", 0, "B", company="Beta"),
        override("q", HOUR, "sql", lead="A"),
        crm("leads_merged", "m", HOUR + MINUTE, lead="A", into="B"),
        Time(2 * HOUR),
        crm("merge_undone", "u", 3 * HOUR, lead="A"),
        Time(DAY),
    )
    assert [(s.lead_id, s.at) for s in story.pipeline.statements(*FIRED)] == [("B", at(HOUR + 5 * MINUTE))]


def test_the_built_in_text_waits_for_five_minutes_and_for_half_an_hour_of_work():
    """Qualified on Friday at 17:50, ten minutes before the end of work."""
    text = numbered(built_in_workflows()["speed_to_lead"])
    story = given(PublishWorkflows(text, 1, 0), override("q", 5 * HOUR + 50 * MINUTE, "sql"))
    story.when(Time(4 * DAY))
    assert [(s.workflow, s.at) for s in story.statements(*FIRED)] == [
        ("Call the new SQL now", datetime(2024, 10, 4, 17, 55, tzinfo=UTC)),
        ("Tell the manager", datetime(2024, 10, 7, 9, 20, tzinfo=UTC)),
    ]


# Working hours


def by_minutes(since, minutes, hours, zone):
    """Minute by minute; for moments at whole minutes, in a zone without changes of clocks."""
    at, left = since, minutes
    while left:
        local = moment(at)
        minute = local.hour * 60 + local.minute
        days = (local.weekday(), (local.weekday() - 1) % 7)
        works = any(
            (days[0] in each.days and each.begin <= minute < each.end)
            or (days[1] in each.days and each.begin <= minute + 1440 < each.end)
            for each in hours
        )
        left -= works
        at += MINUTE
    return at


@settings(max_examples=scaled(60), deadline=None)
@examples_of(
    st.integers(0, 7 * 1440),
    st.integers(1, 900),
    st.lists(
        st.sampled_from(["mon-fri 09:00-17:30", "sat 10:00-12:00", "22:00-06:00", "thu-mon 16:00-20:00"]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
)
def test_working_minutes_are_those_that_a_count_of_minutes_finds(start, minutes, texts):
    hours = tuple(read_hours(text) for text in texts)
    since = NOON + start * MINUTE
    assert after_working_minutes(since, minutes, hours, calendar("UTC")) == by_minutes(
        since, minutes, hours, "UTC"
    )


# At random

LEADS = ("A", "B", "C")
TWO = CLOCK + workflow('type = "not_contacted"') + workflow('type = "not_contacted", minutes = 90', number=2)
moves = st.lists(
    st.tuples(
        st.sampled_from(LEADS),
        st.sampled_from(["hot", "sql", "sql", "mql", None, "call", "call", "page", "merge", "undo"]),
        st.integers(0, 600),
    ),
    max_size=16,
)


def events_of(specs, *, merges):
    events = [profile(f"p{lead}", 0, lead, company="Acme") for lead in LEADS]
    for number, (lead, what, minutes) in enumerate(specs):
        when, event_id = minutes * MINUTE + number, f"e{number}"
        match what:
            case "merge" | "undo" if not merges:
                pass
            case "merge":
                events.append(crm("leads_merged", event_id, when, lead, into=LEADS[number % 3]))
            case "undo":
                events.append(crm("merge_undone", event_id, when, lead))
            case "call":
                events.append(call(event_id, when, lead))
            case "page":
                events.append(crm("page_viewed", event_id, when, lead))
            case band:
                events.append(override(event_id, when, band, lead=lead))
    return sorted(events, key=lambda event: event.recorded_at)


def expected_firings(events, end):
    """A sequential reading of one lead at a time: a list of waits, each from a qualification to what ended it."""
    fired = set()
    for lead in LEADS:
        waits, since = [], None
        for event in (each for each in events if each.lead_id == lead):
            when = millis(event.recorded_at)
            if event.event_id.startswith("p") or not hasattr(event, "fields"):
                if type(event).__name__ == "CallMade" and waits and waits[-1][1] is None:
                    waits[-1][1] = when
                continue
            qualified = event.fields["qualification_override"] in {"sql", "hot"}
            if qualified and since is None:
                since = when
                waits.append([when, None])
            elif not qualified and since is not None:
                since = None
                waits[-1][1] = waits[-1][1] or when
        for begin, stop in waits:
            for number, minutes in ((1, 5), (2, 90)):
                due = begin + minutes * MINUTE
                if due <= end and (stop is None or due <= stop):
                    fired.add((lead, number, begin, due))
    return fired


def run(specs, seed, *, merges):
    """Timers may run ahead of a record that is still on its way, and then decide when that counts: only with merges."""
    events = events_of(specs, merges=merges)
    pipeline = Pipeline(SHIPPED).fold_all()
    pipeline.publish_workflows(1, TWO, NOON - DAY)
    pipeline.fold_all().run(seed, events, timers=5 if merges else 0)
    end = NOON + 2 * DAY
    for key in sorted(pipeline.leads()):
        pipeline.wake(key, end)
    return events, pipeline.fold_all(), end


@settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))
@examples_of(moves, st.integers(0, 2**30))
def test_in_any_interleaving_each_qualification_is_late_once_and_only_without_a_contact(specs, seed):
    events, pipeline, end = run(specs, seed, merges=False)
    for each in (pipeline, refold(pipeline, seed, edit=with_timers(random.Random(seed)))):
        fired = [
            (s.lead_id, s.workflow_id, int(s.arm.removeprefix("qualified:")), millis(s.at))
            for s in each.statements(*FIRED)
        ]
        assert len(fired) == len(set(fired))
        assert set(fired) == expected_firings(events, end)


@settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))
@examples_of(moves, st.integers(0, 2**30))
def test_merges_make_nobody_late_twice_and_timers_change_nothing(specs, seed):
    _, pipeline, _ = run(specs, seed, merges=True)
    fired = [(s.lead_id, s.workflow_id, s.arm, s.at, s.caused_by) for s in pipeline.statements(*FIRED)]
    assert len({each[:3] for each in fired}) == len(fired)
    again = refold(pipeline, seed, edit=with_timers(random.Random(seed)))
    assert sorted(
        (s.lead_id, s.workflow_id, s.arm, s.at, s.caused_by) for s in again.statements(*FIRED)
    ) == sorted(fired)

"""Journeys, days and periods against readings of the same histories with nothing but loops and wall clocks."""

import itertools
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journey_leads import FUNNEL, RandomLead, is_touch, person_did

from scoring.analytics.facts import EventFact, LeadFacts, OwnerFact, StageFact
from scoring.analytics.shares import trend_direction
from scoring.features.calendar import calendar
from scoring.journeys.day_summary import day_summaries
from scoring.journeys.engagement_counts import engagement_counts
from scoring.journeys.journey import (
    activity_status_of,
    churn_risk_of,
    completed_stages,
    decile_of,
    ended_stays,
    journey_of,
    path_deviation,
    predicted_value,
)
from scoring.journeys.period_summary import period_summaries
from scoring.journeys.timeline import page_before, timeline_of
from tests.example_counts import scaled

SEEDS = st.integers(0, 2**32)
EXAMPLES = settings(max_examples=scaled(150))


def summed(amounts):
    total = Counter()
    for currency, amount in amounts:
        total[currency] += amount
    return dict(sorted(total.items()))


def whole(micro):
    return int((Decimal(micro) / 1_000_000 + Decimal("0.5")).__floor__())


@EXAMPLES
@given(SEEDS)
def test_a_journey_is_what_a_reader_of_the_history_counts(seed):
    lead = RandomLead(seed)
    journey = journey_of(lead.facts, calendar(lead.zone.key))
    touches = [event for event in lead.once if is_touch(event)]
    done = [event for event in touches if person_did(event)]
    assert journey.engagements == len(done)
    assert journey.touchpoints == len(touches)
    assert journey.type_counts == Counter(event["type"] for event in touches)
    assert journey.channel_counts == Counter(event["channel"] for event in touches)
    moments = [event["at"] for event in done]
    gaps = [(after - before) / timedelta(milliseconds=1) for before, after in itertools.pairwise(moments)]
    assert journey.average_gap_ms == (int(sum(gaps) / len(gaps)) if gaps else None)
    assert journey.last_interaction_day == (lead.local_day(moments[-1]) if moments else None)
    assert journey.cohort_month == lead.local_day(lead.created).replace(day=1)
    orders = lead.orders(refunds=True)
    assert journey.net == summed((currency, amount) for _, currency, amount in orders)
    assert journey.gross == summed((currency, amount) for _, currency, amount in lead.orders(refunds=False))
    assert journey.orders == len(orders)
    assert journey.score == (whole(lead.scores[-1]["total"]) if lead.scores else 0)

    entered = [min([lead.created, *(entry["at"] for entry in lead.stages[:1])])]
    entered += [entry["at"] for entry in lead.stages]
    assert ended_stays(lead.facts) == [
        (entry["previous"], (left - at) // timedelta(milliseconds=1))
        for entry, (at, left) in zip(lead.stages, itertools.pairwise(entered), strict=True)
    ]
    visited = ["new", *(entry["stage"] for entry in lead.stages)]
    assert journey.stage_path == " > ".join(visited)
    steps = [5 if stage == "churned" else FUNNEL.index(stage) if stage in FUNNEL else 0 for stage in visited]
    assert journey.furthest_stage == FUNNEL[max(steps)]
    for step, stage in enumerate(FUNNEL[1:], 1):
        reached = [entry["at"] for entry, at in zip(lead.stages, steps[1:], strict=True) if at >= step]
        expected = round(min(reached).timestamp() * 1000) if reached else None
        assert journey.reached.get(stage) == expected
    contacts = [
        event["at"] for event in lead.events if event["type"] in {"email_sent", "sms_sent", "call_made"}
    ]
    first = round(min(contacts).timestamp() * 1000) if contacts else None
    assert journey.first_outreach_at == first
    contacts += [entry["at"] for entry in lead.stages if entry["stage"] == "contacted"][:1]
    assert journey.first_contact_at == (round(min(contacts).timestamp() * 1000) if contacts else None)


@EXAMPLES
@given(SEEDS)
def test_engagements_are_counted_by_day_type_and_channel_with_every_further_report(seed):
    lead = RandomLead(seed)
    expected = Counter(
        (lead.local_day(event["at"]), event["type"], event["channel"])
        for event in lead.events
        if is_touch(event)
    )
    counts = engagement_counts(lead.facts, calendar(lead.zone.key))
    assert {each[:3]: each.engagements for each in counts} == expected
    assert counts == sorted(counts)


@EXAMPLES
@given(SEEDS)
def test_days_are_what_a_reader_with_a_wall_clock_counts(seed):
    lead = RandomLead(seed)
    summaries = day_summaries(lead.facts, calendar(lead.zone.key))
    days = {
        *(lead.local_day(event["at"]) for event in lead.once if is_touch(event)),
        *(lead.local_day(each["at"]) for each in lead.stages + lead.scores),
        *(day for day, _, _ in lead.orders(refunds=True)),
    }
    assert [each.day for each in summaries] == sorted(days)
    for each in summaries:
        today = [event for event in lead.once if is_touch(event) and lead.local_day(event["at"]) == each.day]
        assert each.touchpoints == len(today)
        assert each.interactions == sum(map(person_did, today))
        for name, kind in (
            ("emails_sent", "email_sent"),
            ("emails_opened", "email_opened"),
            ("emails_clicked", "email_clicked"),
            ("forms_submitted", "form_submitted"),
            ("pages_viewed", "page_viewed"),
        ):
            assert getattr(each, name) == sum(event["type"] == kind for event in today)
        assert each.net == summed(
            (currency, amount) for day, currency, amount in lead.orders(refunds=True) if day == each.day
        )
        until = [entry for entry in lead.scores if lead.local_day(entry["at"]) <= each.day]
        before = [entry for entry in until if lead.local_day(entry["at"]) < each.day]
        assert each.score_end == (whole(until[-1]["total"]) if until else 0)
        assert each.score_start == (whole(before[-1]["total"]) if before else 0)
        gained = [
            Decimal(entry["engagement"]) / 1_000_000
            for entry in until[len(before) :]
            if not entry["cause"].startswith("model:")
        ]
        assert each.engagement == sum(gained, Decimal(0))
        stages = [entry for entry in lead.stages if lead.local_day(entry["at"]) <= each.day]
        earlier = [entry for entry in stages if lead.local_day(entry["at"]) < each.day]
        assert each.stage_end == (stages[-1]["stage"] if stages else "new")
        assert each.stage_start == (earlier[-1]["stage"] if earlier else "new")
        assert each.stage_changes == len(stages) - len(earlier)


@EXAMPLES
@given(SEEDS, st.sampled_from(["daily", "weekly", "monthly"]))
def test_periods_join_days_without_a_gap(seed, period_type):
    lead = RandomLead(seed)
    days = day_summaries(lead.facts, calendar(lead.zone.key))
    periods = period_summaries(days, period_type)
    named = {"daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m"}[period_type]
    assert [each.name for each in periods] == list(dict.fromkeys(day.day.strftime(named) for day in days))
    for each in periods:
        within = [day for day in days if day.day.strftime(named) == each.name]
        assert each.begin <= within[0].day <= within[-1].day < each.until
        assert each.counts["interactions"] == sum(day.interactions for day in within)
        assert each.engagement == sum((day.engagement for day in within), Decimal(0))
        assert (each.score_start, each.stage_start) == (within[0].score_start, within[0].stage_start)
        assert (each.score_end, each.stage_end) == (within[-1].score_end, within[-1].stage_end)
    for before, after in itertools.pairwise(periods):
        assert (before.score_end, before.stage_end) == (after.score_start, after.stage_start)


def test_an_hour_that_clocks_repeat_is_one_day():
    """On 2030-10-27 Berlin has 25 hours: from 22:00 UTC of the 26th to 23:00 UTC of the 27th."""
    texts = ["2030-10-26T21:59Z", "2030-10-26T22:00Z", "2030-10-27T22:59Z", "2030-10-27T23:00Z"]
    events = [page_view(number, datetime.fromisoformat(text)) for number, text in enumerate(texts)]
    facts = LeadFacts("default", "L", True, events[0].occurred_at, "new", events)
    days = day_summaries(facts, calendar("Europe/Berlin"))
    assert [(each.day, each.interactions) for each in days] == [
        (date(2030, 10, 26), 1),
        (date(2030, 10, 27), 2),
        (date(2030, 10, 28), 1),
    ]


def page_view(number, at, **fields):
    ms = round(at.timestamp() * 1000)
    fact = EventFact(f"e{number}", 1, "page_viewed", ms, ms, 0, number, "web", "web", interaction=True)
    return fact._replace(**fields)


@pytest.mark.parametrize(
    ("recent", "before", "trend"),
    [
        (0, 0, "stable"),
        (1, 0, "increasing"),
        (12, 10, "stable"),
        (13, 10, "increasing"),
        (8, 10, "stable"),
        (7, 10, "declining"),
        (0, 1, "declining"),
    ],
)
def test_a_trend_within_a_fifth_is_stable(recent, before, trend):
    assert trend_direction(recent, before) == trend


@pytest.mark.parametrize(
    ("idle", "trend", "risk"),
    [
        (0, "stable", "0"),
        (45, "stable", "0.5"),
        (45, "declining", "0.6"),
        (63, "increasing", "0.7"),
        (89, "declining", "1"),
        (500, "stable", "1"),
    ],
)
def test_churn_risk_is_idle_days_of_ninety_and_a_tenth_for_a_decline(idle, trend, risk):
    assert churn_risk_of(idle, trend) == Decimal(risk)


def test_activity_is_by_thirty_and_ninety_days():
    assert [activity_status_of(idle) for idle in (0, 30, 31, 90, 91, None)] == [
        "active",
        "active",
        "dormant",
        "dormant",
        "inactive",
        "inactive",
    ]


def test_a_value_is_the_mean_of_the_group_shrunk_to_the_tenants():
    """40 leads of a group with 1,000 each need no help. Of 10 leads with 3,000 together and a tenant's mean of 100, twenty
    more count as the mean: (3,000 + 20 * 100) / 30.
    """
    assert predicted_value(40_000, 40, 50_000, 100) == 1_000
    assert predicted_value(3_000, 10, 10_000, 100) == Decimal(5_000) / 30
    assert predicted_value(0, 0, 10_000, 100) == 100
    assert predicted_value(0, 3, 0, 100) is None
    assert predicted_value(0, 0, 0, 0) is None
    assert [decile_of(score) for score in (-5, 0, 9, 10, 77, 99, 100, 250)] == [0, 0, 0, 1, 7, 9, 9, 9]


def test_a_path_deviates_by_its_edits_over_the_longer_one():
    usual = ["new", "contacted", "qualified", "customer"]
    assert path_deviation(usual, usual) == 0
    assert path_deviation(["new", "customer"], usual) == Decimal("0.5")
    assert path_deviation(["new", "lost", "qualified", "customer"], usual) == Decimal("0.25")
    assert path_deviation(["lost"], ["new"]) == 1
    assert completed_stages(["new", "contacted", "new", "customer", "contacted"]) == ["new", "customer"]


def test_a_timeline_shows_merges_and_splits_and_pages_without_loss():
    at = datetime(2030, 1, 1, tzinfo=UTC)
    events = [page_view(number, at + timedelta(hours=number // 2)) for number in range(7)]
    start = events[0].occurred_at
    owners = [
        OwnerFact(1, 1, "L", start, 0, 0),
        OwnerFact(2, 1, "B", start, 1, 0),
        OwnerFact(2, 2, "L", start + 1000, 0, 8),
        OwnerFact(2, 3, "C", start + 2000, 2, 8),
    ]
    stages = [StageFact(start, 1, "contacted", "new", "a call", "event:e0")]
    facts = LeadFacts("default", "L", True, start, "contacted", events, stages, owners=owners)
    items = timeline_of(facts)
    assert [(each.kind, each.other_lead) for each in items if each.kind in {"merged", "split"}] == [
        ("merged", "B"),
        ("split", "C"),
    ]
    paged, cursor = [], None
    while True:
        page, cursor = page_before(items, 2, cursor)
        paged += page
        if cursor is None:
            break
    assert paged == items[::-1]
    assert len(items) == len(events) + len(stages) + 2

"""The simulated company: repeatable, readable by everybody, and as untidy as real delivery."""

import hashlib
import itertools
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from gateway.door.crawlers import crawler_of
from leadstream.simulation.personas import CRAWLERS, make_person
from leadstream.simulation.simulate import live_events, simulated_events
from schemas.decode import encode_source, key_of, read_event
from schemas.envelope import Event
from schemas.events import EVENT_TYPES, LeadErased, WorkflowRequested

UNTIL = datetime(2026, 6, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def company() -> list[Event]:
    return list(simulated_events(1, 400, 90, UNTIL))


def digest(events: list[Event]) -> str:
    return hashlib.sha256(b"\n".join(map(encode_source, events))).hexdigest()


def test_the_same_seed_gives_the_same_bytes(company: list[Event]):
    assert digest(list(simulated_events(1, 400, 90, UNTIL))) == digest(company)


def test_another_seed_gives_another_company(company: list[Event]):
    assert digest(list(simulated_events(2, 400, 90, UNTIL))) != digest(company)


def test_every_event_is_taken_at_the_door_as_it_stands(company: list[Event]):
    for event in company:
        read = read_event(encode_source(event))
        assert read == event
        assert read.extra is None


def test_events_come_in_the_order_they_were_recorded_within_the_days_asked_for(company: list[Event]):
    recorded = [event.recorded_at for event in company]
    assert recorded == sorted(recorded)
    assert UNTIL - timedelta(days=90) <= recorded[0]
    assert recorded[-1] < UNTIL
    assert all(event.occurred_at <= event.recorded_at for event in company)


def test_every_type_of_event_occurs_but_erasure_and_runs_of_workflows(company: list[Event]):
    """Nobody of the company asks to be forgotten, and it has no workflows."""
    assert set(EVENT_TYPES) - {type(event) for event in company} == {LeadErased, WorkflowRequested}


def test_every_channel_speaks(company: list[Event]):
    sources = Counter(event.source for event in company)
    assert set(sources) == {"web", "chatbot", "telegram", "email", "phone", "crm"}
    assert sources["web"] > len(company) / 2


def test_the_demo_s_size_is_what_a_demo_needs(company: list[Event]):
    assert 15_000 <= len(company) <= 30_000
    leads = {event.lead_id for event in company if event.lead_id}
    assert 60 <= len(leads) <= 300


def test_delivery_is_late_doubled_and_disordered(company: list[Event]):
    delays = [event.recorded_at - event.occurred_at for event in company]
    assert sum(delay > timedelta(minutes=2) for delay in delays) > len(company) / 100
    assert sum(delay > timedelta(hours=24) for delay in delays) > 0
    assert max(delays) <= timedelta(hours=30, minutes=15)
    doubled = Counter((key_of(event), event.event_id) for event in company)
    assert 0.005 < sum(times > 1 for times in doubled.values()) / len(doubled) < 0.05
    later: dict[str, datetime] = {}
    disordered = 0
    for event in company:
        disordered += event.occurred_at < later.get(key_of(event), event.occurred_at)
        later[key_of(event)] = max(event.occurred_at, later.get(key_of(event), event.occurred_at))
    assert disordered > len(company) / 100


def test_a_repetition_says_the_same_but_for_when_it_was_recorded(company: list[Event]):
    said: dict[tuple[str, str], set[bytes]] = {}
    for event in company:
        told = encode_source(event).replace(f'"{event.recorded_at:%Y}'.encode(), b"")
        said.setdefault((key_of(event), event.event_id), set()).add(
            hashlib.sha256(told.split(b'"recorded_at"')[0]).digest()
        )
    assert all(len(versions) == 1 for versions in said.values())


def test_crawlers_come_and_bear_the_name_that_the_door_gives_them(company: list[Event]):
    share = sum(bool(event.bot) for event in company) / len(company)
    assert 0.01 < share < 0.15
    assert [(agent, crawler_of(agent)) for agent, _ in CRAWLERS] == list(CRAWLERS)
    agents = {
        (event.context.user_agent, event.bot)
        for event in company
        if event.context and event.context.user_agent
    }
    assert all(crawler_of(agent) == bot for agent, bot in agents)


def test_leads_are_merged_and_some_are_not_the_same_after_all(company: list[Event]):
    counts = Counter(type(event).__name__ for event in company)
    assert counts["LeadsMerged"] > counts["MergeUndone"] > 0


def test_some_browsers_are_shared(company: list[Event]):
    claims: dict[str, set[str]] = {}
    for event in company:
        if event.visitor_id and event.lead_id:
            claims.setdefault(event.visitor_id, set()).add(event.lead_id)
    assert any(len(leads) > 1 for leads in claims.values())


def test_people_work_by_day_and_rest_at_weekends(company: list[Event]):
    hours = Counter(event.occurred_at.hour for event in company if not event.bot)
    days = Counter(event.occurred_at.weekday() for event in company if not event.bot)
    assert sum(hours[hour] for hour in range(8, 18)) > 3 * sum(hours[hour] for hour in (0, 1, 2, 3, 22, 23))
    assert days[5] + days[6] < sum(days[day] for day in range(5)) / 4


def test_nobody_s_address_could_be_real():
    people = [make_person(1, number) for number in range(300)]
    assert all(who.email.endswith(".example") and who.phone[5:8] == "555" for who in people)
    assert len({who.email for who in people}) == len({who.phone for who in people}) == 300


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_events():
    """4,000 leads make about 200,000 events; a hundred bytes of each would be 20 MB."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in itertools.islice(simulated_events(3, 4_000, 90, UNTIL), 60_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 60_000
    assert peak < 8_000_000


def test_no_lead_is_company_enough():
    events = list(simulated_events(1, 0, 2, UNTIL))
    assert events
    assert all(event.bot for event in events)


def test_live_events_happen_when_they_are_asked_for_and_never_end():
    ticking = (UNTIL + timedelta(seconds=second) for second in itertools.count())
    events = list(itertools.islice(live_events(1, 400, lambda: next(ticking)), 500))
    assert len(events) == 500
    moments = [event.occurred_at for event in events]
    assert moments == sorted(moments)
    assert all(event.recorded_at == event.occurred_at for event in events)
    assert len({(key_of(event), event.event_id) for event in events}) == 500
    assert len({key_of(event) for event in events}) > 30
    assert {"web", "telegram", "chatbot"} <= {event.source for event in events}
    for event in events:
        read_event(encode_source(event))

"""Simulates a company from a seed: the events of its leads, as the log would have recorded them.

It makes events for any number of leads in bounded memory, in order of `recorded_at`. The same arguments give
the same events, byte for byte. Delivery is as untidy as in life: events are late, doubled and out of order,
and crawlers visit. The simulation reads no clock and writes nothing.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import structs

from leadstream.simulation.activities import ACTIVITIES, SimulatedActivity, SimulatedStep, crawl
from leadstream.simulation.personas import (
    CRAWLERS,
    TIME_ZONE,
    SimulatedPerson,
    choose_weighted,
    make_person,
    visitor_id_of_browser,
)
from schemas.envelope import Event
from schemas.moment import millis, moment

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

WEIGHT_BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 9, 16, 22, 24, 22, 16, 18, 22, 22, 19, 15, 13, 14, 15, 12, 7, 3)
"""The weight of each local hour of a day."""
WEIGHT_BY_WEEKDAY = (10, 11, 11, 10, 8, 3, 3)
"""The weight of each day of the week, from Monday."""

_LATE_CHANCE = 0.025
_VERY_LATE_CHANCE = 0.004
_DOUBLED_CHANCE = 0.015


@dataclass(slots=True, order=True)
class _HeapEntry:
    """An entry of the heap: an event that is about to be recorded, or a person's next activity."""

    at: int
    nth: int
    event: Event | None = field(compare=False, default=None)
    number: int = field(compare=False, default=-1)
    plan: list[tuple[int, str]] = field(compare=False, default_factory=list)
    """The activities that this person has yet to do, the next one last."""


def simulated_events(seed: int, leads: int, days: int, until: datetime) -> Iterator[Event]:
    """The events of `leads` people who arrive over `days` days, in the order of recording, up to `until`."""
    end = millis(until)
    begin = end - days * DAY_MS
    order = itertools.count()
    heap: list[_HeapEntry] = []
    arrivals = _arrivals(seed, leads, begin, end)
    for crawler in range(max(3, leads // 60)):
        visits = [(at, "crawl") for at in _crawl_moments(seed, crawler, begin, end)]
        heapq.heappush(heap, _HeapEntry(visits[-1][0], next(order), None, -1 - crawler, visits))
    if (first := next(arrivals, None)) is not None:
        heapq.heappush(heap, _HeapEntry(first[0], next(order), None, first[1], [(first[0], "arrive")]))
    while heap:
        pending = heapq.heappop(heap)
        if pending.at >= end:
            return
        if pending.event is not None:
            yield pending.event
            continue
        at, activity = pending.plan.pop()
        if activity == "arrive":
            pending.plan = planned_activities(
                make_person(seed, pending.number), Random(f"{seed}/life/{pending.number}"), at
            )
            if (following := next(arrivals, None)) is not None:
                heapq.heappush(
                    heap,
                    _HeapEntry(following[0], next(order), None, following[1], [(following[0], "arrive")]),
                )
            at, activity = pending.plan.pop()
        for event in _delivered_events(seed, pending.number, activity, at):
            heapq.heappush(heap, _HeapEntry(millis(event.recorded_at or until), next(order), event))
        if pending.plan:
            heapq.heappush(
                heap, _HeapEntry(pending.plan[-1][0], next(order), None, pending.number, pending.plan)
            )


def _delivered_events(seed: int, number: int, activity: str, at: int) -> Iterator[Event]:
    """The events of an activity, each with the time of its recording."""
    rng = Random(f"{seed}/{number}/{activity}/{at}")
    if number < 0:
        yield from _crawl_events(rng, -1 - number, at)
        return
    person, simulated = make_person(seed, number), ACTIVITIES[activity]
    for event in activity_events(person, simulated, rng, f"{number:x}.{at:x}", at):
        yield from _deliveries(event, rng, own=simulated.identity != "lead")


def activity_events(
    person: SimulatedPerson, activity: SimulatedActivity, rng: Random, name: str, at: int
) -> Iterator[Event]:
    """The activity as events from the millisecond `at` on; `name` makes their ids unique."""
    envelope = identity_fields_of(person, activity)
    for nth, step in enumerate(activity.play(person, rng)):
        at += int(step.wait * 1000)
        yield step.what(
            event_id=f"{name}.{nth}",
            occurred_at=moment(at),
            source=activity.source,
            **(envelope | _fields_at(step, at)),
        )


def _fields_at(step: SimulatedStep, at: int) -> dict[str, Any]:
    return {
        name: moment(at) + value if isinstance(value, timedelta) else value
        for name, value in step.fields.items()
    }


def identity_fields_of(person: SimulatedPerson, activity: SimulatedActivity) -> dict[str, str]:
    """The identity fields of the events of an activity."""
    match activity.identity:
        case "browser":
            return {"visitor_id": person.visitor_id}
        case "other browser":
            owner = person.number if person.borrows_from is None else person.borrows_from
            return {"visitor_id": visitor_id_of_browser(owner)}
        case "chat":
            return {"visitor_id": f"chat-{person.number:05d}"}
        case "telegram":
            return {"visitor_id": person.telegram}
        case "lead":
            return {"lead_id": person.lead_id}
        case _:
            raise ValueError(f"{activity.identity!r} is not a kind of identity")


def _deliveries(event: Event, rng: Random, *, own: bool) -> Iterator[Event]:
    """The event, usually once: some are late because a phone was offline, some doubled by a resend."""
    delay = rng.uniform(0.05, 1.5)
    if rng.random() < 0.06:
        delay = rng.expovariate(1 / 25)
    if own and rng.random() < _LATE_CHANCE:
        delay = rng.uniform(2 * 60, 6 * 3600)
    elif own and rng.random() < _VERY_LATE_CHANCE:
        delay = rng.uniform(6 * 3600, 30 * 3600)
    yield structs.replace(event, recorded_at=event.occurred_at + timedelta(milliseconds=int(delay * 1000)))
    if rng.random() < _DOUBLED_CHANCE:
        again = delay + rng.choice((2, 5, 30, 900))
        yield structs.replace(
            event, recorded_at=event.occurred_at + timedelta(milliseconds=int(again * 1000))
        )


def _crawl_events(rng: Random, crawler: int, at: int) -> Iterator[Event]:
    user_agent, name = CRAWLERS[crawler % len(CRAWLERS)]
    for nth, step in enumerate(crawl(rng, user_agent, f"192.0.2.{crawler % 254 + 1}")):
        at += int(step.wait * 1000)
        yield step.what(
            event_id=f"bot{crawler:x}.{at:x}.{nth}",
            occurred_at=moment(at),
            recorded_at=moment(at + 80),
            visitor_id=f"bot-{crawler}",
            bot=name,
            **step.fields,
        )


def _arrivals(seed: int, leads: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """When each person first visits, in order; arrivals follow the rhythm of the week."""
    rhythm = list(itertools.accumulate(_arrival_weights(begin, end)))
    total, hour = rhythm[-1], 0
    rng = Random(f"{seed}/arrivals")
    for number in range(leads):
        share = (number + rng.random()) / leads * total
        while rhythm[hour] < share:
            hour += 1
        before = rhythm[hour - 1] if hour else 0.0
        yield int(begin + (hour + (share - before) / (rhythm[hour] - before)) * HOUR_MS), number


def _arrival_weights(begin: int, end: int) -> Iterator[float]:
    zone = ZoneInfo(TIME_ZONE)
    for at in range(begin, end, HOUR_MS):
        local = moment(at).astimezone(zone)
        yield WEIGHT_BY_HOUR[local.hour] * WEIGHT_BY_WEEKDAY[local.weekday()]


def _crawl_moments(seed: int, crawler: int, begin: int, end: int) -> list[int]:
    """The moments at which a crawler visits, the latest first."""
    rng = Random(f"{seed}/crawler/{crawler}")
    visits = [begin + rng.randrange(DAY_MS)]
    while visits[-1] < end:
        visits.append(visits[-1] + int(rng.uniform(0.5, 4) * DAY_MS))
    return visits[::-1]


def planned_activities(person: SimulatedPerson, rng: Random, arrival: int) -> list[tuple[int, str]]:
    """A person's activities and their moments, the next one last."""
    steps = _PLANS[person.kind](person, rng)
    if person.borrows_from is not None and person.registers:
        steps.append((rng.uniform(2, 15), "visit_at_another_desk"))
    if person.twin_of is not None:
        noticed = rng.uniform(5, 20)
        steps.append((noticed, "merge"))
        if rng.random() < 0.4:
            steps.append((noticed + rng.uniform(0.2, 6), "unmerge"))
    dated = [(_likely_moment(arrival, after, rng), activity) for after, activity in steps]
    return sorted(dated, reverse=True)


def _likely_moment(arrival: int, after_days: float, rng: Random) -> int:
    """The moment `after_days` later, moved to a likely hour and away from most weekends."""
    at = arrival + int(after_days * DAY_MS)
    if after_days < 0.1:
        return at
    weekday = (at // DAY_MS + 3) % 7
    if weekday >= 5 and rng.random() < 0.7:
        at += (7 - weekday) * DAY_MS
    hour = rng.choices(range(24), WEIGHT_BY_HOUR)[0]
    local = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(TIME_ZONE))
    chosen = local.replace(hour=hour, minute=rng.randrange(60), second=rng.randrange(60), microsecond=0)
    return max(millis(chosen), arrival + 1000)


PlannedActivities = list[tuple[float, str]]


def _newsletters(rng: Random, first: float, last: float) -> PlannedActivities:
    steps, after = [], first
    while after < last:
        steps.append((after, "letter"))
        if rng.random() < 0.25:
            steps.append((after + rng.uniform(0.1, 1.5), "visit_from_letter"))
        after += rng.uniform(3, 9)
    return steps


def _plan_of_glancer(person: SimulatedPerson, rng: Random) -> PlannedActivities:
    steps = [(0.0, "visit_and_sign_up" if person.registers else "visit")]
    if rng.random() < 0.35:
        steps.append((rng.uniform(0.3, 25), "visit"))
    return steps


def _plan_of_reader(person: SimulatedPerson, rng: Random) -> PlannedActivities:
    span = rng.uniform(5, 60)
    steps = [(0.0, "visit"), *((rng.uniform(0.2, span), "visit") for _ in range(rng.randint(1, 6)))]
    if person.registers:
        steps += [(span / 3, "visit_and_sign_up"), *_newsletters(rng, span / 3 + 1, span + 20)]
        if rng.random() < 0.15:
            steps.append((span / 2, "campaign"))
    return steps


def _plan_of_buyer(person: SimulatedPerson, rng: Random) -> PlannedActivities:
    span = rng.uniform(10, 50)
    steps = [(0.0, "visit"), *((rng.uniform(0.2, span), "visit") for _ in range(rng.randint(4, 10)))]
    if not person.registers:
        return steps
    signed_up = rng.uniform(0.5, 4)
    steps += [
        (signed_up, "visit_and_sign_up"),
        *_newsletters(rng, signed_up + 1, span + 15),
        (signed_up + 1.5, "campaign"),
    ]
    if rng.random() < 0.4:
        steps.append((rng.uniform(0.3, span), "chat"))
    steps += [(rng.uniform(signed_up + 0.5, span), "call") for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.6:
        steps.append((span * 0.7 + signed_up, "meeting"))
        if rng.random() < 0.5:
            steps += [
                (span + signed_up + rng.uniform(0, 30) * nth, "purchase") for nth in range(rng.randint(1, 3))
            ]
    return steps


def _plan_of_expo_visitor(person: SimulatedPerson, rng: Random) -> PlannedActivities:
    steps = [
        (0.0, "expo_talk"),
        *((rng.expovariate(1 / 4) + 0.1, "telegram_talk") for _ in range(rng.randint(0, 4))),
    ]
    if rng.random() < 0.5:
        steps += [(rng.uniform(0.1, 10), "visit") for _ in range(rng.randint(1, 3))]
    if person.registers:
        steps.append((rng.uniform(0.5, 5), "call"))
        if rng.random() < 0.3:
            steps += _newsletters(rng, 2, 30)
        if rng.random() < 0.2:
            steps.append((rng.uniform(3, 12), "meeting"))
            steps.append((rng.uniform(13, 40), "purchase"))
    return steps


def _plan_of_chatter(person: SimulatedPerson, rng: Random) -> PlannedActivities:
    steps = [
        (0.0, "visit"),
        (0.02, "chat"),
        *((rng.uniform(0.5, 20), "visit") for _ in range(rng.randint(0, 3))),
    ]
    if person.registers:
        steps += _newsletters(rng, 2, rng.uniform(5, 40))
        if rng.random() < 0.4:
            steps.append((rng.uniform(1, 6), "call"))
    return steps


_PLANS: dict[str, Callable[[SimulatedPerson, Random], PlannedActivities]] = {
    "glancer": _plan_of_glancer,
    "reader": _plan_of_reader,
    "buyer": _plan_of_buyer,
    "expo": _plan_of_expo_visitor,
    "chatter": _plan_of_chatter,
}

_LIVE_ACTIVITIES = (
    ("visit", 30),
    ("telegram_talk", 30),
    ("expo_talk", 12),
    ("chat", 14),
    ("visit_and_sign_up", 8),
    ("letter", 4),
    ("call", 4),
    ("meeting", 2),
    ("purchase", 2),
)
_NEWCOMER_CHANCE = 0.45
"""The share of live activities that belong to first-time visitors."""
_KINDS_OF_ACTIVITY = {
    "telegram_talk": ("expo",),
    "expo_talk": ("expo",),
    "chat": ("chatter", "buyer"),
    "visit_and_sign_up": ("buyer", "reader", "chatter"),
    "letter": ("buyer", "reader"),
    "call": ("buyer", "expo"),
    "meeting": ("buyer",),
    "purchase": ("buyer",),
}


def live_events(
    seed: int, leads: int, clock: Callable[[], datetime], concurrent: int = 30
) -> Iterator[Event]:
    """What the people of `simulate` do now, without end: up to `concurrent` activities run at a time, and
    each event occurs at the moment at which it is read.
    """
    rng = Random(f"{seed}/live")
    names = itertools.count()
    began = millis(clock())
    running: list[Iterator[Event]] = []
    newest = leads
    while True:
        while len(running) < concurrent:
            activity = choose_weighted(rng, _LIVE_ACTIVITIES)
            if leads == 0 or rng.random() < _NEWCOMER_CHANCE:
                person = _suited_person(
                    activity, (make_person(seed, number) for number in itertools.count(newest))
                )
                newest = person.number + 1
            else:
                person = _suited_person(
                    activity, (make_person(seed, rng.randrange(leads)) for _ in range(60))
                )
            chance = Random(rng.getrandbits(64))
            running.append(
                activity_events(
                    person, ACTIVITIES[activity], chance, f"live.{began:x}.{next(names):x}", began
                )
            )
        chosen = rng.randrange(len(running))
        event = next(running[chosen], None)
        if event is None:
            running.pop(chosen)
            continue
        now = clock()
        yield structs.replace(event, occurred_at=now, recorded_at=now)


def _suited_person(activity: str, people: Iterator[SimulatedPerson]) -> SimulatedPerson:
    """The first person who suits the activity; if there is none, the last."""
    kinds = _KINDS_OF_ACTIVITY.get(activity)
    person = next(people)
    while kinds is not None and not (person.kind in kinds and person.registers):
        following = next(people, None)
        if following is None:
            break
        person = following
    return person

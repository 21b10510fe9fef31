"""A seeded, realistic company: the events of its leads, as the log would have recorded them.

Any number of leads in bounded memory, in order of `recorded_at`; the same arguments give the same
events, byte for byte. Delivery is as untidy as in life: late, doubled and disordered events, and
crawlers. It reads no clock and writes nothing.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from msgspec import structs

from leadstream.simulation.activities import SCENES, Scene, crawl
from leadstream.simulation.personas import CRAWLERS, TIME_ZONE, Person, browser_of, person, weighted
from schemas.envelope import Event
from schemas.moment import millis, moment

DAY = 86_400_000
HOUR = 3_600_000

BUSY_HOURS = (1, 1, 1, 1, 1, 2, 4, 9, 16, 22, 24, 22, 16, 18, 22, 22, 19, 15, 13, 14, 15, 12, 7, 3)
"""How much happens in each local hour of a day."""
BUSY_DAYS = (10, 11, 11, 10, 8, 3, 3)
"""And on each day of the week, from Monday."""

_LATE_CHANCE = 0.025
_VERY_LATE_CHANCE = 0.004
_DOUBLED_CHANCE = 0.015


@dataclass(slots=True, order=True)
class _Due:
    """What the heap holds: an event that is about to be recorded, or somebody who is about to act."""

    at: int
    nth: int
    event: Event | None = field(compare=False, default=None)
    number: int = field(compare=False, default=-1)
    plan: list[tuple[int, str]] = field(compare=False, default_factory=list)
    """What this person still has before them, the next one last."""


def simulate(seed: int, leads: int, days: int, until: datetime) -> Iterator[Event]:
    """The events of `leads` people who come over `days` days, those recorded before `until`, in order."""
    end = millis(until)
    begin = end - days * DAY
    order = itertools.count()
    heap: list[_Due] = []
    arrivals = _arrivals(seed, leads, begin, end)
    for robot in range(max(3, leads // 60)):
        rounds = [(at, "crawl") for at in _crawls(seed, robot, begin, end)]
        heapq.heappush(heap, _Due(rounds[-1][0], next(order), None, -1 - robot, rounds))
    if (first := next(arrivals, None)) is not None:
        heapq.heappush(heap, _Due(first[0], next(order), None, first[1], [(first[0], "arrive")]))
    while heap:
        due = heapq.heappop(heap)
        if due.at >= end:
            return
        if due.event is not None:
            yield due.event
            continue
        at, scene = due.plan.pop()
        if scene == "arrive":
            due.plan = plan(person(seed, due.number), Random(f"{seed}/life/{due.number}"), at)
            if (following := next(arrivals, None)) is not None:
                heapq.heappush(
                    heap, _Due(following[0], next(order), None, following[1], [(following[0], "arrive")])
                )
            at, scene = due.plan.pop()
        for event in _played(seed, due.number, scene, at):
            heapq.heappush(heap, _Due(millis(event.recorded_at or until), next(order), event))
        if due.plan:
            heapq.heappush(heap, _Due(due.plan[-1][0], next(order), None, due.number, due.plan))


def _played(seed: int, number: int, scene: str, at: int) -> Iterator[Event]:
    """The scene's events as they are delivered."""
    rng = Random(f"{seed}/{number}/{scene}/{at}")
    if number < 0:
        yield from _crawled(rng, -1 - number, at)
        return
    who, played = person(seed, number), SCENES[scene]
    for event in act(who, played, rng, f"{number:x}.{at:x}", at):
        yield from _delivered(event, rng, own=played.voice != "lead")


def act(who: Person, scene: Scene, rng: Random, name: str, at: int) -> Iterator[Event]:
    """The scene as events from the millisecond `at` on; `name` makes their ids unique."""
    envelope = voice(who, scene)
    for nth, beat in enumerate(scene.play(who, rng)):
        at += int(beat.wait * 1000)
        yield beat.what(
            event_id=f"{name}.{nth}", occurred_at=moment(at), source=scene.source, **(envelope | beat.fields)
        )


def voice(who: Person, scene: Scene) -> dict[str, str]:
    """Under which identity the events of a scene come."""
    match scene.voice:
        case "browser":
            return {"visitor_id": who.visitor_id}
        case "other browser":
            owner = who.number if who.borrows_from is None else who.borrows_from
            return {"visitor_id": browser_of(owner)}
        case "chat":
            return {"visitor_id": f"chat-{who.number:05d}"}
        case "telegram":
            return {"visitor_id": who.telegram}
        case "lead":
            return {"lead_id": who.lead_id}
        case _:
            raise ValueError(f"a scene has no voice {scene.voice!r}")


def _delivered(event: Event, rng: Random, *, own: bool) -> Iterator[Event]:
    """Once as a rule; late where a phone was offline; twice where an answer was lost."""
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


def _crawled(rng: Random, robot: int, at: int) -> Iterator[Event]:
    user_agent, name = CRAWLERS[robot % len(CRAWLERS)]
    for nth, beat in enumerate(crawl(rng, user_agent, f"192.0.2.{robot % 254 + 1}")):
        at += int(beat.wait * 1000)
        yield beat.what(
            event_id=f"bot{robot:x}.{at:x}.{nth}",
            occurred_at=moment(at),
            recorded_at=moment(at + 80),
            visitor_id=f"bot-{robot}",
            bot=name,
            **beat.fields,
        )


def _arrivals(seed: int, leads: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """When each person first comes, in order: the share of time before it follows the week's rhythm."""
    rhythm = list(itertools.accumulate(_rhythm(begin, end)))
    total, hour = rhythm[-1], 0
    rng = Random(f"{seed}/arrivals")
    for number in range(leads):
        share = (number + rng.random()) / leads * total
        while rhythm[hour] < share:
            hour += 1
        before = rhythm[hour - 1] if hour else 0.0
        yield int(begin + (hour + (share - before) / (rhythm[hour] - before)) * HOUR), number


def _rhythm(begin: int, end: int) -> Iterator[float]:
    zone = ZoneInfo(TIME_ZONE)
    for at in range(begin, end, HOUR):
        local = moment(at).astimezone(zone)
        yield BUSY_HOURS[local.hour] * BUSY_DAYS[local.weekday()]


def _crawls(seed: int, robot: int, begin: int, end: int) -> list[int]:
    """When a crawler comes by, latest first."""
    rng = Random(f"{seed}/crawler/{robot}")
    found = [begin + rng.randrange(DAY)]
    while found[-1] < end:
        found.append(found[-1] + int(rng.uniform(0.5, 4) * DAY))
    return found[::-1]


def plan(who: Person, rng: Random, arrival: int) -> list[tuple[int, str]]:
    """What a person will do and when, the next scene last."""
    steps = _LIVES[who.kind](who, rng)
    if who.borrows_from is not None and who.registers:
        steps.append((rng.uniform(2, 15), "visit_at_another_desk"))
    if who.twin_of is not None:
        noticed = rng.uniform(5, 20)
        steps.append((noticed, "merge"))
        if rng.random() < 0.4:
            steps.append((noticed + rng.uniform(0.2, 6), "unmerge"))
    dated = [(_in_the_day(arrival, after, rng), scene) for after, scene in steps]
    return sorted(dated, reverse=True)


def _in_the_day(arrival: int, after_days: float, rng: Random) -> int:
    """That many days later, at an hour and on a weekday on which people are about."""
    at = arrival + int(after_days * DAY)
    if after_days < 0.1:
        return at
    weekday = (at // DAY + 3) % 7
    if weekday >= 5 and rng.random() < 0.7:
        at += (7 - weekday) * DAY
    hour = rng.choices(range(24), BUSY_HOURS)[0]
    local = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(TIME_ZONE))
    placed = local.replace(hour=hour, minute=rng.randrange(60), second=rng.randrange(60), microsecond=0)
    return max(millis(placed), arrival + 1000)


Steps = list[tuple[float, str]]


def _letters(rng: Random, first: float, last: float) -> Steps:
    steps, after = [], first
    while after < last:
        steps.append((after, "letter"))
        if rng.random() < 0.25:
            steps.append((after + rng.uniform(0.1, 1.5), "visit_from_letter"))
        after += rng.uniform(3, 9)
    return steps


def _glancer(who: Person, rng: Random) -> Steps:
    steps = [(0.0, "visit_and_sign_up" if who.registers else "visit")]
    if rng.random() < 0.35:
        steps.append((rng.uniform(0.3, 25), "visit"))
    return steps


def _reader(who: Person, rng: Random) -> Steps:
    span = rng.uniform(5, 60)
    steps = [(0.0, "visit"), *((rng.uniform(0.2, span), "visit") for _ in range(rng.randint(1, 6)))]
    if who.registers:
        steps += [(span / 3, "visit_and_sign_up"), *_letters(rng, span / 3 + 1, span + 20)]
        if rng.random() < 0.15:
            steps.append((span / 2, "campaign"))
    return steps


def _buyer(who: Person, rng: Random) -> Steps:
    span = rng.uniform(10, 50)
    steps = [(0.0, "visit"), *((rng.uniform(0.2, span), "visit") for _ in range(rng.randint(4, 10)))]
    if not who.registers:
        return steps
    known = rng.uniform(0.5, 4)
    steps += [(known, "visit_and_sign_up"), *_letters(rng, known + 1, span + 15), (known + 1.5, "campaign")]
    if rng.random() < 0.4:
        steps.append((rng.uniform(0.3, span), "chat"))
    steps += [(rng.uniform(known + 0.5, span), "call") for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.6:
        steps.append((span * 0.7 + known, "meeting"))
        if rng.random() < 0.5:
            steps += [
                (span + known + rng.uniform(0, 30) * nth, "purchase") for nth in range(rng.randint(1, 3))
            ]
    return steps


def _expo(who: Person, rng: Random) -> Steps:
    steps = [
        (0.0, "expo_talk"),
        *((rng.expovariate(1 / 4) + 0.1, "telegram_talk") for _ in range(rng.randint(0, 4))),
    ]
    if rng.random() < 0.5:
        steps += [(rng.uniform(0.1, 10), "visit") for _ in range(rng.randint(1, 3))]
    if who.registers:
        steps.append((rng.uniform(0.5, 5), "call"))
        if rng.random() < 0.3:
            steps += _letters(rng, 2, 30)
        if rng.random() < 0.2:
            steps.append((rng.uniform(3, 12), "meeting"))
            steps.append((rng.uniform(13, 40), "purchase"))
    return steps


def _chatter(who: Person, rng: Random) -> Steps:
    steps = [
        (0.0, "visit"),
        (0.02, "chat"),
        *((rng.uniform(0.5, 20), "visit") for _ in range(rng.randint(0, 3))),
    ]
    if who.registers:
        steps += _letters(rng, 2, rng.uniform(5, 40))
        if rng.random() < 0.4:
            steps.append((rng.uniform(1, 6), "call"))
    return steps


_LIVES: dict[str, Callable[[Person, Random], Steps]] = {
    "glancer": _glancer,
    "reader": _reader,
    "buyer": _buyer,
    "expo": _expo,
    "chatter": _chatter,
}

_LIVE_SCENES = (
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
_NEWCOMERS = 0.45
"""How much of what happens live is done by people who come for the first time."""
_KINDS_OF_SCENE = {
    "telegram_talk": ("expo",),
    "expo_talk": ("expo",),
    "chat": ("chatter", "buyer"),
    "visit_and_sign_up": ("buyer", "reader", "chatter"),
    "letter": ("buyer", "reader"),
    "call": ("buyer", "expo"),
    "meeting": ("buyer",),
    "purchase": ("buyer",),
}


def live(seed: int, leads: int, clock: Callable[[], datetime], stage: int = 30) -> Iterator[Event]:
    """What the people of `simulate` do now, without end: about `stage` of them act at a time, and each
    event happens at the moment it is asked for.
    """
    rng = Random(f"{seed}/live")
    names = itertools.count()
    began = millis(clock())
    acting: list[Iterator[Event]] = []
    newest = leads
    while True:
        while len(acting) < stage:
            scene = weighted(rng, _LIVE_SCENES)
            if leads == 0 or rng.random() < _NEWCOMERS:
                who = _suited(scene, (person(seed, number) for number in itertools.count(newest)))
                newest = who.number + 1
            else:
                who = _suited(scene, (person(seed, rng.randrange(leads)) for _ in range(60)))
            chance = Random(rng.getrandbits(64))
            acting.append(act(who, SCENES[scene], chance, f"live.{began:x}.{next(names):x}", began))
        chosen = rng.randrange(len(acting))
        event = next(acting[chosen], None)
        if event is None:
            acting.pop(chosen)
            continue
        now = clock()
        yield structs.replace(event, occurred_at=now, recorded_at=now)


def _suited(scene: str, people: Iterator[Person]) -> Person:
    """The first whom the scene suits; if there is none, the last."""
    kinds = _KINDS_OF_SCENE.get(scene)
    who = next(people)
    while kinds is not None and not (who.kind in kinds and who.registers):
        following = next(people, None)
        if following is None:
            break
        who = following
    return who

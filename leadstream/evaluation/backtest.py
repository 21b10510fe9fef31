"""How models would have ranked leads before their conversions: the archive replayed, and stopped at cutoffs.

At a cutoff every lead that is known and has not converted is scored from what was *recorded* by then,
and nothing else; whether it converts is read in what is recorded after it, up to the horizon. Each model
is replayed among the models in force, as if it had held from the first event on.

Identity is as of its time: a conversion is that of the lead which holds the visitor then, and counts for
every lead at a cutoff that held any identity of that lead. So if two leads are merged before they
convert, both have converted; if one is split later, both parts have, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from gateway.ports import Progress
from leadstream.evaluation.conversions import Conversion
from leadstream.evaluation.model_sets import ModelSet
from leadstream.evaluation.recorded_events import Recorded
from schemas.moment import moment
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.evaluation.ranking import Ranking, figures, pooled, rank
from scoring.features.identity import is_anonymous
from scoring.models.model import Model, conclude
from scoring.models.points import Micro
from streams.replay import CHUNK, Replay, subject_of


class Plan(NamedTuple):
    """`every` and `horizon` in milliseconds; `capacity`: how many leads can be worked per cutoff."""

    conversion: Conversion
    every: int
    horizon: int
    capacity: int
    anonymous: bool = False
    """Also visitors that nobody has identified."""


class Contender(NamedTuple):
    """A model on trial, and all that holds beside it."""

    name: str
    model: Model
    world: ModelSet


class Cutoff(NamedTuple):
    """A moment, the end of what counts after it, and each contender's ranking."""

    at: int
    end: int
    rankings: dict[str, Ranking]


def backtest(
    events: Iterable[Recorded], contenders: Sequence[Contender], base: ModelSet, plan: Plan, count: int = 0
) -> Iterator[Progress | Cutoff]:
    """The cutoffs whose horizon the events reach, each when it is complete; and how far it is. `events`
    in the order of their recording; conversions that are stages are read in `base`, what really holds.
    """
    trial = BacktestRun(contenders, base, plan)
    for done, event in enumerate(events):
        yield from trial.reach(event.at)
        trial.take(event)
        if done % CHUNK == 0:
            yield Progress(done, max(done, count))
    yield from trial.finish()


class _Cut:
    """A cutoff whose horizon is still open: who was known, what they scored, who has converted since."""

    def __init__(self, at: int, end: int, contenders: int) -> None:
        self.at = at
        self.end = end
        self.leads: dict[str, int] = {}
        """Identity -> its lead's place in the lists below."""
        self.scores: list[list[Micro]] = [[] for _ in range(contenders)]
        self.converted = bytearray()


class BacktestRun:
    """Replays, what waits for them, and the cutoffs under way."""

    def __init__(self, contenders: Sequence[Contender], base: ModelSet, plan: Plan) -> None:
        self._contenders = contenders
        self._plan = plan
        worlds = [contender.world for contender in contenders]
        judge = base if plan.conversion.is_stage else worlds[0]
        distinct = list({_texts(world): world for world in (judge, *worlds)}.values())
        """Worlds in which the same holds are one."""
        places = {_texts(world): place for place, world in enumerate(distinct)}
        self._places = [places[_texts(world)] for world in worlds]
        heard = plan.conversion.hear()
        self._heard = heard
        self._worlds = [
            Replay(world.genesis(), on_output=None if place else heard.hear)
            for place, world in enumerate(distinct)
        ]
        self._waiting: list[Outgoing] = []
        self._converted: set[str] = set()
        """Identities of everybody who has converted so far."""
        self._open: list[_Cut] = []
        self._next: int | None = None
        self._last = 0

    def reach(self, at: int) -> Iterator[Cutoff]:
        """The next event was recorded at this moment: what ends before it, is done."""
        if self._next is None:
            self._next = at + self._plan.every
        while True:
            ends = self._open[0].end if self._open else at
            if min(ends, self._next) >= at:
                break
            self._fold()
            if ends < self._next:
                yield self._close(self._open[0])
            else:
                self._open.append(self._cut(self._next))
                self._next += self._plan.every
        self._last = at

    def take(self, event: Recorded) -> None:
        self._waiting.append(Outgoing(EVENTS, event.key, event.value))
        # After what may be a conversion everything is folded, so that its holder is that of its time.
        if len(self._waiting) >= CHUNK or self._plan.conversion.may_be(event.value):
            self._fold()

    def finish(self) -> Iterator[Cutoff]:
        self._fold()
        for cut in list(self._open):
            if cut.end <= self._last:
                yield self._close(cut)

    def _fold(self) -> None:
        for world in self._worlds:
            world.append(self._waiting)
            world.rest()
        self._waiting.clear()
        self._read_conversions()

    def _read_conversions(self) -> None:
        judge = self._worlds[0]
        for found in self._heard.take():
            lead = judge.owner(found.identity) if found.identity else judge.lead(found.tenant, found.lead_id)
            identities = {*lead.identities, *lead.head.forwarded, *filter(None, [found.identity])}
            self._converted |= identities
            for cut in self._open:
                if found.at > cut.at:
                    for identity in identities:
                        if (place := cut.leads.get(identity)) is not None:
                            cut.converted[place] = True

    def _cut(self, at: int) -> _Cut:
        for world in self._worlds:
            world.advance_to(at)
        self._read_conversions()
        cut = _Cut(at, at + self._plan.horizon, len(self._contenders))
        # Who is who depends on no model, so all worlds have the same leads.
        for leads in zip(*(world.leads() for world in self._worlds), strict=True):
            lead = leads[0]
            if not lead.identities or not self._converted.isdisjoint(lead.identities):
                continue
            if is_anonymous(lead.lead_id) and not self._plan.anonymous:
                continue
            cut.leads.update(dict.fromkeys(lead.identities, len(cut.converted)))
            cut.converted.append(False)
            for scores, place, contender in zip(cut.scores, self._places, self._contenders, strict=True):
                settings = contender.world.settings
                concluded = conclude(
                    contender.model, subject_of(leads[place]), at, settings.zone, settings.idle_ms
                )
                scores.append(concluded.total)
        return cut

    def _close(self, cut: _Cut) -> Cutoff:
        if self._plan.conversion.is_stage:  # time alone may bring leads there
            self._worlds[0].advance_to(cut.end)
            self._read_conversions()
        self._open.remove(cut)
        rankings = {
            contender.name: rank(zip(scores, map(bool, cut.converted), strict=True), self._plan.capacity)
            for contender, scores in zip(self._contenders, cut.scores, strict=True)
        }
        return Cutoff(cut.at, cut.end, rankings)


def _texts(world: ModelSet) -> tuple[Any, ...]:
    """What tells two worlds apart."""
    settings = (world.settings.time_zone, world.settings.idle_minutes, world.settings.lifecycle)
    return settings, tuple(sorted((name, active.text) for name, active in world.models.items()))


def result(cutoffs: Sequence[Cutoff]) -> dict[str, Any]:
    """In plain values: each cutoff, and all of them pooled, per contender. The first is compared with the
    others: how many more conversions its choice holds.
    """
    names = list(cutoffs[0].rankings) if cutoffs else []
    whole = {name: pooled([cutoff.rankings[name] for cutoff in cutoffs]) for name in names}
    return {
        "cutoffs": [
            {
                "at": moment(cutoff.at),
                "until": moment(cutoff.end),
                "models": {name: figures(ranking) for name, ranking in cutoff.rankings.items()},
            }
            for cutoff in cutoffs
        ],
        "pooled": {name: figures(ranking) for name, ranking in whole.items()},
        "more_converted_than": {
            name: float(whole[names[0]].hits - ranking.hits) for name, ranking in list(whole.items())[1:]
        },
    }

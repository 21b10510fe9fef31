"""How models would have ranked leads before their conversions: replays the archive and stops at cutoffs.

A cutoff scores every identified lead that has not converted yet. The scores use only what was *recorded* by
then. The outcome uses only what is recorded after the cutoff, up to the horizon. Each model is replayed
among the active models, as if it had been active from the first event on.

Identity is as of its time: a conversion belongs to the lead that owns the visitor then, and counts for
every lead at a cutoff that owned any identity of that lead. So if two leads are merged before they
convert, both have converted; if a lead is split later, both parts have converted, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from gateway.ports import StepsDone
from leadstream.evaluation.conversions import ConversionDefinition
from leadstream.evaluation.model_sets import ModelSet
from leadstream.evaluation.recorded_events import RecordedEvent
from schemas.moment import moment
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.evaluation.ranking import Ranking, pooled_ranking, rank_leads, ranking_figures
from scoring.evaluation.rule_evidence import RuleOutcomes, count_outcomes, evidence_figures, pooled_outcomes
from scoring.features.identity import is_anonymous
from scoring.models.model import Model, score_lead
from scoring.models.points import MicroPoints
from streams.replay import CHUNK_RECORDS, Replay, subject_of


class BacktestPlan(NamedTuple):
    """`every` and `horizon` are in milliseconds; `capacity` is how many leads can be worked per cutoff."""

    conversion: ConversionDefinition
    every: int
    horizon: int
    capacity: int
    anonymous: bool = False
    """Also ranks visitors that nobody has identified."""
    begin: int | None = None
    """The first cutoff is `every` later; None: the first event of the archive."""


class Contender(NamedTuple):
    """A model that the backtest compares, and the active models and settings around it."""

    name: str
    model: Model
    model_set: ModelSet


class RankedCutoff(NamedTuple):
    """A moment, the end of its horizon, each contender's ranking, and the outcomes by rule of the first contender."""

    at: int
    end: int
    rankings: dict[str, Ranking]
    outcomes: RuleOutcomes = RuleOutcomes(())


def backtest(
    events: Iterable[RecordedEvent],
    contenders: Sequence[Contender],
    base: ModelSet,
    plan: BacktestPlan,
    count: int = 0,
) -> Iterator[StepsDone | RankedCutoff]:
    """Yields each cutoff when its horizon is complete, and the progress in between.

    `events` come in the order of their recording. A stage counts as a conversion if the lead enters it by
    `base`, the models that are really active. A cutoff whose horizon the events do not reach is left out.
    """
    run = BacktestRun(contenders, base, plan)
    for done, event in enumerate(events):
        yield from run.advance_to(event.at)
        run.add(event)
        if done % CHUNK_RECORDS == 0:
            yield StepsDone(done, max(done, count))
    yield from run.finish()


class _OpenCutoff:
    """A cutoff whose horizon is not over: its leads, their scores, and which have converted since."""

    def __init__(self, at: int, end: int, contenders: int) -> None:
        self.at = at
        self.end = end
        self.leads: dict[str, int] = {}
        """Identity -> its lead's index in the lists below."""
        self.scores: list[list[MicroPoints]] = [[] for _ in range(contenders)]
        self.converted = bytearray()
        self.awarded: list[int] = []
        """By lead: the rules of the first contender that gave it points, as bits."""


class BacktestRun:
    """The replays, the events that wait for them, and the cutoffs whose horizon is not over."""

    def __init__(self, contenders: Sequence[Contender], base: ModelSet, plan: BacktestPlan) -> None:
        self._contenders = contenders
        self._plan = plan
        model_sets = [contender.model_set for contender in contenders]
        reference = base if plan.conversion.is_stage else model_sets[0]
        distinct_sets = list(
            {_contents_key(model_set): model_set for model_set in (reference, *model_sets)}.values()
        )
        """Equal model sets share one replay."""
        replay_indexes = {_contents_key(model_set): index for index, model_set in enumerate(distinct_sets)}
        self._replay_indexes = [replay_indexes[_contents_key(model_set)] for model_set in model_sets]
        self._rules = [
            (index, label)
            for index, label in enumerate(contenders[0].model.line_labels)
            if label.kind == "points"
        ]
        """The first contender's, with their entries in a vector."""
        finder = plan.conversion.finder()
        self._finder = finder
        self._replays = [
            Replay(model_set.genesis(), on_output=None if index else finder.receive)
            for index, model_set in enumerate(distinct_sets)
        ]
        self._waiting: list[Outgoing] = []
        self._converted: set[str] = set()
        """The identities of all leads that have converted so far."""
        self._open: list[_OpenCutoff] = []
        self._next: int | None = None
        self._last = 0

    def advance_to(self, at: int) -> Iterator[RankedCutoff]:
        """The next event was recorded at this moment: yields the cutoffs whose horizon ends before it."""
        if self._next is None:
            self._next = (at if self._plan.begin is None else self._plan.begin) + self._plan.every
        while True:
            ends = self._open[0].end if self._open else at
            if min(ends, self._next) >= at:
                break
            self._fold()
            if ends < self._next:
                yield self._close(self._open[0])
            else:
                self._open.append(self._open_cutoff(self._next))
                self._next += self._plan.every
        self._last = at

    def add(self, event: RecordedEvent) -> None:
        self._waiting.append(Outgoing(EVENTS, event.key, event.value))
        # Folds at once after a possible conversion, so that its owner is read as of its time.
        if len(self._waiting) >= CHUNK_RECORDS or self._plan.conversion.may_be(event.value):
            self._fold()

    def finish(self) -> Iterator[RankedCutoff]:
        self._fold()
        for cut in list(self._open):
            if cut.end <= self._last:
                yield self._close(cut)

    def _fold(self) -> None:
        for replay in self._replays:
            replay.append(self._waiting)
            replay.fold_all()
        self._waiting.clear()
        self._read_conversions()

    def _read_conversions(self) -> None:
        reference = self._replays[0]
        for conversion in self._finder.drain():
            lead = (
                reference.owner(conversion.identity)
                if conversion.identity
                else reference.lead(conversion.tenant, conversion.lead_id)
            )
            identities = {*lead.identities, *lead.head.forwarded, *filter(None, [conversion.identity])}
            self._converted |= identities
            for cut in self._open:
                if conversion.at > cut.at:
                    for identity in identities:
                        if (index := cut.leads.get(identity)) is not None:
                            cut.converted[index] = True

    def _open_cutoff(self, at: int) -> _OpenCutoff:
        for replay in self._replays:
            replay.advance_to(at)
        self._read_conversions()
        cut = _OpenCutoff(at, at + self._plan.horizon, len(self._contenders))
        # Identity depends on no model, so all replays have the same leads.
        for leads in zip(*(replay.leads() for replay in self._replays), strict=True):
            lead = leads[0]
            if (
                not lead.identities
                or lead.refuses_profiling
                or not self._converted.isdisjoint(lead.identities)
            ):
                continue
            if is_anonymous(lead.lead_id) and not self._plan.anonymous:
                continue
            cut.leads.update(dict.fromkeys(lead.identities, len(cut.converted)))
            cut.converted.append(False)
            for scores, index, contender in zip(
                cut.scores, self._replay_indexes, self._contenders, strict=True
            ):
                settings = contender.model_set.settings
                concluded = score_lead(
                    contender.model, subject_of(leads[index]), at, settings.zone, settings.idle_ms
                )
                scores.append(concluded.total)
                if scores is cut.scores[0]:
                    vector = concluded.vector
                    cut.awarded.append(
                        sum(1 << n for n, (entry, _) in enumerate(self._rules) if vector[entry])
                    )
        return cut

    def _close(self, cut: _OpenCutoff) -> RankedCutoff:
        if self._plan.conversion.is_stage:  # time alone may move leads to the stage
            self._replays[0].advance_to(cut.end)
            self._read_conversions()
        self._open.remove(cut)
        rankings = {
            contender.name: rank_leads(
                zip(scores, map(bool, cut.converted), strict=True), self._plan.capacity
            )
            for contender, scores in zip(self._contenders, cut.scores, strict=True)
        }
        names = [(label.group, label.rule) for _, label in self._rules]
        outcomes = count_outcomes(names, zip(cut.awarded, map(bool, cut.converted), strict=True))
        return RankedCutoff(cut.at, cut.end, rankings, outcomes)


def _contents_key(model_set: ModelSet) -> tuple[Any, ...]:
    """A key that is equal for model sets that score equally."""
    active = model_set.settings
    fields = tuple(sorted(active.profile_fields.items()))
    settings = (
        active.time_zone,
        active.idle_minutes,
        active.lifecycle,
        fields,
        active.consent_required_since,
    )
    return settings, tuple(sorted((name, each.text, each.folding) for name, each in model_set.models.items()))


def backtest_result(cutoffs: Sequence[RankedCutoff]) -> dict[str, Any]:
    """The report in plain values: per contender, each cutoff and all of them pooled; how many more conversions
    the first contender chose than each other one; and what the outcomes tell of its rules.
    """
    names = list(cutoffs[0].rankings) if cutoffs else []
    whole = {name: pooled_ranking([cutoff.rankings[name] for cutoff in cutoffs]) for name in names}
    return {
        "cutoffs": [
            {
                "at": moment(cutoff.at),
                "until": moment(cutoff.end),
                "models": {name: ranking_figures(ranking) for name, ranking in cutoff.rankings.items()},
            }
            for cutoff in cutoffs
        ],
        "pooled": {name: ranking_figures(ranking) for name, ranking in whole.items()},
        "more_converted_than": {
            name: float(whole[names[0]].hits - ranking.hits) for name, ranking in list(whole.items())[1:]
        },
        "rules": evidence_figures(pooled_outcomes([cutoff.outcomes for cutoff in cutoffs])),
    }

"""What scoring itself costs: per event by all models together, per conclusion, and per lead of a what-if.

The first fold makes the activity of a simulated company; then, with everything decoded and nothing else
going on, its second half is applied and concluded as the second fold does it: an event touches only the
models that read it. A what-if decodes stored features and concludes by a draft. CPU time, the median of
some rounds; the unit is what orjson takes to decode one of the same events, in the same rounds.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

import orjson

from bench.report import print_results, write_line
from leadstream.simulation.simulate import simulated_events
from leadstream.wiring import genesis
from schemas.activity import Activity, IdentityAttached, IdentityDelta, IdentityDetached
from schemas.decode import decode_activity, encode_source, key_of
from schemas.envelope import Event
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, lead_key
from scoring.features.calendar import calendar
from scoring.features.features import FeatureDelta, Features, decode_delta, decode_features, encode_features
from scoring.features.lead_identity import LeadIdentity
from scoring.features.signals import SignalCatalogue
from scoring.models.model import (
    Model,
    Subject,
    built_in_models,
    compile_model,
    earliest_time_change,
    may_change_score,
    score_lead,
)
from streams.replay import Replay
from streams.score_leads.lead_state import LeadState

UNTIL = datetime(2026, 3, 1, tzinfo=UTC)
ZONE = calendar("UTC")
IDLE_MS = 30 * 60_000
FEWEST_LEADS = 2_000
"""Of a what-if; the same leads are taken again until there are as many."""


class AppliedDelta(NamedTuple):
    """One event as the second stage folds it, decoded."""

    key: str
    delta: IdentityDelta
    feature_delta: FeatureDelta


Step = Callable[[LeadState, AppliedDelta], object]
"""What is done for an event."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leads", type=int, default=300, help="people who come (%(default)s)")
    parser.add_argument("--days", type=int, default=60, help="of history (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (%(default)s)")


def run(options: argparse.Namespace) -> None:
    models = [compile_model(text) for text in built_in_models().values()]
    events = list(simulated_events(1, options.leads, options.days, UNTIL))
    activities = _tracked(events)
    begin = len(activities) // 2
    later = sum(isinstance(activity, IdentityDelta) for activity in activities[begin:])
    stored = [encode_features(state.features) for state in _states(activities).values() if state.identities]
    stored *= -(-FEWEST_LEADS // len(stored))
    leads = [Subject(decode_features(features)) for features in stored]
    encoded, catalogue = [encode_source(event) for event in events], SignalCatalogue.of(models)

    def all_of_it() -> dict[str, float]:
        """Microseconds by what was done."""
        decoding = _cost(lambda: [orjson.loads(event) for event in encoded], len(encoded))
        lifting = _cost(lambda: [_feature_delta(catalogue, event) for event in events], len(events))
        steps: dict[str, Step] = {
            "evolve (and merge)": _evolve,
            "evolve, conclude what is touched": _concluding(models, skip=True),
            "evolve, conclude, bound the next due": _concluding(models, skip=True, bound=True),
            "evolve, conclude all models": _concluding(models, skip=False),
        }
        costs = {"orjson decodes an event": decoding, "lift (first fold)": lifting}
        costs |= {name: _replayed(activities, begin, step) for name, step in steps.items()}
        for model in models:
            costs[f"conclude {model.name}"] = _cost(lambda m=model: _concluded(m, leads), len(leads))
        for name, text in built_in_models().items():
            draft = compile_model(text)
            costs[f"what-if {name}"] = _cost(lambda d=draft: _what_if(d, stored), len(stored))
        return costs

    rounds = [all_of_it() for _ in range(options.rounds)]
    costs = {name: median(each[name] for each in rounds) for name in rounds[0]}
    unit = costs["orjson decodes an event"]
    print_results(
        f"Scoring {later:,} events by {len(models)} models; {len(stored):,} leads in a what-if",
        ("what", "us", "x orjson", "a second"),
        [(name, f"{us:.2f}", f"{us / unit:.1f}", f"{1e6 / us:,.0f}") for name, us in costs.items()],
        [f"Features of a lead: {sum(map(len, stored)) / len(stored):,.0f} bytes on average."],
    )
    write_line(
        "scoring",
        events=later,
        leads=len(stored),
        bytes_per_lead=round(sum(map(len, stored)) / len(stored)),
        microseconds={name: round(us, 3) for name, us in costs.items()},
        ratios={name: round(us / unit, 2) for name, us in costs.items()},
    )


def _cost(work: Callable[[], object], times: int) -> float:
    """Microseconds of CPU for one of `times`."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / times * 1e6


def _tracked(events: Sequence[Event]) -> list[Activity]:
    """What the first fold makes of the events."""
    emitted: list[Outgoing] = []
    replay = Replay(genesis(UNTIL), on_output=emitted.append)
    replay.append(Outgoing(EVENTS, key_of(event), encode_source(event)) for event in events)
    replay.fold_all()
    return [decode_activity(out.value) for out in emitted if out.topic == LEAD_ACTIVITY and out.value]


def _states(activities: Sequence[Activity]) -> dict[str, LeadState]:
    states: dict[str, LeadState] = {}
    for activity in activities:
        _applied(states, activity, _evolve)
    return states


def _replayed(activities: Sequence[Activity], begin: int, step: Step) -> float:
    """Microseconds for one event, from the activity at `begin` on; what comes before only makes leads."""
    states = _states(activities[:begin])
    later = [(activity, _applied_delta(activity)) for activity in activities[begin:]]
    count = sum(applied is not None for _, applied in later)
    started = time.process_time()
    for activity, applied in later:
        _applied(states, activity, step, applied)
    return (time.process_time() - started) / count * 1e6


def _applied_delta(activity: Activity) -> AppliedDelta | None:
    if not isinstance(activity, IdentityDelta):
        return None
    return AppliedDelta(lead_key(activity.tenant, activity.lead_id), activity, decode_delta(activity.lift))


def _applied(
    states: dict[str, LeadState], activity: Activity, step: Step, applied: AppliedDelta | None = None
) -> None:
    key = lead_key(activity.tenant, activity.lead_id)
    state = states.get(key) or states.setdefault(key, LeadState(key, {}))
    match activity:
        case IdentityAttached(identity=identity, epoch=epoch, home=home_lead, features=features):
            state.attach(identity, LeadIdentity(epoch, home_lead, decode_features(features)))
        case IdentityDetached(identity=identity) if identity in state.identities:
            state.detach(identity)
        case IdentityDelta(identity=identity) if identity in state.identities:
            step(state, applied or AppliedDelta(key, activity, decode_delta(activity.lift)))


def _evolve(state: LeadState, applied: AppliedDelta) -> Features:
    """The identity's features, and those of the lead: where there are several identities, merged."""
    state.apply(applied.delta.identity, applied.feature_delta, applied.delta)
    return state.features


def _concluding(models: Sequence[Model], *, skip: bool, bound: bool = False) -> Step:
    def step(state: LeadState, applied: AppliedDelta) -> None:
        delta, subject = applied.delta, Subject(_evolve(state, applied))
        at, went = delta.recorded_at, bool(delta.retracted or delta.forgotten)
        sessions = went or any(put.closed or at >= put.last_at + IDLE_MS for put in delta.sessions)
        for model in models:
            if skip and not may_change_score(model, applied.feature_delta, sessions, False):
                continue
            score_lead(model, subject, at, ZONE, IDLE_MS)
            if bound:
                earliest_time_change(model, subject, at, ZONE, IDLE_MS)

    return step


def _feature_delta(catalogue: SignalCatalogue, event: Event) -> FeatureDelta:
    at = millis(event.occurred_at)
    return catalogue.feature_delta_of(event, at, ZONE.day_of(at))


def _concluded(model: Model, leads: Sequence[Subject]) -> None:
    at = millis(UNTIL)
    for lead in leads:
        score_lead(model, lead, at, ZONE, IDLE_MS)


def _what_if(draft: Model, stored: Sequence[bytes]) -> None:
    at = millis(UNTIL)
    for features in stored:
        score_lead(draft, Subject(decode_features(features)), at, ZONE, IDLE_MS)

"""From a lead's state to statements: score, lifecycle, one rescore, and say what changed.

Time first: whatever time alone changes up to a record's moment is concluded at the very moments it
changes, so that the ledger is the same whether a timer came in time, late, twice or never.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import TypedDict

from schemas import statements as say
from schemas.control import Carried
from schemas.decode import encode_statement
from schemas.moment import moment
from schemas.topics import LEAD_CHANGES, SCORE_CHANGED, SESSION_SCORES
from scoring.features.features import Session
from scoring.models.crossings import cross, marks_of
from scoring.models.model import (
    INF,
    ONE_POINT,
    Conclusion,
    Model,
    Subject,
    conclude,
    difference,
    next_time_change,
    next_timer,
    rounded,
    score_session,
)
from streams.engine.shard import Emit
from streams.score_leads.lead_rules import Rules
from streams.score_leads.lead_stage import next_stage, run_lifecycle, why
from streams.score_leads.lead_state import SESSIONS, STAGE, EmittedScore, LeadState


class Envelope(TypedDict):
    """What every statement begins with."""

    statement_id: str
    tenant: str
    lead_id: str
    at: datetime
    caused_by: str


class LeadStep:
    """One record of one lead: its statements, numbered, so that their ids are deterministic."""

    def __init__(self, rules: Rules, state: LeadState, origin: str, emit: Emit) -> None:
        self.rules = self.before = rules
        self.state = state
        self.head = state.head
        self.emit = emit
        self._origin = origin
        self._number = 0

    def turn_to(self, rules: Rules) -> None:
        """From here on these rules hold; `before` keeps those that the last statements were made by."""
        self.before, self.rules = self.rules, rules

    def envelope(self, caused_by: str) -> Envelope:
        self._number += 1
        return {
            "statement_id": f"{self._origin}:{self._number}",
            "tenant": self.state.tenant,
            "lead_id": self.state.lead_id,
            "at": moment(self.head.clock),
            "caused_by": caused_by,
        }

    def say(self, topic: str, statement: say.Statement) -> None:
        self.emit(topic, self.state.key, encode_statement(statement))


# -- time


def _ends(state: LeadState, idle_ms: int) -> int:
    """The next moment after the lead's clock at which an open session falls idle."""
    clock = state.head.clock
    return min(
        (
            session.last_at + idle_ms
            for held in state.identities.values()
            for session in held.features.sessions.values()
            if not session.closed and session.last_at + idle_ms > clock
        ),
        default=INF,
    )


def emit_ended_sessions(step: LeadStep, cause: str, after: int, until: int) -> None:
    """Say that the open sessions have ended whose last act was after `after`, until `until`.

    Sorted, since what is stored comes back in another order than it was made in.
    """
    ended = sorted(
        (name, session_id)
        for name, held in step.state.identities.items()
        for session_id, session in held.features.sessions.items()
        if not session.closed and after < session.last_at <= until
    )
    for name, session_id in ended:
        emit_session_score(step, name, session_id, None, cause)


def _set_edges(step: LeadStep, models: Iterable[str], *, exact: bool) -> None:
    """Work out anew when time next matters to these models, to the sessions and to the stage.

    After an event a cheap bound will do; when time passes, the `exact` moment spares a lead that was
    quiet for years a look at every day of them.
    """
    rules, state, head = step.rules, step.state, step.head
    edges = dict.fromkeys(models, INF)
    if state.identities:
        subject = Subject(state.features, head.position.stage)
        turn = next_timer if exact else next_time_change
        for name in edges:
            edges[name] = turn(rules.models[name], subject, head.clock, rules.zone, rules.idle_ms)
    edges[SESSIONS] = _ends(state, rules.idle_ms)
    edges[STAGE] = next_stage(rules, state) if state.identities else INF
    for name, edge in edges.items():
        if head.clock < edge < INF:  # what is due by now has been concluded
            head.timers[name] = edge
        else:
            head.timers.pop(name, None)


def next_change(rules: Rules, state: LeadState) -> int:
    """The next moment at which time alone makes the lead say something; exact."""
    if not state.identities:
        return INF
    subject = Subject(state.features, state.head.position.stage)
    clock = state.head.clock
    at = min(_ends(state, rules.idle_ms), next_stage(rules, state))
    for model in rules.models.values():
        at = min(at, next_timer(model, subject, clock, rules.zone, rules.idle_ms))
    return at


def advance(step: LeadStep, to: int) -> None:
    """Bring the lead's clock to `to`, concluding at every moment on the way that may matter."""
    state, head = step.state, step.head
    if to <= head.clock:
        return
    while state.exists and (due := state.edge) <= to:
        head.clock = due
        at_hand = {name for name, edge in head.timers.items() if edge == due}
        if SESSIONS in at_hand:
            at_hand.update(step.rules.reading_sessions)
        cause = f"due:{due}"
        affects = partial(_is_among, at_hand)
        evaluate(step, cause, moved=False, silent=head.silent, time_only=True, affects=affects)
        if SESSIONS in at_hand:
            last_at = due - step.rules.idle_ms
            emit_ended_sessions(step, cause, last_at - 1, last_at)
    head.clock = to


# -- conclusions


def _is_among(names: set[str], model: Model) -> bool:
    return model.name in names


def every(_: Model) -> bool:
    """Any model may be affected."""
    return True


def evaluate(
    step: LeadStep,
    cause: str,
    *,
    moved: bool,
    silent: bool,
    time_only: bool = False,
    affects: Callable[[Model], bool] = every,
    carried: Carried | None = None,
    event: bytes | None = None,
) -> None:
    """Score, run the lifecycle to its fixpoint, score once more if it moved, say what changed.

    `moved`: an identity came or went; `carried` is the stage it brought along. Models that nothing
    `affects` wait for their own moment. `event` is what happened, if anything did: it may tell who moved
    the lead, and why.
    """
    rules, state, head = step.rules, step.state, step.head
    concluded = {
        name: _conclude(rules, state, model)
        for name, model in rules.models.items()
        if name not in head.emitted or affects(model)
    }
    if state.identities:
        stage = head.position.stage
        merged = (
            moved and len(state.identities) > 1
        )  # whoever came alone is the same person under another name
        last = run_lifecycle(rules, state, concluded, merged=merged, carried=carried)
        if last is not None and head.position.stage != stage:
            reason, by, note = why(head.position, last, event)
            entered = say.StageEntered(
                **step.envelope(cause),
                stage=head.position.stage,
                previous=stage,
                reason=reason,
                by=by,
                note=note,
            )
            step.say(LEAD_CHANGES, entered)
            for name, model in rules.models.items():
                if name in concluded or model.reads.stage:
                    concluded[name] = _conclude(rules, state, model)
            state.touch()
    for name, conclusion in concluded.items():
        _say_score(step, name, conclusion, cause, moved=moved, silent=silent, time_only=time_only)
    _set_edges(step, concluded, exact=time_only)


def _conclude(rules: Rules, state: LeadState, model: Model) -> Conclusion:
    """A lead without identities scores 0 and is in no band."""
    if not state.identities:
        return Conclusion(0, [0] * len(model.slots), dict.fromkeys(model.band_sets))
    subject = Subject(state.features, state.head.position.stage)
    return conclude(model, subject, state.head.clock, rules.zone, rules.idle_ms)


def _say_score(
    step: LeadStep, name: str, new: Conclusion, cause: str, *, moved: bool, silent: bool, time_only: bool
) -> None:
    """The total or a band changed: say so, with every line that differs from what was said last."""
    head, model, version = step.head, step.rules.models[name], step.rules.versions[name]
    said = head.emitted.get(name)
    if said is None:
        said = EmittedScore(
            version, head.clock, 0, [0] * len(model.slots), dict.fromkeys(model.band_sets), []
        )
        head.emitted[name] = said
        old_model = model
    else:
        old_model = step.before.models[name]
        same = new.total == said.total or (time_only and rounded(new.total) == rounded(said.total))
        # A version does not name a text: a tenant's own may have the number of everybody's.
        if same and new.bands == said.bands and said.version == version and old_model is model:
            return
    lines = difference(old_model, said.vector, model, new.vector)
    disarmed = said.disarmed
    if lines or new.bands != said.bands:
        step.say(
            SCORE_CHANGED,
            say.ScoreChanged(
                **step.envelope(cause),
                model=name,
                version=version,
                total=new.total / ONE_POINT,
                previous=said.total / ONE_POINT,
                change=(new.total - said.total) / ONE_POINT,
                bands=new.bands,
                lines=[
                    say.Line(group, rule, kind, points / ONE_POINT) for group, rule, kind, points in lines
                ],
            ),
        )
        disarmed = _say_bands(step, model, version, said, new, cause, moved=moved, silent=silent)
    head.emitted[name] = EmittedScore(version, head.clock, new.total, new.vector, new.bands, disarmed)
    step.state.touch()


def end_model(step: LeadStep, name: str, version: int, cause: str) -> None:
    """The model scores the lead no more: its points go, line by line, and the lead leaves its bands."""
    head = step.head
    said = head.emitted.pop(name, None)
    head.timers.pop(name, None)
    if said is None:
        return
    model, bands = step.before.models[name], dict.fromkeys(said.bands)
    lines = [
        say.Line(group, rule, kind, -points / ONE_POINT)
        for (group, rule, kind), points in zip(model.slots, said.vector, strict=True)
        if points
    ]
    if lines or said.bands != bands:
        step.say(
            SCORE_CHANGED,
            say.ScoreChanged(
                **step.envelope(cause),
                model=name,
                version=version,
                total=0,
                previous=said.total / ONE_POINT,
                change=-said.total / ONE_POINT,
                bands=bands,
                lines=lines,
            ),
        )
    _leave_bands(step, name, version, said.bands, cause)
    step.state.touch()


def _leave_bands(
    step: LeadStep, model: str, version: int, left: Mapping[str, str | None], cause: str
) -> None:
    """The model has these sets of bands no more."""
    for scale, band in left.items():
        if band is not None:
            step.say(
                LEAD_CHANGES,
                say.BandChanged(
                    **step.envelope(cause),
                    model=model,
                    version=version,
                    scale=scale,
                    band=None,
                    previous=band,
                    silent=True,
                ),
            )


def _say_bands(
    step: LeadStep,
    model: Model,
    version: int,
    said: EmittedScore,
    new: Conclusion,
    cause: str,
    *,
    moved: bool,
    silent: bool,
) -> list[str]:
    """Say bands that changed and thresholds that fired; the thresholds disarmed afterwards."""
    disarmed = []
    before, after = rounded(said.total), rounded(new.total)
    for scale in model.band_sets:
        thresholds = model.scales.get(scale, ())  # a matrix has none
        mine = [mark for mark in said.disarmed if mark.startswith(f"{scale}:")]
        crossed = cross(marks_of(scale, thresholds), before, after, mine, moved=moved)
        disarmed += crossed.disarmed
        band, previous = new.bands.get(scale), said.bands.get(scale)
        if band != previous or crossed.names:
            step.say(
                LEAD_CHANGES,
                say.BandChanged(
                    **step.envelope(cause),
                    model=model.name,
                    version=version,
                    scale=scale,
                    band=band,
                    previous=previous,
                    crossed=[mark.partition(":")[2] for mark in crossed.names],
                    silent=silent,
                ),
            )
    gone = {scale: band for scale, band in said.bands.items() if scale not in model.band_sets}
    _leave_bands(step, model.name, version, gone, cause)
    return sorted(disarmed)


def emit_session_score(
    step: LeadStep,
    identity: str,
    session_id: str,
    producer_id: str | None,
    cause: str,
    before: Session | None = None,
) -> None:
    """The session's score by each model that reads sessions, if it or the session's end is news."""
    session = step.state.identities[identity].features.sessions.get(session_id)
    if session is None:
        return
    ended = session.closed or step.head.clock >= session.last_at + step.rules.idle_ms
    for name in step.rules.reading_sessions:
        model = step.rules.models[name]
        scored = score_session(model, session)
        if before is not None and before.closed == session.closed and not ended:
            was = score_session(model, before)
            if was.total == scored.total and was.vector == scored.vector:
                continue
        step.say(
            SESSION_SCORES,
            say.SessionScored(
                **step.envelope(cause),
                identity=identity,
                session_id=session_id,
                producer_id=producer_id,
                model=name,
                version=step.rules.versions[name],
                score=scored.total / ONE_POINT,
                lines=[
                    say.Line(slot.group, slot.rule, slot.kind, points / ONE_POINT)
                    for slot, points in zip(model.slots, scored.vector, strict=False)
                    if points
                ],
                ended=ended,
                started_at=moment(session.opened_at),
                last_at=moment(session.last_at),
                pages=session.pages,
                clicks=session.clicks,
                important_clicks=session.important_clicks,
            ),
        )


def answer(step: LeadStep, event_id: str, outcome: str) -> None:
    step.say(
        LEAD_CHANGES,
        say.EventApplied(
            **step.envelope(f"event:{event_id}"),
            event_id=event_id,
            outcome=outcome,
            scores={name: said.total / ONE_POINT for name, said in step.head.emitted.items()},
        ),
    )

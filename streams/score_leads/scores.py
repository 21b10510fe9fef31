"""From a lead's state to statements: score, run the lifecycle, score again if the stage changed, emit the changes."""

from collections.abc import Callable, Mapping

from schemas import statements
from schemas.control import Carried
from schemas.topics import LEAD_CHANGES, SCORE_CHANGED
from scoring.features.view import view_of
from scoring.models.crossings import cross_thresholds, named_thresholds
from scoring.models.flags import split_flags
from scoring.models.model import (
    ONE_POINT,
    Conclusion,
    Model,
    Subject,
    changed_lines,
    rounded_points,
    score_lead,
)
from streams.score_leads.contact_clock import advance_contact_clock, is_qualified
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_stage import run_lifecycle, stage_reason
from streams.score_leads.lead_state import EmittedScore, LeadState
from streams.score_leads.lead_step import LeadStep
from streams.score_leads.overrides import conclude_override
from streams.score_leads.session_scores import emit_all_session_scores, retract_session_scores
from streams.score_leads.timers import set_timers
from streams.score_leads.workflow_triggers import (
    arm_without_model,
    disarm_passed,
    standing_of_lead,
    trigger_without_contact,
    trigger_workflows,
)

CHECKS_KEPT_POINTS = False
"""Tests set it: each conclusion from kept points is compared with a whole evaluation."""


def any_model(_: Model) -> bool:
    """Any model may be affected."""
    return True


def evaluate_lead(
    step: LeadStep,
    cause: str,
    *,
    reassigned: bool,
    silent: bool,
    time_only: bool = False,
    affects: Callable[[Model], bool] = any_model,
    carried: Carried | None = None,
    identified: Carried | None = None,
    event: bytes | None = None,
) -> None:
    """Score, run the lifecycle to its fixpoint, score once more if the stage changed, emit what changed.

    `reassigned`: an identity came or went; `carried` is the stage it brought along from a merged
    lead, `identified` the stage that a visitor had reached before anybody knew who it was. Models that nothing
    `affects` wait for their own timer. `event` is the event behind the record, if there is one: it may name
    the person who moved the lead, and the reason.
    """
    rules, state, head = step.rules, step.state, step.head
    if state.refuses_profiling:
        _stop_scoring(step, cause)
    before = None if rules.workflows is None else standing_of_lead(step)
    was_qualified = is_qualified(rules, state)
    concluded = {
        name: _conclusion_of_model(rules, state, model)
        for name, model in rules.models.items()
        if name not in head.emitted or affects(model)
    }
    agreed_again = step.agreed_again
    conclude_override(step, cause, silent=silent or agreed_again)
    if state.identities:
        stage = head.position.stage
        merged = (
            reassigned and len(state.identities) > 1
        )  # an identity that came alone is the same person under another name
        last = run_lifecycle(rules, state, concluded, merged=merged, carried=carried, identified=identified)
        if last is not None and head.position.stage != stage:
            reason, by, note = stage_reason(head.position, last, event)
            entered = statements.StageEntered(
                **step.envelope(cause),
                stage=head.position.stage,
                previous=stage,
                reason=reason,
                by=by,
                note=note,
            )
            step.emit_statement(LEAD_CHANGES, entered)
            for name, model in rules.models.items():
                if name in concluded or model.reads.stage:
                    concluded[name] = _conclusion_of_model(rules, state, model)
            state.mark_changed()
    for name, conclusion in concluded.items():
        _emit_score(
            step,
            name,
            conclusion,
            cause,
            reassigned=reassigned,
            silent=silent or agreed_again,
            time_only=time_only,
        )
    if agreed_again:
        emit_all_session_scores(step, cause)
    advance_contact_clock(
        rules,
        state,
        was_qualified=was_qualified,
        reassigned=reassigned,
        silent=silent or agreed_again,
        carried=None if carried is None else carried.clock,
        event=event,
    )
    set_timers(step, concluded, exact=time_only)
    if before is not None:
        if agreed_again:  # what the lead had passed already fires nothing
            before = standing_of_lead(step)
        trigger_workflows(step, before, cause, reassigned=reassigned, silent=silent)
        trigger_without_contact(step, cause)
        if agreed_again:
            disarm_passed(step)


def _stop_scoring(step: LeadStep, cause: str) -> None:
    """The lead objects to profiling: what models have concluded about it is taken back."""
    emitted = step.head.emitted
    if any(name in emitted for name in step.before.reading_sessions):
        retract_session_scores(step, cause)
    for name in sorted(emitted):
        retract_model_score(step, name, emitted[name].version, cause)


def _conclusion_of_model(rules: LeadRules, state: LeadState, model: Model) -> Conclusion:
    """A lead without identities scores 0 and is in no band."""
    if not state.identities:
        return Conclusion(0, [0] * len(model.line_labels), dict.fromkeys(model.band_sets))
    subject, clock = Subject(state.features, state.head.position.stage), state.head.clock
    if model.mean is not None:
        return score_lead(model, subject, clock, rules.zone, rules.idle_ms)
    view = view_of(subject, clock, rules.zone)
    conclusion = state.kept_points(model, view).conclude(view)
    if CHECKS_KEPT_POINTS:
        defined = score_lead(model, subject, clock, rules.zone, rules.idle_ms)
        if conclusion != defined:
            raise AssertionError(f"kept points of {model.name}: {conclusion} instead of {defined}")
    return conclusion


def _emit_score(
    step: LeadStep, name: str, new: Conclusion, cause: str, *, reassigned: bool, silent: bool, time_only: bool
) -> None:
    """Emit a changed total or band, with every line that differs from what was emitted last."""
    head, model, version = step.head, step.rules.models[name], step.rules.versions[name]
    emitted = head.emitted.get(name)
    if emitted is None:
        emitted = EmittedScore(
            version, head.clock, 0, [0] * len(model.line_labels), dict.fromkeys(model.band_sets), []
        )
        head.emitted[name] = emitted
        old_model = model
    else:
        old_model = step.before.models[name]
        same = new.total == emitted.total or (
            time_only and rounded_points(new.total) == rounded_points(emitted.total)
        )
        # A version does not name a text: a tenant's own may have the number of everybody's.
        if same and new.bands == emitted.bands and emitted.version == version and old_model is model:
            return
    lines = changed_lines(old_model, emitted.vector, model, new.vector)
    disarmed = emitted.disarmed
    if lines or new.bands != emitted.bands:
        step.emit_statement(
            SCORE_CHANGED,
            statements.ScoreChanged(
                **step.envelope(cause),
                model=name,
                version=version,
                total=new.total / ONE_POINT,
                previous=emitted.total / ONE_POINT,
                change=(new.total - emitted.total) / ONE_POINT,
                bands=new.bands,
                lines=[
                    statements.Line(group, rule, kind, points / ONE_POINT)
                    for group, rule, kind, points in lines
                ],
            ),
        )
        disarmed = _emit_bands(
            step, model, version, emitted, new, cause, reassigned=reassigned, silent=silent
        )
    head.emitted[name] = EmittedScore(version, head.clock, new.total, new.vector, new.bands, disarmed)
    step.state.mark_changed()


def retract_model_score(step: LeadStep, name: str, version: int, cause: str) -> None:
    """The model no longer scores the lead: its points go, line by line, and the lead leaves its bands."""
    head = step.head
    emitted = head.emitted.pop(name, None)
    head.timers.pop(name, None)
    if emitted is None:
        return
    model, bands = step.before.models[name], dict.fromkeys(emitted.bands)
    lines = [
        statements.Line(group, rule, kind, -points / ONE_POINT)
        for (group, rule, kind), points in zip(model.line_labels, emitted.vector, strict=True)
        if points
    ]
    if lines or emitted.bands != bands:
        step.emit_statement(
            SCORE_CHANGED,
            statements.ScoreChanged(
                **step.envelope(cause),
                model=name,
                version=version,
                total=0,
                previous=emitted.total / ONE_POINT,
                change=-emitted.total / ONE_POINT,
                bands=bands,
                lines=lines,
                removed=True,
            ),
        )
    _leave_bands(step, name, version, emitted.bands, cause)
    arm_without_model(step, name)
    conclude_override(step, cause, silent=True)
    step.state.mark_changed()


def _leave_bands(
    step: LeadStep, model: str, version: int, left: Mapping[str, str | None], cause: str
) -> None:
    """The model no longer has these band sets. Flags are no bands that somebody enters or leaves."""
    for scale, band in split_flags(left)[0].items():
        if band is not None:
            step.emit_statement(
                LEAD_CHANGES,
                statements.BandChanged(
                    **step.envelope(cause),
                    model=model,
                    version=version,
                    scale=scale,
                    band=None,
                    previous=band,
                    silent=True,
                ),
            )


def _emit_bands(
    step: LeadStep,
    model: Model,
    version: int,
    emitted: EmittedScore,
    new: Conclusion,
    cause: str,
    *,
    reassigned: bool,
    silent: bool,
) -> list[str]:
    """Emits bands that changed and thresholds that fired; returns the thresholds disarmed afterwards."""
    disarmed = []
    before, after = rounded_points(emitted.total), rounded_points(new.total)
    for scale in model.band_sets:
        thresholds = model.scales.get(scale, ())  # a matrix has none
        mine = [mark for mark in emitted.disarmed if mark.startswith(f"{scale}:")]
        crossed = cross_thresholds(named_thresholds(scale, thresholds), before, after, mine, moved=reassigned)
        disarmed += crossed.disarmed
        band, previous = new.bands.get(scale), emitted.bands.get(scale)
        if band != previous or crossed.names:
            step.emit_statement(
                LEAD_CHANGES,
                statements.BandChanged(
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
    removed = {scale: band for scale, band in emitted.bands.items() if scale not in model.band_sets}
    _leave_bands(step, model.name, version, removed, cause)
    return sorted(disarmed)

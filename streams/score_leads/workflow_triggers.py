"""Which workflows a record of a lead sets off. Emits `workflow_triggered`, and remembers what has fired.

Each is decided from the lead before and after the record, so the recorded order alone decides, and folding it again
decides the same. Lost, late and doubled timers change nothing, since moments are concluded on the lead's own clock.
What fires here and may not act (an import, a late event, a publication, a lead that may not be profiled, too many
workflows in a row) is emitted silently, with the reason, and counts as fired.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from schemas import statements
from schemas.activity import Activity, IdentityAttached, IdentityDelta
from schemas.decode import Refusal, decode_source
from schemas.envelope import Event
from schemas.events import WorkflowRequested
from schemas.statements import SilencedBy, WorkflowTriggerType
from schemas.topics import LEAD_CHANGES
from scoring.features.features import FeatureDelta, Features, decode_delta, decode_features
from scoring.features.identity import is_anonymous, key_of_identity
from scoring.features.profile_fields import FieldValue
from scoring.features.qualification_override import bands_that_count
from scoring.features.signals import event_as_tested, signal_of
from scoring.features.view import Subject, view_of
from scoring.models.points import NEVER, rounded_points
from scoring.workflows.score_crossing import ScoreTrigger, crosses, passed_already, rearms
from scoring.workflows.workflow import (
    BandTrigger,
    ConditionSubject,
    EventTrigger,
    FieldTrigger,
    LapseTrigger,
    ModelStanding,
    NoContactTrigger,
    ScheduleTrigger,
    ScoreFallTrigger,
    ScoreRiseTrigger,
    StageTrigger,
    Workflow,
    unmet_condition,
)
from scoring.workflows.workflow_plan import WorkflowPlan
from streams.score_leads.contact_clock import (
    adopt_contact_clock,
    contact_moments,
    next_contact_moment,
    remember_fired,
)
from streams.score_leads.lead_state import CONTACT_TIMER, LAPSE_TIMER, LeadHead, LeadState, LeadWorkflows
from streams.score_leads.lead_step import EventOfStep, LeadStep
from streams.score_leads.workflow_lapses import lapses_of_lead, next_lapse_at

MOST_HOPS = 5
"""Actions of workflows, one after the other, that an event may come from and still set off another."""
LONGEST_SHOWN = 60
"""Characters of a value in a reason."""
NOTHING_REMEMBERED = LeadWorkflows()
NO_STANDING = ModelStanding(0, {})
PUBLICATION_CAUSES = ("model:", "settings:")


class LeadStanding(NamedTuple):
    """A lead as triggers compare it."""

    stage: str
    by_model: Mapping[str, ModelStanding]


class FiredTrigger(NamedTuple):
    workflow: Workflow
    trigger: WorkflowTriggerType
    reason: str
    """One sentence."""


def standing_of_lead(step: LeadStep) -> LeadStanding:
    """As it was last emitted: its rounded totals are current."""
    head = step.head
    return LeadStanding(
        head.position.stage,
        {
            name: ModelStanding(
                rounded_points(emitted.total), bands_that_count(name, emitted.bands, head.override)
            )
            for name, emitted in head.emitted.items()
        },
    )


def event_of_step(step: LeadStep, message: Activity) -> EventOfStep | None:
    """The event of a record, and what it finds; None for other records, and for a tenant without workflows."""
    plan, state = step.rules.workflows, step.state
    if plan is None:
        return None
    match message:
        case IdentityDelta(event=raw, event_id=event_id, identity=identity):
            keyed = _keys_of_delta(decode_delta(message.lift))
        case IdentityAttached(event=bytes(raw), event_id=str(event_id), identity=identity):
            keyed = _keys_of_features(decode_features(message.features))
        case _:
            return None
    fields = state.features.fields if state.identities else {}
    return EventOfStep(
        raw,
        f"event:{key_of_identity(identity)[0]}:{event_id}",
        {name: _value_of_field(fields, name) for name in plan.fields},
        is_repetition=any(_is_known(state, kind, digest) for kind, digest in keyed),
    )


def _is_known(state: LeadState, kind: str, digest: str) -> bool:
    """Has an identity of the lead reported this order, submission or e-mail before?"""
    reports = (each.features.keyed.get(kind, {}).get(digest) for each in state.identities.values())
    return any(report is not None and report.first is not None for report in reports)


def _keys_of_delta(delta: FeatureDelta) -> list[tuple[str, str]]:
    return [] if delta.key is None else [delta.key]


def _keys_of_features(features: Features) -> list[tuple[str, str]]:
    return [(kind, digest) for kind, events in features.keyed.items() for digest in events]


def _value_of_field(fields: Mapping[str, tuple[int, str, FieldValue]], name: str) -> FieldValue:
    written = fields.get(name)
    return None if written is None else written[2]


# What a record sets off


def trigger_workflows(
    step: LeadStep, before: LeadStanding, cause: str, *, reassigned: bool, silent: bool
) -> None:
    """After the lead was evaluated. `reassigned`: an identity came or went."""
    plan = step.rules.workflows
    if plan is None or not step.state.identities:
        return
    event = None if step.event is None else _decoded(step.event)
    _remember_lateness(step, event, silent=silent)
    after = standing_of_lead(step)
    fired = list(_fired_by_record(step, plan, before, after, event, reassigned=reassigned))
    done = _emit_fired(step, plan, fired, cause, _silence_of(step, event, cause, silent=silent), event)
    _remember_scores(step, plan, before, after, done, reassigned=reassigned)


def trigger_lapses(step: LeadStep, cause: str) -> None:
    """At the lead's clock, after it was evaluated. What was imported before does not silence it: time has passed since."""
    plan, head = step.rules.workflows, step.head
    if plan is None:
        return
    fired = [
        FiredTrigger(workflow, workflow.trigger_type, _lapse_reason(trigger))
        for at, workflow, trigger in lapses_of_lead(step.rules, step.state)
        if at == head.clock
    ]
    _emit_fired(step, plan, fired, cause, _silence_of(step, None, cause, silent=False), None)


def trigger_without_contact(step: LeadStep, cause: str) -> None:
    """Minutes are over in which nobody contacted the lead: of each workflow once for each qualification. At the lead's clock,
    which a merge may have brought here late.
    """
    plan, state, head = step.rules.workflows, step.state, step.head
    over = [each for each in contact_moments(step.rules, state) if each[0] <= head.clock]
    if plan is None or not over or head.contact is None:
        return
    remember_fired(state, [workflow.id for _, workflow, _ in over])
    fired = [
        FiredTrigger(workflow, workflow.trigger_type, _contact_reason(trigger))
        for _, workflow, trigger in over
    ]
    silenced_by = _silence_of(step, None, cause, silent=False)
    _emit_fired(step, plan, fired, cause, silenced_by, None, arm=f"qualified:{head.contact.started_at}")


def trigger_schedule(step: LeadStep, number: int, scheduled_for: int) -> None:
    """A moment of a workflow's schedule, at the lead's clock."""
    plan, state = step.rules.workflows, step.state
    workflow = None if plan is None else plan.by_id.get(number)
    if (
        plan is None
        or workflow is None
        or not isinstance(workflow.trigger, ScheduleTrigger)
        or not state.identities
        or (is_anonymous(state.lead_id) and not workflow.anonymous)
    ):
        return
    cause = f"schedule:{scheduled_for}"
    reason = f"the schedule {workflow.trigger.schedule.text} came"
    fired = FiredTrigger(workflow, workflow.trigger_type, reason)
    _emit_fired(step, plan, [fired], cause, _silence_of(step, None, cause, silent=False), None)


def _fired_by_record(
    step: LeadStep,
    plan: WorkflowPlan,
    before: LeadStanding,
    after: LeadStanding,
    event: Event | None,
    *,
    reassigned: bool,
) -> Iterator[FiredTrigger]:
    """What fires if its conditions hold, each workflow once, in the order of their priorities."""
    state = step.state
    anonymous = is_anonymous(state.lead_id)
    disarmed = _remembered(step.head).disarmed
    tested = None
    if event is not None and step.event is not None and not step.event.is_repetition:
        tested = event_as_tested(event, step.rules.profile_fields)
    requested = event.workflow_id if isinstance(event, WorkflowRequested) else None
    manual = None if requested is None else plan.by_id.get(requested)
    if manual is not None and isinstance(event, WorkflowRequested):
        yield FiredTrigger(manual, "manual", f"{event.by or 'somebody'} ran it")
    for workflow in plan.reacting:
        if (anonymous and not workflow.anonymous) or workflow is manual:
            continue
        reason = None
        match workflow.trigger:
            case ScoreRiseTrigger(model=model) | ScoreFallTrigger(model=model):
                was, now = (each.by_model.get(model, NO_STANDING).total for each in (before, after))
                if workflow.id not in disarmed and crosses(workflow.trigger, was, now, reassigned=reassigned):
                    reason = _score_reason(workflow.trigger, was, now)
            case StageTrigger(to=to, source=source):
                if (
                    before.stage != after.stage
                    and to in {None, after.stage}
                    and source in {None, before.stage}
                ):
                    reason = f"the stage changed from {before.stage} to {after.stage}"
            case BandTrigger():
                reason = _band_reason(workflow.trigger, before, after)
            case FieldTrigger():
                if tested is not None and step.event is not None:
                    reason = _field_reason(workflow.trigger, step.event.fields, state)
            case EventTrigger(tests=tests):
                if tested is not None and (name := signal_of(tested)) in tests and tests[name](tested):
                    reason = f"the event {name} came"
        if reason is not None:
            yield FiredTrigger(workflow, workflow.trigger_type, reason)


def _score_reason(trigger: ScoreTrigger, was: int, now: int) -> str:
    change = f"rose from {was} to {now}, through" if now > was else f"fell from {was} to {now}, below"
    return f"{trigger.model} {change} {trigger.score}"


def _band_reason(trigger: BandTrigger, before: LeadStanding, after: LeadStanding) -> str | None:
    was, now = (
        each.by_model.get(trigger.model, NO_STANDING).bands.get(trigger.scale) for each in (before, after)
    )
    first = was is None and trigger.to is None  # a lead begins in some band: that is no change
    if (
        was == now
        or first
        or now is None
        or trigger.to not in {None, now}
        or trigger.source not in {None, was}
    ):
        return None
    return f"{trigger.scale} of {trigger.model} changed from {was or 'none'} to {now}"


def _field_reason(trigger: FieldTrigger, before: Mapping[str, FieldValue], state: LeadState) -> str | None:
    was, now = before[trigger.field], _value_of_field(state.features.fields, trigger.field)
    if was == now or (trigger.test is not None and not trigger.test(now)):
        return None
    return f"{trigger.field} changed from {_shown(was)} to {_shown(now)}"


def _lapse_reason(trigger: LapseTrigger) -> str:
    return f"{trigger.days} {'day' if trigger.days == 1 else 'days'} passed without {trigger.signal}"


def _contact_reason(trigger: NoContactTrigger) -> str:
    minutes = f"{trigger.minutes} minute{'' if trigger.minutes == 1 else 's'}"
    return f"{minutes} passed without contact since the lead qualified"


def _shown(value: FieldValue) -> str:
    text = "nothing" if value is None else ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


# Emitting


def _emit_fired(
    step: LeadStep,
    plan: WorkflowPlan,
    fired: list[FiredTrigger],
    cause: str,
    silenced_by: SilencedBy,
    event: Event | None,
    arm: str | None = None,
) -> set[int]:
    """Emits those whose conditions hold; returns their ids. `arm`: unless the event or the cause is it."""
    if not fired:
        return set()
    subject = _condition_subject(step, step.head.clock)
    if arm is None:
        arm = step.event.arm if event is not None and step.event is not None else cause
    hops = 0 if event is None else event.hops
    done = set()
    for workflow, trigger, reason in fired:
        if unmet_condition(workflow, subject) is not None:
            continue
        done.add(workflow.id)
        step.emit_statement(
            LEAD_CHANGES,
            statements.WorkflowTriggered(
                **step.envelope(cause),
                workflow_id=workflow.id,
                workflow=workflow.name,
                version=plan.version,
                trigger=trigger,
                reason=reason,
                action=workflow.action,
                config=dict[str, Any](workflow.config),
                arm=arm,
                silent=silenced_by != "",
                silenced_by=silenced_by,
                hops=hops,
                priority=workflow.priority,
            ),
        )
    return done


def _condition_subject(step: LeadStep, at: int) -> ConditionSubject:
    subject = Subject(step.state.features, step.head.position.stage)
    return ConditionSubject(view_of(subject, at, step.rules.zone), standing_of_lead(step).by_model)


def _silence_of(step: LeadStep, event: Event | None, cause: str, *, silent: bool) -> SilencedBy:
    """Why nothing may be done; empty if it may."""
    if silent:
        if cause.startswith(PUBLICATION_CAUSES):
            return "publication"
        late = _remembered(step.head).late if event is None else not event.imported
        return "late" if late else "import"
    if step.state.refuses_profiling:
        return "consent"
    return "hops" if event is not None and event.hops >= MOST_HOPS else ""


def _decoded(step_event: EventOfStep) -> Event | None:
    try:
        source = decode_source(step_event.raw)
    except Refusal:  # stage 1 has read it, perhaps in an older version
        return None
    return source if isinstance(source, Event) else None


# What a lead remembers


def _remembered(head: LeadHead) -> LeadWorkflows:
    return head.workflows or NOTHING_REMEMBERED


def _remember(step: LeadStep, remembered: LeadWorkflows) -> None:
    new = None if remembered == NOTHING_REMEMBERED else remembered
    if new != step.head.workflows:
        step.head.workflows = new
        step.state.mark_changed()


def _remember_lateness(step: LeadStep, event: Event | None, *, silent: bool) -> None:
    if event is not None:
        late = silent and not event.imported
        _remember(step, LeadWorkflows(_remembered(step.head).disarmed, late))


def _remember_scores(
    step: LeadStep,
    plan: WorkflowPlan,
    before: LeadStanding,
    after: LeadStanding,
    fired: set[int],
    *,
    reassigned: bool,
) -> None:
    remembered = _remembered(step.head)
    disarmed = set(remembered.disarmed)
    for workflow, trigger in plan.scores:
        was, now = (each.by_model.get(trigger.model, NO_STANDING).total for each in (before, after))
        if was == now:
            continue
        if workflow.id in fired and crosses(trigger, was, now, reassigned=reassigned):
            disarmed.add(workflow.id)
        elif rearms(trigger, was, now, reassigned=reassigned):
            disarmed.discard(workflow.id)
    _remember(step, LeadWorkflows(tuple(sorted(disarmed)), remembered.late))


def arm_without_model(step: LeadStep, model: str) -> None:
    """A model no longer scores the lead: what waits for its score begins again."""
    plan = step.rules.workflows
    if plan is None or step.head.workflows is None:
        return
    waiting = {workflow.id for workflow, trigger in plan.scores if trigger.model == model}
    remembered = step.head.workflows
    disarmed = tuple(each for each in remembered.disarmed if each not in waiting)
    _remember(step, LeadWorkflows(disarmed, remembered.late))


def disarm_passed(step: LeadStep) -> None:
    """The lead is scored again after it objected to profiling: what its scores have passed already has fired."""
    plan = step.rules.workflows
    if plan is None:
        return
    standings = standing_of_lead(step).by_model
    fired_before = [
        workflow.id
        for workflow, trigger in plan.scores
        if passed_already(trigger, standings.get(trigger.model, NO_STANDING).total)
    ]
    _remember(step, LeadWorkflows(tuple(sorted(fired_before)), _remembered(step.head).late))


def adopt_workflows(step: LeadStep) -> None:
    """New workflows are active from the lead's clock on; `step.before` has those that were. What a lead has passed already does not
    fire, and days without an event that are over by then have passed.
    """
    state, head, new = step.state, step.head, step.rules.workflows
    remembered = _remembered(head)
    disarmed = () if new is None else tuple(sorted(_disarmed_at_first(step, new, remembered)))
    _remember(step, LeadWorkflows(disarmed, remembered.late))
    adopt_contact_clock(step.rules, step.before, state)
    moments = {
        LAPSE_TIMER: next_lapse_at(step.rules, state, head.clock),
        CONTACT_TIMER: next_contact_moment(step.rules, state),
    }
    for name, fires_at in moments.items():
        if fires_at == head.timers.get(name, NEVER):
            continue
        if fires_at < NEVER:
            head.timers[name] = fires_at
        else:
            head.timers.pop(name, None)
        state.mark_changed()


def _disarmed_at_first(step: LeadStep, new: WorkflowPlan, remembered: LeadWorkflows) -> Iterator[int]:
    old = {} if step.before.workflows is None else step.before.workflows.by_id
    standings = standing_of_lead(step).by_model
    anonymous = is_anonymous(step.state.lead_id)
    for workflow, trigger in new.scores:
        if anonymous and not workflow.anonymous:
            continue
        same = workflow.id in old and old[workflow.id].trigger == trigger
        if (
            workflow.id in remembered.disarmed
            if same
            else passed_already(trigger, standings.get(trigger.model, NO_STANDING).total)
        ):
            yield workflow.id

"""Stage 2, keyed by lead: merge features, score by every active model, say what changed.

From `lead-activity` to the score topics. The recorded order of `lead-activity` decides everything:
folding it again emits the same statements with the same ids. It evaluates no signal and never reads
a clock; a lead's own clock is the highest `recorded_at` of its records.
"""

from functools import partial

from schemas.activity import (
    Activity,
    ErasureRecorded,
    EventNoted,
    ExperimentChanged,
    IdentityAttached,
    IdentityCompleted,
    IdentityDelta,
    IdentityDetached,
    ModelChanged,
    ModelRemoved,
    RedirectChanged,
    SettingsChanged,
    TimePassed,
    WorkflowMomentCame,
    WorkflowsChanged,
)
from schemas.control import EVERY_TENANT
from schemas.decode import decode_activity, encode_activity, encode_statement
from schemas.record import Outgoing, Record
from schemas.topics import LEAD_ACTIVITY, LEAD_SCORES, lead_key
from scoring.features.erased_people import is_key_erased
from scoring.features.identity import is_anonymous
from scoring.models.model import NEVER, Model
from streams.engine.shard import Emit
from streams.published import (
    RETIRED_MODEL_TEXT,
    ModelVersion,
    SweepState,
    TenantSettings,
    WorkflowsVersion,
    check_experiment,
    check_model,
    check_settings,
    check_workflows,
)
from streams.score_leads.clock import advance_clock
from streams.score_leads.identities import (
    apply_event,
    attach_identity,
    complete_identity,
    detach_identity,
    redirect_lead,
)
from streams.score_leads.lead_rules import PublishedLeadRules
from streams.score_leads.lead_state import LeadState, lead_card
from streams.score_leads.lead_step import LeadStep, emit_event_applied
from streams.score_leads.scores import evaluate_lead, retract_model_score
from streams.score_leads.session_scores import emit_ended_sessions
from streams.score_leads.timers import next_change_by_time
from streams.score_leads.workflow_triggers import adopt_workflows, event_of_step, trigger_schedule

ForEveryLead = ModelChanged | ModelRemoved | SettingsChanged | WorkflowsChanged | WorkflowMomentCame
"""The records that concern every lead of a tenant, or of all."""


class ScoreLeads:
    """The stage; see the module's docstring."""

    name = "score_leads"
    source = LEAD_ACTIVITY

    def decode(self, record: Record) -> Activity:
        activity = decode_activity(record.value or b"")
        match activity:
            case ModelChanged(model=model, text=text, folding=folding):
                check_model(model, text, folding)
            case SettingsChanged(time_zone=time_zone, lifecycle=lifecycle, attribution=attribution):
                check_settings(time_zone, lifecycle, attribution)
            case WorkflowsChanged(text=text, folding=folding):
                check_workflows(text, folding)
            case ExperimentChanged(text=text):
                check_experiment(text)
        return activity

    def key_of(self, message: Activity) -> str | None:
        if isinstance(message, ForEveryLead | ExperimentChanged | ErasureRecorded):
            return None
        return lead_key(message.tenant, message.lead_id)

    def open_shared(self, parts: dict[str, bytes]) -> PublishedLeadRules:
        return PublishedLeadRules(parts)

    def open(self, key: str, parts: dict[str, bytes]) -> LeadState:
        return LeadState(key, parts)

    def apply_to_all(self, shared: PublishedLeadRules, message: Activity) -> None:
        if isinstance(message, ErasureRecorded):
            shared.remember_erased(message.tenant, message.salt, message.hashes)
        if not isinstance(message, ForEveryLead):
            return
        under_way, what = shared.published.sweep, _sweep_name(message)
        if under_way is not None and under_way.what == what:
            return
        sweep = _apply_publication(shared, message, what)
        if sweep is not None:
            shared.begin(sweep)

    def sweep_cursor(self, shared: PublishedLeadRules, message: Activity) -> str | None:
        sweep = shared.published.sweep
        return sweep.cursor if sweep is not None and sweep.what == _sweep_name(message) else None

    def move_cursor(self, shared: PublishedLeadRules, message: Activity, cursor: str | None) -> None:
        shared.visited(cursor)

    def visit(
        self, shared: PublishedLeadRules, state: LeadState, message: Activity, origin: str, emit: Emit
    ) -> None:
        if not state.exists or message.tenant not in (EVERY_TENANT, state.tenant):
            return
        if isinstance(message, WorkflowsChanged | WorkflowMomentCame):
            _visit_for_workflows(shared, state, message, origin, emit)
            return
        # Up to here the lead was scored by what was active before; from here on by the new text.
        before = shared.rules(state.tenant, before_sweep=True)
        step = LeadStep(before, state, origin, emit)
        advance_clock(step, message.recorded_at)
        after = shared.rules(state.tenant)
        step.use_rules(after)
        what, clock = _sweep_name(message), state.head.clock
        match message:
            case ModelChanged(model=name, fire=fire):
                published = partial(_is_model_named, name)
                evaluate_lead(step, what, reassigned=False, silent=not fire, affects=published)
            case ModelRemoved(model=name) if name in after.models:
                pass  # the model of every tenant was removed, and this tenant has its own
            case ModelRemoved(model=name, version=version):
                retract_model_score(step, name, version, what)
            case SettingsChanged():
                evaluate_lead(step, what, reassigned=False, silent=True)
                emit_ended_sessions(step, what, clock - before.idle_ms, clock - after.idle_ms)
        state.mark_changed()

    def summarize(self, state: LeadState, emit: Emit) -> None:
        """Once per chunk: the lead's card, whole, or a tombstone."""
        if not state.card_changed:
            return
        state.card_changed = False
        emit(LEAD_SCORES, state.key, encode_statement(lead_card(state)) if state.exists else None)

    def next_timer(self, state: LeadState) -> int | None:
        return state.next_timer()

    def check_timer(self, shared: PublishedLeadRules, state: LeadState, now: int) -> tuple[bool, int | None]:
        if not state.exists:
            return False, None
        if state.refuses_profiling and state.head.emitted:
            return True, None  # a version that did not know objections has scored it
        at = next_change_by_time(shared.rules(state.tenant).for_lead(state), state)
        return (True, None) if at <= now else (False, at if at < NEVER else None)

    def wake_up(self, state: LeadState, now: int) -> Outgoing:
        activity = TimePassed(state.tenant, state.lead_id, now)
        return Outgoing(LEAD_ACTIVITY, state.key, encode_activity(activity))

    def evolve(
        self, shared: PublishedLeadRules, state: LeadState, message: Activity, origin: str, emit: Emit
    ) -> None:
        if shared.erased and is_key_erased(shared.erased, state.key):
            state.erase()
            return
        step = LeadStep(shared.rules(state.tenant), state, origin, emit)
        advance_clock(step, message.recorded_at)
        step.event = event_of_step(step, message)
        match message:
            case IdentityAttached():
                attach_identity(step, message)
            case IdentityCompleted():
                complete_identity(step, message)
            case IdentityDetached():
                detach_identity(step, message)
            case IdentityDelta():
                apply_event(step, message)
            case RedirectChanged():
                redirect_lead(step, message)
            case EventNoted(key=key, event_id=event_id, outcome=outcome):
                emit_event_applied(step, key, event_id, outcome)
            case TimePassed():
                pass
        head = state.head
        if (
            is_anonymous(state.lead_id)
            and not state.identities
            and not head.forwarded
            and head.redirect is None
        ):
            state.card_changed = state.card_changed or state.exists
            state.remove()
        elif state.exists:
            state.mark_changed()
        else:
            state.remove()


def _visit_for_workflows(
    shared: PublishedLeadRules,
    state: LeadState,
    message: WorkflowsChanged | WorkflowMomentCame,
    origin: str,
    emit: Emit,
) -> None:
    """Every lead's clock comes to the record, whether a timer was due or not: else a later record that is dated before it
    would count at another moment. Only leads that changed get a new card.
    """
    step = LeadStep(shared.rules(state.tenant, before_sweep=True), state, origin, emit)
    if state.fires_at <= message.recorded_at:
        state.mark_changed()
    advance_clock(step, message.recorded_at)
    state.mark_head_changed()
    match message:
        case WorkflowsChanged():
            step.use_rules(shared.rules(state.tenant))
            adopt_workflows(step)
        case WorkflowMomentCame(workflow_id=number, scheduled_for=scheduled_for):
            trigger_schedule(step, number, scheduled_for)


def _apply_publication(shared: PublishedLeadRules, message: ForEveryLead, what: str) -> SweepState | None:
    match message:
        case ModelChanged(tenant=tenant, model=model):
            active = ModelVersion(message.version, message.text, message.folding)
            return shared.publish_model(tenant, model, active, what)
        case ModelRemoved(tenant=tenant, model=model, version=version):
            return shared.publish_model(tenant, model, ModelVersion(version, RETIRED_MODEL_TEXT), what)
        case SettingsChanged(tenant=tenant):
            settings = TenantSettings(
                message.version,
                message.time_zone,
                message.idle_minutes,
                message.lifecycle,
                message.profile_fields,
                message.attribution,
                message.consent_required_since,
                message.unique_fields,
            )
            return shared.publish_settings(tenant, settings, what)
        case WorkflowsChanged(tenant=tenant, version=version, text=text, folding=folding):
            workflows = WorkflowsVersion(version, text, folding)
            return shared.publish_workflows(tenant, workflows, message.recorded_at, what)
        case WorkflowMomentCame(tenant=tenant, workflow_id=number, scheduled_for=scheduled_for):
            return shared.reach_moment(tenant, number, scheduled_for, what)


def _is_model_named(name: str, model: Model) -> bool:
    return model.name == name


def _sweep_name(message: Activity) -> str:
    match message:
        case ModelChanged() | ModelRemoved():
            return f"model:{message.tenant}:{message.model}:{message.version}"
        case SettingsChanged(tenant=tenant, version=version):
            return f"settings:{tenant}:{version}"
        case WorkflowsChanged(tenant=tenant, version=version):
            return f"workflows:{tenant}:{version}"
        case WorkflowMomentCame(tenant=tenant, workflow_id=number, scheduled_for=scheduled_for):
            return f"schedule:{tenant}:{number}:{scheduled_for}"
        case _:
            return ""


SCORE_LEADS = ScoreLeads()

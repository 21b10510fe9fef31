"""What a workflow would do for a lead now: whether its trigger is met as things stand, and which conditions hold. Pure.

It decides conditions as the fold does. A trigger that waits for a change (an event, an entered stage) is met when the lead
is where that change leads to; whether the workflow is armed is the fold's knowledge.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.moment import moment
from scoring.features.calendar import DAY_MS, Calendar
from scoring.features.features import refuses_profiling
from scoring.features.identity import is_anonymous
from scoring.features.profile_fields import PROFILING_CONSENT_FIELD
from scoring.features.qualification_override import (
    QUALIFICATION_MODEL,
    QUALIFICATION_SET,
    bands_that_count,
    override_in,
)
from scoring.features.view import View, created_at, profile_value, view_of
from scoring.models.model import Model, Subject, rounded_points, score_lead
from scoring.models.text_refusals import shorten_value
from scoring.workflows.actions import ActionType
from scoring.workflows.schedule import next_moment
from scoring.workflows.workflow import (
    BandTrigger,
    ConditionSubject,
    EventTrigger,
    FieldTrigger,
    LapseTrigger,
    ManualTrigger,
    ModelStanding,
    NoContactTrigger,
    ScheduleTrigger,
    ScoreFallTrigger,
    ScoreRiseTrigger,
    StageTrigger,
    Workflow,
)


class TrialResult(NamedTuple):
    """Of a trigger or a condition. `met` None: it waits for something to happen, whatever the lead is."""

    met: bool | None
    text: str


class WorkflowTrial(NamedTuple):
    trigger: TrialResult
    conditions: tuple[TrialResult, ...]
    hindrance: str | None
    """Why nothing is done for this lead, whatever the conditions are; None: nothing hinders."""

    @property
    def would_fire(self) -> bool:
        """If the trigger came now."""
        return self.trigger.met is not False and self.failed_condition is None

    @property
    def failed_condition(self) -> str | None:
        """What hinders, else the first condition that does not hold."""
        return self.hindrance or next((each.text for each in self.conditions if not each.met), None)


def try_workflow(
    workflow: Workflow,
    lead_id: str,
    subject: Subject,
    models: Mapping[str, Model],
    as_of: int,
    zone: Calendar,
    idle_ms: int,
) -> WorkflowTrial:
    """The workflow, active or not, for a lead at a moment (ms)."""
    rules = models.get(QUALIFICATION_MODEL)
    bands = () if rules is None else rules.band_sets.get(QUALIFICATION_SET, ())
    override = override_in(subject.features.fields, bands, as_of)
    standings = {
        name: ModelStanding(
            rounded_points(concluded.total), bands_that_count(name, concluded.bands, override)
        )
        for name, model in models.items()
        if not refuses_profiling([subject.features])
        for concluded in [score_lead(model, subject, as_of, zone, idle_ms)]
    }
    read = ConditionSubject(view_of(subject, as_of, zone), standings)
    return WorkflowTrial(
        _trigger_result(workflow, read, as_of, zone),
        tuple(TrialResult(each.is_met(read), each.evidence(read)) for each in workflow.conditions),
        _hindrance(workflow, lead_id, read.view),
    )


def _hindrance(workflow: Workflow, lead_id: str, view: View) -> str | None:
    if not workflow.active:
        return "the workflow is switched off"
    if is_anonymous(lead_id) and not workflow.anonymous:
        return "nobody knows who the lead is, and the workflow is not for anonymous visitors"
    if profile_value(view, PROFILING_CONSENT_FIELD) is False:
        return f"the lead does not want to be profiled ({PROFILING_CONSENT_FIELD} is false)"
    return None


def action_text(action: ActionType, config: Mapping[str, Any]) -> str:
    """What the action does, in words."""
    match action:
        case "assign_owner":
            if "owners" not in config:
                return f"assigns the lead to owner {config['owner_id']}"
            owners = ", ".join(map(str, config["owners"]))
            how = "who has most room" if config.get("by") == "capacity" else "in turn"
            return f"assigns the lead to one of the owners {owners}, {how}"
        case "change_status":
            return f"changes the status to {config['status']}"
        case "send_email":
            what = f"the template {config['template']}" if "template" in config else "its own text"
            return f"sends an e-mail to the {config.get('to', 'channel')}, by the channel {config.get('channel', 'email')}, of {what}"
        case "create_task":
            due = f", due in {config['due_in_days']} days" if "due_in_days" in config else ""
            return f"creates the task {shorten_value(config['title'])}{due}"
        case "send_notification":
            reader = f"owner {config['owner_id']}" if "owner_id" in config else config.get("to", "everybody")
            also = f", and the channels {', '.join(config['channels'])}" if "channels" in config else ""
            return f"sends a message inside the application to {reader}{also}"
        case "move_to_stage":
            kept = f" for {config['days']} days" if "days" in config else ""
            return f"moves the lead to {config['stage']}{kept}"
        case "update_field":
            return f"sets {config['field']} to {shorten_value(config['value'])}"
        case "add_to_campaign":
            return f"adds the lead to the campaign {config['campaign_id']}"
        case "send_webhook":
            return f"calls the channel {config['channel']}"


def _trigger_result(workflow: Workflow, read: ConditionSubject, as_of: int, zone: Calendar) -> TrialResult:
    view, trigger = read.view, workflow.trigger
    match trigger:
        case ScoreRiseTrigger(model, score, rearm):
            total = _total(read, model)
            return TrialResult(
                total is not None and total >= score,
                f"{_score_text(model, total)}: it fires when the score rises to {score} or above, and once more after it "
                f"has fallen to {score - rearm}",
            )
        case ScoreFallTrigger(model, score, rearm):
            total = _total(read, model)
            return TrialResult(
                total is not None and total < score,
                f"{_score_text(model, total)}: it fires when the score falls below {score}, and once more after it has "
                f"risen to {score + rearm}",
            )
        case StageTrigger(to, source):
            met = view.stage == to if to is not None else None
            return TrialResult(met, f"the stage is {view.stage}: it fires on entering {_change(to, source)}")
        case BandTrigger(model, scale, to, source):
            standing = read.standings.get(model)
            band = None if standing is None else standing.bands.get(scale)
            return TrialResult(
                band == to if to is not None else None,
                f"the band of {model}, {scale}, is {band or 'none'}: it fires on entering {_change(to, source)}",
            )
        case FieldTrigger(field, test):
            value = profile_value(view, field)
            return TrialResult(
                None if test is None else test(value),
                f"{field} is {'not set' if value is None else shorten_value(value)}: it fires when the field changes"
                f"{'' if test is None else ' to such a value'}",
            )
        case EventTrigger(tests):
            return TrialResult(None, f"it fires at each event {' or '.join(tests)} that fits")
        case ScheduleTrigger(schedule):
            following = next_moment(schedule, zone, as_of)
            at = "never" if following is None else f"{moment(following):%Y-%m-%d %H:%M}Z"
            return TrialResult(None, f"its schedule is {schedule.text!r}: the next moment is {at}")
        case LapseTrigger(days, signal):
            return _lapse_result(view, days, signal, as_of)
        case NoContactTrigger(minutes):
            return TrialResult(
                None,
                f"it fires {minutes} minutes after the lead qualified, unless somebody has contacted it by then",
            )
        case ManualTrigger():
            return TrialResult(None, "a person runs it")


def _lapse_result(view: View, days: int, signal: str, as_of: int) -> TrialResult:
    counted = view.signals.get(signal)
    last = created_at(view.signals) if counted is None else counted.last
    idle = 0 if last is None else max(as_of - last, 0) // DAY_MS
    return TrialResult(
        last is not None and idle >= days, f"{idle} days without {signal}: it fires after {days}"
    )


def _total(read: ConditionSubject, model: str) -> int | None:
    standing = read.standings.get(model)
    return None if standing is None else standing.total


def _score_text(model: str, total: int | None) -> str:
    return f"there is no score by {model}" if total is None else f"{model} is {total}"


def _change(to: str | None, source: str | None) -> str:
    return f"{to or 'another one'}{'' if source is None else f' from {source}'}"

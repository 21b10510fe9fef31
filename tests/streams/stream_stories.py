"""Stories for the two real folds: given what happened, when something happens, then this is said.

A story runs events, time and publications through both folds, one record at a time, with the five
shipped models unless told otherwise. What is said comes back as sentences, so that a test reads as
a specification.
"""

from stream_simulator import Pipeline

from schemas import statements as say
from schemas.control import EVERY_TENANT
from schemas.moment import moment
from schemas.topics import lead_key
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.models.model import built_in_models

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
NOON = 20_000 * DAY + 12 * HOUR
"""Noon of a day, UTC; every story counts its time from here."""

SHIPPED = tuple(built_in_models().items())


def at(when):
    """So many milliseconds after the story's beginning."""
    return moment(NOON + when)


def happened(kind, event_id, when, /, *, recorded=None, **fields):
    """An event, recorded as it happened unless it came late."""
    recorded_at = at(when if recorded is None else recorded)
    given = {"event_id": event_id, "occurred_at": at(when), "recorded_at": recorded_at} | fields
    return EVENT_TYPE_BY_TAG[kind](**given)


class Time:
    """A timer goes off for every lead there is."""

    def __init__(self, when):
        self.when = when


class Publish:
    """A model comes into force; without a text it is retired."""

    def __init__(self, name, text, version, when, *, tenant=EVERY_TENANT, fire=False, folding=1):
        self.name, self.text, self.version, self.when = name, text, version, when
        self.tenant, self.fire, self.folding = tenant, fire, folding


class Settings:
    """Settings come into force."""

    def __init__(self, version, when, *, tenant=EVERY_TENANT, **settings):
        self.version, self.when, self.tenant, self.settings = version, when, tenant, settings


class PublishWorkflows:
    """A tenant's workflows come into force."""

    def __init__(self, text, version, when, *, tenant="default"):
        self.text, self.version, self.when, self.tenant = text, version, when, tenant


class ScheduleComes:
    """A moment of a workflow's schedule is recorded, perhaps some time after it came."""

    def __init__(self, number, when, *, recorded=None, tenant="default"):
        self.number, self.when, self.tenant = number, when, tenant
        self.recorded = when if recorded is None else recorded


class Story:
    """`when` goes on with the story and forgets what was said before; `then` compares what was said."""

    def __init__(self, models=SHIPPED):
        self.pipeline = Pipeline(models).fold_all()
        self.begin = 0

    def when(self, *happenings):
        self.begin = len(self.pipeline.said)
        for happening in happenings:
            match happening:
                case Time():
                    for key in sorted(self.pipeline.leads()):
                        self.pipeline.wake(key, NOON + happening.when)
                case Publish():
                    self.pipeline.publish(
                        happening.name,
                        happening.version,
                        happening.text,
                        NOON + happening.when,
                        fire=happening.fire,
                        tenant=happening.tenant,
                        folding=happening.folding,
                    )
                case Settings():
                    self.pipeline.publish_settings(
                        happening.tenant,
                        happening.version,
                        NOON + happening.when,
                        **happening.settings,
                    )
                case PublishWorkflows():
                    self.pipeline.publish_workflows(
                        happening.version,
                        happening.text,
                        NOON + happening.when,
                        tenant=happening.tenant,
                    )
                case ScheduleComes():
                    self.pipeline.schedule_comes(
                        happening.number,
                        NOON + happening.when,
                        NOON + happening.recorded,
                        tenant=happening.tenant,
                    )
                case event:
                    self.pipeline.produce(event)
            self.pipeline.fold_all()
        return self

    def statements(self, *kinds, model=None, lead=None):
        """What was said since the last `when`."""
        return [
            s
            for _, s in self.pipeline.said[self.begin :]
            if (not kinds or isinstance(s, kinds))
            and (model is None or getattr(s, "model", model) == model)
            and lead in (None, s.lead_id)
        ]

    def said(self, *kinds, model=None, lead=None):
        return [told(s) for s in self.statements(*kinds, model=model, lead=lead)]

    def then(self, *sentences, about=None, lead=None, kinds=()):
        """Exactly this was said, in this order; `about`: of models, this one only."""
        assert self.said(*kinds, model=about, lead=lead) == list(sentences)
        return self

    def lead(self, lead_id, tenant="default"):
        return self.pipeline.leads()[lead_key(tenant, lead_id)]

    def card(self, lead_id, tenant="default"):
        """The lead as the compacted topic has it; None after a tombstone."""
        return self.pipeline.cards[lead_key(tenant, lead_id)]

    def scores(self, lead_id, tenant="default"):
        return {name: score.total for name, score in self.card(lead_id, tenant).scores.items()}

    def stage(self, lead_id):
        return self.card(lead_id).stage


def given(*happenings, models=SHIPPED):
    return Story(models).when(*happenings)


def told(statement):
    """A statement as a sentence."""
    match statement:
        case say.ScoreChanged(lead_id=lead, model=model, previous=previous, total=total, lines=lines):
            return f"{lead}: {model} {previous:g} -> {total:g}: {', '.join(map(_line, lines))}"
        case say.BandChanged(lead_id=lead, model=model, band=band, previous=previous, crossed=crossed):
            fired = f", fires {' and '.join(crossed)}" if crossed else ""
            return (
                f"{lead}: {model} is {band}, was {previous}{fired}{' silently' if statement.silent else ''}"
            )
        case say.QualificationOverridden(lead_id=lead, model=model, band=band, previous=previous, by=by):
            return f"{lead}: {model} set to {band} by {by}, was {previous}"
        case say.StageEntered(lead_id=lead, stage=stage, previous=previous, reason=reason):
            return f"{lead}: {previous} -> {stage}: {reason}"
        case say.SessionScored(lead_id=lead, session_id=session, score=score, ended=ended):
            return f"{lead}: session {session} scores {score:g}, {'ended' if ended else 'open'}"
        case say.SessionRetracted(lead_id=lead, session_id=session):
            return f"{lead}: session {session} never was"
        case say.WorkflowTriggered(lead_id=lead, workflow_id=number, reason=reason, silenced_by=silenced_by):
            return f"{lead}: workflow {number}: {reason}{f', silent ({silenced_by})' if silenced_by else ''}"
        case say.EventApplied(event_id=event_id, outcome=outcome):
            return f"{event_id}: {outcome}"
    raise AssertionError(statement)


def _line(line):
    name = line.rule or line.group or line.kind
    kind = "" if line.kind in ("points", name) else f" ({line.kind})"
    return f"{name}{kind} {line.points:+g}"

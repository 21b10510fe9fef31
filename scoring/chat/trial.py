"""A chat with a flow that is not published: what it would say, which events it would record, and what they would score. Pure.

Nothing is recorded. The caller sends all steps of the chat each time, so no process has to remember it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from msgspec import json

from schemas.decode import read_event
from schemas.envelope import Event, tag_of
from schemas.events import QuestionsCompleted
from scoring.chat import conversation as chats
from scoring.chat.conversation import NO_EVENTS, ChatEvent, Conversation, Fields
from scoring.chat.flow import ChatFlow, FlowQuestion
from scoring.features.calendar import Calendar
from scoring.features.features import FeatureDelta, Features, evolve
from scoring.features.profile_fields import NO_DECLARED_FIELDS, FieldTypes
from scoring.features.signals import SignalCatalogue
from scoring.features.view import Subject
from scoring.models.model import Model, explain_score, score_lead
from scoring.models.points import MicroPoints
from scoring.models.score import Conclusion, ExplainedLine

VISITOR: Final = "preview"
STEP_MS: Final = 1_000
"""Between the events of a trial."""
MOST_OPTIONS_SCORED: Final = 200
"""Of a flow: each is a score of its own."""


class ScoringTerms(NamedTuple):
    """By what a trial is scored."""

    model: Model
    zone: Calendar
    idle_ms: int
    now_ms: int
    declared: FieldTypes = NO_DECLARED_FIELDS


class TrialScore(NamedTuple):
    conclusion: Conclusion
    lines: Sequence[ExplainedLine]


class ChatTrial(NamedTuple):
    """A chat so far. `events`: what would be recorded, in the fields of the log."""

    conversation: Conversation = NO_EVENTS
    events: tuple[Fields, ...] = ()

    def with_events(self, events: Iterable[Fields]) -> "ChatTrial":
        """A repetition is the same event, and counts once."""
        recorded_ids = {each["event_id"] for each in self.events}
        new = tuple(
            {each["event_id"]: each for each in events if each["event_id"] not in recorded_ids}.values()
        )
        recorded = tuple(ChatEvent(each["event_id"], each["type"], _about(each)) for each in new)
        return ChatTrial(Conversation(self.conversation.events + recorded), self.events + new)


def begun_trial() -> ChatTrial:
    return ChatTrial().with_events([chats.started({})])


def after_answer(
    trial: ChatTrial,
    flow: ChatFlow,
    question: FlowQuestion,
    answer: str | Sequence[str],
    seconds: float | None,
) -> ChatTrial:
    answered = trial.with_events(chats.answered(trial.conversation, flow, question, answer, seconds))
    numbers = answered.conversation.answered()
    complete = all(each.id in numbers for each in flow.questions)
    if complete and not answered.conversation.has(tag_of(QuestionsCompleted)):
        return answered.with_events([chats.completed()])
    return answered


def after_profile(trial: ChatTrial, profile: Mapping[str, Any]) -> ChatTrial:
    return trial.with_events(chats.contact_shared(trial.conversation, profile))


def after_action(trial: ChatTrial, action: str, metadata: Mapping[str, Any]) -> ChatTrial:
    return trial.with_events([chats.behaved(trial.conversation, action, metadata)])


def trial_score(trial: ChatTrial, terms: ScoringTerms) -> TrialScore:
    """Raises Refusal, if an event has a value that the log would not take."""
    subject = Subject(_features(_deltas(trial.events, terms)))
    end = terms.now_ms + len(trial.events) * STEP_MS
    return TrialScore(
        score_lead(terms.model, subject, end, terms.zone, terms.idle_ms),
        explain_score(terms.model, subject, end, terms.zone, terms.idle_ms),
    )


def option_points(
    trial: ChatTrial, flow: ChatFlow, question: FlowQuestion, terms: ScoringTerms
) -> list[MicroPoints]:
    """What each option would add to the score, by itself: without a bonus for a quick reply."""
    before = trial_score(trial, terms).conclusion.total
    return [
        trial_score(after_answer(trial, flow, question, [option], None), terms).conclusion.total - before
        for option in question.options[flow.language]
    ]


def flow_points(flow: ChatFlow, terms: ScoringTerms) -> dict[int, list[MicroPoints]]:
    """By question: what each option adds as the first answer of a chat. Questions beyond MOST_OPTIONS_SCORED are left out."""
    begun = begun_trial()
    points: dict[int, list[MicroPoints]] = {}
    scored = 0
    for question in flow.questions:
        scored += len(question.options[flow.language])
        if scored > MOST_OPTIONS_SCORED:
            break
        points[question.id] = option_points(begun, flow, question, terms)
    return points


def _about(event: Fields) -> str | None:
    return event.get("question_id") or event.get("name")


def _deltas(events: Sequence[Fields], terms: ScoringTerms) -> Iterator[FeatureDelta]:
    catalogue = SignalCatalogue.of([terms.model])
    for number, fields in enumerate(events):
        at = terms.now_ms + number * STEP_MS
        event = _event(fields, at)
        yield catalogue.feature_delta_of(event, at, terms.zone.day_of(at), terms.declared)


def _event(fields: Fields, at: int) -> Event:
    moment = datetime.fromtimestamp(at / 1000, UTC).isoformat()
    return read_event(json.encode({**fields, "visitor_id": VISITOR, "occurred_at": moment}))


def _features(deltas: Iterable[FeatureDelta]) -> Features:
    features = Features()
    for delta in deltas:
        evolve(features, delta)
    return features

"""Explanations are for people: of random leads by every built-in model, no line names what only a model's text knows, none
shows 0, and each number follows from the numbers beside it. The arithmetic here is that of a reader with a pencil.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from example_counts import scaled
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from leads_given import DAY_MS, IDLE, T0, features_of
from random_scoring import ACTS, histories, some_sessions

from authoring.active_models import ActiveRules
from gateway.api.lead_as_of import LeadAsOf, computed_scores
from leadstream.operations.explanations import (
    breakdown_lines,
    explained_score,
    hundredths,
    label_of_line,
    shown_lines,
)
from scoring.features.calendar import calendar
from scoring.features.features import put_session
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.model import Subject, all_models, compile_model
from scoring.models.phrase_words import words_of_phrase, words_of_step

MODELS = {name: compile_model(text) for name, text in all_models().items()}
RAW_NAME = re.compile(r"[a-z]+_[a-z_]+|profile\.|session\.|custom:")
"""As texts of models have them. Values of these histories have no underscore."""
PHRASE_OF_A_MACHINE = re.compile(r"at least \S+ and at most|rest of the mean|what the division leaves")
COUNTED = re.compile(r"(\d+) x (-?[\d.]+) points?(?:, capped at ([\d.]+))?")
RAW_POINTS = re.compile(r", (-?[\d.]+) points?$")
LIMIT = re.compile(r"the rules add up to (-?[\d.]+), and the score is never (?:below|above) (-?[\d.]+)")
AT_MOST = re.compile(r"(?:at most|never below) (-?[\d.]+) points for .+")
DECAY = re.compile(r"(\d+) full days? without an interaction, ([\d.]+) points each")
NO_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]
"""Histories are long, and a line shows what is wrong with it."""
HALF = Decimal("0.005")


def scores_of(events, sessions, stage, at):
    features = features_of(events, list(MODELS.values()))
    for session_id, session in sessions.items():
        put_session(features, session_id, session)
    active = ActiveRules(MODELS, calendar("UTC"), IDLE, built_in_lifecycle())
    row = {"fields": {}, "identities": 1}
    moment = datetime.fromtimestamp(at / 1000, UTC)
    lead = LeadAsOf(moment, row, Subject(features, stage), active, {}, (), (), (), None, "complete")
    return computed_scores(lead)


@settings(
    max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck), phases=NO_SHRINKING
)
@given(
    histories(max_size=60, acts=tuple(ACTS)),
    some_sessions(),
    st.sampled_from(["new", "qualified", "opportunity", "customer"]),
    st.integers(0, 100).map(lambda days: T0 + days * DAY_MS),
)
def test_every_line_is_clear_and_every_number_follows(events, sessions, stage, at):
    for name, score in scores_of(events, sessions, stage, at).items():
        explained = explained_score(name, score, MODELS[name])
        lines = shown_lines(explained.lines, explained.total)
        assert sum(line.points for line in lines) == hundredths(Decimal(str(score["total"])))
        for line in lines:
            assert line.points, "a line without an effect"
            text = f"{label_of_line(line)} {line.evidence}"
            assert not RAW_NAME.search(text), text
            assert not PHRASE_OF_A_MACHINE.search(text), text
            _follow(line, lines, explained.weights.get(line.group, Decimal(1)), explained.total)
        for shown in breakdown_lines(explained):
            assert not RAW_NAME.search(shown), shown
            assert not re.search(r"  [+-]?0(\.0+)?(  |$)", shown), shown


def _follow(line, lines, weight, total):
    if counted := COUNTED.fullmatch(line.evidence):
        raw = int(counted[1]) * Decimal(counted[2])
        raw = raw if counted[3] is None else min(raw, Decimal(counted[3]))
        assert abs(raw * weight - line.points) <= HALF, line
    elif raw_points := RAW_POINTS.search(line.evidence):
        assert abs(Decimal(raw_points[1]) * weight - line.points) <= HALF, line
    if line.evidence.endswith(" in each visit"):
        return  # a mean of what the limit took of each visit
    if line.kind == "limit":
        before, bound = LIMIT.fullmatch(line.evidence).groups()
        assert abs(Decimal(bound) - Decimal(before) - line.points) <= HALF, line
    elif line.kind == "group cap":
        bound = Decimal(AT_MOST.fullmatch(line.evidence)[1]) * weight
        mine = sum(each.points for each in lines if each.group == line.group)
        assert abs(mine - bound) <= len(lines) * HALF, line
    elif line.kind == "decay":
        days, each = DECAY.fullmatch(line.evidence).groups()
        assert abs(int(days) * Decimal(each) + line.points) <= HALF or not total, line


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("email_opens_count", "e-mails opened"),
        ("last_activity_days_ago", "days since the last interaction"),
        ("days_since_creation", "days since it was first seen"),
        ("hours since email_opened", "hours since the last e-mail opened"),
        ("demo_requested in 90 days", "demo requested within 90 days"),
        ("custom:trial_begun in 1 day", "trial begun within 1 day"),
        ("trend of page_viewed over 14 days", "trend of page viewed over 14 days"),
        ("sum of purchase:EUR", "purchases in EUR"),
        ("profile.company_size", "company size"),
        ("session.important_clicks", "important clicks"),
    ],
)
def test_a_phrase_in_words(phrase, words):
    assert words_of_phrase(phrase) == words


def test_a_step_in_words():
    assert words_of_step("page_viewed:/pricing") == "page viewed /pricing"
    assert words_of_step("custom:trial_begun") == "trial begun"

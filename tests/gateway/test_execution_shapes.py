"""What became of an execution, in words, for every status and every reason to be silent."""

from typing import get_args

import pytest

from gateway.api.execution_shapes import outcome_text
from projections.workflow_queries import EXECUTION_STATUSES, SILENCED_BY_AGE, SILENT_STATUS
from schemas.statements import SilencedBy


def row(status, silenced_by=None, error=None, attempts=0):
    return {"status": status, "silenced_by": silenced_by, "last_error": error, "attempts": attempts}


@pytest.mark.parametrize("status", [each for each in EXECUTION_STATUSES if each != SILENT_STATUS])
def test_every_status_has_words_and_says_the_error(status):
    assert outcome_text(row(status))
    assert "  " not in outcome_text(row(status, error="the receiver answers with status 500"))


@pytest.mark.parametrize("reason", [*filter(None, get_args(SilencedBy)), SILENCED_BY_AGE])
def test_every_reason_to_be_silent_has_words_of_its_own(reason):
    others = {
        outcome_text(row("silent", each)) for each in [*filter(None, get_args(SilencedBy))] if each != reason
    }
    assert outcome_text(row("silent", reason)) not in others


def test_attempts_are_counted_in_words():
    assert (
        outcome_text(row("dead", error="it answers 500", attempts=16))
        == "given up after 16 attempts: it answers 500"
    )
    assert outcome_text(row("failed", attempts=1)) == "failed after 1 attempt, and is tried again"

"""A backtest fits its archive, or says in plain words why the archive cannot answer."""

from datetime import UTC, datetime, timedelta

import pytest

from leadstream.console import Failure
from leadstream.evaluation.backtest_plan import (
    ArchiveSurvey,
    LeadsOfEvent,
    RequestedPlan,
    options_of,
    plan_of,
)

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def archive(span=timedelta(days=90), leads=147, left_out=0, **doers):
    """Every lead has a page view at the beginning and at the end; `doers` leads did something else."""
    kinds = {"page_viewed": leads, **doers}
    return ArchiveSurvey(
        leads, left_out, {kind: LeadsOfEvent(count, BEGIN, BEGIN + span) for kind, count in kinds.items()}
    )


@pytest.mark.parametrize(
    ("survey", "options"),
    [
        (
            archive(purchase_made=20, demo_requested=40),
            "--conversion purchase_made --every 14d --horizon 14d --capacity 14",
        ),
        (
            archive(purchase_made=9, demo_requested=40),
            "--conversion demo_requested --every 14d --horizon 14d --capacity 14",
        ),
        (
            archive(purchase_made=2, form_submitted=3, leads=5),
            "--conversion form_submitted --every 14d --horizon 14d --capacity 1",
        ),
        (
            archive(span=timedelta(days=3_650), purchase_made=500, leads=9_000),
            "--conversion purchase_made --every 30d --horizon 30d --capacity 50",
        ),
        (
            archive(span=timedelta(hours=31), purchase_made=20),
            "--conversion purchase_made --every 6h --horizon 6h --capacity 14",
        ),
    ],
    ids=["enough purchases", "too few purchases", "few of anything", "ten years", "a day"],
)
def test_defaults_fit_the_conversions_and_the_time_span_of_the_archive(survey, options):
    assert options_of(plan_of(survey, RequestedPlan())) == options


def test_what_the_user_names_is_kept():
    wishes = RequestedPlan("stage:customer", 2 * HOUR, 48 * HOUR, 7, anonymous=True)
    assert options_of(plan_of(archive(), wishes)) == (
        "--conversion stage:customer --every 2h --horizon 2d --capacity 7"
    )
    assert options_of(plan_of(archive(purchase_made=10), RequestedPlan(every=36 * HOUR))) == (
        "--conversion purchase_made --every 36h --horizon 36h --capacity 14"
    )


@pytest.mark.parametrize(
    ("survey", "wishes", "words"),
    [
        (
            ArchiveSurvey(0, 960, {}),
            RequestedPlan(),
            r"Nobody is identified .* 960 anonymous visitors\. --anonymous",
        ),
        (ArchiveSurvey(0, 0, {}), RequestedPlan(), "no leads to rank.*leadstream demo"),
        (archive(), RequestedPlan(), r"none of 147 leads has purchase_made, .* page_viewed \(147\)"),
        (
            archive(),
            RequestedPlan("purchase_made"),
            r"none of 147 leads has the event purchase_made\. .*--conversion",
        ),
        (archive(span=timedelta(hours=3), purchase_made=9), RequestedPlan(), "too short .* within 3 hours"),
        (archive(span=timedelta(seconds=5), purchase_made=9), RequestedPlan(), "too short .* within 1 min"),
        (archive(), RequestedPlan("luck"), "'luck' is not a conversion"),
    ],
)
def test_an_archive_that_cannot_answer_is_refused_with_what_to_do(survey, wishes, words):
    with pytest.raises(Failure, match=words):
        plan_of(survey, wishes)


def test_the_first_cutoff_comes_after_the_first_event_of_those_who_are_ranked():
    assert plan_of(archive(purchase_made=10), RequestedPlan()).begin == 1_893_456_000_000  # 2030-01-01

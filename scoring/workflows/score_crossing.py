"""When a score sets off a workflow: once, and again only after it has moved back by some points.

Rounded totals are compared. Attached and detached identities and redirects move scores, too: they may take a score up
through a threshold, but a drop that they cause arms nothing again and fires no fall. So merges and splits alone never
fire a workflow twice.
"""

from scoring.workflows.workflow import ScoreFallTrigger, ScoreRiseTrigger

ScoreTrigger = ScoreRiseTrigger | ScoreFallTrigger


def crosses(trigger: ScoreTrigger, before: int, after: int, *, reassigned: bool) -> bool:
    """Does a total that goes from `before` to `after` pass the threshold? `reassigned`: an identity caused it."""
    match trigger:
        case ScoreRiseTrigger(score=score):
            return before < score <= after
        case ScoreFallTrigger(score=score):
            return after < score <= before and not reassigned


def rearms(trigger: ScoreTrigger, before: int, after: int, *, reassigned: bool) -> bool:
    """Has the total moved back far enough?"""
    match trigger:
        case ScoreRiseTrigger(score=score, rearm=rearm):
            return after <= score - max(rearm, 1) < before and not reassigned
        case ScoreFallTrigger(score=score, rearm=rearm):
            return before < score + rearm <= after


def passed_already(trigger: ScoreTrigger, total: int) -> bool:
    """Is a lead with this total beyond the threshold when the workflow is published? Then it has to move back first."""
    return isinstance(trigger, ScoreRiseTrigger) and total >= trigger.score

"""A sequential reading of the rules on workflows that wait for a score.

It knows the ledger that each lead's `score_changed` statements make, and nothing of the fold: no state, no timers, no
messages. Scores are rounded half up, as boards show them.
"""

import tomllib
from decimal import ROUND_HALF_UP, Decimal

from schemas import statements as say

MOVED = ("attached:", "detached:", "redirect:")


def rounded(points):
    return int(Decimal(repr(points)).quantize(Decimal(1), ROUND_HALF_UP))


def fired_by_ledger(pipeline, text, retirements=()):
    """[(lead, workflow, cause)] in the order in which they were said, while one text of workflows is active.

    An identity that comes may take a score up; `attached:` is also the cause of an identity's first record without an
    event. A model that is retired scores nobody: that is no fall, and what waits for its score begins again;
    `retirements` are the causes that these have.
    """
    workflows = [
        workflow
        for workflow in tomllib.loads(text)["workflow"]
        if workflow["trigger"]["type"] in {"score_threshold", "score_falls"}
    ]
    workflows.sort(key=lambda each: (-each.get("priority", 0), each["id"]))
    disarmed, fired = set(), []
    for _, statement in pipeline.said:
        if not isinstance(statement, say.ScoreChanged):
            continue
        lead = statement.lead_id
        was, now = rounded(statement.previous), rounded(statement.total)
        moved = statement.caused_by.startswith(MOVED)
        for workflow in workflows:
            trigger = workflow["trigger"]
            if trigger["model"] != statement.model or (
                lead.startswith("anon:") and not workflow.get("anonymous")
            ):
                continue
            if statement.caused_by in retirements:
                disarmed.discard((lead, workflow["id"]))
                continue
            score, rearm, mark = trigger["score"], trigger.get("rearm", 5), (lead, workflow["id"])
            if trigger["type"] == "score_threshold":
                passes = was < score <= now
                returns = now <= score - rearm < was and not moved
            else:
                passes = now < score <= was and not moved
                returns = was < score + rearm <= now
            if passes and mark not in disarmed:
                disarmed.add(mark)
                fired.append((lead, workflow["id"], statement.caused_by))
            elif returns:
                disarmed.discard(mark)
    return fired

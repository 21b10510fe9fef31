"""The lifecycle: which stage a lead is in, and what moves it on.

Automatic moves go forward only; a person's move wins, and later acts may advance from it, never
reverse it. Pure: given features, the qualification and a moment.
"""

from msgspec import Struct

from scoring.features import Features

FUNNEL = ("new", "contacted", "qualified", "engaged", "opportunity", "customer")
RANK = {stage: rank for rank, stage in enumerate(FUNNEL)} | {
    "recycled": 0,
    "disqualified": 0,
    "lost": 0,
    "churned": len(FUNNEL),
}
CHURN_AFTER = 180 * 86_400_000
CONTACTS = ("email_sent", "sms_sent", "call_made")
REPLIES = ("email_replied", "sms_replied", "message_received", "form_submitted")
MEETINGS = ("meeting_scheduled", "demo_requested")
NEVER = 1 << 62


class Position(Struct, array_like=True, gc=False):
    """Where a lead stands: its stage, since when, when it qualified, and the last move by a person
    that was obeyed (occurred_at, event_id).
    """

    stage: str = "new"
    entered_at: int = 0
    qualified_at: int = -1
    obeyed: tuple[int, str] = (-1, "")


def further(a: str, b: str) -> str:
    """The stage further along; the first one when they are level."""
    return b if RANK.get(b, 0) > RANK.get(a, 0) else a


def obey(position: Position, features: Features, *, merged: bool) -> tuple[str, str] | None:
    """(stage, reason) if a person moved the lead since; on a merge only if that is further along."""
    move = features.fields.get("manual_stage")
    if move is None or (move[0], move[1]) <= tuple(position.obeyed):
        return None
    position.obeyed = (move[0], move[1])
    stage = str(move[2])
    if merged:
        stage = further(position.stage, stage)
    return None if stage == position.stage else (stage, "moved by a person")


def advance(position: Position, features: Features, *, qualified: bool, as_of: int) -> tuple[str, str] | None:
    """The next automatic step as (stage, reason), or None at the fixpoint."""
    stage, rank = position.stage, RANK.get(position.stage, 0)
    signals = features.signals

    def last(names: tuple[str, ...]) -> int:
        return max((signals[name].last for name in names if name in signals), default=-1)

    if stage in FUNNEL:
        if stage != "customer" and "purchase_made" in signals:
            return "customer", "purchase"
        after = position.qualified_at
        if 2 <= rank < 4 and after >= 0 and last(MEETINGS) > after:
            return "opportunity", "meeting or demo after qualifying"
        if rank == 2 and after >= 0 and last(REPLIES) > after:
            return "engaged", "reply or form after qualifying"
        if rank < 2 and qualified:
            return "qualified", "rules reached mql"
        if rank < 1 and any(name in signals for name in CONTACTS):
            return "contacted", "e-mail, SMS or call to the lead"
        if stage == "customer" and as_of >= churns_at(position, features):
            return "churned", "no interaction for 180 days"
    elif last(("purchase_made",)) > position.entered_at:
        return "customer", "purchase"
    return None


def churns_at(position: Position, features: Features) -> int:
    """When time alone moves the lead on; NEVER if it does not."""
    if position.stage != "customer":
        return NEVER
    interaction = features.signals.get("interaction")
    return (interaction.last if interaction else position.entered_at) + CHURN_AFTER

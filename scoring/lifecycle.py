"""The lifecycle: which stage a lead is in, and what moves it on.

Automatic moves go forward only; a person's move wins, and later acts may advance from it, never
reverse it. Pure: given features, the qualification and a moment.
"""

from msgspec import Struct

from schemas.events import Stage
from scoring.features import Features
from scoring.points import INF

FUNNEL: tuple[Stage, ...] = ("new", "contacted", "qualified", "engaged", "opportunity", "customer")
RANK: dict[Stage, int] = {stage: rank for rank, stage in enumerate(FUNNEL)} | {
    "recycled": 0,
    "disqualified": 0,
    "lost": 0,
    "churned": len(FUNNEL),
}
CHURN_AFTER = 180 * 86_400_000
CONTACTS = ("email_sent", "sms_sent", "call_made")
REPLIES = ("email_replied", "sms_replied", "message_received", "form_submitted")
MEETINGS = ("meeting_scheduled", "demo_requested")
PURCHASES = ("purchase_made",)


class Position(Struct, array_like=True, gc=False):
    """Where a lead stands: its stage, since when, when it qualified, and the last move by a person
    that was obeyed (occurred_at, event_id).
    """

    stage: Stage = "new"
    entered_at: int = 0
    qualified_at: int = -1
    obeyed: tuple[int, str] = (-1, "")
    armed: bool = True
    """The rules may qualify it: since a person's move they have said once that it does not qualify."""


def enter(position: Position, stage: Stage, at: int) -> None:
    """The lead is in `stage` since `at`; whoever is that far has qualified."""
    position.stage, position.entered_at = stage, at
    if position.qualified_at < 0 and RANK[stage] >= RANK["qualified"]:
        position.qualified_at = at


def further(a: Stage, b: Stage) -> Stage:
    """The stage further along; the first one when they are level."""
    return b if RANK.get(b, 0) > RANK.get(a, 0) else a


def obey(position: Position, features: Features, *, merged: bool) -> tuple[Stage, str] | None:
    """(stage, reason) if a person moved the lead since; on a merge only if that is further along."""
    move = features.fields.get("manual_stage")
    if move is None or (move[0], move[1]) <= tuple(position.obeyed) or move[2] not in RANK:
        return None
    position.obeyed = (move[0], move[1])
    position.armed = False
    stage = move[2]
    if merged:
        stage = further(position.stage, stage)
    return None if stage == position.stage else (stage, "moved by a person")


def advance(
    position: Position, features: Features, *, qualified: bool, as_of: int
) -> tuple[Stage, str] | None:
    """The next automatic step as (stage, reason), or None at the fixpoint.

    What a person's move had seen already is no reason to undo it: only later acts count.
    """
    stage, rank = position.stage, RANK[position.stage]
    signals = features.signals
    since = position.obeyed[0]
    position.armed = position.armed or not qualified

    def happened(names: tuple[str, ...], after: int) -> bool:
        return any(name in signals and signals[name].last > after for name in names)

    if stage not in FUNNEL:
        back = happened(PURCHASES, max(since, position.entered_at))
        return ("customer", "purchase") if back else None
    if stage == "customer":
        gone = as_of >= churns_at(position, features)
        return ("churned", "no interaction for 180 days") if gone else None
    if happened(PURCHASES, since):
        return "customer", "purchase"
    if 2 <= rank < 4 and position.qualified_at >= 0:
        after = max(since, position.qualified_at)
        if happened(MEETINGS, after):
            return "opportunity", "meeting or demo after qualifying"
        if rank == 2 and happened(REPLIES, after):
            return "engaged", "reply or form after qualifying"
    if rank < 2 and qualified and position.armed:
        return "qualified", "rules reached mql"
    if rank < 1 and happened(CONTACTS, since):
        return "contacted", "e-mail, SMS or call to the lead"
    return None


def churns_at(position: Position, features: Features) -> int:
    """When time alone moves the lead on; INF if it does not."""
    if position.stage != "customer":
        return INF
    interaction = features.signals.get("interaction")
    return (interaction.last if interaction else position.entered_at) + CHURN_AFTER

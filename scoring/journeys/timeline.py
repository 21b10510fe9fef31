"""Everything that happened to a lead, in one order: events, scores, stages, workflows, merges and splits. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from scoring.analytics.facts import EventFact, ExecutionFact, LeadFacts, OwnerFact, ScoreFact, StageFact

TimelineKind = Literal["merged", "event", "score", "stage", "split", "workflow"]
ORDER_WITHIN_A_MOMENT: Final[dict[TimelineKind, int]] = {
    "merged": 0,
    "event": 1,
    "score": 2,
    "stage": 3,
    "split": 4,
    "workflow": 5,
}
TimelineKey = tuple[int, ...]
KEY_LENGTH: Final = 5


class TimelineItem(NamedTuple):
    """`key` sorts items and names each: the moment, the kind, the place in the log. An event is at its own time, all else
    at the lead's clock.
    """

    key: TimelineKey
    kind: TimelineKind
    at: int
    fact: EventFact | ScoreFact | StageFact | OwnerFact | ExecutionFact
    other_lead: str | None = None
    """Of a merge the lead that the identity came from, of a split the one that it went to."""


def timeline_of(facts: LeadFacts, executions: Sequence[ExecutionFact] = ()) -> list[TimelineItem]:
    """Every item, the oldest first."""
    items = [
        _item("event", event.occurred_at, event, event.partition, event.position) for event in facts.events
    ]
    items += [_item("score", change.at, change, change.position) for change in facts.scores]
    items += [_item("stage", entry.at, entry, entry.position) for entry in facts.stages]
    items += [_item("workflow", each.at, each, each.execution_id) for each in executions]
    return sorted(items + _moves(facts), key=lambda item: item.key)


def page_before(
    items: Sequence[TimelineItem], limit: int, before: TimelineKey | None
) -> tuple[list[TimelineItem], TimelineKey | None]:
    """The latest items before a key, the newest first, and the key from which the next page goes on."""
    older = [item for item in reversed(items) if before is None or item.key < before]
    page = older[:limit]
    return page, page[-1].key if len(older) > limit else None


def _item(kind: TimelineKind, at: int, fact: Any, *order: int, other_lead: str | None = None) -> TimelineItem:
    key = (at, ORDER_WITHIN_A_MOMENT[kind], *order)
    return TimelineItem((*key, *[0] * (KEY_LENGTH - len(key))), kind, at, fact, other_lead)


def _moves(facts: LeadFacts) -> list[TimelineItem]:
    """Identities that came from another lead, or went to one."""
    owners: defaultdict[int, list[OwnerFact]] = defaultdict(list)
    for owner in facts.owners:
        owners[owner.identity_key].append(owner)
    items = []
    for epochs in owners.values():
        ordered = sorted(epochs, key=lambda owner: owner.epoch)
        for before, after in pairwise(ordered):
            kind: TimelineKind
            if after.lead_id == facts.lead_id != before.lead_id:
                kind, other = "merged", before.lead_id
            elif before.lead_id == facts.lead_id != after.lead_id:
                kind, other = "split", after.lead_id
            else:
                continue
            order = (after.partition, after.position, after.identity_key)
            items.append(_item(kind, after.recorded_at, after, *order, other_lead=other))
    return items

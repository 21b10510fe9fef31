"""The merges of a lead in words: of it, into it, and in a circle."""

from collections.abc import Iterator

from gateway.api.lead_merges import LeadMerge, LeadMerges
from leadstream.operations.explanations import ExplanationClock

MERGES_SHOWN = 5


def merge_lines(merges: LeadMerges, lead_id: str, clock: ExplanationClock) -> Iterator[str]:
    """`lead_id`: the lead whose merges they are."""
    if merges.circle:
        others = " and ".join(sorted(set(merges.circle) - {lead_id}))
        yield f"  Merged in a circle with {others}: this lead stays, since its id is the smallest"
    for merge in merges.merges[:MERGES_SHOWN]:
        yield f"  {_merge_in_words(merge, lead_id, clock)}"
    if (more := len(merges.merges) - MERGES_SHOWN) > 0:
        yield f"  and {more} earlier merges"


def _merge_in_words(merge: LeadMerge, lead_id: str, clock: ExplanationClock) -> str:
    went, stayed = ("It", merge.into) if merge.lead_id == lead_id else (merge.lead_id, "it")
    over = "" if merge.until is None else f", until {clock.date(merge.until)}"
    return f"{went} was merged into {stayed} on {clock.date(merge.at)}{over}"

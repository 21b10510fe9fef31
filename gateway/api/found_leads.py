"""The lead that a request names: refusals where there is none, or where it was merged, and ids as callers know them."""

from collections.abc import Sequence

from gateway.answers import RequestProblem
from gateway.store import Row, StoreSnapshot
from projections.queries import lead as select_lead
from projections.queries import refuses_profiling
from scoring.features.identity import LONGEST_PATH

LARGEST_ID = 2**53
REFUSED_REASON = "the lead does not wish to be scored: its profile field profiling_consent is false"


def lead_id_as_sent(lead_id: str) -> str | int:
    """A lead's id as a number, where it is one exactly: some callers number their leads."""
    number = int(lead_id) if lead_id.isascii() and lead_id.isdigit() and len(lead_id) <= 16 else None
    return lead_id if number is None or number > LARGEST_ID or str(number) != lead_id else number


def merged_into(lead: Row) -> str | int | None:
    """The lead that this one was merged into, in the form of the id beside it."""
    return lead_id_as_sent(lead["redirect"]) if was_merged(lead) else None


def was_merged(lead: Row) -> bool:
    """It belongs to another lead now. Of leads that are merged in a circle, one stays: it has the identities of all."""
    return lead["redirect"] is not None and lead["identities"] == 0


async def redirects_from(ask: StoreSnapshot, tenant: str, lead: Row) -> dict[str, str | None]:
    """Lead -> the lead that it was merged into, of this one and of those that follow."""
    redirects: dict[str, str | None] = {}
    current: Row | None = lead
    while (
        current is not None
        and current["redirect"] is not None
        and current["lead_id"] not in redirects
        and len(redirects) <= LONGEST_PATH
    ):
        redirects[current["lead_id"]] = current["redirect"]
        current = next(iter(await ask(select_lead(tenant, current["redirect"]))), None)
    return redirects


def found_lead(rows: Sequence[Row]) -> Row:
    """Problem 404 if there is none."""
    if not rows:
        raise RequestProblem(404, "no lead has this id", field="lead_id")
    return rows[0]


def found_unmerged_lead(rows: Sequence[Row], remedy: str) -> Row:
    """Problem 409 if it was merged into another; `remedy` is what to do with that one, such as "calculate that"."""
    lead = found_lead(rows)
    if was_merged(lead):
        raise RequestProblem(409, merged_reason(lead, remedy), field="lead_id")
    return lead


def found_scorable_lead(rows: Sequence[Row], remedy: str) -> Row:
    """As `found_unmerged_lead`; problem 409 also if the lead objects to profiling."""
    lead = found_unmerged_lead(rows, remedy)
    if refuses_profiling(lead):
        raise RequestProblem(409, REFUSED_REASON, field="lead_id")
    return lead


def merged_reason(lead: Row, remedy: str) -> str:
    return f"the lead was merged into {lead['redirect']}: {remedy}"

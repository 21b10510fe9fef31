"""What a search for leads looks in: everything that a row of the call list says of one, in a narrow table of its own.

A search reads every row of it, since any part of a word may be looked for. So each row is short: 100,000 of them are some
25 MB. No I/O.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Select, and_, or_, select, true

from projections.rows import LeadRow
from projections.tables import lead_search
from schemas.statements import LeadScored
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.profile_fields import BUDGET_FIELDS, PROPERTY_FIELDS
from scoring.features.texts import fold_text

LONGEST_PART = 320
"""Characters of each value that are searched: no search is longer."""


def search_text_of(lead: LeadRow, statement: LeadScored) -> str:
    fields = statement.fields
    wishes = (fields.get(name) for name in (*BUDGET_FIELDS, *PROPERTY_FIELDS))
    own = (lead.name, lead.email, lead.phone, lead.lead_id, lead.company, lead.assigned_to)
    named = (lead.stage, (statement.last_event or "").removeprefix(CUSTOM_PREFIX))
    parts = [
        *own,
        *statement.other_addresses,
        *(each.replace("_", " ") for each in named),
        *map(_text_of_wish, wishes),
    ]
    return text_of_parts(filter(None, parts))


def text_of_parts(parts: Iterable[str]) -> str:
    """Each part in its folded form, on a line of its own."""
    return "".join(f"\n{fold_text(part[:LONGEST_PART])}" for part in parts) + "\n"


def _text_of_wish(value: object) -> str | None:
    """A number without a point that says nothing: 2500000.0 is shown as 2500000."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def select_found(
    tenant: str, search: str, addresses: Sequence[str], *, limit: int | None = None
) -> Select[tuple[int]]:
    """(lead_key) of the leads whose row says every word of the search, as a part of a word, or has one of these addresses. A blank search finds
    everybody.
    """
    text = lead_search.c.text
    # Rows of an earlier version, of leads that nobody has scored since, have only their capital letters folded.
    forms = {tuple(form.split()) for form in (fold_text(search), search.casefold())}
    matches = [
        and_(true(), *(text.contains(word, autoescape=True) for word in words)) for words in sorted(forms)
    ]
    matches += [text.contains(f"\n{fold_text(each)}\n", autoescape=True) for each in addresses]
    return select(lead_search.c.lead_key).where(lead_search.c.tenant == tenant, or_(*matches)).limit(limit)

"""The stored state of a tenant's leads, read beside a running server."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from projections.connection import Connection
from streams.score_leads.lead_state import LeadState

LEADS_PER_PROGRESS = 500
"""Leads between two reports of progress: a few milliseconds."""
_PAGE_ROWS = 4_000


def stored_parts(connection: Connection, tenant: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, parts) of each lead."""
    with connection.cursor(name="stored_leads", binary=True) as cursor:
        cursor.itersize = _PAGE_ROWS
        cursor.execute(
            "select key, part, value from lead_parts where key >= %s and key < %s order by partition, key",
            (f"{tenant}/l/", f"{tenant}/l0"),
        )
        for key, rows in groupby(cursor, key=itemgetter(0)):
            yield key, {part: value for _, part, value in rows}


def stored_leads(connection: Connection, tenant: str) -> Iterator[LeadState]:
    """Each lead that has an identity and is projected whole."""
    for key, parts in stored_parts(connection, tenant):
        if len(parts) > 1 and "head" in parts:
            yield LeadState(key, parts)

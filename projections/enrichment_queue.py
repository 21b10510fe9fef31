"""Notes of which persons a live event may have given a new address: delivery asks sources of enrichment about them.

Only the live projection adds rows, in the transaction of the event's own row. A rebuild and a restatement add none, nor do
imported events and those that come late. A person has one row, however much they do.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, LiteralString, cast

import psycopg

from projections.rows import EngagementRow, Row

ENRICHMENT_SOURCE: Final = "enrichment"
"""The source of the events that enrichment makes itself."""
ADDRESS_EVENTS: Final = frozenset(
    {"contact_shared", "form_submitted", "profile_updated", "question_answered", "lead_identified"}
)
OLDEST: Final = timedelta(hours=24)
_ADD: Final[LiteralString] = """
  insert into public.enrichment_queue (identity_key, tenant, noticed_at, next_at, attempts)
  select distinct on (identity_key) identity_key, tenant, now(), now(), 0
  from unnest(%b::int8[], %b::text[]) as noticed (identity_key, tenant) order by identity_key
  on conflict (identity_key) do update set noticed_at = excluded.noticed_at, next_at = excluded.next_at, attempts = 0
"""


def digest_of_key(tenant: str, key: str) -> str:
    """Names an e-mail address, a phone number or a domain in the cache, which has none of them in clear."""
    return blake2b(f"{tenant}\n{key.strip().lower()}".encode(errors="replace"), digest_size=20).hexdigest()


def note_addresses(cursor: psycopg.Cursor[Any], engagements: Iterable[Row]) -> None:
    """Of rows that this transaction has written into `live.engagement_history`."""
    oldest = datetime.now(UTC) - OLDEST
    noted = [
        row
        for row in cast("Iterable[EngagementRow]", engagements)
        if row.type in ADDRESS_EVENTS
        and not row.imported
        and not row.late
        and row.source != ENRICHMENT_SOURCE
        and row.recorded_at > oldest
    ]
    if noted:
        cursor.execute(_ADD, ([row.identity_key for row in noted], [row.tenant for row in noted]))

"""The recalculation of every lead: nightly at 02:00 of the tenant's clocks, or when an operator asks for it.

It computes scores and stages again from the stored features and reports what differs. It changes no lead: what differs is a
fault, and `leadstream restate` computes everything from the events again.

1. A night that has come gets a row in `public.recalculations`, once.
2. A page of leads is compared, and its end and what differs are written in one transaction, under a lock of the row. So any
   number of gateways share the work, and after a crash it goes on behind the last page.
3. While a publication is being swept, leads are between two rules: then it waits.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from leadstream.active_models import active_by_shard
from projections.connection import Connection, connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.moment import millis, moment
from scoring.models.active import ActiveModels
from scoring.models.points import ONE_POINT
from scoring.workflows.schedule import latest_moment, parse_schedule
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState
from streams.score_leads.recalculation import LeadDifference, differences_of_lead
from streams.score_leads.stage import ScoreLeads

NIGHTLY: Final = parse_schedule("0 2 * * *")
PAGE_LEADS: Final = 200
"""Leads of one transaction: a few tens of milliseconds."""
MOST_NAMED: Final = 100
"""Differences that a recalculation names; it counts all."""
MOST_KEPT: Final = 30
"""Recalculations of a tenant that are remembered."""
LOOKS: Final = 3
"""So often a lead that differs is read again: its parts may have been projected one after the other."""

_TENANTS: Final = """
with recursive each(tenant) as (
    (select tenant from leads order by tenant limit 1)
    union all
    select (select l.tenant from leads l where l.tenant > each.tenant order by l.tenant limit 1) from each
    where each.tenant is not null
)
select tenant from each where tenant is not null"""
_PAGE: Final = """
select partition, key, part, value from lead_parts
where (partition, key) in (
    select distinct partition, key from lead_parts
    where key >= %(begin)s and key < %(end)s and (partition, key) > (%(partition)s, %(key)s)
    order by partition, key limit %(limit)s)
order by partition, key"""


class RecalculationStatus(NamedTuple):
    """How far a recalculation is."""

    tenant: str
    scheduled_for: datetime
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    checked: int
    differing: int
    differences: list[dict[str, Any]]


class _Page(NamedTuple):
    last: tuple[int, str] | None
    """(partition, key) of its last lead; None: there are no more."""
    checked: int
    differences: list[LeadDifference]


def begin_recalculation(
    connection: Connection, tenant: str, scheduled_for: datetime, by: str, now: datetime
) -> None:
    """Again it changes nothing."""
    connection.execute(
        "insert into public.recalculations (tenant, scheduled_for, started_by, started_at, partition, key, checked, differing, "
        "differences) values (%s, %s, %s, %s, -1, '', 0, 0, '[]') on conflict do nothing",
        (tenant, scheduled_for, by, now),
    )
    connection.commit()


def recalculate(
    database_url: str, tenant: str, scheduled_for: datetime, now: datetime
) -> Iterator[RecalculationStatus]:
    """Does one page after the other and yields how far it is, until it has ended, has to wait, or another process does a page."""
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        while True:
            shards = active_by_shard(database_url, stage=ScoreLeads.name)
            if any(shard.sweep is not None for shard in shards):
                return
            status = _advance(connection, database_url, shards, tenant, scheduled_for, now)
            if status is None:
                return
            yield status
            if status.ended_at is not None:
                return


def _advance(
    connection: Connection,
    database_url: str,
    shards: list[ActiveModels],
    tenant: str,
    scheduled_for: datetime,
    now: datetime,
) -> RecalculationStatus | None:
    """One page, in one transaction; None: there is nothing to do here."""
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "select * from public.recalculations where tenant = %s and scheduled_for = %s and ended_at is null "
            "for update skip locked",
            (tenant, scheduled_for),
        ).fetchone()
        if row is None:
            return None
        page = _compared(
            connection, database_url, shards, tenant, (row["partition"], row["key"]), millis(now)
        )
        named = [*row["differences"], *map(_difference_json, page.differences)][:MOST_NAMED]
        partition, key = page.last or (row["partition"], row["key"])
        differing = row["differing"] + len({each.lead_id for each in page.differences})
        written = cursor.execute(
            "update public.recalculations set partition = %s, key = %s, checked = %s, differing = %s, differences = %s, "
            "ended_at = case when %s then clock_timestamp() end where tenant = %s and scheduled_for = %s returning ended_at",
            (
                partition,
                key,
                row["checked"] + page.checked,
                differing,
                Jsonb(named),
                page.last is None,
                tenant,
                scheduled_for,
            ),
        ).fetchone()
        ended_at = None if written is None else written["ended_at"]
        if ended_at is not None:
            cursor.execute(
                "delete from public.recalculations where tenant = %s and scheduled_for not in (select scheduled_for "
                "from public.recalculations where tenant = %s order by scheduled_for desc limit %s)",
                (tenant, tenant, MOST_KEPT),
            )
    return RecalculationStatus(
        tenant,
        scheduled_for,
        row["started_by"],
        row["started_at"],
        ended_at,
        row["checked"] + page.checked,
        differing,
        named,
    )


def _compared(
    connection: Connection,
    database_url: str,
    shards: list[ActiveModels],
    tenant: str,
    after: tuple[int, str],
    at: int,
) -> _Page:
    leads = _leads_after(connection, tenant, after, PAGE_LEADS)
    differences: list[LeadDifference] = []
    for stored_key, parts in leads.items():
        of_lead = _differences(shards, stored_key, parts, at)
        for _ in range(LOOKS):
            if not of_lead:
                break
            shards = active_by_shard(database_url, stage=ScoreLeads.name)
            of_lead = _differences(shards, stored_key, _parts_of(connection, stored_key), at)
        differences += of_lead
    return _Page(max(leads, default=None) if len(leads) == PAGE_LEADS else None, len(leads), differences)


def _differences(
    shards: list[ActiveModels], stored_key: tuple[int, str], parts: dict[str, bytes], at: int
) -> list[LeadDifference]:
    partition, key = stored_key
    if "head" not in parts or partition >= len(shards) or shards[partition].sweep is not None:
        return []
    tenant, shard = key.partition("/")[0], shards[partition]
    rules = LeadRules(shard.settings_of(tenant), shard.models_of(tenant), shard.workflows.get(tenant))
    return differences_of_lead(LeadState(key, parts), rules, at)


def _leads_after(
    connection: Connection, tenant: str, after: tuple[int, str], limit: int
) -> dict[tuple[int, str], dict[str, bytes]]:
    rows = connection.execute(
        _PAGE,
        {
            "begin": f"{tenant}/l/",
            "end": f"{tenant}/l0",
            "partition": after[0],
            "key": after[1],
            "limit": limit,
        },
        binary=True,
    )
    return {
        stored_key: {part: bytes(value) for *_, part, value in several}
        for stored_key, several in groupby(rows, key=itemgetter(0, 1))
    }


def _parts_of(connection: Connection, stored_key: tuple[int, str]) -> dict[str, bytes]:
    rows = connection.execute(
        "select part, value from lead_parts where partition = %s and key = %s", stored_key, binary=True
    )
    return {part: bytes(value) for part, value in rows}


def _difference_json(difference: LeadDifference) -> dict[str, Any]:
    return {
        "lead_id": difference.lead_id,
        "what": difference.what,
        "stored": difference.stored,
        "recalculated": difference.recalculated,
        "lines": [
            {"group": group, "rule": rule, "kind": kind, "points": points / ONE_POINT}
            for group, rule, kind, points in difference.lines
        ],
    }


# Every night


def recalculate_what_is_due(
    database_url: str, now: datetime, since: datetime, is_stopped: Callable[[], bool] = lambda: False
) -> int:
    """Begins the nights that have come, goes on with what has not ended, and returns how many leads the last recalculations
    of all tenants saw differ. A tenant's first night is the first one after `since`. It ends early, after a page, when it
    `is_stopped`.
    """
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        tenants = [row[0] for row in connection.execute(_TENANTS).fetchall()]
        last = _last_nights(connection)
        shards = active_by_shard(database_url, stage=ScoreLeads.name)
        for tenant in tenants if shards else []:
            zone = shards[0].settings_of(tenant).zone
            night = latest_moment(NIGHTLY, zone, millis(last.get(tenant, since)), millis(now))
            if night is not None:
                begin_recalculation(connection, tenant, moment(night), "schedule", now)
        unended = connection.execute(
            "select tenant, scheduled_for from public.recalculations where ended_at is null order by scheduled_for, tenant"
        ).fetchall()
    for tenant, scheduled_for in unended:
        for _ in recalculate(database_url, tenant, scheduled_for, now):
            if is_stopped():
                return differing_leads_of_all(database_url)
    return differing_leads_of_all(database_url)


def differing_leads_of_all(database_url: str) -> int:
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        row = connection.execute(
            "select coalesce(sum(differing), 0) from (select distinct on (tenant) differing from public.recalculations "
            "where ended_at is not null order by tenant, ended_at desc) newest"
        ).fetchone()
    return int(row[0]) if row else 0


def _last_nights(connection: Connection) -> Mapping[str, datetime]:
    rows = connection.execute(
        "select tenant, max(scheduled_for) from public.recalculations where started_by = 'schedule' group by tenant"
    )
    return dict(rows.fetchall())

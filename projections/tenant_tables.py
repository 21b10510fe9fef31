"""The tables that sum up the leads of a tenant: what reports over many leads read instead of each lead.

A row is a sum over rows of a table of leads. When the analytics worker replaces rows of leads, `add_difference` adds what
the new rows contribute and subtracts what the old ones did, in the same transaction. Sums are exact and a row to which
no lead contributes is deleted, so the rows are the same as if all of them were summed at once.
"""

# ruff: noqa: S608 - every statement is made of constants

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier
from sqlalchemy import Numeric, Table

from projections.analytics_tables import (
    lead_days,
    lead_engagements,
    tenant_days,
    tenant_engagements,
    tenant_periods,
)
from scoring.journeys.period_summary import SUMMED


class TenantTable(NamedTuple):
    """`contributions` selects a row's key and amounts from rows of leads, `{rows}`. The first amount is 0 only if no lead
    contributes.
    """

    table: Table
    contributions: LiteralString


_SUMMED_COLUMNS: Final = ", ".join(SUMMED)

_OF_DAYS: Final = f"""
  select tenant, day, identified, 1 as leads, (interactions > 0)::int as active_leads, {_SUMMED_COLUMNS},
    score_end - score_start as score_change, engagement
  from {{rows}} rows
"""
_OF_PERIODS: LiteralString = """
  select tenant, period_type, first_day, identified, 1 as leads, (max(interactions) > 0)::int as active_leads
  from {rows} rows cross join lateral (values
    ('weekly', date_trunc('week', day::timestamp)::date),
    ('monthly', date_trunc('month', day::timestamp)::date)) period (period_type, first_day)
  group by tenant, period_type, first_day, identified, lead_key
"""
_OF_ENGAGEMENTS: LiteralString = """
  select tenant, (counted ->> 0)::date as day, identified, counted ->> 1 as type, counted ->> 2 as channel,
    (counted ->> 3)::int8 as engagements
  from {rows} rows cross join lateral jsonb_array_elements(by_day) counted
"""

TENANT_TABLES: Final[dict[Table, tuple[TenantTable, ...]]] = {
    lead_days: (TenantTable(tenant_days, _OF_DAYS), TenantTable(tenant_periods, _OF_PERIODS)),
    lead_engagements: (TenantTable(tenant_engagements, _OF_ENGAGEMENTS),),
}
"""By the table of leads that they sum up."""


def add_difference(
    cursor: psycopg.Cursor[Any], schema: str, leads: Table, computed: str, lead_keys: Sequence[int]
) -> None:
    """Before the rows of these leads in `leads` are replaced by those of the temporary table `computed`."""
    for summed in TENANT_TABLES.get(leads, ()):
        cursor.execute(_add_statement(schema, leads, summed, computed), (list(lead_keys),))
        if emptied := cursor.fetchall():
            cursor.executemany(_delete_statement(schema, summed.table), emptied)


@lru_cache
def _add_statement(schema: str, leads: Table, summed: TenantTable, computed: str) -> Composed:
    """It returns the keys of the rows to which no lead contributes any more."""
    key = [column.name for column in summed.table.primary_key]
    amounts = {c.name: c for c in summed.table.columns if not c.primary_key}
    stored = Identifier(schema, leads.name)

    def amount(name: str, value: Composable) -> Composed:
        exact = "trim_scale({})" if isinstance(amounts[name].type, Numeric) else "{}"
        return SQL(exact).format(value)

    sums = {name: amount(name, SQL("sum(sign * {})").format(Identifier(name))) for name in amounts}
    return SQL(
        """
        with changed as (
          insert into {table} as stored ({columns})
          select {key}, {sums} from (
            select -1 as sign, former.* from ({former}) former
            union all select 1, current.* from ({current}) current) contributed
          group by {key} having ({sums}) <> ({zeros})
          on conflict ({key}) do update set {added}
          returning {key}, {first} as left_over)
        select {key} from changed where left_over = 0
        """
    ).format(
        table=Identifier(schema, summed.table.name),
        columns=_names([*key, *amounts]),
        key=_names(key),
        sums=SQL(", ").join(sums.values()),
        zeros=SQL(", ").join([SQL("0")] * len(amounts)),
        former=SQL(summed.contributions).format(
            rows=SQL("(select * from {} where lead_key = any(%b::int8[]))").format(stored)
        ),
        current=SQL(summed.contributions).format(rows=Identifier("pg_temp", computed)),
        added=SQL(", ").join(
            SQL("{} = {}").format(
                Identifier(name),
                amount(name, SQL("stored.{0} + excluded.{0}").format(Identifier(name))),
            )
            for name in amounts
        ),
        first=Identifier("stored", next(iter(amounts))),
    )


@lru_cache
def _delete_statement(schema: str, table: Table) -> Composed:
    return SQL("delete from {} where {}").format(
        Identifier(schema, table.name),
        SQL(" and ").join(SQL("{} = %b").format(Identifier(column.name)) for column in table.primary_key),
    )


def _names(names: list[str]) -> Composed:
    return SQL(", ").join(map(Identifier, names))

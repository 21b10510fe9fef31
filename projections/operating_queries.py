"""What an operator sees of a database: dead letters of a tenant, deliveries by status, and how far a rebuild is. No I/O."""

from typing import Any

from sqlalchemy import Select, func, or_, select

from projections.public_tables import outbox, positions
from projections.queries import select_dead_letters
from projections.tables import dead_letters


def select_waiting_dead_letters(
    tenant: str | None, *, limit: int, after: tuple[str, int, int] | None = None
) -> Select[Any]:
    """Dead letters that were not sent again; of a tenant those that its keys have, of None all."""
    statement = select_dead_letters(limit=limit, after=after, retried=False)
    return statement if tenant is None else statement.where(_is_of(tenant))


def select_dead_letter_reasons(tenant: str | None) -> Select[Any]:
    """(reason, count) of the same, the most frequent first."""
    waiting = select_waiting_dead_letters(tenant, limit=MOST_COUNTED).subquery("waiting")
    return (
        select(waiting.c.reason, func.count().label("count"))
        .group_by(waiting.c.reason)
        .order_by(func.count().desc(), waiting.c.reason)
    )


MOST_COUNTED = 10_000
"""Dead letters that are counted."""


def _is_of(tenant: str) -> Any:
    return or_(*(dead_letters.c.key.startswith(f"{tenant}/{kind}/", autoescape=True) for kind in "vl"))


def select_deliveries(tenant: str) -> Select[Any]:
    """(status, count) of the actions of workflows that are not delivered."""
    row = outbox.c
    return (
        select(row.status, func.count().label("count"))
        .where(row.tenant == tenant, row.status != "delivered")
        .group_by(row.status)
    )


def select_contained_positions() -> Select[Any]:
    """(generation, count): how many positions the read models contain, and a rebuild beside them."""
    row = positions.c
    return select(row.generation, func.sum(row.position + 1).label("count")).group_by(row.generation)

"""Statements that say what became of events at the door. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Select, Text, column, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from projections.row_keys import hashed_key
from projections.tables import engagement_history, identities, score_history, stage_history
from scoring.features.identity import MOST_SEGMENTS, identity_id

MOST_CHANGES = 200
"""Of scores and stages that are read for a page of events."""
_MOMENT = DateTime(timezone=True)


def select_counted(events: Sequence[tuple[str, datetime, str]]) -> Select[Any]:
    """(key of the event's record, occurred_at, event_id) -> the lead that has it now, if it counted."""
    probes = [
        (hashed_key(identity_id(key, segment)), at, event_id)
        for key, at, event_id in events
        for segment in range(MOST_SEGMENTS + 1)
    ]
    searched = func.unnest(
        literal([key for key, _, _ in probes], ARRAY(BigInteger())),
        literal([at for _, at, _ in probes], ARRAY(_MOMENT)),
        literal([event_id for _, _, event_id in probes], ARRAY(Text())),
    ).table_valued(
        column("identity_key", BigInteger()),
        column("occurred_at", _MOMENT),
        column("event_id", Text()),
        name="searched",
    )
    searched = searched.render_derived()
    row = engagement_history.c
    return (
        select(
            identities.c.identity,
            identities.c.lead_id,
            identities.c.lead_key,
            row.event_id,
            row.occurred_at,
            row.recorded_at,
            row.late,
        )
        .select_from(
            searched.join(
                engagement_history,
                (row.identity_key == searched.c.identity_key)
                & (row.occurred_at == searched.c.occurred_at)
                & (row.event_id == searched.c.event_id),
            ).join(identities, identities.c.identity_key == row.identity_key)
        )
        .order_by(row.occurred_at, row.position)
    )


def select_score_changes(causes: Sequence[tuple[int, str, datetime]]) -> Select[Any]:
    """(lead_key, cause, not before) -> the entries of the ledger with that cause."""
    return _caused(score_history, causes)


def select_stage_changes(causes: Sequence[tuple[int, str, datetime]]) -> Select[Any]:
    """(lead_key, cause, not before) -> the stages that were entered with that cause."""
    return _caused(stage_history, causes)


def _caused(table: Any, causes: Sequence[tuple[int, str, datetime]]) -> Select[Any]:
    caused = func.unnest(
        literal([lead_key for lead_key, _, _ in causes], ARRAY(BigInteger())),
        literal([cause for _, cause, _ in causes], ARRAY(Text())),
        literal([since for _, _, since in causes], ARRAY(_MOMENT)),
    ).table_valued(
        column("lead_key", BigInteger()),
        column("caused_by", Text()),
        column("since", _MOMENT),
        name="caused",
    )
    caused = caused.render_derived()
    return (
        select(table)
        .select_from(
            caused.join(
                table,
                (table.c.lead_key == caused.c.lead_key)
                & (table.c.at >= caused.c.since)
                & (table.c.caused_by == caused.c.caused_by),
            )
        )
        .order_by(table.c.lead_key, table.c.at, table.c.position)
        .limit(MOST_CHANGES)
    )

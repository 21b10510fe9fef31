"""What the lead as of a past moment is made of: the records of `lead-activity` that changed its own state."""

from datetime import datetime
from typing import Any

from msgspec import structs
from sqlalchemy import Select, select

from projections.row_keys import hashed_key, lead_row_key
from projections.rows import LeadRecordRow
from projections.tables import lead_records
from schemas.activity import (
    IdentityAttached,
    IdentityCounted,
    IdentityDelta,
    IdentityDetached,
    RedirectChanged,
)
from schemas.decode import encode_activity
from schemas.moment import moment
from schemas.record import Record

MOST_RECORDS = 50_000
"""Of a lead that are folded for one answer; of a lead with more, its state as of a moment is not said."""


def lead_record_row(
    activity: IdentityAttached | IdentityCounted | IdentityDetached | IdentityDelta | RedirectChanged,
    record: Record,
) -> LeadRecordRow:
    """Without the event, which `engagement_history` has."""
    match activity:
        case IdentityAttached():
            activity = structs.replace(activity, event=None)
        case IdentityDelta():
            activity = structs.replace(activity, event=b"")
        case IdentityCounted() | IdentityDetached() | RedirectChanged():
            pass
    to = activity.to if isinstance(activity, RedirectChanged) else None
    return LeadRecordRow(
        lead_row_key(activity.tenant, activity.lead_id),
        record.position,
        moment(activity.recorded_at),
        0 if isinstance(activity, RedirectChanged) else hashed_key(activity.identity),
        0 if to is None else lead_row_key(activity.tenant, to),
        encode_activity(activity),
    )


def select_lead_records(tenant: str, lead_id: str, until: datetime) -> Select[Any]:
    """(record) of one lead up to a moment, in recorded order."""
    return (
        select(lead_records.c.record)
        .where(lead_records.c.lead_key == lead_row_key(tenant, lead_id), lead_records.c.at <= until)
        .order_by(lead_records.c.position)
        .limit(MOST_RECORDS + 1)
    )

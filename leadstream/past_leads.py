"""The ports by which the gateway folds leads as of moments that are over."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from gateway.ports import LeadThen, PastLeads
from projections.facts import lead_row_of_card
from projections.row_keys import lead_row_key
from schemas.events import Stage
from schemas.moment import millis, moment
from streams.score_leads.past_lead import PastLead, known_lead, past_lead

_JSON_COLUMNS = ("counts", "fields", "revenue", "qualification_override", "speed_to_lead")


def _fold_recorded(tenant: str, lead_id: str, records: Sequence[bytes], stage: str) -> LeadThen | None:
    return _lead_then(past_lead(tenant, lead_id, records, cast("Stage", stage)))


def _fold_known(
    tenant: str,
    lead_id: str,
    identities: Mapping[str, tuple[str, datetime]],
    records: Sequence[bytes],
    stage: str,
    at: datetime,
) -> LeadThen | None:
    since = {name: (home_lead, millis(attached_at)) for name, (home_lead, attached_at) in identities.items()}
    return _lead_then(known_lead(tenant, lead_id, since, records, cast("Stage", stage), millis(at)))


def _lead_then(lead: PastLead | None) -> LeadThen | None:
    if lead is None:
        return None
    row: dict[str, Any] = lead_row_of_card(
        lead.card, lead_row_key(lead.card.tenant, lead.card.lead_id), 0
    )._asdict()
    for name in _JSON_COLUMNS:
        row[name] = None if row[name] is None else json.loads(row[name])
    identities = [(name, home_lead, moment(attached_at)) for name, home_lead, attached_at in lead.identities]
    return LeadThen(row, lead.features, identities, lead.sessions)


PAST_LEADS = PastLeads(_fold_recorded, _fold_known)

"""Leads of a list as of a moment that is over.

Who was there, in which order and with which scores is what histories say; the profile of each is folded from its records, as
`GET /api/leads/{id}?as_of=` does.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from authoring.active_models import ActiveRules
from gateway.api.contact_times import contact_times_in_row
from gateway.api.lead_as_of import History, recorded_lead
from gateway.api.next_stages import next_stage_json
from gateway.api.overrides import override_in_history
from gateway.api.past_contact_times import contact_clock_then
from gateway.api.published_rules import rules_then
from gateway.api.score_shapes import past_score_json
from gateway.ports import LeadThen, PastLeads
from gateway.store import Row, StoreSnapshot, TableMissing
from projections import past_lists
from projections.lead_lists import LeadFilters, PageStart
from projections.past_leads import select_publications_until, select_settings_until
from projections.queries import refuses_profiling
from scoring.features.features import Session
from scoring.features.qualification_override import QUALIFICATION_MODEL
from scoring.features.view import Subject


class ListedLead(NamedTuple):
    row: Row
    """As that of `live.leads`, of then."""
    scores: dict[str, dict[str, Any]]
    """As the ledger has them."""
    visits: int
    last_visit: Session | None
    override: dict[str, Any] | None
    speed_to_lead: dict[str, Any] | None
    next_stage: dict[str, Any] | None
    history: History


async def past_rows(
    ask: StoreSnapshot,
    tenant: str,
    model: str,
    filters: LeadFilters,
    at: datetime,
    *,
    limit: int,
    start: PageStart,
) -> Sequence[Row]:
    """A page as of a moment: looked for among the first leads, and among all if it is not full."""
    page = partial(past_lists.past_page, tenant, model, filters, at, limit=limit, start=start)
    rows = await ask(page(among_first=past_lists.looked_at_first(limit, start)))
    return rows if len(rows) == limit else await ask(page())


async def leads_then(
    ask: StoreSnapshot,
    ports: PastLeads | None,
    active: ActiveRules,
    tenant: str,
    rows: Sequence[Row],
    at: datetime,
) -> list[ListedLead]:
    """`rows`: of today, as `past_page` has them."""
    if not rows:
        return []
    keys = [row["lead_key"] for row in rows]
    changes, stages, overrides, identities, published, settings = await ask.all(
        past_lists.last_changes_of(keys, at),
        past_lists.stages_of(keys, at),
        past_lists.overrides_of(keys, at),
        past_lists.identities_attached(keys, at),
        select_publications_until(tenant, at),
        select_settings_until(tenant, at),
    )
    try:
        records = () if ports is None else await ask(past_lists.records_of(keys, at))
    except TableMissing:
        ports, records = None, ()
    rules, versions = rules_then(active, published, settings)
    since = {name: version for name, (version, _) in versions.items()}
    of_lead = _ByLead(*map(_by_lead, (changes, stages, overrides, identities, records)))
    waited = [
        row | {"speed_to_lead": await _contact_clock(ask, rules, row, of_lead, at)} for row in map(dict, rows)
    ]
    return await asyncio.to_thread(
        lambda: [_listed_lead(ports, rules, since, row, of_lead, at) for row in waited]
    )


class _ByLead(NamedTuple):
    changes: Mapping[int, Sequence[Row]]
    stages: Mapping[int, Sequence[Row]]
    overrides: Mapping[int, Sequence[Row]]
    identities: Mapping[int, Sequence[Row]]
    records: Mapping[int, Sequence[Row]]


def _by_lead(rows: Iterable[Row]) -> dict[int, list[Row]]:
    by_lead: dict[int, list[Row]] = {}
    for key, several in groupby(rows, key=lambda row: row["lead_key"]):
        by_lead.setdefault(key, []).extend(several)
    return by_lead


async def _contact_clock(
    ask: StoreSnapshot, rules: ActiveRules, row: Row, of_lead: _ByLead, at: datetime
) -> Mapping[str, Any] | None:
    key = row["lead_key"]
    return await contact_clock_then(
        ask,
        row,
        of_lead.stages.get(key, ()),
        of_lead.overrides.get(key, ()),
        [each["identity"] for each in of_lead.identities.get(key, ())],
        rules.models.get(QUALIFICATION_MODEL),
        rules.zone,
        at,
    )


def _listed_lead(
    ports: PastLeads | None,
    rules: ActiveRules,
    versions: Mapping[str, int],
    row: Row,
    of_lead: _ByLead,
    at: datetime,
) -> ListedLead:
    key = row["lead_key"]
    entered = of_lead.stages.get(key, ())
    stage = entered[-1]["stage"] if entered else "new"
    names = {each["identity"] for each in of_lead.identities.get(key, ())}
    records = [bytes(each["record"]) for each in of_lead.records.get(key, ())]
    then: LeadThen | None = None
    history: History = "not_kept"
    if ports is not None and len(records) <= past_lists.MOST_RECORDS_OF_LISTED:
        then, history = recorded_lead(ports, row, names, records, stage)
    override = override_in_history(of_lead.overrides.get(key, ()), at)
    shown = {**(row if then is None else then.row), "speed_to_lead": row["speed_to_lead"], "stage": stage}
    objects = refuses_profiling(row)
    subject = None if then is None or objects else Subject(then.features, stage)
    changes = {each["model"]: each for each in of_lead.changes.get(key, ())}
    scores = {
        model: _score_without_entry(version, at)
        if model not in changes
        else past_score_json(changes[model], rules.models.get(model))
        for model, version in versions.items()
        if model not in changes or not changes[model]["removed"]
    }
    return ListedLead(
        shown,
        {} if refuses_profiling(shown) else scores,
        0 if then is None else len(then.sessions),
        max((each for *_, each in then.sessions), key=lambda visit: visit.opened_at, default=None)
        if then is not None
        else None,
        override,
        contact_times_in_row(shown, at),
        next_stage_json(rules, shown, subject, override, at),
        history,
    )


def _score_without_entry(version: int, at: datetime) -> dict[str, Any]:
    """Of a model that scored the lead, and has never given it points or a band."""
    return {"total": 0, "rounded": 0, "version": version, "bands": {}, "flags": [], "as_of": at}

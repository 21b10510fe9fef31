"""One lead as of any moment, from one state.

The past is what was recorded by then: its own records folded again, with the histories of scores, stages and overrides and
the models that were active. With `known=now` it is what is known today of that moment. The future runs the lifecycle and
the models of now, as if nothing happened.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from authoring.active_models import ActiveRules
from gateway.answers import RequestProblem
from gateway.api.causes import by_id
from gateway.api.lead_flags import shown_flag
from gateway.api.next_stages import compiled_lifecycle
from gateway.api.overrides import override_in_history, override_in_row
from gateway.api.past_contact_times import contact_clock_then
from gateway.api.points import points
from gateway.api.published_rules import rules_of_publications, rules_then
from gateway.api.statements import select_events_named
from gateway.ports import LeadThen, PastLeads
from gateway.store import Row, StoreSnapshot, TableMissing
from gateway.subject import subjects_of
from projections import queries
from projections.lead_records import MOST_RECORDS, select_lead_records
from projections.past_leads import (
    select_had_identities,
    select_known_records,
    select_producer_ids,
    select_publications_until,
    select_settings_until,
)
from projections.row_keys import hashed_key, session_row_key
from schemas.moment import millis, moment
from scoring.features.qualification_override import QUALIFICATION_MODEL, QualificationOverride
from scoring.features.view import Subject
from scoring.lifecycle.future_stage import future_stages, position_from_history
from scoring.lifecycle.next_stage import StageContext
from scoring.models.flags import split_flags
from scoring.models.model import (
    NEVER,
    ONE_POINT,
    Model,
    explain_flags,
    explain_score,
    next_visible_time_change,
    rounded_points,
    score_lead,
    score_session,
)

Knowledge = Literal["then", "now"]
History = Literal["complete", "not_yet_recorded", "not_kept"]
SESSION_MODEL = "web_session"
SESSIONS_READ = 20
NOTHING_YET: Final[Mapping[str, Any]] = {
    "name": None,
    "email": None,
    "phone": None,
    "company": None,
    "assigned_to": None,
    "last_interaction_at": None,
    "redirect": None,
    "identities": 0,
    "stage": "new",
    "counts": {},
    "fields": {},
    "revenue": None,
    "qualification_override": None,
    "speed_to_lead": None,
}
"""What was known of a lead before its first record."""


class LeadAsOf(NamedTuple):
    """A lead at one moment. `row` is as that of `live.leads`."""

    at: datetime
    row: Row
    subject: Subject | None
    """None: the features of then are not there."""
    active: ActiveRules
    """What scored it then."""
    versions: dict[str, tuple[int, datetime]]
    """Of these models: (version, published at)."""
    identities: Sequence[Row]
    sessions: Sequence[Row]
    stages: Sequence[Row]
    """Those that it entered up to then, in order."""
    override: dict[str, Any] | None
    history: History
    objects_today: bool = False
    """Whether the lead objects to profiling today: no model scores it anew for any moment."""

    @property
    def has_nobody(self) -> bool:
        """All its identities have gone to other leads."""
        return self.history == "complete" and self.row["identities"] == 0

    @property
    def is_computed(self) -> bool:
        """Its scores are computed at its moment; else they are what the ledger says."""
        return self.subject is not None or self.has_nobody


async def past_lead_as_of(
    ask: StoreSnapshot,
    ports: PastLeads | None,
    active: ActiveRules,
    lead: Row,
    at: datetime,
    knowledge: Knowledge,
) -> LeadAsOf:
    """`lead` is its row of today, `active` what scores it today. Of a lead that objects to profiling today, no model says
    anything of any moment: the ledger has what was concluded.
    """
    tenant, lead_id = lead["tenant"], lead["lead_id"]
    stages, overrides, today, published, settings = await ask.all(
        queries.stages(tenant, lead_id),
        queries.overrides(tenant, lead_id),
        queries.identities_of(tenant, lead_id),
        select_publications_until(tenant, at),
        select_settings_until(tenant, at),
    )
    versions: dict[str, tuple[int, datetime]] = {}
    rules = active
    if knowledge == "now":
        entered = await _stages_known(ask, tenant, lead_id, stages, at)
    else:
        entered = [each for each in stages if each["at"] <= at]
        rules, versions = rules_then(active, published, settings)
    stage = entered[-1]["stage"] if entered else "new"
    override = override_in_history(overrides, at)
    then, history = await _fold(ask, ports, lead, today, stage, at, knowledge)
    if then is None:
        row = {**lead, **NOTHING_YET} if history == "not_yet_recorded" else {**lead, "stage": stage}
        past = [each for each in today if each["attached_at"] <= at]
        visits: Sequence[Row] = ()
        if history == "not_kept":
            visits = await ask(queries.sessions_of(tenant, lead_id, model=SESSION_MODEL, limit=SESSIONS_READ))
        visits = [each for each in visits if each["opened_at"] <= at]
        objects = queries.refuses_profiling(lead)
        return LeadAsOf(at, row, None, rules, versions, past, visits, entered, override, history, objects)
    identities = sorted(then.identities, key=lambda each: each[0])
    identities.sort(key=lambda each: each[2], reverse=True)
    waiting = await contact_clock_then(
        ask,
        lead,
        entered,
        overrides,
        [name for name, _, _ in identities],
        rules.models.get(QUALIFICATION_MODEL),
        rules.zone,
        at,
    )
    kept = {"qualification_override": override, "speed_to_lead": waiting}
    return LeadAsOf(
        at,
        {**then.row, **kept},
        Subject(then.features, stage) if then.identities and not queries.refuses_profiling(lead) else None,
        rules,
        versions,
        [
            {"identity": name, "home": home_lead, "attached_at": since}
            for name, home_lead, since in identities
        ],
        await _sessions_then(ask, then, rules, at, objects=queries.refuses_profiling(lead)),
        entered,
        override,
        history,
        queries.refuses_profiling(lead),
    )


async def _fold(
    ask: StoreSnapshot,
    ports: PastLeads | None,
    lead: Row,
    today: Sequence[Row],
    stage: str,
    at: datetime,
    knowledge: Knowledge,
) -> tuple[LeadThen | None, History]:
    tenant, lead_id = lead["tenant"], lead["lead_id"]
    names = {each["identity"] for each in today if knowledge == "now" or each["attached_at"] <= at}
    if ports is None:
        return None, "not_kept"
    try:
        if knowledge == "now":
            keys = [hashed_key(name) for name in sorted(names)]
            records = await ask(select_known_records(keys))
        else:
            records = await ask(select_lead_records(tenant, lead_id, at))
    except TableMissing:
        return None, "not_kept"
    if len(records) > MOST_RECORDS:
        return None, "not_kept"
    raw = [bytes(each["record"]) for each in records]
    if knowledge == "now":
        homes = {each["identity"]: (each["home"], each["attached_at"]) for each in today}
        try:
            then = await asyncio.to_thread(ports.as_known, tenant, lead_id, homes, raw, stage, at)
        except LookupError:
            return None, "not_kept"
        return then, "complete" if then is not None else "not_yet_recorded" if raw else "not_kept"
    then, history = await asyncio.to_thread(recorded_lead, ports, lead, names, raw, stage)
    if history == "not_yet_recorded" and not today and await ask(select_had_identities(tenant, lead_id, at)):
        return then, "not_kept"
    return then, history


def recorded_lead(
    ports: PastLeads, lead: Row, names: Collection[str], records: Sequence[bytes], stage: str
) -> tuple[LeadThen | None, History]:
    """Of its records up to a moment. `names`: the identities that it has since then, of which there must be records."""
    then = ports.recorded(lead["tenant"], lead["lead_id"], records, stage)
    folded = set() if then is None else {name for name, _, _ in then.identities}
    if not folded.issuperset(names):
        return None, "not_kept"
    return then, "not_yet_recorded" if then is None else "complete"


async def _stages_known(
    ask: StoreSnapshot, tenant: str, lead_id: str, stages: Sequence[Row], at: datetime
) -> list[Row]:
    """A stage counts from the event that caused it, however late that was recorded."""
    causes = {
        each["caused_by"].partition(":")[2] for each in stages if each["caused_by"].startswith("event:")
    }
    events = by_id(await ask(select_events_named(tenant, lead_id, sorted(causes)))) if causes else {}
    since = []
    for number, each in enumerate(stages):
        named = events.get(each["caused_by"].partition(":")[2], ())
        happened = min([each["at"], *(event["occurred_at"] for event in named)])
        since.append((happened, number, each))
    return [
        {**each, "at": happened} for happened, _, each in sorted(since, key=lambda s: s[:2]) if happened <= at
    ]


async def _sessions_then(
    ask: StoreSnapshot, then: LeadThen, rules: ActiveRules, at: datetime, *, objects: bool
) -> list[Row]:
    """The latest, as the sessions of now are shown. A session keeps the id that its producer gave it."""
    model = rules.models.get(SESSION_MODEL)
    scored = model is not None and model.mean is not None
    scored = scored and not objects and not queries.refuses_profiling(then.row)
    latest = sorted(then.sessions, key=lambda each: (each[2].opened_at, each[1]), reverse=True)[
        :SESSIONS_READ
    ]
    keys = [session_row_key(identity, session_id) for identity, session_id, _ in latest]
    named = (
        {row["session_key"]: row["producer_id"] for row in await ask(select_producer_ids(keys))}
        if keys
        else {}
    )
    return [
        {
            "session_id": session_id,
            "producer_id": named.get(key),
            "opened_at": moment(session.opened_at),
            "last_at": moment(session.last_at),
            "pages": session.pages,
            "clicks": session.clicks,
            "important_clicks": session.important_clicks,
            "score": Decimal(score_session(model, session).total) / ONE_POINT if model and scored else None,
            "ended": scored and (session.closed or millis(at) >= session.last_at + rules.idle_ms),
        }
        for key, (_, session_id, session) in zip(keys, latest, strict=True)
    ]


# Scores


def computed_scores(lead: LeadAsOf) -> dict[str, dict[str, Any]]:
    """What each model says of the lead at its moment, with the evidence of each line: all of one moment."""
    subject = lead.subject
    if queries.refuses_profiling(lead.row):
        return {}
    if lead.has_nobody:
        models = {name: lead.active.models.get(name) for name in sorted(lead.versions)}
        return {name: _score_of_nobody(lead, name, model) for name, model in models.items()}
    if subject is None:
        return {}
    return {name: _computed(lead, name, model, subject) for name, model in lead.active.models.items()}


def _score_of_nobody(lead: LeadAsOf, name: str, model: Model | None) -> dict[str, Any]:
    """Of a lead whose identities have all gone to others."""
    return {
        "total": 0,
        "rounded": 0,
        "version": lead.versions[name][0],
        "bands": {} if model is None else dict.fromkeys(model.band_sets),
        "flags": [],
        "as_of": lead.at,
        "next_due": None,
        "lines": [],
    }


def _computed(lead: LeadAsOf, name: str, model: Model, subject: Subject) -> dict[str, Any]:
    active, at = lead.active, millis(lead.at)
    concluded = score_lead(model, subject, at, active.zone, active.idle_ms)
    lines = explain_score(model, subject, at, active.zone, active.idle_ms)
    version = lead.versions.get(name)
    return {
        "total": points(concluded.total),
        "rounded": rounded_points(concluded.total),
        "version": None if version is None else version[0],
        "bands": split_flags(concluded.bands)[0],
        "flags": [
            shown_flag(flag) for flag in explain_flags(model, subject, at, active.zone, active.idle_ms)
        ],
        "as_of": lead.at,
        "next_due": next_due(active, model, subject, lead.at),
        "lines": [{**line._asdict(), "points": points(line.points)} for line in lines if line.points],
    }


def next_due(
    active: ActiveRules, model: Model | None, subject: Subject | None, at: datetime
) -> datetime | None:
    """When time alone next changes the rounded score or a band; None: it never does, or the features are not there."""
    if model is None or subject is None:
        return None
    due = next_visible_time_change(model, subject, millis(at), active.zone, active.idle_ms)
    return None if due >= NEVER else moment(due)


# From now on


async def lead_from_now_on(
    ask: StoreSnapshot,
    active: ActiveRules,
    lead: Row,
    scores: Sequence[Row],
    now: datetime,
    at: datetime,
) -> LeadAsOf:
    """Now, or at a later moment if nothing happens until then. Raises RequestProblem for the future without features."""
    tenant, lead_id = lead["tenant"], lead["lead_id"]
    identities, visits, stages, published = await ask.all(
        queries.identities_of(tenant, lead_id),
        queries.sessions_of(tenant, lead_id, model=SESSION_MODEL, limit=SESSIONS_READ),
        queries.stages(tenant, lead_id),
        select_publications_until(tenant, now),
    )
    # Of the same moment as the rows: a total is by the version beside it.
    active, newest = rules_of_publications(active, published)
    subject = (await subjects_of(ask, tenant, [lead])).get(lead_id)
    override = override_in_row(lead, at)
    if at > now:
        lead, subject, stages = _future_lead(active, lead, subject, stages, now, at)
        idle = timedelta(milliseconds=active.idle_ms)
        visits = [
            {**each, "ended": each["score"] is not None and (each["ended"] or at >= each["last_at"] + idle)}
            for each in visits
        ]
    versions = {each["model"]: (each["version"], each["as_of"]) for each in scores} | newest
    return LeadAsOf(at, lead, subject, active, versions, identities, visits, stages, override, "complete")


def _future_lead(
    active: ActiveRules,
    lead: Row,
    subject: Subject | None,
    stages: Sequence[Row],
    now: datetime,
    at: datetime,
) -> tuple[Row, Subject, Sequence[Row]]:
    if subject is None:
        raise RequestProblem(
            422, "the future needs the lead's features, which this store does not keep", field="as_of"
        )
    lifecycle = compiled_lifecycle(active.lifecycle)
    if queries.refuses_profiling(lead):
        lifecycle = lifecycle.without_transitions()
    override, by_hand = override_in_row(lead, now), None
    if override is not None:
        until = override["until"]
        end = None if until is None else millis(datetime.fromisoformat(until))
        by_hand = QualificationOverride(override["band"], 0, until=end)
    position = position_from_history(
        [(each["stage"], millis(each["at"])) for each in stages], subject.features
    )
    context = StageContext(lifecycle, active.models, active.zone, active.idle_ms)
    later = future_stages(context, subject.features, position, millis(now), millis(at), by_hand)
    entries = [
        {**each._asdict(), "at": moment(each.at), "position": number, "caused_by": f"due:{each.at}"}
        for number, each in enumerate(later)
    ]
    stage = later[-1].stage if later else lead["stage"]
    return {**lead, "stage": stage}, Subject(subject.features, stage), [*stages, *entries]


def execution_then(row: Row, at: datetime) -> Row:
    """What had become of an execution by then."""
    latest = row["last_attempt_at"] or row["delivered_at"]
    if row["status"] in {"silent", "forgotten", "waiting"} or latest is None or latest <= at:
        return row
    return {**row, "status": "waiting", "attempts": 0, "last_error": None, "delivered_at": None}

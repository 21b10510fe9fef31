"""A lead as it was recorded by a past moment: its own records folded again, by the folds that made it.

Identities, features, sessions and the merge are folded here. Scores, stage and the qualification by hand have histories
of their own, which say them exactly, so no model is run: 10,000 records take a tenth of a second. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import structs

from schemas.activity import (
    IdentityAttached,
    IdentityCounted,
    IdentityDelta,
    IdentityDetached,
    RedirectChanged,
    SessionPut,
)
from schemas.decode import decode_activity
from schemas.events import Stage
from schemas.statements import LeadScored
from schemas.topics import lead_key
from scoring.features.features import Features, Session, decode_delta, decode_features, evolve, put_session
from scoring.features.identity import is_anonymous
from scoring.features.lead_identity import LeadIdentity
from scoring.features.view import created_at
from scoring.lifecycle.lifecycle import StagePosition
from streams.published import TenantSettings
from streams.score_leads.identities import attach_identity, detach_identity, redirect_lead
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadState, lead_card
from streams.score_leads.lead_step import LeadStep


class PastLead(NamedTuple):
    """`features` are merged."""

    card: LeadScored
    features: Features
    identities: list[tuple[str, str, int]]
    """(identity, home_lead, attached_at in ms)."""
    sessions: list[tuple[str, str, Session]]
    """(identity, id, session)."""


def past_lead(tenant: str, lead_id: str, records: Iterable[bytes], stage: Stage) -> PastLead | None:
    """`records` up to the moment, in order. None: there was no such lead."""
    state, rules = LeadState(lead_key(tenant, lead_id), {}), _rules_without_models()
    attached_at: dict[str, int] = {}
    for record in records:
        activity = decode_activity(record)
        head = state.head
        head.clock = max(head.clock, activity.recorded_at)
        match activity:
            case IdentityDelta(identity=name):
                # Nearly all records. What `apply_event` concludes besides has a history of its own.
                mine = state.identities.get(name)
                if mine is not None and mine.epoch == activity.epoch:
                    state.apply(name, decode_delta(activity.lift), activity)
            case IdentityCounted(identity=name):
                mine = state.identities.get(name)
                if mine is not None and mine.epoch == activity.epoch:
                    state.count_past(name, decode_features(activity.counted))
            case IdentityAttached(identity=name):
                before = state.identities.get(name)
                step = LeadStep(rules, state, "", _emit_nothing)
                attach_identity(step, structs.replace(activity, carried=None))
                if state.identities.get(name) is not before:
                    attached_at[name] = activity.recorded_at
            case IdentityDetached():
                detach_identity(LeadStep(rules, state, "", _emit_nothing), activity)
            case RedirectChanged():
                redirect_lead(LeadStep(rules, state, "", _emit_nothing), activity)
            case _:
                continue
        if is_anonymous(lead_id) and not state.identities and not head.forwarded and head.redirect is None:
            state.remove()
        else:
            state.exists = True
    if not state.exists:
        return None
    state.head.position = StagePosition(stage)
    return PastLead(
        lead_card(state),
        state.features,
        [(name, each.home, attached_at[name]) for name, each in state.identities.items()],
        _sessions_of(state),
    )


def known_lead(
    tenant: str,
    lead_id: str,
    identities: Mapping[str, tuple[str, int]],
    records: Iterable[bytes],
    stage: Stage,
    at: int,
) -> PastLead | None:
    """The lead as of a moment by what is known today: its identities of today (name -> (home_lead, attached_at)), and of their
    events those that happened by then, whenever they were recorded. `records` are those of every lead that an
    identity belonged to, in order. Raises LookupError if the first records of an identity are not among them.
    """
    state = LeadState(lead_key(tenant, lead_id), {})
    named, begun = set[str](), set[str]()
    sessions: dict[tuple[str, str], SessionPut] = {}
    for record in records:
        activity = decode_activity(record)
        if not isinstance(activity, IdentityAttached | IdentityDelta) or activity.identity not in identities:
            continue
        name = activity.identity
        named.add(name)
        mine = state.identities.get(name)
        if isinstance(activity, IdentityAttached):
            if activity.epoch > 1:
                continue  # its features are those of the records before it
            begun.add(name)
            features = decode_features(activity.features)
            if (created_at(features.signals) or 0) <= at:
                state.identities[name] = LeadIdentity(1, identities[name][0], features)
        else:
            feature_delta = decode_delta(activity.lift)
            for retracted in activity.retracted:
                sessions.pop((name, retracted), None)
            if feature_delta.at > at:
                continue
            if mine is None:
                mine = LeadIdentity(1, identities[name][0], Features())
                state.identities[name] = mine
            evolve(mine.features, feature_delta)
        sessions |= {(name, put.session_id): put for put in activity.sessions if put.opened_at <= at}
    if named - begun:
        raise LookupError("records before these are not kept")
    if not state.identities:
        return None
    for (name, session_id), put in sessions.items():
        if name in state.identities:
            put_session(state.identities[name].features, session_id, _session_of(put))
    state.exists = True
    state.head.clock, state.head.position = at, StagePosition(stage)
    return PastLead(
        lead_card(state),
        state.features,
        [
            (name, home_lead, since)
            for name, (home_lead, since) in identities.items()
            if name in state.identities
        ],
        _sessions_of(state),
    )


def _sessions_of(state: LeadState) -> list[tuple[str, str, Session]]:
    return [
        (name, session_id, session)
        for name, identity in state.identities.items()
        for session_id, session in identity.features.sessions.items()
    ]


def _session_of(put: SessionPut) -> Session:
    return Session(
        put.revision,
        put.opened_at,
        put.last_at,
        put.closed,
        put.pages,
        put.clicks,
        put.important_clicks,
    )


def _rules_without_models() -> LeadRules:
    """No model scores the lead, and nothing moves it by itself."""
    rules = LeadRules(TenantSettings(), {})
    rules.lifecycle = rules.lifecycle.without_transitions()
    return rules


def _emit_nothing(topic: str, key: str, value: bytes | None) -> None:
    pass

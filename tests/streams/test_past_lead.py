"""A lead as of a past moment equals the lead in a log that was stopped at that moment: random histories of merges, splits,
shared browsers, late events and repetitions.
"""

import pytest
import stream_simulator
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_histories import history, specs

from projections.lead_records import lead_record_row
from schemas.activity import IdentityAttached, IdentityDelta, IdentityDetached, RedirectChanged
from schemas.decode import decode_activity
from schemas.moment import millis, moment
from schemas.topics import LEAD_ACTIVITY, lead_key
from scoring.features.features import encode_features
from streams.score_leads.lead_state import lead_card
from streams.score_leads.past_lead import known_lead, past_lead

KEPT = IdentityAttached | IdentityDelta | IdentityDetached | RedirectChanged
FROM_HISTORY = ("at", "statement_id", "scores", "qualification_override", "speed_to_lead", "stage")
"""What a lead's card has from its other histories."""


@pytest.fixture(autouse=True)
def _one_partition(monkeypatch):
    monkeypatch.setattr(stream_simulator, "PARTITIONS", 1)


def stopped_after(events):
    pipeline = stream_simulator.Pipeline()
    for event in events:
        pipeline.produce(event)
        pipeline.fold_all()
    return pipeline


def records_of(pipeline, lead_id, until=None):
    rows = []
    for record in pipeline.logs[LEAD_ACTIVITY][0]:
        activity = decode_activity(record.value)
        if isinstance(activity, KEPT) and activity.lead_id == lead_id:
            rows.append(lead_record_row(activity, record))
    return [row.record for row in rows if until is None or row.at <= until]


def shown(card):
    return {name: getattr(card, name) for name in card.__struct_fields__ if name not in FROM_HISTORY}


@settings(max_examples=scaled(40), deadline=None)
@given(specs(), st.data())
def test_it_equals_the_lead_in_a_log_that_was_stopped_then(spec, data):
    events = sorted(history(spec, cycles=True), key=lambda event: event.recorded_at)
    if not events:
        return
    stop = data.draw(st.integers(0, len(events) - 1))
    at = events[stop].recorded_at
    whole = stopped_after(events)
    stopped = stopped_after([event for event in events if event.recorded_at <= at])
    leads = {state.lead_id for state in whole.leads().values()} | {
        state.lead_id for state in stopped.leads().values()
    }
    for lead_id in leads:
        then = past_lead("default", lead_id, records_of(whole, lead_id, at), "new")
        state = stopped.leads().get(lead_key("default", lead_id))
        assert (then is None) == (state is None), lead_id
        if then is not None:
            assert shown(then.card) == shown(lead_card(state))
            assert encode_features(then.features) == encode_features(state.features)
            assert sorted(then.sessions) == sorted(
                (name, session_id, session)
                for name, identity in state.identities.items()
                for session_id, session in identity.features.sessions.items()
            )


@settings(max_examples=scaled(20), deadline=None)
@given(specs(2, 25), st.data())
def test_what_is_known_today_of_then_equals_a_log_that_received_each_event_when_it_happened(spec, data):
    """Without late events of sessions that go on, and without repetitions: counts, fields and revenue of the events until then."""
    events = list(
        {event.event_id: event for event in history(spec, merges=False, shared=False, stages=False)}.values()
    )
    at = data.draw(st.sampled_from([event.occurred_at for event in events])) if events else moment(0)
    whole = stopped_after(events)
    happened = sorted(
        (event for event in events if event.occurred_at <= at), key=lambda event: event.occurred_at
    )
    stopped = stopped_after([on_time(event) for event in happened])
    for state in whole.leads().values():
        identities = {name: (identity.home, 0) for name, identity in state.identities.items()}
        owners = [
            record.value
            for record in whole.logs[LEAD_ACTIVITY][0]
            if isinstance(decode_activity(record.value), KEPT)
        ]
        then = known_lead("default", state.lead_id, identities, owners, "new", millis(at))
        known = stopped.leads().get(state.key)
        if then is None or known is None or known.identities.keys() != identities.keys():
            continue  # who owned an identity then is another question
        assert then.card.counts == lead_card(known).counts
        assert then.card.fields == lead_card(known).fields
        assert then.card.last_interaction_at == lead_card(known).last_interaction_at


def on_time(event):
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**(fields | {"recorded_at": event.occurred_at}))

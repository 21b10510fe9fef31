"""A replay in memory says what the simulated log says, at any grain, and again the next time."""

import pytest
import stream_simulator
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_histories import DAY, START, history, specs

from schemas.activity import TimePassed
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import decode_statement, encode_activity, encode_source, key_of
from schemas.events import PageViewed
from schemas.moment import millis, moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import DEAD_LETTERS, EVENTS, LEAD_ACTIVITY, LEAD_SCORES, lead_key
from scoring.models.model import ONE_POINT, built_in_models
from streams.published import ModelVersion, TenantSettings
from streams.replay import Replay, lead_as_of, subject_of
from streams.score_leads.lead_rules import LeadRules

MODELS = built_in_models()


@pytest.fixture(autouse=True)
def _one_partition(monkeypatch):
    """So that the simulator has the one order that a replay has."""
    monkeypatch.setattr(stream_simulator, "PARTITIONS", 1)


def genesis(models=MODELS):
    return [
        record
        for name, text in models.items()
        for record in publication_records(
            ModelPublished(tenant=EVERY_TENANT, recorded_at=moment(0), model=name, version=1, text=text)
        )
    ]


def simulated(events):
    pipeline = stream_simulator.Pipeline()
    for name, text in MODELS.items():
        pipeline.publish(name, 1, text, 0, partitions=[0])
    pipeline.fold_all()
    for event in events:
        pipeline.produce(event)
        pipeline.fold_all()
    return pipeline


def replayed(events, *, chunk=500):
    heard = []
    replay = Replay(genesis(), on_output=heard.append, chunk=chunk)
    for event in events:
        replay.append([Outgoing(EVENTS, key_of(event), encode_source(event))])
        replay.fold_all()
    return replay, heard


def statements(heard):
    left_out = (EVENTS, LEAD_ACTIVITY, LEAD_SCORES, DEAD_LETTERS)
    return [(each.topic, decode_statement(each.value)) for each in heard if each.topic not in left_out]


@settings(max_examples=scaled(60))
@given(specs(), st.sampled_from([1, 2, 7, 500]))
def test_a_replay_says_what_the_simulated_log_says(spec, chunk):
    events = history(spec, cycles=True)
    pipeline = simulated(events)
    replay, heard = replayed(events, chunk=chunk)
    assert statements(heard) == pipeline.said
    found = {state.key: state for state in replay.leads()}
    expected = pipeline.leads()
    assert list(found) == sorted(expected)
    for key, state in expected.items():
        assert found[key].head == state.head
        assert found[key].identities == state.identities
        assert subject_of(found[key]).stage == state.head.position.stage


@settings(max_examples=scaled(30))
@given(specs(), st.integers(0, 200))
def test_advancing_concludes_what_a_timer_for_every_lead_would(spec, days):
    events = history(spec)
    latest = max((millis(event.recorded_at) for event in events), default=START)
    to = latest + days * DAY
    woken, advanced = replayed(events)[0], replayed(events)[0]
    woken.append(
        Outgoing(LEAD_ACTIVITY, s.key, encode_activity(TimePassed(s.tenant, s.lead_id, to)))
        for s in list(woken.leads())
    )
    woken.fold_all()
    advanced.advance_to(to)
    for one, other in zip(woken.leads(), advanced.leads(), strict=True):
        # Whoever was not due keeps an older clock, and has said the same.
        assert one.head.emitted == other.head.emitted
        assert one.head.position == other.head.position


def test_two_replays_say_the_same_byte_by_byte():
    events = history([(0, v % 3, v % 2, 45, 0, 0, 1) for v in range(12)] + [(18, 0, 1, 1, 0, 0, 0)])
    assert replayed(events)[1] == replayed(events)[1]


def test_a_step_folds_no_more_than_a_chunk():
    replay = Replay(genesis(), chunk=2)
    events = history([(0, 0, 0, 45, 0, 0, 0)] * 5)
    replay.append(Outgoing(EVENTS, key_of(event), encode_source(event)) for event in events)
    steps = 0
    while replay.step():
        steps += 1
    assert steps == 3 + 3  # five events and five deltas, two at a time


def test_a_lead_that_nobody_heard_of_does_not_exist():
    event = PageViewed(event_id="e", occurred_at=moment(START), recorded_at=moment(START), visitor_id="v")
    replay, _ = replayed([event])
    assert replay.lead("default", "anon:v").exists
    assert not replay.lead("default", "L").exists
    assert [state.key for state in replay.leads()] == [lead_key("default", "anon:v")]


OPENS = (
    'model = "opens"\n[groups.g]\nrules = [{ name = "Pages", each = "page_viewed in 3 days", points = 5 }]\n'
)
CAPPED = OPENS.replace("points = 5", "points = 7, max = 20").replace("rules", "max = 10\nrules")


def rules_of(**models):
    return LeadRules(
        TenantSettings(), {name: ModelVersion(version, text) for name, (version, text) in models.items()}
    )


def seen_by(model):
    """A lead with one page view, as it is stored under a model."""
    replay = Replay(genesis({"opens": model}))
    viewed = PageViewed(
        event_id="e", occurred_at=moment(START), recorded_at=moment(START), visitor_id="v", url="/"
    )
    replay.append([Outgoing(EVENTS, key_of(viewed), encode_source(viewed))])
    replay.fold_all()
    [lead] = replay.leads()
    return lead


def test_a_lead_that_a_new_version_has_not_reached_yet_is_brought_to_it():
    lead = lead_as_of(
        seen_by(OPENS), rules_of(opens=(2, CAPPED), other=(1, OPENS.replace("opens", "other"))), START
    )
    assert {name: said.total for name, said in lead.head.emitted.items()} == {
        "opens": 7 * ONE_POINT,
        "other": 5 * ONE_POINT,
    }
    assert len(lead.head.emitted["opens"].vector) == 3


def test_a_lead_that_a_retirement_has_not_reached_yet_goes_on_without_the_model():
    lead = lead_as_of(seen_by(OPENS), rules_of(other=(1, OPENS.replace("opens", "other"))), START + 9 * DAY)
    assert {name: said.total for name, said in lead.head.emitted.items()} == {"other": 0}
    assert lead.head.clock == START + 9 * DAY


def test_a_tenants_own_text_of_the_same_version_replaces_everybodys():
    own = OPENS.replace("[groups.g]", "[groups.first]\nrules = []\nmax = 9\n[groups.g]")
    replay = Replay(genesis({"opens": OPENS}))

    def view(number):
        at = moment(START + number)
        viewed = PageViewed(event_id=f"e{number}", occurred_at=at, recorded_at=at, visitor_id="v", url="/")
        replay.append([Outgoing(EVENTS, key_of(viewed), encode_source(viewed))])
        replay.fold_all()

    view(1)
    replay.append(
        publication_records(
            ModelPublished(
                tenant="default", recorded_at=moment(START + 2), model="opens", version=1, text=own
            )
        )
    )
    view(3)
    [lead] = replay.leads()
    assert lead.head.emitted["opens"].vector == [0, 10 * ONE_POINT]

"""Whatever decodes is folded: no event, publication or activity makes a fold raise or a score unsound."""

import string
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from random import Random

import msgspec
import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_simulator import PARTITIONS, Pipeline
from stream_stories import DAY, MINUTE, NOON, SHIPPED, happened

from schemas import activity as a
from schemas import events as e
from schemas import examples
from schemas import statements as say
from schemas.control import Carried
from schemas.decode import Refusal, encode_activity, encode_source, key_of, read_event
from schemas.envelope import Campaign, Context, Event
from schemas.moment import EARLIEST_MS, LATEST_MS, moment
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, PARTITION_WIDE_KEY, lead_key, partition_of
from scoring.experiments.assignment import built_in_experiments
from scoring.features.erased_people import PersonName, hash_of_name
from scoring.features.features import Features, Session, encode_delta, encode_features, evolve, put_session
from scoring.features.signals import EFFECT_BY_EVENT_TYPE, SignalCatalogue
from streams.published import compiled_model
from streams.track_sessions import VisitorState

EXAMPLES = settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))

# -- what producers may say, at its extremes, for any type of the catalogue

YEARS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
    moment(-1),
    moment(0),
]


def a_moment(random):
    match random.randrange(4):
        case 0:
            return moment(NOON + random.randint(-3, 3) * DAY)
        case 1:
            return moment(NOON + random.randint(-2_000, 2_000) * MINUTE)
        case 2:
            return moment(random.randint(EARLIEST_MS, LATEST_MS))
        case _:
            return random.choice(YEARS)


ODD = [
    "",
    " ",
    "\u202e",
    "e\u0301",
    "👩‍👩‍👧",
    "ß",
    "İ",
    "٣",
    "12",
    "1e999",
    "-0",
    "NaN",
    "true",
    "\ufffd",
    "\U0010ffff",
    "%s{0}",
]
TEXTS = {  # by pattern: what an id or a name may look like
    e.Event.__annotations__["event_id"].__metadata__[0].pattern: ["a", "b", "c", "d", "~" * 64, "#"],
    e.Identifier.__metadata__[0].pattern: [
        "v",
        "w",
        "anon:v",
        "anon:",
        "L",
        "M",
        "a/b#c",
        "é" * 128,
        "👻",
        "0x",
    ],
    e.Event.__annotations__["tenant"].__metadata__[0].pattern: ["default", "default", "x"],
    e.Event.__annotations__["source"].__metadata__[0].pattern: [
        "web",
        "web",
        "chatbot",
        "telegram",
        "import",
    ],
    e.FieldName.__metadata__[0].pattern: [
        *string.ascii_lowercase,
        "manual_stage",
        "stage",
        "email",
        "f" * 64,
    ],
    e.Currency.__metadata__[0].pattern: ["EUR", "JPY", "KWD", "XXX"],
}


def value(type_, random):
    """Anything that a field of this type may hold."""
    match type_:
        case msgspec.inspect.Metadata(inner):
            return value(inner, random)
        case msgspec.inspect.StrType(max_length=longest, pattern=None):
            longest = longest or 300
            return random.choice([*ODD, "x" * longest, "é" * longest])[:longest]
        case msgspec.inspect.StrType(pattern=pattern):
            return random.choice(TEXTS[pattern])
        case msgspec.inspect.BoolType():
            return random.random() < 0.5
        case msgspec.inspect.IntType(ge=low, le=high):
            low, high = low if low is not None else -(2**53), high if high is not None else 2**53
            return random.choice([low, high, min(max(0, low), high)])
        case msgspec.inspect.FloatType(ge=low, le=high):
            return random.choice([low or 0.0, high or 1e15, 0.1 + 0.2, 1e-300])
        case msgspec.inspect.DecimalType():
            return Decimal(random.choice(["0", "0.000001", "12.345", "1000000000000"]))
        case msgspec.inspect.DateTimeType():
            return a_moment(random)
        case msgspec.inspect.LiteralType(values=choices):
            return random.choice(choices)
        case msgspec.inspect.NoneType():
            return None
        case msgspec.inspect.UnionType(types):
            return value(random.choice(types), random)
        case msgspec.inspect.ListType(item_type=item, max_length=most):
            if random.random() < 0.5:
                return ["x" * 256] * (most or 3)
            return [value(item, random) for _ in range(random.randint(0, 3))]
        case msgspec.inspect.DictType(key_type=key, value_type=held):
            if random.random() < 0.5:
                return {f"field_{number}": "y" * 200 for number in range(64)}
            return {value(key, random): value(held, random) for _ in range(random.randint(0, 4))}
        case msgspec.inspect.AnyType():
            return random.choice([None, True, 2**53, -1e15, "x", ["y", [{"z": "👻"}]], {"deep": {"er": [1]}}])
        case msgspec.inspect.StructType(cls=kind):
            return message(kind, random)
    raise AssertionError(type_)


@cache
def fields_of(kind):
    return msgspec.inspect.type_info(kind).fields


def message(kind, random):
    """Any message of a type: required fields, and about half of the others."""
    return kind(
        **{
            field.name: value(without_none(field.type), random)
            for field in fields_of(kind)
            if field.name != "v" and (field.required or random.random() < 0.5)
        }
    )


def without_none(type_):
    match type_:
        case msgspec.inspect.UnionType(types):
            return msgspec.inspect.UnionType(
                tuple(each for each in types if not isinstance(each, msgspec.inspect.NoneType))
            )
    return type_


seeds = st.integers(0, 2**64 - 1)
"""Hypothesis draws one number for an event: its own draws of dozens of fields take longer than the folds."""


def messages(kind):
    return seeds.map(lambda seed: message(kind, Random(seed))).filter(accepted)


def accepted(event):
    """Whether the log takes it; a few combinations of fields are refused."""
    try:
        read_event(encode_source(event))
    except Refusal:
        return False
    return True


events = st.sampled_from(e.EVENT_TYPES).flatmap(messages)


def check_sound(pipeline):
    """The lines of every ledger sum to the score, exactly."""
    totals = {}
    for statement in pipeline.statements(say.ScoreChanged):
        key = statement.tenant, statement.lead_id, statement.model
        totals[key] = totals.get(key, 0) + sum(round(line.points * 1e6) for line in statement.lines)
        assert totals[key] == round(statement.total * 1e6)
    for state in pipeline.leads().values():
        for name, said in state.head.emitted.items():
            assert totals.get((state.tenant, state.lead_id, name), 0) == said.total == sum(said.vector)


def as_recorded(event):
    return Outgoing(EVENTS, key_of(event), encode_source(event))


# -- events


def test_the_golden_corpus_folds():
    pipeline = Pipeline(SHIPPED)
    for raw in examples.events():
        event = read_event(raw)
        pipeline.append(
            as_recorded(msgspec.structs.replace(event, recorded_at=event.recorded_at or event.occurred_at))
        )
        pipeline.fold_all()
    assert pipeline.dead == []
    check_sound(pipeline)
    assert {s.lead_id for s in pipeline.leads().values()} >= {"lead-1001", "anon:chat-42", "anon:tg-5550001"}


def test_the_golden_control_records_fold_or_are_dead_letters():
    """The models in them are no models; nothing else is refused."""
    pipeline = Pipeline(SHIPPED)
    for raw in examples.control():
        for partition in range(PARTITIONS):
            pipeline.append(Outgoing(EVENTS, "", raw, partition))
    pipeline.fold_all()
    assert len(pipeline.dead) == PARTITIONS * sum(b'"model_published"' in raw for raw in examples.control())


@pytest.mark.parametrize("kind", e.EVENT_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=scaled(16), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_type_of_event_folds_whatever_it_holds(kind, data):
    pipeline = Pipeline(SHIPPED)
    for event in data.draw(st.lists(messages(kind), min_size=1, max_size=4)):
        pipeline.append(as_recorded(event))
    pipeline.fold_all()
    assert pipeline.dead == []
    check_sound(pipeline)


@EXAMPLES
@given(st.lists(events, min_size=1, max_size=25), st.integers(1, 7), st.booleans())
def test_events_of_all_types_fold_together_whatever_they_hold(several, chunk, timers):
    pipeline = Pipeline(SHIPPED)
    for event in several:
        pipeline.append(as_recorded(event))
    pipeline.fold_all(chunk)
    if timers:
        for key in sorted(pipeline.leads()):
            pipeline.wake(key, NOON + 400 * DAY)
            pipeline.wake(key, LATEST_MS)
        pipeline.fold_all(chunk)
    assert pipeline.dead == []
    check_sound(pipeline)


@EXAMPLES
@given(events)
def test_every_event_that_decoded_lifts_something(event):
    """At least its own name, and `interaction` only for an act of the person."""
    lift = CATALOGUE.feature_delta_of(event, NOON, NOON // DAY)
    assert lift.signals
    assert ("interaction" in lift.signals) is EFFECT_BY_EVENT_TYPE[type(event)].is_interaction(event)


def test_the_strategies_know_every_type_of_event():
    assert all(issubclass(kind, Event) for kind in e.EVENT_TYPES)
    for kind in e.EVENT_TYPES:
        message(kind, Random(1))


# -- activity, in any order and for anybody

leads = st.sampled_from(["L", "M", "anon:v", "anon:default/v/v#0"])
identities = st.sampled_from(
    ["default/v/v#0", "default/v/v#1", "default/l/L#0", "x/v/a/b#c#2", "default/v/é#0"]
)
epochs = st.sampled_from([0, 1, 1, 2, 3, 7, 2**31])
clocks = st.one_of(
    st.integers(0, 400).map(lambda hours: NOON + hours * 3_600_000),
    st.sampled_from([EARLIEST_MS, -1, 0, 1, LATEST_MS]),
)
CATALOGUE = SignalCatalogue.of([compiled_model(text) for _, text in SHIPPED])
occurred = st.sampled_from([EARLIEST_MS, -1, 0, NOON - 99 * DAY, NOON, NOON + DAY, LATEST_MS])
lifts = st.builds(lambda event, when: CATALOGUE.feature_delta_of(event, when, when // DAY), events, occurred)
"""What stage 1 may say of an event: of any, at any time."""
puts = st.builds(
    a.SessionPut,
    st.sampled_from(["s", "t", ""]),
    st.integers(0, 3),
    clocks,
    clocks,
    st.booleans(),
    st.sampled_from([0, 1, 10**9]),
    st.sampled_from([0, 1, 10**9]),
    st.sampled_from([0, 1, 10**9]),
)
several_puts = st.lists(puts, max_size=2, unique_by=lambda put: put.session_id)


@st.composite
def features(draw):
    found = Features()
    for lift in draw(st.lists(lifts, max_size=4)):
        evolve(found, lift)
    for p in draw(several_puts):
        put_session(
            found, p.session_id, Session(p.revision, p.opened_at, p.last_at, p.closed, p.pages, p.clicks, 0)
        )
    return encode_features(found)


carried = st.none() | st.builds(Carried, st.sampled_from(["new", "customer", "lost"]), clocks)
paths = st.lists(leads, max_size=4)
event_ids = st.sampled_from(["a", "b", "c"])
flags = st.booleans()
raws = st.one_of(st.just(b"{}"), events.map(encode_source))


def watching(*triggers):
    """A workflow for everybody of each trigger, and one more that has conditions."""
    action = 'anonymous = true\naction = { type = "create_task", title = "Call" }\n'
    texts = [
        f'[[workflow]]\nid = {number}\nname = "W"\ntrigger = {{ type = {trigger} }}\n{action}'
        for number, trigger in enumerate(triggers, 1)
    ]
    reads = 'conditions = [{ value = "score" , is_set = true }, { value = "days since created", is_set = true }]\n'
    return "".join([*texts, texts[-1].replace("id = ", "id = 9") + reads])


WORKFLOWS = watching(
    '"score_threshold", model = "temperature", score = 1',
    '"score_falls", model = "temperature", score = 20',
    '"stage_change"',
    '"stage_change", set = "temperature", model = "temperature"',
    '"field_update", field = "email"',
    '"event", event = ["page_viewed", "custom:a", "profile_updated"]',
    '"time_based", days_without = 1',
    '"time_based", cron = "0 9 * * *"',
    '"not_contacted", minutes = 5',
)


def hashes_of(lead_id):
    return [hash_of_name(bytes(16), PersonName("lead", lead_id)).hex()]


to_everybody = {"tenant": st.just("default"), "lead_id": st.just(""), "recorded_at": clocks}
to_whom = {"tenant": st.just("default"), "lead_id": leads, "recorded_at": clocks}
EXPERIMENT = built_in_experiments()["greeting_message"]
activities = st.one_of(
    st.builds(
        a.IdentityAttached, **to_whom, identity=identities, epoch=epochs, home=leads, features=features(), path=paths,
        final=flags, carried=carried, event_id=st.none() | event_ids, sessions=several_puts, silent=flags, reply=flags,
    ),
    st.builds(
        a.IdentityCompleted, **to_whom, identity=identities, epoch=epochs, identified=carried, sessions=several_puts,
        retracted=st.lists(st.sampled_from(["s", "t", "u"]), max_size=2),
    ),
    st.builds(a.IdentityDetached, **to_whom, identity=identities, epoch=epochs, gone=flags),
    st.builds(
        a.IdentityDelta, **to_whom, identity=identities, epoch=epochs, event=raws, event_id=event_ids,
        lift=lifts.map(encode_delta), sessions=several_puts, retracted=st.lists(st.sampled_from(["s", "t", "u"]), max_size=2),
        late=flags, silent=flags, reply=flags, forgotten=st.lists(st.sampled_from(["s", "u"]), max_size=1),
    ),
    st.builds(a.EventNoted, **to_whom, event_id=event_ids, outcome=st.sampled_from(["duplicate", "bot", "?"])),
    st.builds(a.RedirectChanged, **to_whom, to=st.none() | leads, event_id=event_ids),
    st.builds(a.TimePassed, **to_whom),
    st.builds(
        a.WorkflowsChanged, **to_everybody, version=st.integers(1, 9), text=st.sampled_from(["", WORKFLOWS, watching('"manual"')]),
    ),
    st.builds(a.ExperimentChanged, **to_everybody, experiment=st.just("greeting_message"), version=st.integers(1, 9), text=st.just(EXPERIMENT)),
    st.builds(a.WorkflowMomentCame, **to_everybody, workflow_id=st.sampled_from([1, 8, 99]), scheduled_for=clocks),
    st.builds(a.ErasureRecorded, **to_everybody, salt=st.sampled_from(["00" * 16, "11" * 16]), hashes=leads.map(hashes_of)),
)  # fmt: skip


@EXAMPLES
@given(st.lists(activities, min_size=1, max_size=30), st.integers(1, 9))
def test_activity_folds_in_any_order_from_anybody(several, chunk):
    pipeline = Pipeline(SHIPPED)
    for one in several:
        key = lead_key(one.tenant, one.lead_id) if one.lead_id else PARTITION_WIDE_KEY
        for partition in [partition_of(key, PARTITIONS)] if one.lead_id else range(PARTITIONS):
            pipeline.append(Outgoing(LEAD_ACTIVITY, key, encode_activity(one), partition))
    while pending := pipeline.pending(LEAD_ACTIVITY):
        pipeline.step(LEAD_ACTIVITY, pending[0], chunk)
    assert pipeline.dead == []
    check_sound(pipeline)
    # What it sent back is for visitors who may never have been; they, too, take it.
    pipeline.fold_all(chunk, limit=2_000)


def test_every_kind_of_activity_is_drawn():
    drawn = {
        a.IdentityAttached,
        a.IdentityCompleted,
        a.IdentityDetached,
        a.IdentityDelta,
        a.EventNoted,
        a.RedirectChanged,
        a.TimePassed,
        a.WorkflowsChanged,
        a.ExperimentChanged,
        a.WorkflowMomentCame,
        a.ErasureRecorded,
    }
    assert drawn | {a.ModelChanged, a.ModelRemoved, a.SettingsChanged} == set(a.ACTIVITY_TYPES)


# -- sizes

KILOBYTE = 1024


def parts_of(pipeline):
    """(topic, part without its number) -> its longest stored value."""
    longest = {}
    for topic, stores in pipeline.stores.items():
        for store in stores:
            for parts in store.parts.values():
                for part, value in parts.items():
                    name = topic, part.partition(":")[0]
                    longest[name] = max(longest.get(name, 0), len(value))
    return longest


def folded(*produced, after=None):
    """All of this, behind what a pipeline has folded `after`."""
    pipeline = after or Pipeline(SHIPPED)
    for event in produced:
        pipeline.append(as_recorded(read_event(encode_source(event))))
    pipeline.fold_all()
    assert pipeline.dead == []
    return pipeline


def busy(count):
    """A customer of many years with a browser, a phone number and a job."""
    session = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    for number in range(count):
        when = number * 37 * MINUTE + number % 5 * MINUTE
        campaign = Campaign(source="newsletter", medium="email", name=f"spring-launch-{number // 40}")
        event_id = f"{number:08}-0000-4000-8000-000000000000"
        given_to = {
            "visitor_id": "b8b7c1d2-3f4e-4a5b-8c6d-7e8f9a0b1c2d",
            "session_id": f"{session}{number // 3}",
        }
        if number % 50 == 49:
            fields = {
                f"answer_{number % 31}": "a sentence of a usual length, as people write",
                "email": "a@b.example",
            }
            yield happened("form_submitted", event_id, when, fields=fields, **given_to)
        elif number % 5 == 4:
            yield happened("custom", event_id, when, name=f"feature_{number % 60}_used", **given_to)
        else:
            context = Context(campaign=campaign, url="https://acme.example/")
            yield happened("page_viewed", event_id, when, context=context, **given_to)


@pytest.mark.slow
def test_no_stored_part_of_a_busy_customer_exceeds_64_kilobytes():
    parts = parts_of(folded(*busy(2_500)))
    assert max(parts.values()) < 64 * KILOBYTE, parts


ENOUGH = 130
"""Rounds of hostile events that are more than is kept of anything but event ids."""


def hostile(rounds):
    """All that the door lets through, at its longest; each round has ids and names of its own."""
    ghosts = "\U0001f47b" * 128
    number = rounds.start * 1_000

    def event(kind, when, **fields):
        nonlocal number
        number += 1
        return happened(kind, f"{number:~>64}", when, recorded=max(when, 0), visitor_id=ghosts, **fields)

    for act in range(2 * rounds.start, 2 * rounds.stop):
        campaign = Campaign(source=ghosts[:90] + str(act % 3), medium=ghosts[:60])
        yield event(
            "element_clicked",
            act * 1_000,
            session_id=f"{ghosts[:126]}{act % 2}",
            text="Get a Demo",
            context=Context(campaign=campaign),
        )
    for name in rounds:
        for back in (0, 50, 99):
            yield event("custom", -back * DAY, name=f"c{name:063}")
        yield event("profile_updated", 0, fields={f"f{name:063}": ghosts})
        yield event(
            "question_answered",
            0,
            source="chatbot",
            question_id=f"{name:0128}",
            text=ghosts,
            time_taken_s=1.0,
        )
        currency = chr(65 + name % 26) + chr(65 + name // 26 % 26) + "X"
        yield event("purchase_made", 0, value=Decimal(10**12), currency=currency)
        keyed = {"value": Decimal(10**12), "currency": currency, "order_id": f"{name % 100:0512}"}
        yield event("purchase_made", name, **keyed)
        for refund in range(20):
            yield event("purchase_refunded", name, refund_id=f"{refund:0512}", **keyed)
        yield event("email_sent", name, message_id=f"{name:0512}")
        yield event("form_submitted", name, submission_id=f"{name:0512}")
        yield event("conversion_recorded", name, conversion_type=f"{name:0512}")


@pytest.mark.slow
def test_a_hostile_producer_reaches_a_bound_and_no_further():
    """By more effort nothing grows but the ids that are remembered (512 bytes more of them)."""
    pipeline = folded(*hostile(range(ENOUGH)))
    before = parts_of(pipeline)
    after = parts_of(folded(*hostile(range(ENOUGH, ENOUGH * 4 // 3)), after=pipeline))
    for name, size in before.items():
        assert after[name] <= size * 1.02 + KILOBYTE, name
    sizes = {part: size // KILOBYTE for part, size in after.items()}
    hostile_features = {sizes.pop((EVENTS, "features")), sizes.pop((LEAD_ACTIVITY, "id"))}
    assert max(hostile_features) < 140
    assert max(sizes.values()) < 64, sizes
    assert sizes[EVENTS, "seen"] < 3
    assert sizes[LEAD_ACTIVITY, "head"] < 4


def test_a_flood_of_ids_is_recognised_in_a_bounded_memory():
    """64 buckets of 256: the last 16,128 ids at least, and no more than 16,384 are kept."""
    state = VisitorState("default/v/v", {})
    for number in range(20_000):
        assert state.remember(f"e{number}")
    assert not any(state.remember(f"e{number}") for number in range(20_000 - 16_128, 20_000))
    assert state.remember("e0")
    kept = [value for part, value in state.changes().items() if part.startswith("seen:") and value]
    assert len(kept) <= 64
    assert max(map(len, kept)) == 8 * 257

"""The two folds under random interleavings, crashes, merges, splits, timers and publications.

Each property stands for a promise of the protocol between the stages; each failed for some earlier
version of the rules.
"""

import random

import msgspec
import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_histories import DAY, MINUTE, START, history, key_of_lead, specs
from stream_reference import addresses, first_touches, parts_and_redirects, reference, root_of
from stream_simulator import MOMENT, SETTINGS, WORKFLOWS, Pipeline, refold
from stream_workflows import fired_by_ledger

from schemas import events as e
from schemas import statements as say
from schemas.activity import TimePassed
from schemas.decode import decode_activity, encode_activity
from schemas.moment import millis, moment
from schemas.record import Record
from schemas.topics import LEAD_ACTIVITY, PARTITION_WIDE_KEY
from scoring.features.calendar import calendar
from scoring.features.identity import is_anonymous, owner_by_redirects
from scoring.models.model import Subject, rounded_points, score_lead
from streams.published import compiled_model
from streams.track_sessions import VisitorState

HALF_HOUR = 30 * MINUTE
EXAMPLES = settings(max_examples=scaled(60), deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**30)


def model(page, stage, extra=""):
    """Counts, caps, a fall in time, fields, and the stage: every way a score can move."""
    return f"""
model = "m"
min = 0
max = 100
bands = {{ heat = {{ hot = 60, warm = 40, mild = 20, cold = 0 }} }}
[groups.acts]
rules = [
  {{ name = "Pages", each = "page_viewed", points = {page}, max = 15 }},
  {{ name = "Clicks", each = "element_clicked", points = 2, max = 10 }},
  {{ name = "Form", once = "form_submitted", points = 10 }},
  {{ name = "Scan", once = "qr_scanned", points = -7.5 }},
  {extra}
]
[groups.person]
rules = [
  {{ name = "Phone", has = "phone", points = 10 }},
  {{ name = "Stage", choose = "profile.stage", points = {{ contacted = {stage}, qualified = 12, engaged = 20 }} }},
]
[groups.recency]
rules = [{{ name = "Last", steps = "hours since interaction", below = [[1, 20], [6, 15], [24, 10], [72, 5]], otherwise = 0 }}]
"""


SESSIONS = """
model = "s"
reads = "session"
lead = { mean_of = "ended sessions", latest = 200 }
round = "half up"
[signals]
important_click = { event = "element_clicked", field = "text", in_list = ["Be an Early Bird", "Get a Demo"] }
[groups.pages]
rules = [{ name = "Pages", each = "session.pages", points = 5, max = 30 }]
[groups.clicks]
max = 30
rules = [
  { name = "Clicks", each = "session.clicks", points = 2 },
  { name = "Important", each = "session.important_clicks", points = 5 },
]
"""
FIRST = (("m", model(3, 10)), ("s", SESSIONS))
LATER = (
    ("m", 11, model(4, 5)),
    ("m", 12, model(2, 12, '{ name = "Sent", each = "email_sent", points = 1 },')),
    ("m", 13, model(6, 0)),
)

RETIRED_LATER = (("m", 14, ""), ("m", 15, model(3, 4)), ("s", 16, ""))
"""Retired, and one of them put in force again."""

SETTINGS_LATER = ((SETTINGS, 21, "Asia/Kolkata", 10), (SETTINGS, 22, "America/New_York", 45))


WATCHED = """
[[workflow]]
id = 1
name = "Warm"
trigger = { type = "score_threshold", model = "m", score = 25 }
action = { type = "create_task", title = "Look" }
[[workflow]]
id = 2
name = "Hot"
anonymous = true
priority = 5
trigger = { type = "score_threshold", model = "m", score = 32, rearm = 12 }
action = { type = "create_task", title = "Call" }
[[workflow]]
id = 3
name = "Cools"
anonymous = true
trigger = { type = "score_falls", model = "m", score = 20, rearm = 3 }
action = { type = "create_task", title = "Write" }
[[workflow]]
id = 4
name = "Moves on"
trigger = { type = "stage_change" }
action = { type = "send_notification", message = "Moved" }
[[workflow]]
id = 5
name = "Another phone"
anonymous = true
trigger = { type = "field_update", field = "phone" }
conditions = [{ value = "score.m", greater_or_equal = 10 }]
action = { type = "send_webhook", channel = "crm" }
[[workflow]]
id = 6
name = "Form"
anonymous = true
trigger = { type = "event", event = ["form_submitted", "qr_scanned"] }
action = { type = "send_webhook", channel = "crm" }
[[workflow]]
id = 7
name = "Quiet"
anonymous = true
trigger = { type = "time_based", days_without = 1 }
action = { type = "send_email", subject = "Still there?", text = "We are." }
[[workflow]]
id = 8
name = "Daily"
anonymous = true
trigger = { type = "time_based", cron = "0 9 * * *" }
conditions = [{ once = "page_viewed" }]
action = { type = "send_notification", message = "Good morning" }
"""
CHANGED = WATCHED.replace("score = 32, rearm = 12", "score = 28, rearm = 1").replace(
    "days_without = 1", "days_without = 2"
)
WORKFLOWS_LATER = (
    (WORKFLOWS, 31, CHANGED),
    (WORKFLOWS, 32, ""),
    (WORKFLOWS, 33, WATCHED.replace('name = "Warm"', 'name = "Warm"\nactive = false')),
    (WORKFLOWS, 34, WATCHED),
)
MOMENTS = tuple((MOMENT, 8, START + day * DAY) for day in (2, 1, 3, 3))


def started(*, workflows=None, **kwargs):
    pipeline = Pipeline(FIRST, **kwargs)
    if workflows is not None:
        pipeline.publish_workflows(1, workflows, 0)
    return pipeline


def seen(features):
    """Features in the reference's terms."""
    signals = {}
    for name, s in features.signals.items():
        if name in REFERENCE_SIGNALS:
            first = s.last_day - len(s.days) + 1
            signals[name] = (s.count, s.first, s.last, {first + i: n for i, n in enumerate(s.days) if n})
    fields = {n: tuple(v) for n, v in features.fields.items() if n in REFERENCE_FIELDS}
    rows = {
        i: (s.opened_at, s.last_at, s.closed, s.pages, s.clicks, s.important_clicks)
        for i, s in features.sessions.items()
    }
    return signals, fields, rows


REFERENCE_FIELDS = ("phone", "email", "company", "title", "profiling_consent")
REFERENCE_SIGNALS = (
    "page_viewed", "element_clicked", "form_submitted", "qr_scanned", "session_ended", "session_heartbeat",
    "profile_updated", "lead_identified", "email_sent", "leads_merged", "merge_undone", "stage_changed", "interaction",
)  # fmt: skip


def leads_seen(pipeline):
    return {s.lead_id: seen(s.features) for s in pipeline.leads().values() if s.identities}


def plain(thing):
    """Comparable, whatever is in it."""
    return msgspec.json.encode(msgspec.to_builtins(thing), order="sorted")


def scores_at(pipeline, at):
    """Stage-free scores of every lead at one moment."""
    texts = dict(FIRST)
    return {
        s.lead_id: [
            score_lead(
                compiled_model(texts[n]), Subject(s.features, "new"), at, calendar("UTC"), HALF_HOUR
            ).total
            for n in texts
        ]
        for s in pipeline.leads().values()
        if s.identities
    }


def without_anonymous_shells(leads):
    return {lead: what for lead, what in leads.items() if what != ({}, {}, {})}


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_any_interleaving_equals_the_sequential_reading(spec, seed, cycles):
    events = history(spec, cycles=cycles)
    pipeline = started().run(seed, events, timers=5, models=LATER[:2])
    assert leads_seen(pipeline) == reference(events)


@EXAMPLES
@given(specs(), seeds)
def test_the_copy_at_the_owner_is_what_the_visitor_wrote(spec, seed):
    pipeline = started().run(seed, history(spec, cycles=True), timers=3)
    leads = pipeline.leads()
    for store in pipeline.stores["events"]:
        for key, parts in store.parts.items():
            if key == PARTITION_WIDE_KEY:
                continue
            state = VisitorState(key, dict(parts))
            for number, segment in enumerate(state.visitor.segments):
                if segment.born:
                    held = leads[key_of_lead(segment.owner)].identities[f"{key}#{number}"]
                    assert held.epoch == segment.epoch
                    assert plain(held.features) == plain(state.bodies[number].features)


addressed = st.tuples(
    st.sampled_from([13, 13, 13, 14, 18, 21, 22]),
    st.integers(0, 3),
    st.sampled_from([0, 0, 1, 1, 2, 3]),
    st.sampled_from([0, 1, 30]),
    st.sampled_from([0, 40]),
    st.just(0),
    st.sampled_from([0, 1, 2, 2]),
)
"""Phones and e-mails of visitors and leads, which are merged and split."""


@EXAMPLES
@given(st.one_of(specs(), st.lists(addressed, min_size=8, max_size=30)), seeds, st.booleans())
def test_a_lead_has_the_addresses_of_every_lead_that_was_merged_into_it(spec, seed, cycles):
    """By them its owner is looked up: whatever interleaves, no address of a merged lead is of nobody, or of a lead that went."""
    events = history(spec, cycles=cycles)
    pipeline = started().run(seed, events, timers=3, crash=0.2)
    cards = [card for card in pipeline.cards.values() if card is not None]
    found = {
        card.lead_id: {value for name in ("email", "phone") if (value := card.fields.get(name))}
        | set(card.other_addresses)
        for card in cards
    }
    assert {lead: values for lead, values in found.items() if values} == addresses(events)
    for card in cards:
        shown = {card.fields.get("email"), card.fields.get("phone")}
        assert card.other_addresses == sorted(set(card.other_addresses) - shown)


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_the_first_touch_of_a_lead_is_the_first_in_time(spec, seed, cycles):
    """Whatever came late, and whichever lead it came from by a merge."""
    events = history(spec, cycles=cycles)
    pipeline = started().run(seed, events, timers=3, crash=0.2)
    leads = [state for state in pipeline.leads().values() if state.identities]
    found = {state.lead_id: state.features.first_touch for state in leads if state.features.first_touch}
    assert {lead: tuple(touch) for lead, touch in found.items()} == first_touches(events)


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_who_owns_a_merged_lead_follows_from_the_redirects_alone(spec, seed, cycles):
    """As the API says it of a lead that was merged, over any chain and circle of merges."""
    events = history(spec, cycles=cycles)
    parts, redirects = parts_and_redirects(events)
    pipeline = started().run(seed, events, timers=3)
    stored = {card.lead_id: card.redirect for card in pipeline.cards.values() if card is not None}
    owners = {name: state.lead_id for state in pipeline.leads().values() for name in state.identities}
    for home, name, counted, _ in parts:
        if counted:
            assert owner_by_redirects(home, stored.get) == root_of(home, redirects) == owners[name]


@EXAMPLES
@given(specs(2, 20), seeds)
def test_within_the_window_and_for_one_lead_the_order_of_arrival_does_not_matter(spec, seed):
    windowed = [(k, v, w, min(g, 30), min(late, 700), c, m) for k, v, w, g, late, c, m in spec]
    events = history(windowed, shared=False, stages=False)
    control = [x for x in events if isinstance(x, e.LeadsMerged | e.MergeUndone)]
    shuffled = [x for x in events if not isinstance(x, e.LeadsMerged | e.MergeUndone)]
    random.Random(seed).shuffle(shuffled)
    one = started().run(seed, events)
    other = started().run(seed + 1, control + shuffled, timers=3)
    at = one.latest + 40 * MINUTE
    assert leads_seen(one) == leads_seen(other)
    assert scores_at(one, at) == scores_at(other, at)


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_after_a_split_a_lead_is_as_if_never_merged(spec, seed, cycles):
    events = history(spec, cycles=cycles)
    if not events:
        return
    end = max(millis(x.recorded_at) for x in events) + MINUTE
    undo = [
        e.MergeUndone(
            event_id=f"u{lead}", occurred_at=moment(end), recorded_at=moment(end), lead_id=lead, source="crm"
        )
        for lead in sorted({x.lead_id for x in events if isinstance(x, e.LeadsMerged)})
    ]
    merged = started().run(seed, events + undo, timers=3)
    never = started().run(seed + 1, [x for x in events if not isinstance(x, e.LeadsMerged | e.MergeUndone)])
    strip = lambda leads: {  # noqa: E731  # only here
        lead: ({n: s for n, s in signals.items() if n not in ("leads_merged", "merge_undone")}, fields, rows)
        for lead, (signals, fields, rows) in leads.items()
    }
    assert without_anonymous_shells(strip(leads_seen(merged))) == without_anonymous_shells(
        strip(leads_seen(never))
    )


@EXAMPLES
@given(
    specs(),
    seeds,
    st.lists(
        st.sampled_from(LATER + SETTINGS_LATER + RETIRED_LATER + WORKFLOWS_LATER + MOMENTS),
        max_size=5,
        unique=True,
    ),
)
def test_folding_the_recorded_activity_again_says_the_same(spec, seed, publications):
    recorded = started(workflows=WATCHED).run(
        seed, history(spec, cycles=True), timers=6, models=publications, crash=0.3
    )
    for again in (refold(recorded, 1, crash=0, burst=1000), refold(recorded, 2, crash=0.35, sweep_step=1)):
        assert sorted(map(plain, again.said)) == sorted(map(plain, recorded.said))
        assert {k: plain(c) for k, c in again.cards.items()} == {
            k: plain(c) for k, c in recorded.cards.items()
        }
        assert [s.parts for s in again.stores[LEAD_ACTIVITY]] == [
            s.parts for s in recorded.stores[LEAD_ACTIVITY]
        ]


@EXAMPLES
@given(specs(), seeds)
def test_whatever_the_order_of_publication_every_shard_ends_on_the_highest_version(spec, seed):
    pipeline = started().run(seed, history(spec), models=random.Random(seed).sample(LATER, 3))
    versions = {
        said.version for s in pipeline.leads().values() for n, said in s.head.emitted.items() if n == "m"
    }
    assert versions <= {13}


@EXAMPLES
@given(specs(), seeds)
def test_ledger_lines_sum_to_the_score_and_the_chain_of_previous_scores_is_unbroken(spec, seed):
    publications = LATER + SETTINGS_LATER + RETIRED_LATER
    pipeline = started().run(seed, history(spec, cycles=True), timers=5, models=publications)
    totals, identities = {}, set()
    for statement in pipeline.statements(say.ScoreChanged):
        key = (statement.lead_id, statement.model)
        assert statement.statement_id not in identities
        identities.add(statement.statement_id)
        before = totals.get(key, 0)
        assert round(statement.previous * 1e6) == before
        totals[key] = before + sum(round(line.points * 1e6) for line in statement.lines)
        assert totals[key] == round(statement.total * 1e6) == before + round(statement.change * 1e6)
    for state in pipeline.leads().values():
        for name, said in state.head.emitted.items():
            assert totals.pop((state.lead_id, name), 0) == said.total == sum(said.vector)
    assert not any(totals.values()), "points of a model that scores no more"


@EXAMPLES
@given(specs(), seeds)
def test_what_was_said_is_what_the_features_say_now(spec, seed):
    def check(pipeline):
        for state in pipeline.leads().values():
            consent = state.features.fields.get("profiling_consent") if state.identities else None
            if consent is not None and consent[2] is False:
                assert not state.head.emitted
                continue
            if not state.identities or state.head.emitted.keys() != {"m", "s"}:
                continue
            for name, text in FIRST:
                now = score_lead(
                    compiled_model(text),
                    Subject(state.features, state.head.position.stage),
                    state.head.clock,
                    calendar("UTC"),
                    HALF_HOUR,
                )
                assert rounded_points(state.head.emitted[name].total) == rounded_points(now.total)
                assert state.head.emitted[name].bands == now.bands

    started().run(seed, history(spec), timers=5, check=check)


def with_timers(rng, *, early=False):
    """An edit of a recorded partition: its own timers replaced by others, at random."""

    def edit(log):
        kept = [r for r in log if not isinstance(decode_activity(r.value), TimePassed)]
        said = [decode_activity(r.value) for r in kept]
        born, out = set(), []
        for i, (record, activity) in enumerate(zip(kept, said, strict=True)):
            out.append(record)
            if activity.lead_id:
                born.add(record.key)
            for _ in range(rng.choice((0, 0, 1, 2))):
                if not born:
                    continue
                key = rng.choice(sorted(born))
                mine = [
                    a.recorded_at
                    for r, a in zip(kept[i + 1 :], said[i + 1 :], strict=True)
                    if r.key in (key, PARTITION_WIDE_KEY)
                ]
                latest = (
                    max(a.recorded_at for a in said)
                    if early
                    else min(mine, default=activity.recorded_at + 4 * DAY)
                )
                out += [timer(key, rng.randint(max(0, latest - 2 * DAY), latest))] * rng.choice((1, 2))
        end = max((a.recorded_at for a in said), default=0) + 5 * DAY
        return out + [timer(key, end) for key in sorted(born)]

    return edit


def timer(key, at):
    tenant, _, lead = key.split("/", 2)
    return Record(LEAD_ACTIVITY, 0, 0, key, encode_activity(TimePassed(tenant, lead, at)))


def ledgers(pipeline):
    """Per lead, what was said, without ids: those count positions, and timers take positions."""
    out = {}
    for topic, statement in pipeline.said:
        rows = out.setdefault(statement.lead_id, [])
        rows.append({"topic": topic, **msgspec.to_builtins(statement), "statement_id": ""})
    return out


@EXAMPLES
@given(
    specs(),
    seeds,
    st.booleans(),
    st.lists(st.sampled_from(WORKFLOWS_LATER + MOMENTS), max_size=3, unique=True),
)
def test_lost_late_and_doubled_timers_leave_every_ledger_identical(spec, seed, settings_too, workflows):
    models = LATER[:1] + (SETTINGS_LATER[:1] if settings_too else ()) + tuple(workflows)
    recorded = started(workflows=WATCHED).run(seed, history(spec), models=models)

    class Never(random.Random):
        def choice(self, seq):
            return seq[0]

    none = refold(recorded, 1, edit=with_timers(Never()))
    many = refold(recorded, 2, edit=with_timers(random.Random(seed)))
    assert ledgers(none) == ledgers(many)


@EXAMPLES
@given(specs(), seeds)
def test_timers_that_run_ahead_change_no_features(spec, seed):
    recorded = started().run(seed, history(spec))
    early = refold(recorded, 3, edit=with_timers(random.Random(seed), early=True))
    assert leads_seen(early) == leads_seen(recorded)


@EXAMPLES
@given(
    specs(),
    seeds,
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
)
def test_merges_and_splits_alone_never_fire_a_threshold_twice(spec, seed, moves):
    pipeline = started().run(seed, history(spec, merges=False))
    fired = {(b.lead_id, b.scale, c) for b in pipeline.statements(say.BandChanged) for c in b.crossed}
    disarmed = {
        (s.lead_id, *mark.split(":"))
        for s in pipeline.leads().values()
        for said in s.head.emitted.values()
        for mark in said.disarmed
    }
    assert disarmed <= fired
    before, at = len(pipeline.said), moment(pipeline.latest)
    for i, (a, b, merge) in enumerate(moves):
        envelope = {
            "event_id": f"z{i}",
            "occurred_at": at,
            "recorded_at": at,
            "lead_id": f"L{a}",
            "source": "crm",
        }
        if merge and a != b:
            pipeline.produce(e.LeadsMerged(**envelope, into=f"L{b}"))
        elif not merge:
            pipeline.produce(e.MergeUndone(**envelope))
    pipeline.run(seed + 1)
    moved = ("attached", "detached", "redirect")
    after = [s for _, s in pipeline.said[before:]]
    fell = {
        s.lead_id
        for s in after
        if isinstance(s, say.ScoreChanged) and s.change < 0 and not s.caused_by.startswith(moved)
    }
    again = {
        (s.lead_id, s.scale, c)
        for s in after
        if isinstance(s, say.BandChanged) and s.caused_by.startswith(moved)
        for c in s.crossed
    }
    # Time may pass in between and arm a threshold; and an anonymous lead of which nothing remained is
    # forgotten, with what it fired.
    assert not {x for x in again & disarmed if x[0] not in fell and not is_anonymous(x[0])}


@EXAMPLES
@given(specs(), seeds, st.lists(st.sampled_from(LATER + RETIRED_LATER), max_size=2, unique=True))
def test_a_score_fires_a_workflow_when_its_ledger_says_so_and_never_else(spec, seed, publications):
    """No interleaving fires a threshold twice or misses it: what the ledger of each lead shows decides alone."""
    pipeline = started(workflows=WATCHED).run(
        seed, history(spec, cycles=True), timers=6, models=publications, crash=0.3
    )
    retirements = [f"model:*:{name}:{version}" for name, version, text in RETIRED_LATER if not text]
    assert fired_by_ledger(pipeline, WATCHED, retirements) == [
        (s.lead_id, s.workflow_id, s.caused_by)
        for s in pipeline.statements(say.WorkflowTriggered)
        if s.trigger in {"score_threshold", "score_falls"}
    ]


@EXAMPLES
@given(
    specs(),
    seeds,
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
)
def test_merges_and_splits_alone_never_fire_a_workflow_that_waits_for_a_score_twice(spec, seed, moves):
    pipeline = started(workflows=WATCHED).run(seed, history(spec, merges=False))
    fired = {(s.lead_id, s.workflow_id) for s in pipeline.statements(say.WorkflowTriggered)}
    disarmed = {
        (s.lead_id, number)
        for s in pipeline.leads().values()
        if s.head.workflows is not None
        for number in s.head.workflows.disarmed
    }
    assert disarmed <= fired
    before, at = len(pipeline.said), moment(pipeline.latest)
    for i, (a, b, merge) in enumerate(moves):
        envelope = {
            "event_id": f"z{i}",
            "occurred_at": at,
            "recorded_at": at,
            "lead_id": f"L{a}",
            "source": "crm",
        }
        if merge and a != b:
            pipeline.produce(e.LeadsMerged(**envelope, into=f"L{b}"))
        elif not merge:
            pipeline.produce(e.MergeUndone(**envelope))
    pipeline.run(seed + 1)
    after = [s for _, s in pipeline.said[before:]]
    moved = ("attached", "detached", "redirect")
    fell = {
        s.lead_id
        for s in after
        if isinstance(s, say.ScoreChanged) and s.change < 0 and not s.caused_by.startswith(moved)
    }
    again = {
        (s.lead_id, s.workflow_id)
        for s in after
        if isinstance(s, say.WorkflowTriggered) and s.trigger == "score_threshold"
    }
    assert not {x for x in again & disarmed if x[0] not in fell and not is_anonymous(x[0])}


def test_a_crash_amid_a_moment_of_a_schedule_is_resumed_and_every_lead_is_visited_once():
    events = [
        e.PageViewed(
            event_id=f"e{i}",
            occurred_at=moment(DAY),
            recorded_at=moment(DAY),
            visitor_id=f"v{i}",
            lead_id=f"L{i:02d}",
        )
        for i in range(30)
    ]
    pipeline = started(workflows=WATCHED, sweep_step=3).run(1, events)
    for _ in range(2):  # doubled
        pipeline.schedule_comes(8, 2 * DAY, 2 * DAY + 5)
    pipeline.schedule_comes(8, DAY, 2 * DAY + 6)  # late: an earlier moment than the last
    steps = 0
    while pending := pipeline.pending(LEAD_ACTIVITY):
        pipeline.step(LEAD_ACTIVITY, pending[0], 10, crash=steps % 2 == 0)
        steps += 1
    assert steps > 2 * 30 / 3
    visited = [s for s in pipeline.statements(say.WorkflowTriggered) if s.workflow_id == 8]
    assert sorted(s.lead_id for s in visited) == [f"L{i:02d}" for i in range(30)]
    assert {(s.caused_by, s.arm, s.at) for s in visited} == {
        (f"schedule:{2 * DAY}", f"schedule:{2 * DAY}", moment(2 * DAY + 5))
    }


@EXAMPLES
@given(specs(), seeds, st.booleans())
def test_a_full_lead_refuses_without_loops_and_nothing_is_lost(monkeypatch_limit, spec, seed, cycles):
    events = history(spec, cycles=cycles)
    pipeline = started().run(seed, events)
    held = [s for s in pipeline.leads().values() if s.identities]
    assert all(len(s.identities) <= 2 for s in held)
    interactions = sum(
        s.features.signals["interaction"].count for s in held if "interaction" in s.features.signals
    )
    expected = sum(
        signals["interaction"][0] for signals, _, _ in reference(events).values() if "interaction" in signals
    )
    assert interactions == expected


@pytest.fixture(scope="module")
def monkeypatch_limit():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.score_leads.identities.MOST_IDENTITIES", 2)
        yield


def test_a_crash_in_the_middle_of_a_sweep_is_resumed_at_its_cursor():
    events = [
        e.PageViewed(
            event_id=f"e{i}",
            occurred_at=moment(DAY),
            recorded_at=moment(DAY),
            visitor_id=f"v{i}",
            lead_id=f"L{i:02d}",
        )
        for i in range(30)
    ]
    pipeline = started(sweep_step=3).run(1, events)
    pipeline.publish("m", 20, model(9, 0), at=2 * DAY)
    topic = LEAD_ACTIVITY
    steps = 0
    while pending := pipeline.pending(topic):
        pipeline.step(topic, pending[0], 10, crash=steps % 2 == 0)
        steps += 1
    assert steps > 2 * 30 / 3
    for state in pipeline.leads().values():
        assert state.head.emitted["m"].version == 20
    swept = [s for s in pipeline.statements(say.ScoreChanged) if s.caused_by == "model:*:m:20"]
    assert len({s.lead_id for s in swept}) == len(swept) == 30

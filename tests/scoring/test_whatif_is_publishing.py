"""What a what-if says is what publishing does: the same draft, tried on leads and published in a copy."""

from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from leads_given import DAY_MS, T0, happened
from random_scoring import histories, model_texts

from schemas import statements as say
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import decode_statement, encode_source, key_of
from schemas.events import LeadsMerged, MergeUndone
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_CHANGES, SCORE_CHANGED
from scoring.evaluation.what_if import (
    NO_CURRENT_SCORE,
    CurrentScore,
    EvaluationTime,
    MoveCounts,
    add_comparison,
    compare_lead,
    counts_json,
    sum_of_counts,
)
from scoring.features.calendar import calendar
from scoring.models.model import ONE_POINT, built_in_models, compile_model, rounded_points
from streams.published import ModelVersion, TenantSettings
from streams.replay import Replay, lead_as_of, subject_of
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_stage import stage_after_conclusions

IDLE = 30 * 60_000


def published(name, text, version, at, *, fire=False):
    said = ModelPublished(
        tenant=EVERY_TENANT, recorded_at=moment(at), model=name, version=version, text=text, fire=fire
    )
    return publication_records(said)


def of_several_people(events, people):
    """The events in the order of their recording, each of one of a few visitors, some of them known leads;
    some leads are merged on the way, and split again.
    """
    told = []
    for number, event in enumerate(sorted(events, key=lambda event: event.occurred_at)):
        visitor, lead, merge = people[number % len(people)] if people else (0, 0, 0)
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        recorded = {"recorded_at": event.occurred_at}
        known = {"lead_id": f"L{lead}"} if lead else {}
        told.append(type(event)(**fields | {"visitor_id": f"v{visitor}"} | recorded | known))
        if merge:
            envelope = {
                "event_id": f"m{number}",
                "occurred_at": event.occurred_at,
                "lead_id": "L2",
            } | recorded
            told.append(LeadsMerged(**envelope, into="L1") if merge == 1 else MergeUndone(**envelope))
    return told


def replayed(models, events, heard=None):
    genesis = [record for name, text in models.items() for record in published(name, text, 1, 0)]
    replay = Replay(genesis, on_output=heard)
    replay.append(Outgoing(EVENTS, key_of(event), encode_source(event)) for event in events)
    replay.fold_all()
    return replay


def tried(models, draft, events, now):
    """Per lead what a what-if says."""
    rules = LeadRules(TenantSettings(), {name: ModelVersion(1, text) for name, text in models.items()})
    model = compile_model(draft)
    in_force = rules.models.get(model.name)
    after = LeadRules(
        TenantSettings(),
        {name: ModelVersion(1, text) for name, text in (models | {model.name: draft}).items()},
    )
    found, tally = {}, MoveCounts()
    for stored in replayed(models, events).leads():
        lead = lead_as_of(stored, rules, now)
        if not lead.identities:
            continue
        said = lead.head.emitted.get(model.name)
        compared = compare_lead(
            in_force,
            model,
            subject_of(lead),
            EvaluationTime(now, calendar("UTC"), IDLE),
            CurrentScore(said.total, said.disarmed) if said else NO_CURRENT_SCORE,
            lambda concluded, lead=lead: stage_after_conclusions(after, lead, {model.name: concluded}),
        )
        found[lead.lead_id] = compared
        add_comparison(tally, (lead.tenant, lead.lead_id), compared, in_force, model)
    return found, tally


def really_published(models, draft, events, now):
    """The leads after it, and what the publication said."""
    heard = []
    replay = replayed(models, events, heard.append)
    replay.advance_to(now)
    heard.clear()
    name = compile_model(draft).name
    replay.append(published(name, draft, 2, now, fire=True))
    replay.fold_all()
    said = [decode_statement(each.value) for each in heard if each.topic in (SCORE_CHANGED, LEAD_CHANGES)]
    return {lead.lead_id: lead for lead in replay.leads() if lead.identities}, said


def check(models, draft, events, now):
    name = compile_model(draft).name
    expected, said = really_published(models, draft, events, now)
    found, tally = tried(models, draft, events, now)
    assert found.keys() == expected.keys()
    crossed = {}
    for each in said:
        if isinstance(each, say.BandChanged) and each.model == name:
            marks = {f"{each.scale}:{band}" for band in each.crossed}
            crossed[each.lead_id] = crossed.get(each.lead_id, set()) | marks
    for lead_id, compared in found.items():
        now_said = expected[lead_id].head.emitted[name]
        assert compared.after.total == now_said.total
        assert compared.after.vector == now_said.vector
        assert compared.after.bands == now_said.bands
        assert set(compared.fires) == crossed.get(lead_id, set())
        assert compared.stages[1] == expected[lead_id].head.position.stage
    changed = {
        each.lead_id: each for each in said if isinstance(each, say.ScoreChanged) and each.model == name
    }
    for lead_id, compared in found.items():
        # The ledger's last word may be older than the exact total now, yet shows the same whole points.
        if lead_id in changed:
            previous = round(changed[lead_id].previous * ONE_POINT)
            assert rounded_points(previous) == rounded_points(compared.before.total)
            assert round(changed[lead_id].total * ONE_POINT) == compared.after.total
        else:
            assert rounded_points(compared.before.total) == rounded_points(compared.after.total)
    entered = {each.lead_id: each for each in said if isinstance(each, say.StageEntered)}
    assert {lead for lead, compared in found.items() if len(set(compared.stages)) > 1} == entered.keys()
    told = counts_json(tally)
    assert told["leads"] == len(expected)
    assert told["leads_firing"] == sum(bool(marks) for marks in crossed.values())
    assert told["up"] + told["down"] + told["same"] == len(expected)


people = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.sampled_from([0, 0, 0, 1, 2])), max_size=5
)
lively = histories().map(
    lambda events: [
        *events,
        *(happened("page_viewed", T0 - n * DAY_MS, event_id=f"p{n}") for n in (0, 1, 7, 29, 30, 60)),
        happened("email_opened", T0 - 3 * DAY_MS, event_id="o"),
        happened("profile_updated", T0, event_id="f", fields={"email": "a@b.example", "phone": "1"}),
    ]
)
RAISED = """
[groups.raised]
rules = [{{ name = "base", base = {} }}, {{ name = "acts", each = "interaction", points = {} }}]
"""


@st.composite
def raised(draw, **given):
    """A model under which most leads score something."""
    return draw(model_texts(**given)) + RAISED.format(draw(st.integers(-20, 60)), draw(st.integers(0, 9)))


later = st.integers(0, 120).map(lambda days: days * DAY_MS) | st.integers(0, 3 * DAY_MS)


@settings(max_examples=scaled(60))
@given(raised(session=False) | model_texts(), raised(session=False) | model_texts(), lively, people, later)
def test_a_whatif_says_who_moves_and_what_fires_as_publishing_does(in_force, draft, events, who, after):
    told = of_several_people(events, who)
    check({"m": in_force}, draft, told, T0 + after)


@settings(max_examples=scaled(40))
@given(raised(session=False), raised(session=False), lively, people, later)
def test_a_draft_of_the_qualifying_model_moves_stages_as_publishing_does(in_force, draft, events, who, after):
    one, other = (
        text.replace('model = "m"', 'model = "rules"').replace("good = 12.5", "mql = 12.5")
        for text in (in_force, draft)
    )
    told = of_several_people(events, who)
    check({"rules": one, "composite": built_in_models()["composite"]}, other, told, T0 + after)


@settings(max_examples=scaled(15))
@given(model_texts(), lively, people, later)
def test_a_model_that_is_new_raises_everybody_from_nothing(draft, events, who, after):
    check({}, draft, of_several_people(events, who), T0 + after)


@settings(max_examples=scaled(30))
@given(st.data())
def test_tallies_merge_into_what_one_would_have_counted(data):
    in_force, draft = data.draw(model_texts()), data.draw(model_texts())
    several = [of_several_people(data.draw(histories(8)), [(n, n, 0)]) for n in range(3)]
    every, tallies = MoveCounts(), []
    for number, events in enumerate(several):
        found, _ = tried({"m": in_force}, draft, events, T0)
        one, other = compile_model(in_force), compile_model(draft)
        tally = MoveCounts()
        for lead_id, compared in found.items():
            for into in (tally, every):
                add_comparison(into, (f"t{number}", lead_id), compared, one, other)
        tallies.append(tally)
    assert counts_json(sum_of_counts(tallies)) == counts_json(every)

"""Backtests: what was known at a cutoff decides the ranking, what came after it only the outcome."""

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import StepsDone
from leadstream.console import Failure
from leadstream.evaluation import backtest as backtesting
from leadstream.evaluation.backtest import BacktestPlan, Contender, RankedCutoff, backtest, backtest_result
from leadstream.evaluation.conversions import read_conversion
from leadstream.evaluation.model_sets import ModelSet
from leadstream.evaluation.recorded_events import RecordedEvent
from schemas.decode import encode_source, key_of
from schemas.events import (
    ConversionRecorded,
    Custom,
    LeadIdentified,
    LeadsMerged,
    MergeUndone,
    PageViewed,
    PurchaseMade,
    StageChanged,
)
from schemas.moment import millis, moment
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.calendar import calendar
from scoring.models.model import ONE_POINT, compile_model, score_lead
from streams.published import ModelVersion, TenantSettings
from streams.replay import Replay, subject_of

HOUR, DAY = 3_600_000, 86_400_000
START = 20_000 * DAY
PAGES = """
model = "pages"
[groups.g]
rules = [{ name = "Pages", each = "page_viewed", points = 1 }]
"""
RECENT = """
model = "recent"
[groups.g]
rules = [{ name = "Last", steps = "days since interaction", below = [[1, 10], [3, 5]], otherwise = 0 }]
"""
BASE = ModelSet(TenantSettings(), {"pages": ModelVersion(1, PAGES)})


def envelope(number, at, *, late=0, **who):
    return {
        "event_id": f"e{number}",
        "occurred_at": moment(START + at - late),
        "recorded_at": moment(START + at),
        "source": "crm",
        **who,
    }


def page(number, at, *, late=0, **who):
    return PageViewed(**envelope(number, at, late=late, **who))


def bought(number, at, *, late=0, **who):
    return PurchaseMade(**envelope(number, at, late=late, **who), value=9, currency="EUR")


def archive(events):
    """As `leadstream.evaluation.recorded_events` gives them."""
    placed = [
        RecordedEvent(millis(event.recorded_at), place, key_of(event), encode_source(event))
        for place, event in enumerate(events)
    ]
    return sorted(placed)


def contender(text=PAGES):
    return Contender(compile_model(text).name, compile_model(text), BASE.with_draft(text))


def plan(conversion="purchase_made", every=10 * DAY, horizon=10 * DAY, capacity=1, *, anonymous=False):
    return BacktestPlan(read_conversion(conversion), every, horizon, capacity, anonymous)


def cutoffs(events, given_plan=None, contenders=None):
    steps = backtest(archive(events), contenders or [contender()], BASE, given_plan or plan())
    return [step for step in steps if isinstance(step, RankedCutoff)]


def taken(events, given_plan, contenders=None):
    """Each cutoff as it was taken: {lead: (scores, converted in the end)} in its order."""
    run = backtesting.BacktestRun(contenders or [contender()], BASE, given_plan)
    cuts, real = [], run._open_cutoff

    def cut(at):
        held = {}
        for lead in run._replays[0].leads():
            held |= dict.fromkeys(lead.identities, lead.lead_id)
        made = real(at)
        cuts.append((made, {place: held[identity] for identity, place in made.leads.items()}))
        return made

    run._open_cutoff = cut
    for event in archive(events):
        list(run.advance_to(event.at))
        run.add(event)
    list(run.finish())
    return [
        {
            lead: ([scores[place] for scores in made.scores], bool(made.converted[place]))
            for place, lead in names.items()
        }
        for made, names in cuts
    ]


END = page("end", 31 * DAY, lead_id="ender")


def test_leads_are_ranked_by_what_they_did_until_the_cutoff_and_counted_by_what_they_do_after_it():
    """Ten days in, Ada has seen three pages, Bob two, Cyd one; Bob and Cyd buy within ten days more."""
    events = [
        *(page(n, n * HOUR, lead_id="ada") for n in range(3)),
        *(page(n, n * HOUR, lead_id="bob") for n in range(3, 5)),
        page(5, 5 * HOUR, lead_id="cyd"),
        bought(6, 12 * DAY, lead_id="bob"),
        bought(7, 19 * DAY, lead_id="cyd"),
        *(page(n, 11 * DAY + n * HOUR, lead_id="cyd") for n in range(10, 20)),
        END,
    ]
    first, second = cutoffs(events)
    assert (first.at, first.end) == (START + 10 * DAY, START + 20 * DAY)
    ranking = first.rankings["pages"]
    assert (ranking.leads, ranking.converted, ranking.chosen, ranking.hits) == (3, 2, 1, 0)
    # Of the pairs (buyer, other) only (bob, ada) and (cyd, ada) exist, and Ada is ahead of both.
    assert (ranking.ahead, ranking.pairs) == (0, 2)
    # Whoever has bought is no candidate any more.
    assert (second.rankings["pages"].leads, second.rankings["pages"].converted) == (1, 0)
    told = backtest_result([first, second])
    assert told["pooled"]["pages"]["leads"] == 4
    assert told["pooled"]["pages"]["capacity"] == {
        "chosen": 2,
        "converted": 0,
        "precision": 0,
        "interval": told["pooled"]["pages"]["capacity"]["interval"],
        "recall": 0,
        "converted_by_chance": pytest.approx(2 / 3),
        "times_chance": 0,
    }


def test_a_horizon_that_the_events_do_not_reach_is_no_cutoff():
    assert [
        c.at - START for c in cutoffs([page(1, 0, lead_id="a"), page(2, 20 * DAY - 1, lead_id="a")])
    ] == []
    reached = cutoffs([page(1, 0, lead_id="a"), page(2, 20 * DAY, lead_id="a")])
    assert [cut.at - START for cut in reached] == [10 * DAY]


def test_the_edges_of_a_cutoff_and_of_its_horizon_are_recorded_moments():
    """What is recorded at the cutoff is known; a conversion recorded at the horizon's end counts."""
    events = [
        page(1, 0, lead_id="a"),
        page(2, 10 * DAY, lead_id="at"),
        page(3, 10 * DAY + 1, lead_id="after"),
        bought(4, 20 * DAY, lead_id="a"),
        bought(5, 20 * DAY + 1, lead_id="at"),
        END,
    ]
    first, second = taken(events, plan())[:2]
    assert first == {"a": ([ONE_POINT], True), "at": ([ONE_POINT], False)}
    assert second == {"after": ([ONE_POINT], False), "at": ([ONE_POINT], True)}


def test_what_occurred_before_a_cutoff_but_was_recorded_after_it_does_not_count():
    events = [
        page(1, 0, lead_id="a"),
        page(2, 0, lead_id="b"),
        page(3, 11 * DAY, late=2 * DAY, lead_id="a"),  # seen on the ninth day, heard of on the eleventh
        bought(4, 12 * DAY, late=3 * DAY, lead_id="b"),  # bought on the ninth day: nobody knew
        bought(5, 13 * DAY, late=DAY, lead_id="a"),
        END,
    ]
    first, second, *_ = taken(events, plan())
    assert first == {"a": ([ONE_POINT], True), "b": ([ONE_POINT], False)}
    assert second == {}


def test_an_archive_that_was_imported_later_is_taken_in_the_order_of_its_recording():
    """The log has the younger events first."""
    events = [page(1, 15 * DAY, lead_id="a"), page(2, 0, lead_id="b"), page(3, 9 * DAY, lead_id="a"), END]
    assert taken(events, plan())[0] == {"b": ([ONE_POINT], False), "a": ([ONE_POINT], False)}


def test_time_passes_until_the_cutoff():
    events = [page(1, 0, lead_id="a"), page(2, 8 * DAY, lead_id="b"), END]
    first, *_ = taken(events, plan(), [contender(RECENT), contender()])
    assert first == {"a": ([0, ONE_POINT], False), "b": ([5 * ONE_POINT, ONE_POINT], False)}


def test_anonymous_visitors_are_ranked_if_asked_for_and_convert_as_whom_they_become():
    events = [
        page(1, 0, visitor_id="v", source="web"),
        page(2, 0, lead_id="x"),
        LeadIdentified(**envelope(3, 11 * DAY, visitor_id="v", lead_id="a")),
        bought(4, 12 * DAY, lead_id="a"),  # under the lead's own key
        END,
    ]
    assert taken(events, plan())[0] == {"x": ([ONE_POINT], False)}
    first, second, *_ = taken(events, plan(anonymous=True))
    assert first == {"anon:v": ([ONE_POINT], True), "x": ([ONE_POINT], False)}
    assert second.keys() == {"x"}


def test_leads_that_are_merged_before_they_convert_have_both_converted():
    events = [
        page(1, 0, lead_id="a"),
        page(2, 0, lead_id="b"),
        page(3, 0, lead_id="c"),
        LeadsMerged(**envelope(4, 11 * DAY, lead_id="b"), into="a"),
        bought(5, 12 * DAY, lead_id="a"),
        MergeUndone(**envelope(6, 13 * DAY, lead_id="b")),
        bought(7, 21 * DAY, lead_id="c"),
        END,
    ]
    first, second, *_ = taken(events, plan())
    assert {lead: converted for lead, (_, converted) in first.items()} == {"a": True, "b": True, "c": False}
    # Split again, both have converted as one.
    assert second == {"c": ([ONE_POINT], True)}


def test_a_lead_that_is_merged_into_one_that_has_converted_did_not_convert():
    events = [
        page(1, 0, lead_id="a"),
        page(2, 0, lead_id="b"),
        bought(3, 12 * DAY, lead_id="a"),
        LeadsMerged(**envelope(4, 12 * DAY + 1, lead_id="b"), into="a"),
        END,
    ]
    assert taken(events, plan())[0] == {"a": ([ONE_POINT], True), "b": ([ONE_POINT], False)}


@pytest.mark.parametrize("horizon", [75, 90, 100, 120])
def test_a_stage_that_time_alone_brings_is_a_conversion(horizon):
    """A customer churns after 180 quiet days; nothing happens to them then."""
    events = [
        bought(1, 0, lead_id="a"),
        page(2, 0, lead_id="b"),
        *(page(f"b{n}", n * 100 * DAY, lead_id="b") for n in range(1, 5)),
    ]
    first, second, *_ = taken(events, plan("stage:churned", every=100 * DAY, horizon=horizon * DAY))
    assert {lead: converted for lead, (_, converted) in first.items()} == {"a": horizon >= 80, "b": False}
    assert second.keys() == {"b"}


def test_a_conversion_after_a_split_is_that_of_its_own_half():
    events = [
        page(1, 0, lead_id="a"),
        page(2, 0, lead_id="b"),
        LeadsMerged(**envelope(3, DAY, lead_id="b"), into="a"),
        MergeUndone(**envelope(4, 11 * DAY, lead_id="b")),
        bought(5, 12 * DAY, lead_id="b"),
        END,
    ]
    first, second, *_ = taken(events, plan())
    assert first == {
        "a": ([2 * ONE_POINT], True)
    }  # at the cutoff the two were one lead, and part of it bought
    assert second.keys() == {"a"}


@pytest.mark.parametrize(
    ("conversion", "who"),
    [
        ("purchase_made", {"p"}),
        ("stage:opportunity", {"s"}),
        ("stage:customer", {"p"}),
        ("conversion:demo", {"d"}),
        ("custom:trial", {"t"}),
        ("page_viewed", {"v"}),
    ],
)
def test_a_conversion_is_an_event_a_goal_or_a_stage(conversion, who):
    known = [Custom(**envelope(f"k{lead}", 0, lead_id=lead), name="known") for lead in "psdtv"]
    events = [
        *known,
        bought(1, 12 * DAY, lead_id="p"),
        StageChanged(**envelope(2, 12 * DAY, lead_id="s"), stage="opportunity"),
        ConversionRecorded(**envelope(3, 12 * DAY, lead_id="d"), conversion_type="demo"),
        ConversionRecorded(**envelope(4, 12 * DAY, lead_id="t"), conversion_type="trial"),
        Custom(**envelope(5, 12 * DAY, lead_id="t"), name="trial"),
        Custom(**envelope(6, 12 * DAY, lead_id="d"), name="trials"),
        page(7, 12 * DAY, lead_id="v"),
        Custom(**envelope(8, 31 * DAY, lead_id="s"), name="known"),
    ]
    first = taken(events, plan(conversion))[0]
    assert {lead for lead, (_, converted) in first.items() if converted} == who


@pytest.mark.parametrize("text", ["bought", "stage:rich", "custom:", "conversion:", ""])
def test_what_is_no_conversion_is_refused_with_what_there_is(text):
    with pytest.raises(Failure, match=r"stage|conversion"):
        read_conversion(text)


def test_bots_and_repetitions_convert_nobody():
    sale = bought(2, 12 * DAY, lead_id="a")
    fields = {name: getattr(sale, name) for name in sale.__struct_fields__}
    events = [
        page(1, 0, lead_id="a"),
        page(3, 0, lead_id="b"),
        PurchaseMade(**fields | {"lead_id": "b", "bot": "Crawler"}),
        bought(3, 13 * DAY, lead_id="b"),  # an event of this id was there already
        END,
    ]
    assert {lead: converted for lead, (_, converted) in taken(events, plan())[0].items()} == {
        "a": False,
        "b": False,
    }


def test_contenders_rank_the_same_leads_and_progress_is_told():
    events = [page(n, n * HOUR, lead_id=f"l{n % 7}") for n in range(600)] + [END]
    steps = list(backtest(archive(events), [contender(), contender(RECENT)], BASE, plan(), len(events)))
    told = [step for step in steps if isinstance(step, StepsDone)]
    assert told[0] == (0, 601)
    assert told[-1].done == 500
    for cut in (step for step in steps if isinstance(step, RankedCutoff)):
        assert cut.rankings["pages"].leads == cut.rankings["recent"].leads
        assert cut.rankings["pages"].converted == cut.rankings["recent"].converted


# No leakage, and an oracle

happenings = st.lists(
    st.tuples(
        st.sampled_from(["page", "page", "buy", "merge", "split", "claim"]),
        st.integers(0, 3),
        st.integers(0, 9 * 24),
        st.sampled_from([0, 0, 1, 30, 300]),
    ),
    max_size=14,
)


def happen(specs, begin, prefix):
    events = []
    for number, (kind, who, hours, late) in enumerate(specs):
        given_envelope = {"late": late * HOUR, "lead_id": f"L{who}"}
        at, name = begin + hours * HOUR, f"{prefix}{number}"
        match kind:
            case "page":
                events.append(page(name, at, **given_envelope))
            case "buy":
                events.append(bought(name, at, **given_envelope))
            case "merge":
                events.append(LeadsMerged(**envelope(name, at, **given_envelope), into=f"L{(who + 1) % 4}"))
            case "split":
                events.append(MergeUndone(**envelope(name, at, **given_envelope)))
            case _:
                events.append(LeadIdentified(**envelope(name, at, visitor_id="v", **given_envelope)))
    return events


@settings(max_examples=scaled(60))
@given(happenings, happenings)
def test_nothing_recorded_after_a_cutoff_changes_the_ranking_at_it(before, after):
    known = [page("first", 0, lead_id="L0"), *happen(before, 0, "b")]
    later = happen(after, 10 * DAY + 1, "a")
    end = page("end", 40 * DAY, lead_id="L9")
    contenders = [contender(), contender(RECENT)]
    alone, together = (taken([*known, *more, end], plan(), contenders)[0] for more in ([], later))
    assert {lead: scores for lead, (scores, _) in alone.items()} == {
        lead: scores for lead, (scores, _) in together.items()
    }
    # And it is what a replay of the known events alone says at that moment.
    replay = Replay(BASE.with_draft(RECENT).genesis())
    replay.append(Outgoing(EVENTS, event.key, event.value) for event in archive(known))
    replay.advance_to(START + 10 * DAY)
    for lead in replay.leads():
        if lead.lead_id in alone:
            scores = [
                score_lead(
                    compile_model(text), subject_of(lead), START + 10 * DAY, calendar("UTC"), 30 * 60_000
                ).total
                for text in (PAGES, RECENT)
            ]
            assert alone[lead.lead_id][0] == scores


plain = st.lists(
    st.tuples(
        st.sampled_from(["page", "page", "buy"]),
        st.integers(0, 5),
        st.integers(0, 40 * 24),
        st.sampled_from([0, 0, 1, 30, 300]),
    ),
    max_size=25,
)


@settings(max_examples=scaled(60))
@given(plain, st.integers(2, 12), st.integers(1, 25))
def test_who_is_ranked_and_who_converts_is_what_plain_counting_says(specs, every, horizon):
    events = [page("first", 0, lead_id="L0"), *happen(specs, 0, "e"), page("end", 45 * DAY, lead_id="L0")]
    found = taken(events, plan(every=every * DAY, horizon=horizon * DAY))
    told = [
        (millis(e.recorded_at), millis(e.occurred_at), e.lead_id, isinstance(e, PurchaseMade)) for e in events
    ]
    expected, at = [], START + every * DAY
    while at < START + 45 * DAY:
        known = {lead for recorded, _, lead, _ in told if recorded <= at}
        known -= {lead for recorded, _, lead, sale in told if sale and recorded <= at}
        end = at + horizon * DAY
        converting = {lead for recorded, on, lead, sale in told if sale and at < on and at < recorded <= end}
        pages = {
            lead: sum(not sale for recorded, _, who, sale in told if who == lead and recorded <= at)
            for lead in known
        }
        expected.append({lead: ([pages[lead] * ONE_POINT], lead in converting) for lead in known})
        at += every * DAY
    complete = [
        at
        for at in range(len(expected))
        if START + (at + 1) * every * DAY + horizon * DAY <= START + 45 * DAY
    ]
    assert [found[at] for at in complete] == [expected[at] for at in complete]
    assert len(cutoffs(events, plan(every=every * DAY, horizon=horizon * DAY))) == len(complete)

"""Models published, changed, retired and published again, lifecycles replaced, leads claimed, merged and parted:
whatever the order, the ledger, the bands and the stages add up, and timers change nothing.
"""

from collections import defaultdict

import msgspec
from example_counts import scaled
from hypothesis import given as for_all
from hypothesis import settings as examples
from hypothesis import strategies as st
from random_lifecycles import lifecycles
from stream_stories import DAY, HOUR, Publish, Settings, Story, Time, happened

from schemas import statements as say
from scoring.models.points import ONE_POINT

BY_STAGE = """
model = "fit"
bands = { grade = { a = 20, b = 0 } }
[groups.g]
rules = [
  { name = "Stage", choose = "profile.stage", points = { contacted = 10, qualified = 30, lost = -5 } },
  { name = "Mail",  each   = "email_sent",    points = 4 },
]
"""
OTHER_BANDS = """
model = "fit"
bands = { level = { high = 10, low = 0 } }
[groups.h]
rules = [{ name = "Recent", steps = "days since interaction", below = [[2, 40], [5, 30]], otherwise = 1 }]
"""
FADING = """
model = "rules"
bands = { stage = { mql = 10, none = 0 } }
decay = { points = 0.4, per = "inactive day" }
[groups.g]
rules = [
  { name = "Form",     each   = "form_submitted",          points = 8 },
  { name = "Purchase", each   = "purchase_made in 3 days", points = 9 },
  { name = "Stage",    choose = "profile.stage",           points = { contacted = 5 } },
]
"""
NO_MQL = """
model = "rules"
bands = { stage = { none = 0 } }
[groups.g]
rules = [{ name = "Form", each = "form_submitted", points = 20 }]
"""
RETIRED = None

PUBLICATIONS = (
    *(("fit", text) for text in (BY_STAGE, OTHER_BANDS, RETIRED)),
    *(("rules", text) for text in (FADING, NO_MQL, RETIRED)),
)
ACTS = ("email_sent", "form_submitted", "purchase_made", "page_viewed", "email_replied")
PLACES = ("new", "contacted", "qualified", "customer", "lost", "churned")
LEADS = st.sampled_from(["A", "B", "C"])
ANYBODY = st.sampled_from(["A", "B", "v", "w"])
GAPS = (0, 1, HOUR, DAY, 3 * DAY, 200 * DAY)
happenings = st.one_of(
    st.tuples(st.just("act"), st.sampled_from(ACTS), ANYBODY),
    st.tuples(st.just("move"), st.sampled_from(PLACES), ANYBODY),
    st.tuples(st.just("claim"), LEADS, st.sampled_from(["v", "w"])),
    st.tuples(st.just("merge"), LEADS, LEADS),
    st.tuples(st.just("split"), LEADS, st.none()),
    st.tuples(
        st.just("publish"),
        st.sampled_from(PUBLICATIONS),
        st.sampled_from(["*", "default"]),
    ),
    st.tuples(st.just("lifecycle"), lifecycles(), st.none()),
)
timers = st.lists(st.integers(0, 5), max_size=2)
"""When they go off between two happenings, in fifths of the way back."""
histories = st.lists(st.tuples(happenings, st.sampled_from(GAPS), timers), max_size=16)


def who(name):
    return {"visitor_id": name} if name in "vw" else {"lead_id": name, "source": "crm"}


def happening(what, version, when):
    event_id = f"e{version:02}"
    match what:
        case "act", kind, whose:
            bought = {"value": 1, "currency": "EUR"} if kind == "purchase_made" else {}
            return happened(kind, event_id, when, **bought, **who(whose))
        case "move", stage, whose:
            return happened("stage_changed", event_id, when, stage=stage, **who(whose))
        case "claim", lead, visitor:
            return happened("lead_identified", event_id, when, visitor_id=visitor, lead_id=lead)
        case "merge", goes, into:
            into = into if into != goes else "D"
            return happened("leads_merged", event_id, when, into=into, **who(goes))
        case "split", back, _:
            return happened("merge_undone", event_id, when, **who(back))
        case "publish", (name, text), tenant:
            return Publish(name, text, version, when, tenant=tenant)
        case "lifecycle", text, _:
            return Settings(version, when, lifecycle=text)
    raise AssertionError(what)


def folded(history, *, timed):
    story = Story([("fit", BY_STAGE), ("rules", FADING)])
    when = 0
    for version, (what, gap, alarms) in enumerate(history, 10):
        when += gap
        if timed:
            story.when(*(Time(when - gap * back // 5) for back in sorted(alarms, reverse=True)))
        story.when(happening(what, version, when))
    story.when(Time(when + 400 * DAY))
    assert not story.pipeline.dead
    return story


def known(lead_id):
    """An anonymous lead that nobody is left in forgets what was said of it."""
    return not lead_id.startswith("anon:")


@examples(max_examples=scaled(60))
@for_all(histories)
def test_every_statement_goes_on_where_the_last_one_ended_and_the_last_is_what_is_stored(history):
    story = folded(history, timed=True)
    totals, bands, stages = defaultdict(float), defaultdict(lambda: None), defaultdict(lambda: "new")
    for _, said in story.pipeline.said:
        if not known(said.lead_id):
            continue
        match said:
            case say.ScoreChanged(lead_id=lead, model=model):
                assert abs(said.previous - totals[lead, model]) < 1 / ONE_POINT
                assert abs(sum(line.points for line in said.lines) - said.change) < 1 / ONE_POINT
                totals[lead, model] = said.total
            case say.BandChanged(lead_id=lead, model=model, scale=scale):
                assert said.previous == bands[lead, model, scale]
                bands[lead, model, scale] = said.band
            case say.StageEntered(lead_id=lead):
                assert said.previous == stages[lead] != said.stage
                stages[lead] = said.stage
    for lead in story.pipeline.leads().values():
        if known(lead.lead_id):
            stored = lead.head.emitted
            own = [key for key in totals if key[0] == lead.lead_id]
            assert {key[1]: round(totals[key] * ONE_POINT) for key in own if key[1] in stored} == {
                model: each.total for model, each in stored.items() if (lead.lead_id, model) in totals
            }
            assert all(totals[key] == 0 for key in own if key[1] not in stored)
            left = {key[1:]: band for key, band in bands.items() if key[0] == lead.lead_id and band}
            assert left == {
                (model, scale): band
                for model, each in stored.items()
                for scale, band in each.bands.items()
                if band
            }
            assert stages[lead.lead_id] == lead.head.position.stage


@examples(max_examples=scaled(60))
@for_all(histories)
def test_timers_change_nothing_whatever_is_published_retired_claimed_or_merged(history):
    def told(story):
        leads = defaultdict(list)
        for _, said in story.pipeline.said:
            leads[said.lead_id].append(msgspec.to_builtins(said) | {"statement_id": ""})
        return leads

    assert told(folded(history, timed=True)) == told(folded(history, timed=False))

"""Do not score: a lead that objects to profiling has no score, no band and no session's score, and only people move it
from stage to stage. An agreement brings back the score of all its events.
"""

import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from stream_simulator import refold
from stream_stories import DAY, MINUTE, Publish, Time, given, happened

from schemas import statements as say
from streams.score_leads.lead_state import LeadState
from streams.score_leads.stage import SCORE_LEADS

SCORES = (say.ScoreChanged, say.BandChanged, say.SessionScored, say.StageEntered)


def web(kind, event_id, when, **fields):
    return happened(kind, event_id, when, visitor_id="v", lead_id="L", source="web", **fields)


def objection(event_id, when, *, agrees=False):
    return happened("consent_changed", event_id, when, lead_id="L", source="crm", profiling=agrees)


def warm():
    """Twelve minutes on six pages, a demo request, and a phone number."""
    return [
        *(web("page_viewed", f"p{n}", n * 2 * MINUTE) for n in range(6)),
        web("demo_requested", "demo", 11 * MINUTE),
        web("session_ended", "end", 12 * MINUTE),
        happened("contact_shared", "c", 13 * MINUTE, lead_id="L", source="crm", phone="+4930123456"),
    ]


def test_an_objection_takes_back_every_score_band_and_sessions_score_and_says_so():
    story = given(*warm())
    before = {name: score for name, score in story.scores("L").items() if score}
    assert {"web_session", "chatbot", "temperature", "rules", "composite"} >= before.keys() >= {"web_session"}
    story.when(objection("o", 20 * MINUTE))
    changes = {s.model: s for s in story.statements(say.ScoreChanged)}
    assert changes.keys() >= before.keys()
    for change in changes.values():
        assert (change.removed, change.total, {*change.bands.values()} - {None}) == (True, 0, set())
        assert sum(line.points for line in change.lines) == pytest.approx(-before.get(change.model, 0))
    assert all(s.band is None and s.silent for s in story.statements(say.BandChanged))
    [session] = story.statements(say.SessionRetracted)
    assert session.session_id == "p0"
    card = story.card("L")
    assert (card.scores, card.fields["profiling_consent"], card.counts["page_viewed"]) == ({}, False, 6)


def test_nothing_scores_the_lead_while_it_objects():
    story = given(*warm(), objection("o", 20 * MINUTE))
    story.when(
        web("page_viewed", "q", 2 * DAY),
        web("session_ended", "r", 2 * DAY + MINUTE),
        web("form_submitted", "s", 2 * DAY + 2 * MINUTE),
        Time(3 * DAY),
        Time(400 * DAY),
    ).then(kinds=SCORES)
    assert story.card("L").scores == {}
    assert story.card("L").counts["page_viewed"] == 7


def test_a_publication_scores_no_lead_that_objects():
    from scoring.models.model import built_in_models

    story = given(*warm(), objection("o", 20 * MINUTE))
    text = built_in_models()["rules"]
    story.when(Publish("rules", text, 2, DAY, fire=True), Publish("temperature", None, 2, 2 * DAY)).then(
        kinds=SCORES
    )


def test_only_a_person_moves_a_lead_that_objects():
    story = given(web("page_viewed", "a", 0), objection("o", MINUTE))
    purchase = happened(
        "purchase_made", "b", DAY, lead_id="L", source="crm", value=10, currency="EUR", order_id="1"
    )
    story.when(purchase).then(kinds=SCORES)
    assert story.stage("L") == "new"
    story.when(happened("stage_changed", "m", 2 * DAY, lead_id="L", source="crm", stage="opportunity"))
    assert story.stage("L") == "opportunity"
    story.when(objection("p", 3 * DAY, agrees=True))
    assert story.stage("L") == "opportunity"  # the purchase came before the person's move, which wins
    assert story.scores("L").keys() == {"web_session", "chatbot", "temperature", "rules", "composite"}


def test_what_a_visitor_reached_before_moves_no_lead_that_objects():
    bought = happened(
        "purchase_made", "b", MINUTE, visitor_id="w", source="web", value=10, currency="EUR", order_id="1"
    )
    known = happened("lead_identified", "k", DAY, visitor_id="w", lead_id="L", source="web")
    assert given(bought, known).stage("L") == "customer"
    assert given(bought, objection("o", 2 * MINUTE), known).stage("L") == "new"


def test_an_agreement_brings_back_the_score_of_all_events_and_of_every_session():
    later = [web("page_viewed", "q", 2 * DAY), web("session_ended", "r", 2 * DAY + 10 * MINUTE)]
    story = given(*warm(), objection("o", 20 * MINUTE), *later).when(objection("p", 3 * DAY, agrees=True))
    plain = given(*warm(), *later, objection("p", 3 * DAY, agrees=True))
    assert story.scores("L") == plain.scores("L")
    assert story.stage("L") == plain.stage("L")
    session_totals = {s.session_id: s.score for s in story.statements(say.SessionScored)}
    assert session_totals.keys() == {"p0", "q"}
    assert all(s.silent for s in story.statements(say.BandChanged))


def test_a_merge_takes_back_no_objection():
    """Also where the lead that stays agreed before; the last word counts, whoever merged what."""
    story = given(
        happened("profile_updated", "a", 0, lead_id="B", source="crm", fields={"profiling_consent": True}),
        *warm(),
        objection("o", 20 * MINUTE),
    )
    story.when(happened("leads_merged", "m", DAY, lead_id="L", into="B", source="crm"))
    assert (story.card("B").scores, story.card("B").fields["profiling_consent"]) == ({}, False)
    story.when(happened("merge_undone", "n", 2 * DAY, lead_id="L", source="crm"))
    assert story.card("B").scores.keys() >= {"rules"}
    assert story.card("L").scores == {}


def test_a_lead_that_objected_under_an_earlier_version_loses_its_scores_when_its_timer_comes(monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(LeadState, "refuses_profiling", property(lambda _: False))
        story = given(*warm(), objection("o", 20 * MINUTE))
    assert story.card("L").scores
    state = story.lead("L")
    assert SCORE_LEADS.check_timer(None, state, state.head.clock) == (True, None)
    story.when(Time(40 * DAY))
    assert story.card("L").scores == {}
    assert {s.removed for s in story.statements(say.ScoreChanged)} == {True}


happenings = st.lists(
    st.sampled_from(["page", "end", "demo", "object", "agree", "day", "null"]), min_size=1, max_size=25
)


def events_of(names):
    for number, name in enumerate(names):
        when = number * 20 * MINUTE
        match name:
            case "page":
                yield web("page_viewed", f"e{number}", when)
            case "end":
                yield web("session_ended", f"e{number}", when)
            case "demo":
                yield web("demo_requested", f"e{number}", when)
            case "day":
                yield Time(when)
            case _:
                consent = {"object": False, "agree": True, "null": None}[name]
                fields = {"profiling_consent": consent}
                yield happened(
                    "profile_updated", f"e{number}", when, lead_id="L", source="crm", fields=fields
                )


@settings(max_examples=25, deadline=None)
@examples(happenings)
def test_whatever_comes_when_a_lead_that_objects_has_nothing_and_any_other_what_its_events_give(names):
    story = given(*events_of(names))
    consents = [name for name in names if name in ("object", "agree", "null")]
    sums = {}
    for statement in (s for _, s in story.pipeline.said if isinstance(s, say.ScoreChanged)):
        lines = sum(round(line.points * 1e6) for line in statement.lines)
        sums[statement.model] = sums.get(statement.model, 0) + lines
    if not (card := story.pipeline.cards.get("default/l/L")):
        return
    if consents and consents[-1] == "object":
        assert (card.scores, set(sums.values()) - {0}) == ({}, set())
    else:
        agreed = [name if name != "object" else "agree" for name in names]
        plain = given(*events_of(agreed)).card("L")
        assert {n: s.total for n, s in card.scores.items() if s.total} == {
            n: s.total for n, s in plain.scores.items() if s.total
        }
        assert {n: s.bands for n, s in card.scores.items()} == {n: s.bands for n, s in plain.scores.items()}
        assert {n: points for n, points in sums.items() if points} == {
            n: round(s.total * 1e6) for n, s in card.scores.items() if s.total
        }
    again = refold(story.pipeline, 1, crash=0.3)
    assert sorted(s.statement_id for _, s in again.said) == sorted(
        s.statement_id for _, s in story.pipeline.said
    )

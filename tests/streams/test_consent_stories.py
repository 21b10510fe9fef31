"""Consent to being tracked: what the folds count when an event reaches them without it."""

import pytest
from stream_simulator import refold
from stream_stories import DAY, HOUR, MINUTE, Settings, at, given, happened

from schemas import statements as say


def view(event_id, when, **fields):
    return happened("page_viewed", event_id, when, visitor_id="v", source="web", **fields)


def word(event_id, when, agreed, **fields):
    return happened(
        "consent_changed", event_id, when, visitor_id="v", source="web", tracking=agreed, **fields
    )


def pages(story, lead="anon:v"):
    card = story.pipeline.cards.get(f"default/l/{lead}")
    return 0 if card is None else card.counts.get("page_viewed", 0)


def test_a_withdrawal_gates_the_events_after_it_and_leaves_what_was_before():
    story = given(view("a", 0), view("b", MINUTE), word("w", 2 * MINUTE, agreed=False))
    emitted_before = len(story.pipeline.said)
    story.when(view("c", 3 * MINUTE, context=None), view("d", 4 * MINUTE, lead_id="L"))
    assert pages(story) == 2
    assert len(story.pipeline.said) == emitted_before
    assert "default/l/L" not in story.pipeline.cards
    story.when(word("x", DAY, agreed=True), view("e", DAY + MINUTE))
    assert pages(story) == 3


def test_an_event_of_before_a_withdrawal_that_comes_later_counts():
    story = given(view("a", 0), word("w", HOUR, agreed=False))
    story.when(view("b", 30 * MINUTE, recorded=2 * HOUR), view("c", HOUR, recorded=2 * HOUR))
    assert pages(story) == 2


def test_the_last_word_is_the_one_that_was_said_last_in_whatever_order_they_come():
    words = [
        word("w", HOUR, agreed=False, recorded=3 * HOUR),
        word("x", 2 * HOUR, agreed=True, recorded=3 * HOUR),
    ]
    for order in (words, words[::-1]):
        assert pages(given(*order, view("a", 4 * HOUR))) == 1


def test_what_an_event_says_itself_goes_before_the_last_word():
    story = given(word("w", 0, agreed=False), view("a", MINUTE, tracking_consent=True))
    assert pages(story) == 1
    story.when(view("b", 2 * MINUTE, tracking_consent=False))
    assert pages(story) == 1


def test_other_channels_need_no_consent_to_being_tracked():
    story = given(word("w", 0, agreed=False))
    story.when(happened("qr_scanned", "q", MINUTE, visitor_id="v", source="qr", qr_id="1"))
    assert story.card("anon:v").counts["qr_scanned"] == 1


def test_a_requirement_counts_from_its_moment_on_so_that_a_replay_under_the_newest_settings_agrees():
    require = Settings(2, HOUR, consent_required_since=at(HOUR))
    story = given(view("a", 0), require, view("b", 2 * HOUR), view("c", 3 * HOUR, tracking_consent=True))
    assert pages(story) == 2
    replayed = given(
        Settings(2, 0, consent_required_since=at(HOUR)),
        view("a", 0), view("b", 2 * HOUR), view("c", 3 * HOUR, tracking_consent=True),
    )  # fmt: skip
    assert pages(replayed) == 2


@pytest.mark.parametrize("tracked", [True, False])
def test_a_caller_who_waits_learns_that_the_event_counts_for_nothing(tracked):
    story = given(word("w", 0, agreed=tracked)).when(view("a", MINUTE, reply=True))
    [applied] = story.statements(say.EventApplied)
    assert applied.outcome == ("applied" if tracked else "no_consent")


def test_folding_again_agrees():
    story = given(
        view("a", 0), word("w", HOUR, agreed=False), view("b", 2 * HOUR),
        Settings(2, 3 * HOUR, consent_required_since=at(3 * HOUR)), view("c", 4 * HOUR, tracking_consent=True),
    )  # fmt: skip
    again = refold(story.pipeline, 1, crash=0.3)
    assert [s.statement_id for _, s in again.said] == [s.statement_id for _, s in story.pipeline.said]

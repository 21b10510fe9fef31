"""One order is one purchase, whoever reports it and in whatever order, through both folds."""

from decimal import Decimal

import pytest
from stream_simulator import Pipeline
from stream_stories import DAY, HOUR, MINUTE, Story, happened

from schemas.topics import lead_key

SPENT = """
model = "m"
[groups.g]
rules = [
  { name = "Bought", each = "purchase_made", points = 1 },
  { name = "Spent 60 EUR", value = "sum of purchase:EUR", greater_or_equal = 60, points = 100 },
]
"""


def bought(event_id, when, /, order="A-1001", value="39.95", **who):
    return happened(
        "purchase_made", event_id, when, value=Decimal(value), currency="EUR", order_id=order, **who
    )


def given(*events):
    return Story((("m", SPENT),)).when(*events)


def test_an_order_of_a_browser_and_of_the_crm_is_one_purchase_of_the_lead():
    """The thank-you page reports it before the visitor is known, the CRM reports it by the lead's id."""
    story = given(
        bought("page", 0, visitor_id="v"),
        bought("crm", HOUR, lead_id="L", source="crm"),
        happened("lead_identified", "i", 2 * HOUR, visitor_id="v", lead_id="L"),
    )
    assert story.card("L").counts["purchase_made"] == 1
    assert story.scores("L") == {"m": 1}
    story.when(bought("other", 3 * HOUR, order="A-1002", value="20.05", visitor_id="v"))
    assert story.scores("L") == {"m": 102}
    assert story.card("L").revenue == {"EUR": Decimal("60.00")}


def test_a_refund_takes_the_points_back_that_its_money_earned():
    refund = {"order_id": "A-1001", "value": Decimal("0.01"), "currency": "EUR", "source": "crm"}
    story = given(bought("a", 0, value="60.00", lead_id="L"))
    assert story.scores("L") == {"m": 101}
    story.when(happened("purchase_refunded", "r", HOUR, lead_id="L", **refund))
    assert story.scores("L") == {"m": 1}
    assert story.card("L").revenue == {"EUR": Decimal("59.99")}


def test_an_update_of_an_order_takes_points_back():
    story = given(bought("a", 0, value="60.00", lead_id="L"), bought("b", MINUTE, value="59.99", lead_id="L"))
    assert story.scores("L") == {"m": 1}


@pytest.mark.parametrize("late", [HOUR, 3 * DAY])
def test_a_report_that_comes_days_late_changes_nothing(late):
    story = given(bought("b", MINUTE, lead_id="L"), bought("a", 0, recorded=late, lead_id="L"))
    assert (story.scores("L"), story.card("L").counts["purchase_made"]) == ({"m": 1}, 1)


def test_after_a_merge_two_reports_are_one_and_after_it_is_undone_one_each():
    story = given(
        bought("a", 0, lead_id="A"),
        bought("b", 0, lead_id="B"),
        happened("leads_merged", "m", HOUR, lead_id="A", into="B", source="crm"),
    )
    assert (story.scores("B"), story.scores("A")) == ({"m": 1}, {"m": 0})
    story.when(happened("merge_undone", "u", 2 * HOUR, lead_id="A", source="crm"))
    assert (story.scores("B"), story.scores("A")) == ({"m": 1}, {"m": 1})


def test_many_reports_leave_the_lead_as_one_does():
    """Between other events, which add to the merged features in place."""
    reports = [bought(f"p{n}", n * MINUTE, visitor_id="v") for n in range(5)]
    pages = [happened("page_viewed", f"v{n}", n * MINUTE, visitor_id="v") for n in range(5)]
    chats = [
        happened("message_received", f"c{n}", n * MINUTE, lead_id="L", source="telegram") for n in range(5)
    ]
    known = happened("lead_identified", "i", MINUTE, visitor_id="v", lead_id="L")
    story = given(known, *(event for three in zip(reports, pages, chats, strict=True) for event in three))
    counts = story.card("L").counts
    assert (counts["purchase_made"], counts["page_viewed"], counts["interaction"]) == (1, 5, 11)


def test_a_signal_that_tests_the_value_follows_an_update():
    """A model that reads nothing else of a purchase gives its points, and takes them back."""
    text = """
    model = "m"
    [signals]
    big = { event = "purchase_made", field = "value", greater_or_equal = 60 }
    [groups.g]
    rules = [{ name = "Big", each = "big", points = 5 }]
    """
    story = Story((("m", text),)).when(bought("a", 0, value="60.00", lead_id="L"))
    assert story.scores("L") == {"m": 5}
    story.when(bought("b", MINUTE, value="59.99", lead_id="L"))
    assert story.scores("L") == {"m": 0}
    story.when(bought("c", HOUR, value="100.00", lead_id="L"))
    assert story.scores("L") == {"m": 5}


def test_reports_that_are_folded_in_one_chunk_count_as_they_do_one_by_one():
    """While the state of the lead stays in memory."""
    orders = ["A", "B", "A", "C", "B", "A"]
    pipeline = Pipeline((("m", SPENT),)).fold_all()
    for number, order in enumerate(orders):
        pipeline.produce(
            bought(f"p{number}", number * MINUTE, order=order, value=f"{number + 1}", lead_id="L")
        )
        pipeline.produce(
            happened("message_received", f"m{number}", number * MINUTE, lead_id="L", source="telegram")
        )
    pipeline.fold_all()
    card = pipeline.cards[lead_key("default", "L")]
    assert (card.counts["purchase_made"], card.counts["interaction"]) == (3, 9)
    assert card.revenue == {"EUR": Decimal(15)}
    assert {name: score.total for name, score in card.scores.items()} == {"m": 3}

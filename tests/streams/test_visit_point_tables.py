"""Web session scoring, row by row: visits told as events through both folds, points from the tables.

A visit's session is cut by the first fold and scored by the second; nothing is given but what a page
would send. Points are worked by hand from the three tables and their formulas.
"""

import pytest
from stream_stories import MINUTE, SECOND, Time, given, happened

from schemas import statements as say

HEARTBEAT_EVERY = 20 * MINUTE


def visit(lasts=0, pages=0, clicks=0, important=0, name="a", begins=0):
    """What a page sends: opened, views and clicks at once, then signs of life until the visitor leaves."""
    acts = ["page_viewed"] * pages + ["element_clicked"] * (clicks + important)
    labels = [None] * pages + ["Read more"] * clicks + ["Get a Demo"] * important
    yield happened("session_started", f"{name}.0", begins, visitor_id="v")
    for number, (kind, label) in enumerate(zip(acts, labels, strict=True), 1):
        told = {"text": label} if label else {}
        yield happened(kind, f"{name}.{number}", begins, visitor_id="v", **told)
    for beat in range(HEARTBEAT_EVERY, lasts, HEARTBEAT_EVERY):
        yield happened("session_heartbeat", f"{name}.h{beat}", begins + beat, visitor_id="v")
    yield happened("session_ended", f"{name}.end", begins + lasts, visitor_id="v")


def groups_of(story):
    """Points by group of the last session that ended."""
    [*_, scored] = [s for s in story.statements(say.SessionScored) if s.ended]
    groups = {"duration": 0, "pages": 0, "clicks": 0}
    for line in scored.lines:
        groups[line.group] += line.points
    assert sum(groups.values()) == scored.score
    return groups


@pytest.mark.parametrize(
    ("lasts", "points"),
    [
        # under a minute
        (0, 5),
        (1, 5),
        (59 * SECOND, 5),
        (60 * SECOND - 1, 5),
        # 1 to 3 minutes
        (60 * SECOND, 15),
        (61 * SECOND, 15),
        (180 * SECOND - 1, 15),
        # 3 to 5 minutes
        (180 * SECOND, 25),
        (181 * SECOND, 25),
        (300 * SECOND - 1, 25),
        # 5 to 10 minutes
        (300 * SECOND, 35),
        (301 * SECOND, 35),
        (600 * SECOND - 1, 35),
        # 10 minutes and more
        (600 * SECOND, 40),
        (601 * SECOND, 40),
        (5 * 60 * MINUTE, 40),
    ],
)
def test_the_duration_of_a_visit(lasts, points):
    assert groups_of(given(*visit(lasts))) == {"duration": points, "pages": 0, "clicks": 0}


@pytest.mark.parametrize(
    ("pages", "points"), [(0, 0), (1, 5), (2, 10), (3, 15), (4, 20), (5, 25), (6, 30), (7, 30), (30, 30)]
)
def test_five_points_for_each_page_and_thirty_at_most(pages, points):
    assert groups_of(given(*visit(pages=pages)))["pages"] == points


@pytest.mark.parametrize(
    ("clicks", "important", "points"),
    [
        (0, 0, 0),
        (1, 0, 2),
        (0, 1, 5),
        (1, 1, 7),
        (3, 1, 11),
        (5, 2, 20),
        (14, 0, 28),
        (15, 0, 30),
        (16, 0, 30),
        (0, 5, 25),
        (0, 6, 30),
        (0, 7, 30),
        (12, 1, 29),
        (10, 2, 30),
        (13, 1, 30),
        (40, 40, 30),
    ],
)
def test_two_points_for_a_click_five_for_an_important_one_thirty_at_most_together(clicks, important, points):
    assert groups_of(given(*visit(clicks=clicks, important=important)))["clicks"] == points


@pytest.mark.parametrize(
    ("label", "points"),
    [
        ("Be an Early Bird", 5),
        ("Get a Demo", 5),
        ("BE AN EARLY BIRD", 5),
        ("get a demo", 5),
        ("  Get a Demo \t", 5),
        ("Get a Demo now", 2),
        ("Demo", 2),
        ("Early Bird", 2),
        ("Get  a  Demo", 2),
        ("", 2),
        (None, 2),
    ],
)
def test_which_clicks_are_important(label, points):
    click = happened("element_clicked", "b", 0, visitor_id="v", text=label)
    story = given(happened("session_started", "a", 0, visitor_id="v"), click)
    assert groups_of(story.when(happened("session_ended", "c", 0, visitor_id="v")))["clicks"] == points


SCENARIOS = {
    "high engagement": ((8 * MINUTE, 4, 3, 1), (35, 20, 11), 66),
    "very high engagement": ((12 * MINUTE, 6, 5, 2), (40, 30, 20), 90),
    "low engagement": ((45 * SECOND, 1, 1, 0), (5, 5, 2), 12),
}


@pytest.mark.parametrize(("shape", "points", "total"), SCENARIOS.values(), ids=SCENARIOS)
def test_the_example_scenarios_as_events(shape, points, total):
    story = given(*visit(*shape))
    assert tuple(groups_of(story).values()) == points
    assert story.scores("anon:v")["web_session"] == total


def test_a_visitor_has_the_mean_of_the_visits_that_have_ended():
    """66, then (66 + 90) / 2 = 78, then (66 + 90 + 12) / 3 = 56, then (66 + 90 + 12 + 12) / 4 = 45."""
    shapes = [(8 * MINUTE, 4, 3, 1), (12 * MINUTE, 6, 5, 2), (45 * SECOND, 1, 1, 0), (45 * SECOND, 1, 1, 0)]
    means, story = [], given()
    for number, shape in enumerate(shapes):
        story.when(*visit(*shape, name=f"v{number}", begins=number * 60 * MINUTE))
        means.append(story.scores("anon:v")["web_session"])
    assert means == [66, 78, 56, 45]


def test_a_mean_that_is_half_a_point_goes_up():
    """(12 + 15) / 2 = 13.5."""
    story = given(*visit(45 * SECOND, 1, 1), *visit(45 * SECOND, 2, 0, name="b", begins=60 * MINUTE))
    assert story.scores("anon:v")["web_session"] == 14


def test_a_visit_nobody_ended_ends_thirty_minutes_after_its_last_sign_of_life():
    """Four minutes 25, a page 5."""
    story = given(
        happened("page_viewed", "a", 0, visitor_id="v"),
        happened("session_heartbeat", "b", 4 * MINUTE, visitor_id="v"),
    )
    assert story.when(Time(34 * MINUTE - 1)).scores("anon:v")["web_session"] == 0
    assert story.when(Time(34 * MINUTE)).scores("anon:v")["web_session"] == 30

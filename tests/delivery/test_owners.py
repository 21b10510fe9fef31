"""Who gets a lead."""

from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from delivery.owners import Owner, choose_owner

FRIDAY_NOON = datetime(2026, 1, 16, 12, 0, tzinfo=UTC)
SUNDAY = datetime(2026, 1, 18, 12, 0, tzinfo=UTC)


def choose(candidates, **options):
    defaults = {
        "by_capacity": False,
        "working_hours": False,
        "owners": {},
        "open_leads": {},
        "last": None,
        "now": FRIDAY_NOON,
        "zone": ZoneInfo("UTC"),
    }
    return choose_owner(candidates, **{**defaults, **options})


def test_in_turn_everybody_gets_as_many():
    last, chosen = None, Counter()
    for _ in range(9):
        last = choose(["5", "7", "9"], last=last)
        chosen[last] += 1
    assert chosen == {"5": 3, "7": 3, "9": 3}


def test_the_first_begins_and_one_who_left_is_forgotten():
    assert choose(["5", "7"]) == "5"
    assert choose(["5", "7"], last="6") == "5"


@pytest.mark.parametrize(
    ("open_leads", "owner"),
    [
        ({"5": 8, "7": 3}, "7"),  # 2 left, 7 left
        ({"5": 0, "7": 4}, "5"),  # 10, 6
        ({"5": 4, "7": 4}, "5"),  # 6, 6: fewer leads are equal, too, so the next in turn
        ({"5": 12, "7": 11}, "7"),  # nobody has room: -2, -1
    ],
)
def test_by_capacity_the_one_with_most_left(open_leads, owner):
    owners = {"5": Owner(capacity=10), "7": Owner(capacity=10)}
    assert choose(["5", "7"], by_capacity=True, owners=owners, open_leads=open_leads) == owner


def test_without_capacities_the_one_with_fewest_leads():
    assert choose(["5", "7"], by_capacity=True, open_leads={"5": 3, "7": 2}) == "7"


def test_those_at_work_come_first():
    owners = {
        "5": Owner(working_hours=("sat-sun 09:00-17:00",)),
        "7": Owner(working_hours=("mon-fri 09:00-17:00",)),
    }
    assert choose(["5", "7"], working_hours=True, owners=owners) == "7"
    assert choose(["5", "7"], working_hours=True, owners=owners, now=SUNDAY) == "5"
    assert choose(["5", "7"], owners=owners) == "5", "only if the workflow asks for it"


def test_nobody_at_work_keeps_no_lead_waiting():
    owners = {"5": Owner(working_hours=("mon 09:00-10:00",)), "7": Owner(working_hours=("mon 09:00-10:00",))}
    assert choose(["5", "7"], working_hours=True, owners=owners, last="5") == "7"


def test_an_owner_has_a_zone_of_their_own():
    owners = {
        "5": Owner(working_hours=("fri 20:00-23:00",), time_zone="Asia/Tokyo"),
        "7": Owner(working_hours=("sun 09:00-10:00",)),
    }
    assert choose(["7", "5"], working_hours=True, owners=owners) == "5", "21:00 in Tokyo"

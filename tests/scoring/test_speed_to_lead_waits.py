"""Since when a lead waited for a contact, by its stages and bands one moment after the other: written down by hand."""

from datetime import UTC, datetime

import pytest

from scoring.workflows.speed_to_lead import SpeedToLead, StandingOfLead, Wait, latest_wait

BANDS = ("hot", "sql", "mql", "none")


def at(hour):
    return datetime(2026, 3, 14, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("standings", "wait"),
    [
        ([], None),
        ([(1, "contacted", None)], None),
        ([(1, "qualified", None)], Wait(at(1), None)),
        ([(1, "qualified", None), (2, "engaged", None)], Wait(at(1), None)),
        ([(1, "qualified", None), (2, "lost", None)], Wait(at(1), at(2))),
        ([(1, "qualified", None), (2, "customer", None), (3, "churned", None)], Wait(at(1), at(2))),
        ([(1, "qualified", None), (2, "lost", None), (3, "qualified", None)], Wait(at(3), None)),
    ],
)
def test_by_the_stage(standings, wait):
    assert latest_wait(SpeedToLead(), [StandingOfLead(at(h), s, b) for h, s, b in standings], BANDS) == wait


@pytest.mark.parametrize(
    ("bands", "wait"),
    [
        (["none", "mql"], None),
        (["mql", "sql"], Wait(at(1), None)),
        (["mql", "hot", "none"], Wait(at(1), at(2))),
        (["sql", None, "hot"], Wait(at(2), None)),
    ],
)
def test_by_a_band_or_a_higher_one(bands, wait):
    standings = [StandingOfLead(at(hour), "new", band) for hour, band in enumerate(bands)]
    assert latest_wait(SpeedToLead(after="sql"), standings, BANDS) == wait

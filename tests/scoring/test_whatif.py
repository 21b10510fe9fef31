"""What a draft would change, counted by hand."""

import pytest
from leads_given import DAY_MS, IDLE, T0, UTC, features_of, happened

from scoring.evaluation.what_if import (
    MOST_MOVERS,
    NO_CURRENT_SCORE,
    CurrentScore,
    EvaluationTime,
    LeadComparison,
    MoveCounts,
    add_comparison,
    changes_important_clicks,
    compare_lead,
    counts_json,
    fired_thresholds,
    leads_by_range,
    listed_movers,
    uncounted_signals,
)
from scoring.models.model import ONE_POINT, Subject, compile_model
from scoring.models.score import Conclusion

NOW = EvaluationTime(T0, UTC, IDLE)


def model(rules, head="", tail=""):
    return compile_model(
        f"""
        model = "m"
        {head}
        bands = {{ heat = {{ hot = 50, warm = 10, cold = 0 }} }}
        [groups.g]
        rules = [{rules}]
        {tail}
        """
    )


def lead(*events, stage="new"):
    return Subject(features_of(events), stage)


PAGES = '{ name = "Pages", each = "page_viewed", points = 5 }'
OPENS = '{ name = "Letters", each = "email_opened", points = 30 }'
ONE_OF_EACH = (happened("page_viewed", T0 - DAY_MS), happened("email_opened", T0 - DAY_MS))


def test_a_lead_is_compared_line_by_line():
    tally, old, new = MoveCounts(), model(PAGES), model(f"{PAGES}, {OPENS}")
    compared = compare_lead(old, new, lead(*ONE_OF_EACH), NOW, CurrentScore(5 * ONE_POINT, []))
    assert (compared.before.total, compared.after.total) == (5 * ONE_POINT, 35 * ONE_POINT)
    assert compared.fires == ["heat:warm"]
    add_comparison(tally, ("t", "L"), compared, old, new)
    told = counts_json(tally)
    assert told["movers"] == [
        {
            "tenant": "t",
            "lead_id": "L",
            "before": 5,
            "after": 35,
            "change": 30,
            "bands": [{"scale": "heat", "from": "cold", "to": "warm"}],
            "lines": [{"group": "g", "rule": "Letters", "kind": "points", "points": 30}],
        }
    ]
    assert told["bands"] == [{"scale": "heat", "from": "cold", "to": "warm", "leads": 1}]
    assert told["fires"] == [{"scale": "heat", "band": "warm", "leads": 1}]
    assert (told["up"], told["down"], told["same"], told["change_band"]) == (1, 0, 0, 1)


def test_a_new_model_is_compared_with_nothing():
    compared = compare_lead(None, model(OPENS), lead(*ONE_OF_EACH), NOW)
    assert compared.before == Conclusion(0, [], {})
    assert compared.after.total == 30 * ONE_POINT
    assert compared.fires == ["heat:warm"]


@pytest.mark.parametrize(
    ("said", "total", "fired"),
    [
        (NO_CURRENT_SCORE, 49.5 * ONE_POINT, ["heat:warm", "heat:hot"]),
        (NO_CURRENT_SCORE, 49.4 * ONE_POINT, ["heat:warm"]),
        (CurrentScore(10 * ONE_POINT, ["heat:warm"]), 50 * ONE_POINT, ["heat:hot"]),
        (
            CurrentScore(9 * ONE_POINT, ["heat:warm"]),
            50 * ONE_POINT,
            ["heat:hot"],
        ),  # it fired, then a merge took the points away
        (CurrentScore(60 * ONE_POINT, []), 50 * ONE_POINT, []),
        (CurrentScore(int(49.6 * ONE_POINT), []), 50 * ONE_POINT, []),
    ],
)
def test_thresholds_fire_on_whole_points_while_armed(said, total, fired):
    assert fired_thresholds(model(PAGES), said, Conclusion(int(total), [], {})) == fired


def test_a_lower_threshold_alone_fires_nothing():
    """Nobody rises: the band changes, and no workflow starts."""
    lower = f'model = "m"\nbands = {{ heat = {{ hot = 3, cold = 0 }} }}\n[groups.g]\nrules = [{PAGES}]'
    old, new = model(PAGES), compile_model(lower)
    compared = compare_lead(old, new, lead(*ONE_OF_EACH), NOW, CurrentScore(5 * ONE_POINT, []))
    assert compared.after.bands == {"heat": "hot"}
    assert compared.fires == []


def test_a_lead_that_the_draft_moves_on_is_scored_in_its_new_stage():
    staged = '{ name = "Stage", choose = "profile.stage", points = { qualified = 40 } }'
    compared = compare_lead(
        model(PAGES), model(staged), lead(*ONE_OF_EACH), NOW, restage=lambda _: "qualified"
    )
    assert compared.after.total == 40 * ONE_POINT
    assert compared.stages == ("new", "qualified")
    assert compare_lead(model(PAGES), model(staged), lead(*ONE_OF_EACH), NOW).after.total == 0


def one(before, after, bands=({"heat": "cold"}, {"heat": "cold"})):
    first, second = (
        Conclusion(round(total * ONE_POINT), [round(total * ONE_POINT)], each)
        for total, each in zip((before, after), bands, strict=True)
    )
    return LeadComparison(first, second, [], ("new", "new"))


def test_totals_fall_into_ranges_of_twenty():
    tally, m = MoveCounts(), model(PAGES)
    for number, total in enumerate([-0.1, 0, 19.999999, 20, 40, 79.5, 80, 100, 100.000001]):
        add_comparison(tally, ("t", str(number)), one(total, 0), m, m)
    assert leads_by_range(tally.before) == {
        "below 0": 1,
        "0-20": 2,
        "20-40": 1,
        "40-60": 1,
        "60-80": 1,
        "80-100": 2,
        "above 100": 1,
    }
    assert leads_by_range(tally.after) == {"0-20": 9, "20-40": 0, "40-60": 0, "60-80": 0, "80-100": 0}
    told = {each["from"]: each["before"] for each in counts_json(tally)["histogram"] if each["before"]}
    assert told == {-5: 1, 0: 1, 15: 1, 20: 1, 40: 1, 75: 1, 80: 1, 95: 1, 100: 1}


def test_who_changes_a_band_is_told_before_who_moves_further_and_only_so_many():
    tally, m = MoveCounts(), model(PAGES)
    crossing = ({"heat": "cold"}, {"heat": "warm"})
    for number in range(3 * MOST_MOVERS):
        add_comparison(tally, ("t", f"far{number:02}"), one(0, 200 + number), m, m)
    add_comparison(tally, ("t", "near"), one(9, 10, crossing), m, m)
    add_comparison(tally, ("t", "still"), one(9, 9), m, m)
    told = [mover.lead[1] for mover in listed_movers(tally)]
    assert told == ["near", *(f"far{number}" for number in range(3 * MOST_MOVERS - 1, 2 * MOST_MOVERS, -1))]
    assert len(tally.movers) == MOST_MOVERS


def test_a_signal_is_counted_if_a_model_in_force_defines_it_just_so():
    signals = '[signals]\n%s = { event = "message_received", field = "kind", equals = "%s" }'
    voice = model(PAGES, tail=signals % ("voice", "voice"))
    named_otherwise = model(PAGES, tail=signals % ("spoken", "voice"))
    defined_otherwise = model(PAGES, tail=signals % ("voice", "text"))
    assert uncounted_signals(voice, [model(PAGES)]) == ("voice",)
    assert uncounted_signals(voice, [model(PAGES), voice]) == ()
    assert uncounted_signals(named_otherwise, [voice]) == ("spoken",)
    assert uncounted_signals(defined_otherwise, [voice]) == ("voice",)
    assert not changes_important_clicks(["voice"])
    assert changes_important_clicks(["voice", "important_click"])

"""Bands that two groups make together, and the model of fit and engagement that ships with them."""

import pytest
from leads_given import DAY_MS, HOUR_MS, IDLE, T0, UTC, features_of, happened, lines, scored

from scoring.models.model import (
    NEVER,
    ONE_POINT,
    ModelError,
    Subject,
    all_models,
    built_in_models,
    compile_model,
    next_visible_time_change,
    optional_models,
    score_lead,
)

MIDNIGHT = T0 - 10 * HOUR_MS
MATRIX = """
[matrix.priority]
rows    = { group = "fit",        bands = { A = 60, B = 30, C = 0 } }
columns = { group = "engagement", bands = { 1 = 60, 2 = 30, 3 = 0 } }
"""


def model_of(fit, engagement, head="", *, weights=(1, 1), limits=""):
    return compile_model(
        f'model = "m"\n{head}\n{MATRIX}'
        f'[groups.fit]\nweight = {weights[0]}\n{limits}\nrules = [{{ name = "F", {fit} }}]\n'
        f'[groups.engagement]\nweight = {weights[1]}\nrules = [{{ name = "E", {engagement} }}]\n'
    )


def priority(fit, engagement, head="", **more):
    model = model_of(f"base = {fit}", f"base = {engagement}", head, **more)
    return scored(model, []).bands["priority"]


@pytest.mark.parametrize(
    ("fit", "engagement", "band"),
    [
        (60, 60, "A1"),
        (100, 59.999, "A2"),
        (59.999, 60, "B1"),
        (30, 30, "B2"),
        (30, 29.999, "B3"),
        (29.999, 30, "C2"),
        (29.999, 60, "C1"),
        (60, 0, "A3"),
        (0, 0, "C3"),
        (-0.001, 60, None),
        (60, -0.001, None),
        (-1, -1, None),
    ],
)
def test_a_row_and_a_column_make_the_band(fit, engagement, band):
    assert priority(fit, engagement) == band


def test_the_weight_of_a_group_moves_no_band():
    assert priority(60, 30, weights=(0.001, 100)) == "A2"
    assert priority(59.999, 29.999, weights=(0.333, 0.2)) == "B3"


def test_caps_and_floors_come_first():
    assert priority(60, 60, limits="max = 59") == "B1"
    assert priority(-60, 60, limits="min = 0") == "C1"


def test_limits_and_rounding_of_the_total_move_no_band():
    assert priority(60, 60, 'max = 10\nround = "half up"') == "A1"


@pytest.mark.parametrize(("fit", "band"), [(59.499, "B1"), (59.5, "A1"), (-0.5, "C1"), (-0.501, None)])
def test_bands_on_the_rounded_points_round_both_sides(fit, band):
    assert priority(fit, 59.5, 'band_on = "rounded"') == band


def test_a_matrix_stands_beside_other_bands():
    model = model_of("base = 60", "base = 1", "bands = { heat = { hot = 61, cold = 0 } }")
    assert scored(model, []).bands == {"heat": "hot", "priority": "A3"}
    assert model.band_sets == {
        "heat": ("hot", "cold"),
        "priority": ("A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3"),
    }


def test_a_group_whose_rules_are_all_switched_off_has_no_points():
    assert scored(model_of("base = 60, active = false", "base = 60"), []).bands == {"priority": "C1"}


def test_time_alone_moves_the_band_though_the_total_stays_the_same():
    """Engagement 64, 48, 32, 16, 0, of which the total takes a thousandth: only the bands are seen."""
    fading = 'each = "qr_scanned in 4 days", points = 64, fades = "linear"'
    model = model_of("base = 60", fading, weights=(1, 0.001))
    subject = Subject(features_of([happened("qr_scanned", T0)], [model]))
    seen, at = [], T0
    while (at := next_visible_time_change(model, subject, at, UTC, IDLE)) < NEVER:
        seen.append(((at - MIDNIGHT) / DAY_MS, score_lead(model, subject, at, UTC, IDLE).bands["priority"]))
    assert seen == [(1, "A2"), (3, "A3")]


# refusals

HEAD = 'model = "m"\n'
ROWS = 'rows = { group = "fit", bands = { A = 1, B = 0 } }'
COLUMNS = 'columns = { group = "did", bands = { 1 = 1, 2 = 0 } }'


def with_matrix(*lines, name="m", more=""):
    return "\n".join(
        [HEAD + more, f"[matrix.{name}]", *lines, "[groups.fit]", "[groups.did]", "[groups.none]\nweight = 0"]
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (with_matrix(ROWS), "line 3, matrix.m: wants a name of small letters, digits and _, and rows ="),
        (with_matrix(ROWS, COLUMNS, "x = 1"), "line 3, matrix.m: wants"),
        (with_matrix(ROWS, COLUMNS, name="M"), "line 3, matrix.M: wants"),
        (
            with_matrix(ROWS, COLUMNS, more="bands = { m = { a = 1 } }"),
            "line 3, matrix.m: [bands] has a set of this name",
        ),
        (with_matrix(ROWS, "columns = 3"), "line 5, matrix.m, columns: wants { group ="),
        (
            with_matrix('rows = { group = "fat", bands = { A = 1 } }', COLUMNS),
            "line 4, matrix.m, rows: there is no group 'fat'",
        ),
        (
            with_matrix(ROWS, 'columns = { group = "none", bands = { A = 1 } }'),
            "line 5, matrix.m, columns: the group 'none' weighs 0",
        ),
        (
            with_matrix('rows = { group = "fit", bands = { A = 1, B = 1 } }', COLUMNS),
            "line 4, matrix.m, rows: bands has two bands at one threshold",
        ),
        (
            with_matrix('rows = { group = "fit", bands = {} }', COLUMNS),
            "line 4, matrix.m, rows: bands wants 1 to 32 bands",
        ),
        (
            with_matrix('rows = { group = "fit", bands = { A = "x" } }', COLUMNS),
            "line 4, matrix.m, rows: bands: 'x' is not a number",
        ),
        (
            with_matrix(ROWS, COLUMNS.replace("did", "fit")),
            "line 3, matrix.m: rows and columns are the same group, 'fit'",
        ),
        (
            with_matrix(ROWS.replace("B", "A1"), COLUMNS.replace("2", "11")),
            "line 3, matrix.m: two pairs of a row and a column are both called 'A11'",
        ),
        (
            HEAD + "matrix = { m = { rows = 3 } }\n[groups.g]\n",
            "line 2, matrix.m: wants",
        ),
        (HEAD + "matrix = 3\n[groups.g]\n", "line 2, matrix: wants a table, not 3"),
        (
            HEAD + "".join(f"[matrix.m{n}]\n{ROWS}\n{COLUMNS}\n" for n in range(9)) + "[groups.g]\n",
            "line 2, matrix: a model has at most 8, not 9",
        ),
        (
            with_matrix(ROWS, COLUMNS, more='reads = "session"'),
            'line 3, matrix: a model that reads = "session" has none',
        ),
        (
            with_matrix(ROWS, COLUMNS, "[needs.A1]", "fields = []"),
            "line 6, needs.A1: there is no band of this name",
        ),
    ],
)
def test_a_bad_matrix_is_refused_with_the_place_and_the_reason(text, reason):
    with pytest.raises(ModelError) as refused:
        compile_model(text)
    assert str(refused.value).startswith(reason)


# the model of fit and engagement

FITTING = {
    "title": "Head of Sales",
    "industry": "SaaS",
    "company_size": "51-200",
    "location": "Berlin",
    "company": "Acme",
    "phone": "1",
    "email": "ann@acme.example",
}


def fit_engagement():
    return compile_model(optional_models()["fit_engagement"])


def test_an_optional_model_is_published_by_name_and_not_in_force_from_the_start():
    assert sorted(optional_models()) == ["fit_engagement"]
    assert sorted(all_models()) == sorted([*built_in_models(), "fit_engagement"])
    assert "fit_engagement" not in built_in_models()


def test_an_optional_model_needs_no_replay():
    """It reads only what every lead's features hold anyway."""
    assert all(compile_model(text).signals == () for text in optional_models().values())


def test_a_fitting_lead_who_asks_for_a_demo_is_an_a1_and_cools_down():
    """40 + 20 points; after a fortnight 40 x 2^-(2/3) + 10 = 35.19; after three weeks 20 + 7.07."""
    model = fit_engagement()
    events = [happened("profile_updated", fields=FITTING)]
    events += [happened(kind) for kind in ("demo_requested", "form_submitted")]
    now = scored(model, events)
    assert (now.total, now.bands) == (80 * ONE_POINT, {"priority": "A1"})
    for days, total, band in ((1, None, "A2"), (14, 67_599_000, "A2"), (21, 63_535_500, "A3")):
        later = scored(model, events, T0 + days * DAY_MS)
        assert later.bands == {"priority": band}
        assert total in {None, later.total}


@pytest.mark.parametrize(
    ("changed", "points"),
    [
        ({}, 100),
        ({"title": "chief of staff"}, 100),
        ({"title": "CTO"}, 100),
        ({"title": "Headhunter"}, 75),
        ({"industry": "Mining"}, 80),
        ({"company_size": "11-50"}, 90),
        ({"company_size": "1-10"}, 80),
        ({"location": "Paris"}, 90),
        ({"company": None, "phone": None}, 80),
        ({"email": None}, 95),
        ({"email": "ann@gmail.com"}, 90),
    ],
)
def test_fit_is_who_they_are(changed, points):
    score = scored(fit_engagement(), [happened("profile_updated", fields=FITTING | changed)])
    assert score.total == points * ONE_POINT // 2
    assert score.bands == {"priority": "A3"}


def test_nobody_in_particular_is_a_c3_and_a_lead_who_objects_is_no_worse():
    model = fit_engagement()
    assert scored(model, []).bands == {"priority": "C3"}
    objected = [happened("consent_changed", email=False)]
    objected += [happened("custom", T0 - age * DAY_MS, name="email_bounced") for age in range(9)]
    score = scored(model, objected)
    assert (score.total, score.bands) == (0, {"priority": "C3"})
    assert lines(model, score)["Unsubscribed"] == -20 * ONE_POINT
    assert lines(model, score)["engagement"] == (40 + 30) * ONE_POINT // 2


def test_engagement_is_limited_by_rule():
    """Seven forms on one day count once, seven demos twice, forty pages on one day five times."""
    events = [happened(kind) for kind in ("form_submitted", "demo_requested") for _ in range(7)]
    events += [happened("page_viewed") for _ in range(40)]
    model = fit_engagement()
    assert lines(model, scored(model, events)) == {
        "Forms": 10 * ONE_POINT,
        "Demos, meetings": 40 * ONE_POINT,
        "Pages": 2_500_000,
        "engagement": -2_500_000,
    }


def test_unsubscribing_takes_a_lead_down_a_column():
    events = [happened("demo_requested"), happened("form_submitted")]
    assert scored(fit_engagement(), events).bands == {"priority": "C1"}
    events.append(happened("consent_changed", email=False))
    assert scored(fit_engagement(), events).bands == {"priority": "C3"}

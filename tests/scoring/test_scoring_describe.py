"""A model told to people says what its text says: every rule, limit, band and need, and nothing else."""

from typing import get_args

import pytest
from example_counts import scaled
from hypothesis import given, settings
from random_scoring import model_texts

from scoring.editing.describe import describe_model, describe_rule, rule_limits_text
from scoring.models.counting import COUNTING_KEYS
from scoring.models.model import ModelError, compile_model
from scoring.models.rules import RULE_KINDS, RuleKind

WHOLE = r"""
model   = "mine"
about   = "What it is for."
min     = -10
max     = 100
round   = "half up"
decay   = { half_life_days = 30 }
band_on = "rounded"

[bands]
heat = { cold = 0, hot = 50.5, warm = 20 }

[[needs.hot]]
fields = ["email", "phone"]
actions = ["demo_requested"]
within_days = 1
[[needs.hot]]
name = "Rich"
active = false
minimum = 60

[signals]
big = { event = "custom:order", source = "shop", where = [{ field = "total", greater_than = 500 }, { field = "paid", equals = true }] }
asked = { event = "question_answered", distinct = "question_id" }

[matrix.priority]
rows = { group = "fit", bands = { B = 0, A = 60 } }
columns = { group = "acts", bands = { 1 = 40, 2 = 0 } }

[groups.fit]
weight = 0.25
max = 80
rules = [
  { name = "Phone", has = ["phone", "mobile"], points = 10 },
  { name = "Town", value = "profile.town", not_in_list = ["X|Y", "Z"], points = -1.5 },
  { name = "Age", value = "profile.age", between = [30, 50.5], points = 1 },
  { name = "Mail", value = "profile.email", is_set = true, points = 2, active = false },
  { name = "Stage", choose = "profile.stage", points = { customer = 100, new = 10 }, otherwise = 5 },
]

[groups.acts]
rules = [
  { name = "Scans", each = ["qr_scanned in 7 days", "big in 7 days"], points = 3, max = 15, times = 9, times_a_day = 2, half_life_days = 1 },
  { name = "Pages", each = "page_viewed in 9 days", points = -1, min = -4, fades = "linear" },
  { name = "Demo", once = "demo_requested", points = 5 },
  { name = "Heard", steps = "days since interaction", below = [[7, 40], [30, 2.5]], otherwise = 1, never = 3 },
  { name = "All", base = 50 },
]
"""


SAID = r"""
### mine
What it is for.
The total is -10 to 100. It is rounded to a whole number, halves up. Without an interaction it halves in 30 days. Bands go by the rounded total; the total keeps its decimals.
**fit**, 80 at most, weighted 0.25
| Phone | `phone` or `mobile` is given | 10 |  |
| Town | `profile.town` not in list `X\|Y`, `Z` | -1.5 |  |
| Age | `profile.age` between 30, 50.5 | 1 |  |
| Mail (switched off) | `profile.email` is set | 2 |  |
| Stage | `profile.stage` | customer: 100; new: 10; else: 5 |  |
**acts**
| Scans | each `qr_scanned in 7 days` or `big in 7 days` | 3 each | 15 at most, the latest 9, 2 a day, halves in 1 day |
| Pages | each `page_viewed in 9 days` | -1 each | -4 at least, fades evenly over its window |
| Demo | at least one `demo_requested` | 5 |  |
| Heard | `days since interaction` | below 7: 40; below 30: 2.5; else: 1; never: 3 |  |
| All | everybody | 50 |  |
| `big` | `custom:order`, from `shop`, where `total` greater than 500 and `paid` equals yes |
| `asked` | `question_answered`, each `question_id` once |
| hot | 50.5 |
| warm | 20 |
| cold | 0 |
Beside its points **hot** needs: the fields `email`, `phone`; the actions `demo_requested`, each within 1 day. Or: Rich (60 points at least) (switched off).
| fit / acts | 1: from 40 | 2: from 0 |
| A: from 60 | A1 | A2 |
| B: from 0 | B1 | B2 |
""".strip().splitlines()


@pytest.mark.parametrize("line", SAID)
def test_a_line_of_a_model(line):
    assert line in describe_model(WHOLE).splitlines()


def test_a_model_of_visits_says_whose_mean_a_lead_has():
    text = """
        model = "visits"
        reads = "session"
        lead  = { mean_of = "ended sessions", latest = 5, half_life_days = 30 }
        max   = 9
        [groups.g]
        rules = [{ name = "Pages", each = "session.pages", points = 1 }]
    """
    assert describe_model(text).splitlines()[2] == (
        "Its rules see one web session at a time. A lead has the mean of its latest 5 sessions that have ended, "
        "one that is 30 days older than the newest counting half. A session scores 9 at most."
    )


def test_a_text_that_does_not_compile_is_not_told():
    with pytest.raises(ModelError, match="unknown"):
        describe_model('model = "m"\nsecret = 1\n[groups.g]\nrules = []')


@settings(max_examples=scaled(60))
@given(model_texts())
def test_every_model_can_be_told_and_names_all_its_rules(text):
    page = describe_model(text)
    for group in compile_model(text).groups:
        assert f"**{group.name}**" in page
        assert all(f"| {rule.name} | " in page for rule in group.rules)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(row.endswith("|") for row in rows)


def test_a_criterion_that_asks_for_points_alone_needs_no_words():
    text = """
        model = "m"
        bands = { stage = { hot = 80 } }
        needs.hot = [{ name = "Hot lead" }]
        [groups.g]
        rules = []
    """
    assert "needs" not in describe_model(text)


def test_every_kind_of_rule_has_a_type_that_mypy_checks():
    assert get_args(RuleKind) == tuple(RULE_KINDS), (
        "name the new kind in RuleKind: mypy shows what must decide on it"
    )


def test_a_kind_of_rule_without_a_description_is_an_error(monkeypatch):
    monkeypatch.setitem(RULE_KINDS, "streak", RULE_KINDS["each"])
    with pytest.raises(AssertionError):
        describe_rule({"name": "New", "streak": "page_viewed", "points": 1})


@pytest.mark.parametrize("key", ["min", "max", *COUNTING_KEYS])
def test_every_limit_of_a_rule_is_described(key):
    assert rule_limits_text({key: 2})


def test_sequences_and_sites_are_described():
    assert describe_rule(
        {"name": "New", "sequence": ["page_viewed:/a", "demo_requested"], "within": "1 h", "points": 2}
    ) == ("`page_viewed:/a`, then `demo_requested`, within 1 h", "2 each")
    on_sites = {"name": "New", "once": "page_viewed", "site": ["a.example", "b.example"], "points": 2}
    assert describe_rule(on_sites) == ("at least one `page_viewed` on `a.example` or `b.example`", "2")
    text = 'model = "m"\n[signals]\nasked = { sequence = ["page_viewed", "demo_requested"], within = "1 h" }\nshop = { event = "page_viewed", site = "a.example" }\n[groups.g]\nrules = []'
    described = describe_model(text)
    assert "| `asked` | `page_viewed`, then `demo_requested`, within 1 h |" in described
    assert "| `shop` | `page_viewed`, on `a.example` |" in described

"""A real campaign backtested: a model written by hand finds those who subscribe.

Its points were set by judgement from what is generally known of this campaign, and fitted to no row.

Data: Moro, S., Rita, P., & Cortez, P. (2014). Bank Marketing. UCI Machine Learning Repository,
https://doi.org/10.24432/C5K306, licensed CC BY 4.0. `duration` is left out: it is known only after the call.
"""

import csv
from bisect import bisect_left, bisect_right
from itertools import islice
from pathlib import Path

import pytest

from leadstream.evaluation.backtest import BacktestPlan, Contender, RankedCutoff, backtest, backtest_result
from leadstream.evaluation.conversions import read_conversion
from leadstream.evaluation.model_sets import ModelSet
from leadstream.evaluation.recorded_events import RecordedEvent
from schemas.decode import encode_source, key_of
from schemas.events import CallMade, ProfileUpdated, PurchaseMade
from schemas.moment import millis, moment
from scoring.models.model import compile_model
from streams.published import TenantSettings

BANK = Path(__file__).parents[2] / "../shared/data/bank-marketing/bank-full.csv"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BANK.exists(), reason="the bank marketing data is not here"),
]

MINUTE, DAY = 60_000, 86_400_000
START = 18_000 * DAY
EVERY = 13
"""Of 45,211 rows 3,478, spread over the whole campaign."""
CAPACITY = 200

MODEL = """
model = "bank"
[groups.history]
max = 40
rules = [
  { name = "Bought before",    value = "profile.poutcome", equals = "success", points = 40 },
  { name = "Talked to before", value = "profile.previous", greater_than = 0, points = 10 },
]
[groups.situation]
rules = [
  { name = "No mortgage", value = "profile.housing", equals = "no", points = 10 },
  { name = "No loan",     value = "profile.loan", equals = "no", points = 5 },
  { name = "Savings",     value = "profile.balance", greater_than = 1500, points = 5 },
  { name = "Free time",   value = "profile.job", in_list = ["student", "retired"], points = 15 },
]
[groups.campaign]
rules = [
  { name = "Season",     value = "profile.month", in_list = ["mar", "sep", "oct", "dec"], points = 20 },
  { name = "Cell phone", value = "profile.contact", equals = "cellular", points = 10 },
  { name = "Pestered",   value = "profile.campaign", greater_than = 3, points = -10 },
]
"""
NUMBERS = ("balance", "previous", "campaign")
TEXTS = ("job", "month", "contact", "poutcome", "housing", "loan", "marital", "education")


def points(row):
    """The model once more, by hand."""
    history = (40 if row["poutcome"] == "success" else 0) + (10 if int(row["previous"]) > 0 else 0)
    situation = (10 if row["housing"] == "no" else 0) + (5 if row["loan"] == "no" else 0)
    situation += (5 if int(row["balance"]) > 1500 else 0) + (
        15 if row["job"] in {"student", "retired"} else 0
    )
    campaign = (20 if row["month"] in {"mar", "sep", "oct", "dec"} else 0) + (
        10 if row["contact"] == "cellular" else 0
    )
    campaign -= 10 if int(row["campaign"]) > 3 else 0
    return min(history, 40) + situation + campaign


@pytest.fixture(scope="module")
def rows():
    with BANK.open(encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), 0, None, EVERY))


def archive(rows):
    """Everybody's profile and a call, then the cutoff, then the subscriptions."""
    events = []
    for number, row in enumerate(rows):
        at = moment(START + number * MINUTE)
        told = {"occurred_at": at, "recorded_at": at, "lead_id": f"row{number}", "source": "import"}
        fields = {name: row[name] for name in TEXTS} | {name: int(row[name]) for name in NUMBERS}
        events.append(ProfileUpdated(**told, event_id=f"p{number}", fields=fields, imported=True))
        if row["y"] == "yes":
            later = {"occurred_at": moment(START + 4 * DAY), "recorded_at": moment(START + 4 * DAY + number)}
            sale = told | later | {"event_id": f"s{number}", "imported": True}
            events.append(PurchaseMade(**sale, value=1, currency="EUR"))
    at = moment(START + 6 * DAY)
    events.append(CallMade(occurred_at=at, recorded_at=at, lead_id="end", event_id="end", source="phone"))
    return sorted(
        RecordedEvent(millis(event.recorded_at), place, key_of(event), encode_source(event))
        for place, event in enumerate(events)
    )


def expected_among(ranked, first):
    """Conversions among the first so many: of those level with the last one as many as their share."""
    level = ranked[first - 1][0] if first else None
    above = [converted for score, converted in ranked if first and score > level]
    beside = [converted for score, converted in ranked if score == level]
    return sum(above) + (sum(beside) / len(beside) * (first - len(above)) if first else 0)


def test_a_model_made_by_hand_ranks_those_who_subscribe_first_as_plain_counting_says(rows):
    base = ModelSet(TenantSettings(), {})
    contender = Contender("bank", compile_model(MODEL), base.with_draft(MODEL))
    plan = BacktestPlan(read_conversion("purchase_made"), 3 * DAY, 3 * DAY, CAPACITY)
    steps = backtest(archive(rows), [contender], base, plan)
    told = backtest_result([step for step in steps if isinstance(step, RankedCutoff)])["pooled"]["bank"]

    ranked = sorted(((points(row), row["y"] == "yes") for row in rows), reverse=True)
    leads, converted = len(ranked), sum(yes for _, yes in ranked)
    assert (told["leads"], told["converted"]) == (leads, converted)
    assert told["conversion_rate"] == pytest.approx(converted / leads)
    chosen = told["capacity"]
    assert chosen["converted"] == pytest.approx(expected_among(ranked, CAPACITY))
    assert chosen["precision"] == pytest.approx(expected_among(ranked, CAPACITY) / CAPACITY)
    assert chosen["recall"] == pytest.approx(expected_among(ranked, CAPACITY) / converted)
    assert chosen["converted_by_chance"] == pytest.approx(CAPACITY * converted / leads)
    ends = [leads * n // 10 for n in range(11)]
    for tenth, begin, end in zip(told["deciles"], ends, ends[1:], strict=False):
        found = expected_among(ranked, end) - expected_among(ranked, begin)
        assert tenth["leads"] == end - begin
        assert tenth["converted"] == pytest.approx(found)
        assert tenth["lift"] == pytest.approx(found / (end - begin) / (converted / leads))
        assert tenth["gain"] == pytest.approx(expected_among(ranked, end) / converted)
    others = sorted(score for score, yes in ranked if not yes)
    ahead = [(bisect_left(others, score) + bisect_right(others, score)) / 2 for score, yes in ranked if yes]
    assert told["auc"] == pytest.approx(sum(ahead) / len(others) / converted)

    first, *_, last = told["deciles"]
    assert first["lift"] > 2
    assert last["lift"] < 1
    assert told["auc"] > 0.65

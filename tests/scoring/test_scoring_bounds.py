"""The real caps, against somebody who tries to make a lead grow."""

from decimal import Decimal

import pytest
from leads_given import DAY_MS, IDLE, T0, UTC, features_of, happened, shipped, visit

from scoring.features.features import (
    CUSTOM_KEPT,
    FIELDS_KEPT,
    ITEMS_KEPT,
    SUMS_KEPT,
    Features,
    encode_features,
    put_session,
)
from scoring.features.signals import LONGEST_FIELD_TEXT
from scoring.models.model import Subject, compile_model, explain_score


def hostile() -> Features:
    """Everything at its longest and more of it than is kept."""
    long = "x" * 1024
    models = [shipped("chatbot"), shipped("temperature")]
    features = features_of(
        (
            happened("custom", T0 - back * DAY_MS, name=f"c{number:063}")
            for number in range(2 * CUSTOM_KEPT)
            for back in (0, 99)
        ),
        models,
    )
    more = [
        happened("profile_updated", event_id=f"{number:064}", fields={f"f{number:063}": long})
        for number in range(3 * FIELDS_KEPT)
    ]
    more += [
        happened(
            "question_answered", source="chatbot", question_id=f"{number:0128}", text=long, time_taken_s=1.0
        )
        for number in range(2 * ITEMS_KEPT)
    ]
    more += [
        happened("purchase_made", value=Decimal("1e12"), currency=a + b + "X")
        for a in "ABCDEFGH"
        for b in "ABCDEFGH"
    ]
    features_of(more, models, into=features)
    for number in range(200):
        put_session(features, f"{number:064}", visit(86_400, 10**6, 10**6, 10**6, T0 - number * DAY_MS))
    return features


def test_a_hostile_identity_is_bounded():
    features = hostile()
    assert sum(name.startswith("custom:") for name in features.signals) == CUSTOM_KEPT
    assert len(features.fields) == FIELDS_KEPT
    assert {len(items) for items in features.sets.values()} == {ITEMS_KEPT}
    assert len(features.sums) == SUMS_KEPT
    assert len(encode_features(features)) < 84_000


def test_a_long_value_is_cut_at_a_whole_character():
    features = features_of([happened("profile_updated", fields={"name": "ä" * 600, "tags": ["é" * 100] * 9})])
    assert features.fields["name"][2] == "ä" * (LONGEST_FIELD_TEXT // 2)
    assert features.fields["tags"][2] == ["é" * 100]


def test_a_long_item_is_told_apart_by_its_hash():
    asked = [happened("question_answered", question_id="q" * 60 + str(number)) for number in (1, 2, 2)]
    items = features_of(asked).sets["questions"]
    assert len(items) == 2
    assert all(len(item) == 17 and item.startswith("#") for item in items)


@pytest.mark.parametrize(
    "rule",
    [
        'each = "distinct questions", points = 1',
        'steps = "distinct questions", below = [[3, 1]], otherwise = 5',
    ],
)
def test_a_line_says_when_there_may_be_more_different_values_than_are_counted(rule):
    signal = 'asked = { event = "question_answered", distinct = "question_id" }'
    model = compile_model(
        f'model = "m"\n[signals]\n{signal}\n[groups.g]\nrules = [{{ name = "Questions", {rule} }}]'
    )
    answers = [happened("question_answered", question_id=f"q{number}") for number in range(130)]

    def line(count):
        subject = Subject(features_of(answers[:count], [model]), "new")
        return explain_score(model, subject, T0, UTC, IDLE)[0].text

    limit = ", no more than 128 different ones are counted"
    assert (line(127).endswith(limit), line(128).endswith(limit), line(130)) == (False, True, line(128))

"""The facts that analytics read of leads, from the rows of real records."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from projection_records import at, attached, delta, lead_scored, page_view, recorded, score_changed, statement
from psycopg.rows import dict_row

from projections.lead_facts import count_facts, facts_of_rows, select_facts
from projections.queries import sql_and_parameters
from projections.row_keys import lead_row_key
from projections.table_definition import READ_OPTIONS
from projections.worker import project_records
from schemas import events as e
from schemas import statements as say
from schemas.moment import millis
from scoring.analytics.facts import LeadFacts


@pytest.fixture
def facts_of(read_models_url: str, db: psycopg.Connection[Any]):
    """Projects records and reads the facts of leads."""

    def read(said: Sequence[Any], *lead_ids: str) -> list[LeadFacts | None]:
        project_records(db, recorded(said))
        db.commit()
        keys = [lead_row_key("default", lead_id) for lead_id in lead_ids]
        with psycopg.connect(read_models_url, options=READ_OPTIONS, row_factory=dict_row) as connection:
            rows = [connection.execute(*sql_and_parameters(each)).fetchall() for each in select_facts(keys)]
        found = facts_of_rows(*rows)
        return [found.get(key) for key in keys]

    return read


def event(kind: type[Any], event_id: str, seconds: float, **fields: Any) -> Any:
    return kind(
        event_id=event_id,
        occurred_at=at(seconds),
        recorded_at=at(seconds),
        visitor_id="v",
        source="web",
        **fields,
    )


def test_facts_are_what_events_said(facts_of):
    purchase = event(e.PurchaseMade, "p", 3, value=Decimal("12.50"), currency="EUR", order_id=" A1 ")
    refund = event(e.PurchaseRefunded, "r", 4, value=Decimal("2.5"), currency="EUR", order_id="A1")
    call = event(e.CallMade, "c", 5, answered=True)
    missed = event(e.CallMade, "m", 6)
    said = [
        attached("default/v/a#0", "L", 1, page_view("first", 1)),
        *(delta("default/v/a#0", "L", 1, each) for each in (missed, call, refund, purchase)),
        statement(
            say.StageEntered, "L", 5, stage="contacted", previous="new", reason="a call", caused_by="event:c"
        ),
        score_changed("L", 5, [("engagement", "r", 1.25), ("intent", "i", 2)], 3.25, model="composite"),
        lead_scored("L", 6, {"composite": 3.25}),
    ]
    (lead,) = facts_of(said, "L")
    assert lead is not None
    assert [each.event_id for each in lead.events] == ["first", "p", "r", "c", "m"]
    assert [each.interaction for each in lead.events] == [True, True, False, True, False]
    assert [each.high_intent for each in lead.events] == [False, True, False, False, False]
    assert [(each.amount_minor, each.currency, each.order_id) for each in lead.events[1:3]] == [
        (1250, "EUR", "A1"),
        (250, "EUR", "A1"),
    ]
    assert lead.first_stage == "new"
    assert [(each.at, each.stage) for each in lead.stages] == [(millis(at(5)), "contacted")]
    assert [(each.total, each.engagement) for each in lead.scores] == [(3_250_000, 1_250_000)]


def test_a_merge_brings_the_events_of_both_and_a_split_takes_them_back(facts_of):
    merged = [
        attached("default/v/a#0", "A", 1, page_view("ea", 1)),
        attached("default/v/b#0", "B", 1, page_view("eb", 2)),
        attached("default/v/b#0", "A", 2),
        lead_scored("A", 3, {}),
        lead_scored("B", 3, {}, identities=0, redirect="A"),
    ]
    a, b = facts_of(merged, "A", "B")
    assert b is None
    assert a is not None
    assert [each.event_id for each in a.events] == ["ea", "eb"]
    assert [(each.lead_id, each.epoch) for each in a.owners if each.epoch == 2 or each.lead_id == "B"] == [
        ("B", 1),
        ("A", 2),
    ]


def test_what_a_lead_had_before_a_split_is_known(facts_of):
    split = [
        attached("default/v/a#0", "A", 1, page_view("ea", 1)),
        attached("default/v/b#0", "A", 1, page_view("eb", 2)),
        attached("default/v/b#0", "B", 2, seconds=30),
        delta("default/v/b#0", "B", 2, page_view("later", 60)),
        lead_scored("A", 3, {}),
        lead_scored("B", 3, {}),
    ]
    a, b = facts_of(split, "A", "B")
    assert a is not None
    assert b is not None
    assert [each.event_id for each in a.events] == ["ea"]
    assert [each.event_id for each in a.former_events] == ["eb"]
    assert [each.event_id for each in b.events] == ["eb", "later"]
    assert b.former_events == []


def test_facts_are_counted_without_reading_them(facts_of, read_models_url):
    facts_of([attached("default/v/a#0", "A", 1, page_view("ea", 1)), lead_scored("A", 3, {})], "A")
    statement = count_facts([lead_row_key("default", "A"), 5])
    with psycopg.connect(read_models_url, options=READ_OPTIONS) as connection:
        assert connection.execute(*sql_and_parameters(statement)).fetchall() == [
            (lead_row_key("default", "A"), 1)
        ]

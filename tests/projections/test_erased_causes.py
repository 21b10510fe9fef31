"""What is left of an erased person in statements and activity about other leads: the points, and no name."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.erased_causes import (
    ErasedNames,
    activity_without,
    names_of_people,
    record_without,
    statement_without,
)
from projections.facts import number_of_execution
from schemas.activity import IdentityAttached, IdentityDelta
from schemas.decode import decode_statement, encode_statement
from schemas.record import Record
from schemas.statements import (
    EventApplied,
    Line,
    ScoreChanged,
    SessionRetracted,
    StageEntered,
    Statement,
    WorkflowTriggered,
)
from schemas.topics import LEAD_CHANGES, SCORE_CHANGED
from scoring.features.erased_people import ErasedPeople, PersonName, hash_of_name

NAMES = ErasedNames(
    frozenset({"t/v/zq:1#0", "t/l/zq-lead#0"}).__contains__,
    frozenset({"t/v/zq:1", "t/l/zq-lead"}).__contains__,
    frozenset({"merge-zq"}),
    frozenset({"zq-lead"}),
)
SALT = b"0123456789abcdef"
NAMING = (
    "attached:t/v/zq:1#0:2",
    "detached:t/l/zq-lead#0:12",
    "event:merge-zq",
    "redirect:merge-zq",
    "event:t/v/zq:1:any:id",
)


def common(caused_by: str) -> dict[str, Any]:
    return {
        "statement_id": "1",
        "tenant": "t",
        "lead_id": "other",
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "caused_by": caused_by,
    }


def change(caused_by: str) -> ScoreChanged:
    return ScoreChanged(
        **common(caused_by),
        model="m",
        version=1,
        total=5.0,
        previous=0.0,
        change=5.0,
        bands={},
        lines=[Line("g", "r", "points", 5.0)],
    )


def fired(caused_by: str, arm: str) -> WorkflowTriggered:
    return WorkflowTriggered(
        **common(caused_by),
        workflow_id=1,
        workflow="w",
        version=1,
        trigger="event",
        reason="r",
        action="notify",
        arm=arm,
    )


def left_of(statement: Statement) -> Statement | None:
    left = statement_without(NAMES, encode_statement(statement))
    return None if left is None else decode_statement(left)


@pytest.mark.parametrize("cause", NAMING)
@pytest.mark.parametrize(
    "kind", [change, lambda cause: StageEntered(**common(cause), stage="a", previous="b", reason="r")]
)
def test_a_cause_loses_the_name_and_the_rest_stays(cause: str, kind: Any):
    assert left_of(kind(cause)) == kind(f"{cause.partition(':')[0]}:***")


@given(st.text())
def test_another_cause_is_left_byte_for_byte(text: str):
    for cause in (text, f"event:{text}", f"attached:t/v/{text}#0:1", "due:1700000000000"):
        if not NAMES.are_in(cause):
            value = encode_statement(change(cause))
            assert statement_without(NAMES, value) == value


def test_an_action_of_a_workflow_keeps_its_number_so_that_nothing_is_done_twice():
    before = fired("event:e", "event:t/v/zq:1:e")
    after = left_of(before)
    assert isinstance(after, WorkflowTriggered)
    assert (after.arm, number_of_execution(after)) == ("event:***", number_of_execution(before))
    assert left_of(after) == after, "masked again, it is the same"


def test_what_is_only_about_the_person_goes():
    gone = SessionRetracted(**common("event:e"), identity="t/v/zq:1#0", session_id="s")
    applied = EventApplied(**common("event:e"), event_id="e", outcome="applied", scores={}, key="t/v/zq:1")
    assert left_of(gone) is None
    assert left_of(applied) is None


def test_activity_loses_the_leads_on_its_way_and_the_merges():
    moved = IdentityAttached("t", "other", 0, "t/v/a#0", 2, "a", b"", path=["zq-lead", "b"])
    left = activity_without(NAMES, moved)
    assert isinstance(left, IdentityAttached)
    assert left.path == ["b"]
    assert (
        activity_without(NAMES, IdentityDelta("t", "other", 0, "t/l/other#0", 1, b"", "merge-zq", b""))
        is None
    )
    own = IdentityDelta("t", "other", 0, "t/l/other#0", 1, b"", "own", b"")
    assert activity_without(NAMES, own) is own


def test_records_that_kafka_still_has_come_without_the_names():
    people = ErasedPeople()
    people.remember("t", SALT, [hash_of_name(SALT, PersonName("visitor", "zq"))])

    def record(statement: Statement, key: str = "t/l/other", topic: str = SCORE_CHANGED) -> Record:
        return Record(topic, 0, 1, key, encode_statement(statement))

    naming, own = record(change("attached:t/v/zq#0:2")), record(change("event:e"))
    left = record_without(people, naming)
    assert left is not None
    assert left == naming._replace(value=encode_statement(change("attached:***")))
    assert record_without(people, left) == left
    assert record_without(people, own) == own
    assert record_without(people, record(change("event:e"), "t/v/zq")) is None
    assert record_without(people, own._replace(value=b"no statement")) == own._replace(value=b"no statement")
    armed = record(fired("event:e", "event:t/v/zq:e"), topic=LEAD_CHANGES)
    masked = record_without(people, armed)
    assert masked is not None
    assert b"zq" not in (masked.value or b"")
    assert not names_of_people(ErasedPeople()).are_in("attached:t/v/zq#0:2")

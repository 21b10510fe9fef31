"""The worker against a real PostgreSQL: every record counts once, however the records come."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from example_counts import scaled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projection_records import (
    PARTITIONS,
    attached,
    by_partition,
    contents,
    dead_letter,
    delta,
    empty,
    lead_scored,
    page_view,
    put,
    recorded,
    score_changed,
    session_retracted,
    session_scored,
    statement,
    tombstone,
)
from psycopg.rows import dict_row

from projections import worker
from projections.facts import UnreadableRecordError
from projections.positions import PositionGapError
from projections.row_keys import hashed_key, lead_row_key, session_row_key
from projections.worker import MOST_SINGLE_INSERTS, NOTIFY_CHANNEL, project_records
from schemas import statements as say
from schemas.activity import IdentityAttached, IdentityDelta
from schemas.decode import decode_activity, decode_statement
from schemas.moment import EARLIEST_MS, LATEST_MS, moment
from schemas.record import Outgoing, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_SCORES, SCORE_CHANGED

pytestmark = pytest.mark.postgres
PROPERTY = settings(
    max_examples=scaled(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows(db: psycopg.Connection[Any], query: str) -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode()).fetchall()


def commit(db: psycopg.Connection[Any], records: Sequence[Record]) -> None:
    project_records(db, records)
    db.commit()


# A random history, coherent as the two stages would write it

LEADS = ("lead-1", "lead-2", "anon:v")
IDENTITIES = ("default/v/a#0", "default/v/b#0")


@st.composite
def histories(draw: st.DrawFn) -> list[Outgoing]:
    epochs = dict.fromkeys(IDENTITIES, 0)
    owners = dict.fromkeys(IDENTITIES, LEADS[0])
    revisions = dict.fromkeys(IDENTITIES, 0)
    said: list[Outgoing] = []
    for n in range(draw(st.integers(1, 25))):
        identity = draw(st.sampled_from(IDENTITIES))
        lead = draw(st.sampled_from(LEADS))
        session = draw(st.sampled_from(("s1", "s2")))
        revisions[identity] += 1
        match draw(st.integers(0, 11)):
            case 0 | 1:
                epochs[identity] += 1
                owners[identity] = lead
                said.append(attached(identity, lead, epochs[identity], page_view(f"a{n}"), seconds=n))
            case 2 | 3:
                sent = [put(session, revisions[identity], pages=n)]
                event = page_view(f"d{n % 3}", seconds=draw(st.integers(0, 2)))
                said.append(delta(identity, owners[identity], epochs[identity], event, sessions=sent))
            case 4:
                said.append(
                    delta(
                        identity,
                        owners[identity],
                        epochs[identity],
                        page_view(f"r{n}"),
                        retracted=[session],
                        revision=revisions[identity],
                    )
                )
            case 5:
                said.append(session_scored(identity, session, lead, n / 2, n))
            case 6:
                said.append(session_retracted(identity, session, lead, n))
            case 7:
                said.append(score_changed(lead, n, [("g", "r", 0.1)], n / 10))
            case 8 | 9:
                models = draw(st.sets(st.sampled_from(("temperature", "rules"))))
                said.append(lead_scored(lead, n, dict.fromkeys(sorted(models), n / 10)))
            case 10:
                said.append(tombstone(lead))
            case 11:
                said.append(
                    draw(
                        st.sampled_from(
                            (
                                dead_letter(n % 2, reason=f"r{n}"),
                                statement(
                                    say.EventApplied,
                                    lead,
                                    n,
                                    event_id=f"e{n % 2}",
                                    outcome="applied",
                                    scores={"m": 0.5},
                                ),
                                statement(
                                    say.StageEntered, lead, n, stage="qualified", previous="new", reason="mql"
                                ),
                                statement(
                                    say.BandChanged,
                                    lead,
                                    n,
                                    model="m",
                                    version=1,
                                    scale="s",
                                    band="hot",
                                    previous=None,
                                ),
                            )
                        )
                    )
                )
    return said


@PROPERTY
@given(history=histories(), data=st.data())
def test_however_a_stream_is_cut_the_rows_are_the_same(db, history, data):
    records = recorded(history)
    empty(db)
    for record in records:
        commit(db, [record])
    one_by_one = contents(db)

    empty(db)
    commit(db, records)
    assert contents(db) == one_by_one

    cuts = sorted(data.draw(st.sets(st.integers(0, len(records)))))
    empty(db)
    for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        commit(db, records[start:end])
    assert contents(db) == one_by_one


@PROPERTY
@given(history=histories(), data=st.data())
def test_only_the_order_within_a_partition_matters(db, history, data):
    """A rebuild reads partition by partition, the live writer in the order of the batches."""
    records = recorded(history)
    empty(db)
    commit(db, records)
    as_written = contents(db)
    empty(db)
    for partition in data.draw(st.permutations(by_partition(records))):
        commit(db, partition)
    assert contents(db) == as_written


@PROPERTY
@given(history=histories(), data=st.data())
def test_redelivery_and_crashes_change_nothing(db, history, data):
    records = recorded(history)
    empty(db)
    commit(db, records)
    once = contents(db)

    empty(db)
    reached = 0
    while reached < len(records):
        start = data.draw(st.integers(0, reached))
        end = data.draw(st.integers(reached + 1, len(records)))
        project_records(db, records[start:end])
        if data.draw(st.booleans()):
            db.rollback()
        else:
            db.commit()
            reached = end
        project_records(db, records[:reached])
        db.commit()
    assert contents(db) == once


@PROPERTY
@given(history=histories())
def test_rows_are_what_the_records_say(db, history):
    """Against a reference in plain Python that keeps the last word of each thing."""
    records = recorded(history)
    empty(db)
    commit(db, records)

    activities = [decode_activity(r.value) for r in records if r.topic == LEAD_ACTIVITY]
    owner = {a.identity: a.lead_id for a in activities if isinstance(a, IdentityAttached)}
    held = {}
    for a in activities:  # in the order of their revisions, since one visitor wrote them
        for s in a.sessions:
            held[a.identity, s.session_id] = s.pages
        for session_id in a.retracted if isinstance(a, IdentityDelta) else ():
            held.pop((a.identity, session_id), None)
    cards = {}
    for r in records:
        if r.topic == LEAD_SCORES:
            cards[r.key.removeprefix("default/l/")] = r.value and decode_statement(r.value)
    cards = {lead: card for lead, card in cards.items() if card}
    changes = [decode_statement(r.value) for r in records if r.topic == SCORE_CHANGED]

    assert {r["identity"]: r["lead_id"] for r in rows(db, "select * from live.identities")} == owner
    assert len(rows(db, "select 1 from live.engagement_history")) == len(activities)
    assert {
        r["session_key"]: r["pages"] for r in rows(db, "select * from live.sessions where not retracted")
    } == {session_row_key(*key): pages for key, pages in held.items()}
    assert {r["lead_id"]: r["as_of"] for r in rows(db, "select * from live.leads")} == {
        lead: card.at for lead, card in cards.items()
    }
    assert {(r["lead_key"], r["model"]): r["total"] for r in rows(db, "select * from live.lead_scores")} == {
        (lead_row_key("default", lead), model): Decimal(repr(score.total))
        for lead, card in cards.items()
        for model, score in card.scores.items()
    }
    assert sorted(r["total"] for r in rows(db, "select * from live.score_history")) == sorted(
        Decimal(repr(c.total)) for c in changes
    )


# Positions


def test_a_gap_names_the_records_that_are_missing(db):
    first, second, third = recorded([attached("default/v/a#0", "l", n) for n in (1, 2, 3)])
    commit(db, [first])
    with pytest.raises(
        PositionGapError, match=r"lead-activity/\d: .*up to 0.*is 2: records 1 to 1 are missing"
    ):
        project_records(db, [third])
    db.rollback()
    commit(db, [second, third])
    assert rows(db, "select epoch from live.identities") == [{"epoch": 3}]


def test_the_first_record_of_a_partition_must_be_its_first(db):
    _, second = recorded([attached("default/v/a#0", "l", n) for n in (1, 2)])
    with pytest.raises(PositionGapError, match="up to -1"):
        project_records(db, [second])


def test_a_crash_before_the_commit_leaves_neither_rows_nor_positions(read_models_url, db):
    records = recorded([attached("default/v/a#0", "l", 1, page_view("e"))])
    with psycopg.connect(read_models_url) as dying:
        project_records(dying, records)
        dying.rollback()
    assert rows(db, "select * from live.engagement_history") == []
    commit(db, records)
    assert len(rows(db, "select * from live.engagement_history")) == 1
    assert rows(db, "select position from public.positions") == [{"position": 0}]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_second_writer_waits_and_then_finds_nothing_to_do(read_models_url, db, earlier):
    """Also when both bring the first record of a partition, whose position nobody has written yet."""
    records = recorded(attached("default/v/a#0", "l", n + 1, page_view(f"e{n}")) for n in range(earlier + 1))
    commit(db, records[:earlier])
    project_records(db, records)

    def late() -> None:
        with psycopg.connect(read_models_url) as other:
            project_records(other, records)

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(late)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        db.commit()
        waiting.result(10)
    assert len(rows(db, "select * from live.engagement_history")) == earlier + 1


def test_it_refuses_to_work_without_a_transaction(read_models_url, db):
    with (
        psycopg.connect(read_models_url, autocommit=True) as connection,
        pytest.raises(RuntimeError, match="transaction"),
    ):
        project_records(connection, recorded([attached("default/v/a#0", "l")]))


def test_it_works_inside_a_transaction_of_an_autocommit_connection(read_models_url, db):
    with psycopg.connect(read_models_url, autocommit=True) as connection, connection.transaction():
        project_records(connection, recorded([attached("default/v/a#0", "l")]))
    assert len(rows(db, "select * from live.identities")) == 1


def test_a_record_of_ours_that_cannot_be_read_is_named(db):
    with pytest.raises(UnreadableRecordError, match="lead-activity/2 at position 0: no activity record"):
        project_records(db, [Record(LEAD_ACTIVITY, 2, 0, "k", b"\xc1")])


def test_records_of_other_topics_are_passed_over(db):
    project_records(db, [Record(EVENTS, 0, 7, "k", b"not even JSON")])
    assert rows(db, "select * from public.positions") == []


# Rows


def test_many_facts_and_few_give_the_same_rows(db):
    """Above `MOST_SINGLE_INSERTS` they go by COPY and as arrays instead of one by one."""
    records = recorded(
        [
            attached("default/v/a#0", "l"),
            *(
                delta("default/v/a#0", "l", 1, page_view(f"e{n}", n, title="Üñí", url=None))
                for n in range(10 * MOST_SINGLE_INSERTS)
            ),
            *(score_changed("l", n, [("g", "r", 0.123456)], n / 7) for n in range(10 * MOST_SINGLE_INSERTS)),
        ]
    )
    commit(db, records)
    at_once = contents(db)
    empty(db)
    for record in records:
        commit(db, [record])
    assert contents(db) == at_once
    assert len(at_once["engagement_history"]) == 10 * MOST_SINGLE_INSERTS


def test_an_event_that_slips_past_deduplication_is_a_fact_of_its_own(db):
    """The scores counted it twice, so the history shows it twice; it must not stop the worker."""
    same = page_view("e", 5)
    commit(db, recorded([attached("default/v/a#0", "l", 1, same), delta("default/v/a#0", "l", 1, same)]))
    assert len(rows(db, "select * from live.engagement_history")) == 2


def test_merging_and_splitting_moves_no_fact(db):
    there = [
        attached("default/v/a#0", "a", 1, page_view("e1")),
        attached("default/v/b#0", "b", 1, page_view("e2")),
    ]
    ends: dict[tuple[str, int], int] = {}
    commit(db, recorded(there, ends))
    facts = rows(db, "select ctid::text, * from live.engagement_history order by event_id")

    commit(db, recorded([attached("default/v/b#0", "a", 2)], ends))
    assert rows(db, "select ctid::text, * from live.engagement_history order by event_id") == facts
    assert {r["lead_id"] for r in rows(db, "select lead_id from live.identities")} == {"a"}

    commit(db, recorded([attached("default/v/b#0", "b", 3)], ends))
    assert rows(db, "select ctid::text, * from live.engagement_history order by event_id") == facts
    assert {r["identity"]: r["lead_id"] for r in rows(db, "select * from live.identities")} == {
        "default/v/a#0": "a",
        "default/v/b#0": "b",
    }


def test_totals_are_exact(db):
    commit(
        db,
        recorded(
            [
                score_changed("l", 1, [("g", "a", 77.45)], 77.45),
                score_changed("l", 2, [("g", "b", 0.000001)], 77.450001),
                lead_scored("l", 2, {"composite": 77.450001}),
            ]
        ),
    )
    assert [r["total"] for r in rows(db, "select total from live.score_history order by at")] == [
        Decimal("77.45"),
        Decimal("77.450001"),
    ]
    assert rows(db, "select total, rounded from live.lead_scores") == [
        {"total": Decimal("77.450001"), "rounded": 77}
    ]


def test_a_lead_that_is_no_more_leaves_board_and_scores_but_not_the_ledger(db):
    commit(
        db,
        recorded(
            [lead_scored("l", 1, {"rules": 5}), score_changed("l", 1, [("g", "r", 5)], 5), tombstone("l")]
        ),
    )
    assert rows(db, "select * from live.leads") == rows(db, "select * from live.lead_scores") == []
    assert len(rows(db, "select * from live.score_history")) == 1


def test_a_model_that_is_no_longer_scored_leaves_the_lead(db):
    commit(db, recorded([lead_scored("l", 1, {"rules": 5, "old": 1}), lead_scored("l", 2, {"rules": 5})]))
    assert rows(db, "select model from live.lead_scores") == [{"model": "rules"}]


def test_a_retraction_from_another_partition_holds_whichever_comes_first(db):
    """The identity moves to a lead of another partition, where the session is retracted."""
    identity = "default/v/a#0"
    there = [
        attached(identity, "a", 1, page_view("e1"), sessions=[put("e1", 1)]),
        delta(identity, "lead-2", 2, page_view("e2"), retracted=["e1"], revision=2),
    ]
    kept, retracting = by_partition(recorded(there))
    for order in ([kept, retracting], [retracting, kept]):
        empty(db)
        for records in order:
            commit(db, records)
        assert rows(db, "select retracted, revision from live.sessions") == [
            {"retracted": True, "revision": 2}
        ]


def test_a_lead_row_shows_the_profile(db):
    fields = {
        "first_name": "Ånn",
        "last_name": "Öz",
        "email": "a@b.c",
        "phone": "+4912",
        "company": "X",
        "n": 5,
    }
    spent = {"EUR": Decimal("49.95"), "JPY": Decimal(500), "KWD": Decimal("0.125")}
    commit(db, recorded([lead_scored("L-1", fields=fields, counts={"qr_scanned": 2}, revenue=spent)]))
    (row,) = rows(db, "select * from live.leads")
    assert (row["name"], row["email"], row["phone"], row["company"]) == ("Ånn Öz", "a@b.c", "+4912", "X")
    assert row["assigned_to"] is None
    (searched,) = rows(db, "select text from live.lead_search")
    assert searched["text"].splitlines()[1:] == ["ånn öz", "a@b.c", "+4912", "l-1", "x", "new"]
    assert row["fields"] == fields
    assert row["counts"] == {"qr_scanned": 2}
    assert row["revenue"] == {"EUR": 49.95, "JPY": 500, "KWD": 0.125}


def test_what_an_older_version_did_not_record_is_null(db):
    commit(db, recorded([lead_scored("L-1")]))
    assert rows(db, "select revenue from live.leads") == [{"revenue": None}]


def test_text_that_postgres_cannot_hold_is_replaced(db):
    commit(
        db,
        recorded(
            [
                attached("default/v/a\0#0", "l"),
                lead_scored("l", fields={"name": "a\0b", "note": "\\u0000"}),
                dead_letter(0, reason="bad \0 byte", key=None),
            ]
        ),
    )
    (lead,) = rows(db, "select name, fields from live.leads")
    assert lead == {"name": "a\ufffdb", "fields": {"name": "a\ufffdb", "note": "\\u0000"}}
    assert rows(db, "select reason, original from live.dead_letters") == [
        {"reason": "bad \ufffd byte", "original": b"\x00{"}
    ]


def test_extreme_numbers_and_moments_are_taken(db):
    commit(
        db,
        recorded(
            [
                score_changed("l", 0, [("g", "r", 1e300)], 1e300, previous=-1e-300, version=2**40),
                lead_scored(
                    "l",
                    0,
                    {"m": -1e18},
                    created_at=moment(EARLIEST_MS),
                    last_interaction_at=moment(LATEST_MS),
                ),
            ]
        ),
    )
    assert rows(db, "select rounded from live.lead_scores") == [{"rounded": -(2**31 - 1)}]
    assert rows(db, "select version from live.score_history") == [{"version": 2**40}]
    (lead,) = rows(db, "select created_at, last_interaction_at from live.leads")
    assert lead == {"created_at": moment(EARLIEST_MS), "last_interaction_at": moment(LATEST_MS)}


# Waiting callers


def test_a_batch_notifies_once_on_commit_with_the_events_applied(read_models_url, db):
    with psycopg.connect(read_models_url, autocommit=True) as listener:
        listener.execute(f"listen {NOTIFY_CHANNEL}")
        answers = [
            statement(say.EventApplied, "l", n, event_id=f"e{n}", outcome="applied", scores={})
            for n in (1, 2)
        ]
        project_records(db, recorded(answers))
        assert list(listener.notifies(timeout=0.1)) == []
        db.commit()
        (notification,) = listener.notifies(timeout=2, stop_after=1)
        assert sorted(json.loads(notification.payload)["applied"]) == ["e1", "e2"]


def test_too_many_events_for_a_payload_say_that_one_must_look(read_models_url, db):
    with psycopg.connect(read_models_url, autocommit=True) as listener:
        listener.execute(f"listen {NOTIFY_CHANNEL}")
        commit(
            db,
            recorded(
                statement(say.EventApplied, "l", n, event_id=f"{n:064}", outcome="applied", scores={})
                for n in range(200)
            ),
        )
        (notification,) = listener.notifies(timeout=2, stop_after=1)
        assert notification.payload == "{}"


def test_the_latest_word_on_an_event_stands(db):
    said = [
        statement(say.EventApplied, "l", n, event_id="e", outcome=outcome, scores={"rules": n})
        for n, outcome in enumerate(("applied", "duplicate"))
    ]
    commit(db, recorded(said))
    assert rows(db, "select outcome, scores from live.applied_events") == [
        {"outcome": "duplicate", "scores": {"rules": 1}}
    ]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_only_answers_among_the_last_records_of_a_partition_are_kept(db, monkeypatch, size):
    """Each lead has a partition to itself: of 30 records a lead the last 5 are looked back on."""
    monkeypatch.setattr(worker, "APPLIED_EVENTS_KEPT", 5)
    said = [
        statement(say.EventApplied, f"L{lead}", n, event_id=f"e{n}", outcome="applied", scores={})
        if n % 2 == 0
        else statement(say.StageEntered, f"L{lead}", n, stage="new", previous="new", reason="")
        for n in range(30)
        for lead in range(PARTITIONS)
    ]
    placed = [each._replace(partition=int(each.key[-1])) for each in said]
    records = recorded(placed)
    for start in range(0, len(records), size):
        project_records(db, records[start : start + size])
    kept = rows(db, "select partition, event_id from live.applied_events order by 1, 2")
    assert kept == [
        {"partition": partition, "event_id": event_id}
        for partition in range(PARTITIONS)
        for event_id in ("e26", "e28")
    ]


def test_keys_are_the_same_everywhere():
    """The first eight bytes that b2sum -l 64 prints, as a signed number."""
    assert hashed_key("default/v/a#0") == -782982463302683930

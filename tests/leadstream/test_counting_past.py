"""A new signal in the embedded store: earlier events count, step by step, whatever ends the process in between."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import dict_row

import projections.backfills
from leadstream.console import Failure
from leadstream.operations import publishing
from leadstream.operations.counting_past import count_next, note_done
from leadstream.operations.explain import ExplainRequest, explanation_of_lead
from leadstream.operations.open_store import open_store
from leadstream.settings import Settings
from schemas import events as e
from schemas.decode import encode_source, key_of
from schemas.record import Outgoing
from schemas.topics import EVENTS

pytestmark = pytest.mark.postgres

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
TEXT = """model = "watched"
about = "Counts what nobody counted."
[signals]
prices = { event = "page_viewed", field = "url", contains = "pricing" }
[groups.g]
rules = [{ name = "Looked at prices", each = "prices", points = 2 }]
"""


def page(number, *, url="https://example.com/pricing"):
    return e.PageViewed(
        event_id=f"e{number}",
        occurred_at=START + timedelta(minutes=number),
        recorded_at=START + timedelta(minutes=number),
        visitor_id=f"v{number % 7}",
        lead_id=f"lead-{number % 3}" if number % 2 else None,
        url=url,
    )


def merged(number, lead, into):
    moment = START + timedelta(minutes=number)
    return e.LeadsMerged(
        event_id=f"e{number}", occurred_at=moment, recorded_at=moment, lead_id=lead, into=into, source="crm"
    )


EARLIER = [
    *(page(n) for n in range(40)),
    merged(40, "lead-1", "lead-0"),
    page(41, url="https://example.com/"),
]
LATER = [page(n) for n in range(42, 60)]


@pytest.fixture
def store(database_url, tmp_path):
    settings = Settings(database_url=database_url, data_dir=tmp_path, partitions=3)
    with open_store(settings) as opened:
        yield opened


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "watched.toml"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def produce(store, events):
    store.append([Outgoing(EVENTS, key_of(event), encode_source(event)) for event in events])
    store.settle(lambda _: None)


def totals(store):
    with psycopg.connect(store.database_url, row_factory=dict_row) as connection:
        return {
            row["lead_key"]: row["total"]
            for row in connection.execute(
                "select lead_key, total from live.lead_scores where model = 'watched'"
            )
        }


def rows(store):
    with psycopg.connect(store.database_url, row_factory=dict_row) as connection:
        return connection.execute("select * from public.backfills order by version").fetchall()


def expected(events):
    """Two points for each view of prices, of every identity of a lead; by the arithmetic of the events alone."""
    return 2 * sum(isinstance(each, e.PageViewed) and "pricing" in each.url for each in events)


def test_earlier_events_count_though_every_step_is_killed_once(store, model, monkeypatch):
    monkeypatch.setattr(projections.backfills, "RECORDS_PER_STEP", 5)
    produce(store, EARLIER)
    publication = publishing.publish_model(store, model)
    store.settle(lambda _: None)
    assert sum(totals(store).values()) == 0
    produce(store, LATER[:9])
    steps = 0
    while (counted := count_next(store.database_url, datetime.now(UTC))) is not None:
        store.append(counted.records)  # killed before the step was noted
        again = count_next(store.database_url, datetime.now(UTC))
        assert again.step == counted.step
        store.append(again.records)
        store.settle(lambda _: None)
        note_done(store.database_url, again, datetime.now(UTC))
        steps += 1
    assert steps >= 6
    produce(store, LATER[9:])
    [row] = rows(store)
    assert (row["version"], row["from_now"]) == (publication.version, False)
    assert row["completed_at"] is not None
    assert sum(totals(store).values()) == expected(EARLIER + LATER)


def test_a_command_without_a_server_counts_at_once_and_says_so(store, model):
    produce(store, EARLIER)
    publication = publishing.publish_model(store, model)
    assert publishing.count_earlier_events(store, publication) == ["Counted in earlier events, too: prices."]
    store.settle(lambda _: None)
    assert sum(totals(store).values()) == expected(EARLIER)


def test_from_now_counts_nothing_earlier(store, model):
    produce(store, EARLIER)
    publication = publishing.publish_model(store, model, from_now=True)
    assert publishing.count_earlier_events(store, publication) == ["Counted from now on only: prices."]
    produce(store, LATER)
    assert sum(totals(store).values()) == expected(LATER)
    lines = explanation_of_lead(
        store.database_url, ExplainRequest("default", "lead-0", None, None), datetime.now(UTC)
    )
    assert any(line.startswith("watched: Looked at prices counts from ") for line in lines)
    assert count_next(store.database_url, datetime.now(UTC)) is None


def test_a_signal_that_was_published_before_is_not_new(store, model, tmp_path):
    publishing.publish_model(store, model)
    again = tmp_path / "again.toml"
    again.write_text(TEXT.replace("points = 2", "points = 4"), encoding="utf-8")
    publishing.publish_model(store, str(again))
    assert [row["version"] for row in rows(store)] == [1]


def test_where_the_log_is_in_kafka_a_new_signal_is_refused_with_the_remedy(store, model):
    with psycopg.connect(store.database_url) as connection:
        connection.execute("insert into public.log_source (cluster_id, prefix, app) values ('c', '', 'a')")
    with pytest.raises(Failure, match="--from-now"):
        publishing.publish_model(store, model)
    publishing.publish_model(store, model, from_now=True)
    assert [row["from_now"] for row in rows(store)] == [True]

"""Simulated people through both real stages into the read models, while these are rebuilt."""

from datetime import UTC, datetime
from itertools import islice

import psycopg
import pytest
from projection_records import contents, open_log

from leadstream.simulation.simulate import simulated_events
from leadstream.wiring import genesis
from projections.migrate import migrate
from projections.rebuild import rebuild
from projections.worker import project_records
from schemas.decode import encode_source, key_of
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS
from streams.embedded.driver import Driver
from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions

pytestmark = pytest.mark.postgres
EMPTY = {
    "applied_events",
    "dead_letters",
    "qualification_overrides",
    "worker_dues",
    "worker_state",
    "workflow_executions",
}
UNTIL = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def db(database_url):
    open_log(database_url)
    migrate(database_url)
    events = simulated_events(seed=7, leads=40, days=20, until=UNTIL)
    driver = Driver(
        lambda: database_url,
        [TrackSessions(), ScoreLeads()],
        now=lambda: millis(UNTIL),
        genesis=genesis(UNTIL),
        project=project_records,
    )
    driver.start()
    try:
        while batch := list(islice(events, 100)):
            driver.append([Outgoing(EVENTS, key_of(event), encode_source(event)) for event in batch]).result(
                60
            )
            rebuild(database_url)
    finally:
        driver.stop()
    with psycopg.connect(database_url) as connection:
        yield connection


def test_the_read_models_agree_with_themselves_and_with_a_rebuild(db, database_url):
    live = contents(db)
    rebuild(database_url)
    assert contents(db) == live
    assert {table for table, rows in live.items() if not rows} <= EMPTY

    unequal = db.execute("""
        select * from (
          select lead_key, model, sum(change) as changes, sum(points) as points from live.score_history h,
            lateral (select coalesce(sum((line->>3)::numeric), 0) as points from jsonb_array_elements(lines) line) l
          group by lead_key, model) ledger
        join live.lead_scores s using (lead_key, model) where changes <> total or points <> total
    """)
    assert unequal.fetchall() == [], "every ledger sums to its total, to the millionth"

    stray = db.execute("""
        select identity, i.lead_id from live.identities i left join live.leads l using (lead_key)
        where l.lead_key is null or l.identities = 0
    """)
    assert stray.fetchall() == [], "every identity is held by a lead that knows it"

    scored = db.execute("""
        select from live.sessions join live.identities using (identity_key)
        join live.session_scores using (session_key, lead_key) where retracted
    """)
    assert scored.fetchall() == [], "a session that is none any more has no score"

"""What the analytics worker keeps equals what all facts give at once, whatever order they come in and wherever it stops."""

import random
import threading
import time
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projection_records import (
    PARTITIONS,
    append,
    at,
    attached,
    delta,
    empty,
    lead_scored,
    open_log,
    page_view,
    recorded,
    tombstone,
)
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from stream_histories import history, specs
from stream_simulator import Pipeline

from projections import analytics_worker as analytics
from projections.analytics_tables import stale_leads
from projections.analytics_worker import (
    ReadSettings,
    TurnTaker,
    compute_all_leads,
    compute_every_stale_lead,
    compute_stale_leads,
    no_settings,
    run_analytics,
)
from projections.lifecycle import TOUCHPOINT_TYPES
from projections.migrate import migrate
from projections.rebuild import rebuild
from projections.row_keys import lead_row_key
from projections.table_definition import LIVE_SCHEMA
from projections.table_sets import ANALYTICS_TABLES
from projections.tables import PROJECTED_TOPICS
from projections.worker import project_records
from schemas.record import Outgoing, Record
from schemas.topics import partition_of
from scoring.analytics.settings import AnalyticsSettings
from scoring.journeys.period_summary import SUMMED
from scoring.models.model import built_in_models

pytestmark = pytest.mark.postgres
EXAMPLES = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


class RecordingPipeline(Pipeline):
    """Both real stages in memory; keeps every record that the projection reads."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Record]] = defaultdict(list)
        super().__init__([("composite", built_in_models()["composite"])])

    def append(self, outgoing: Outgoing) -> None:
        super().append(outgoing)
        topic, key, value, partition = outgoing
        if topic in PROJECTED_TOPICS:
            at = partition_of(key, PARTITIONS) if partition is None else partition
            lane = self.records[topic, at]
            lane.append(Record(topic, at, len(lane), key, value))


def analytics_rows(db: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Every row but those of the queue, as text."""
    found = {}
    for table in ANALYTICS_TABLES:
        if table is not stale_leads:
            query = SQL("select t::text from {} t order by 1").format(Identifier(LIVE_SCHEMA, table.name))
            found[table.name] = [row for (row,) in db.execute(query)]
    db.rollback()
    return found


def forget(db: psycopg.Connection[Any]) -> None:
    empty(db)
    for table in ANALYTICS_TABLES:
        db.execute(SQL("delete from {}").format(Identifier(LIVE_SCHEMA, table.name)))
    db.commit()


def computed_from_nothing(
    db: psycopg.Connection[Any], read_settings: ReadSettings = no_settings
) -> dict[str, list[str]]:
    for table in ANALYTICS_TABLES:
        db.execute(SQL("delete from {}").format(Identifier(LIVE_SCHEMA, table.name)))
    compute_all_leads(db, read_settings, LIVE_SCHEMA)
    db.commit()
    return analytics_rows(db)


class KilledError(Exception):
    pass


def week_of(day: date) -> tuple[str, date]:
    return "weekly", day - timedelta(days=day.weekday())


def month_of(day: date) -> tuple[str, date]:
    return "monthly", day.replace(day=1)


def check_tenant_tables(db: psycopg.Connection[Any], zone: str) -> None:
    """Against loops over the leads' days, and over the events themselves."""
    with db.cursor(row_factory=dict_row) as cursor:
        days = cursor.execute("select * from live.lead_days").fetchall()
        events = cursor.execute(
            "select tenant, occurred_at, identified, type, channel from live.engagement_history e "
            "join live.identities i using (identity_key, tenant) join live.leads l using (lead_key, tenant)"
        ).fetchall()
        of_days = cursor.execute("select * from live.tenant_days").fetchall()
    sums: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    leads_of: defaultdict[Any, set[int]] = defaultdict(set)
    active_of: defaultdict[Any, set[int]] = defaultdict(set)
    for row in days:
        summed = sums[row["tenant"], row["day"], row["identified"]]
        summed.update({name: row[name] for name in (*SUMMED, "engagement")})
        summed["score_change"] += row["score_end"] - row["score_start"]
        for period in (("daily", row["day"]), week_of(row["day"]), month_of(row["day"])):
            key = row["tenant"], *period, row["identified"]
            leads_of[key].add(row["lead_key"])
            if row["interactions"]:
                active_of[key].add(row["lead_key"])
    assert len(of_days) == len(sums)
    for row in of_days:
        key = row["tenant"], row["day"], row["identified"]
        assert {name: row[name] for name in (*SUMMED, "engagement", "score_change")} == {
            name: sums[key][name] for name in (*SUMMED, "engagement", "score_change")
        }
    periods = [(each["tenant"], "daily", *list(each.values())[1:5]) for each in of_days]
    periods += db.execute("select * from live.tenant_periods").fetchall()
    assert {tuple(each[:4]): tuple(each[4:]) for each in periods} == {
        key: (len(leads), len(active_of[key])) for key, leads in leads_of.items()
    }
    counted = Counter[Any]()
    for each in events:
        if each["type"] in TOUCHPOINT_TYPES:
            day = each["occurred_at"].astimezone(ZoneInfo(zone)).date()
            counted[each["tenant"], day, each["identified"], each["type"], each["channel"]] += 1
    stored = db.execute("select * from live.tenant_engagements").fetchall()
    assert {tuple(each[:5]): each[5] for each in stored} == counted


@EXAMPLES
@given(
    spec=specs(5, 40),
    seed=st.integers(0, 2**30),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Pacific/Apia"]),
)
def test_what_is_kept_equals_what_all_facts_give(db, monkeypatch, spec, seed, zone):
    """Merges, splits, late events and stages; topics and partitions in any order; killed at any step."""

    def in_zone(_: Any) -> dict[str, AnalyticsSettings]:
        return {"*": AnalyticsSettings(zone)}

    pipeline = RecordingPipeline()
    pipeline.run(seed, history(spec))
    forget(db)
    rng = random.Random(seed)
    lanes = [list(lane) for lane in pipeline.records.values()]
    replace_rows = analytics._replace_rows

    def killed_at_times(*arguments: Any) -> None:
        if rng.random() < 0.2:
            raise KilledError
        replace_rows(*arguments)
        if rng.random() < 0.1:
            raise KilledError

    monkeypatch.setattr(analytics, "_replace_rows", killed_at_times)
    while lanes := [lane for lane in lanes if lane]:
        lane = rng.choice(lanes)
        count = rng.randint(1, 12)
        project_records(db, lane[:count])
        db.commit()
        del lane[:count]
        if rng.random() < 0.5:
            try:
                compute_stale_leads(db, in_zone)
                db.commit()
            except KilledError:
                db.rollback()
    monkeypatch.setattr(analytics, "_replace_rows", replace_rows)
    compute_every_stale_lead(db, in_zone, LIVE_SCHEMA)
    db.commit()
    kept = analytics_rows(db)
    check_tenant_tables(db, zone)
    assert kept == computed_from_nothing(db, in_zone)
    leads = db.execute("select count(*) from live.leads where identities > 0").fetchone()
    assert len(kept["lead_journeys"]) == (leads or [0])[0]


def test_a_rebuild_computes_the_same_while_the_log_grows(database_url):
    open_log(database_url)
    migrate(database_url)
    said = [
        attached("default/v/a#0", "A", 1, page_view("a1", 1)),
        lead_scored("A", 1, {"composite": 5}),
        attached("default/v/b#0", "B", 1, page_view("b1", 90_000)),
        lead_scored("B", 1, {"composite": 5}),
    ]
    merged = [attached("default/v/b#0", "A", 2), lead_scored("B", 3, identities=0), lead_scored("A", 3)]
    ends: dict[tuple[str, int], int] = {}
    with psycopg.connect(database_url) as db:
        write(db, recorded(said, ends))
        compute_every_stale_lead(db, no_settings, LIVE_SCHEMA)
        db.commit()
        before = analytics_rows(db)
        rebuild(database_url)
        assert analytics_rows(db) == before
        db.execute("delete from live.lead_days")  # whatever happened to them
        db.execute("update live.tenant_days set leads = 7")
        db.commit()
        rebuild(database_url, progress=lambda *_: write_once(database_url, merged, ends))
        compute_every_stale_lead(db, no_settings, LIVE_SCHEMA)
        db.commit()
        after = analytics_rows(db)
        assert after == computed_from_nothing(db)
        assert len(after["lead_days"]) == 2
        assert len(after["lead_journeys"]) == 1


def write(db: psycopg.Connection[Any], records: list[Record]) -> None:
    append(db, records)
    project_records(db, records)
    db.commit()


def write_once(url: str, said: list[Outgoing], ends: dict[tuple[str, int], int]) -> None:
    if said:
        with psycopg.connect(url) as other:
            write(other, recorded(said, ends))
        said.clear()


def test_a_lead_that_goes_leaves_no_row(db):
    project_records(db, recorded([attached("i#0", "A", 1, page_view("e", 1)), lead_scored("A", 1)]))
    db.commit()
    compute_every_stale_lead(db, no_settings, LIVE_SCHEMA)
    assert len(analytics_rows(db)["lead_journeys"]) == 1
    ends = {("lead-scores", partition_of("default/l/A", PARTITIONS)): 1}
    project_records(db, recorded([tombstone("A")], ends))
    db.commit()
    compute_every_stale_lead(db, no_settings, LIVE_SCHEMA)
    assert not any(analytics_rows(db).values())


def test_a_change_of_settings_computes_the_leads_of_its_tenants_again(db):
    """A visit at 23:30 UTC is on the next day in Kolkata."""
    project_records(db, recorded([attached("i#0", "A", 1, page_view("e", 23.5 * 3600)), lead_scored("A", 1)]))
    db.commit()

    def day_in(settings: dict[str, AnalyticsSettings]) -> str:
        compute_every_stale_lead(db, lambda _: settings, LIVE_SCHEMA)
        db.commit()
        return str(db.execute("select day from live.lead_days").fetchone()[0])

    kolkata = AnalyticsSettings("Asia/Kolkata")
    assert day_in({}) == "2026-01-01"
    assert day_in({"*": kolkata}) == "2026-01-02"
    assert day_in({"*": kolkata, "default": AnalyticsSettings()}) == "2026-01-01"
    assert day_in({"*": kolkata}) == "2026-01-02"
    assert day_in({"other": kolkata}) == "2026-01-01"


def test_an_expensive_lead_rests_while_others_are_computed(db, monkeypatch):
    clock = [0.0]
    turns = TurnTaker(lambda: clock[0])
    monkeypatch.setattr(analytics, "FACTS_AT_ONCE", 10)  # more than one event is many
    read = analytics._read_facts

    def slow(connection: Any, lead_keys: Any) -> Any:
        clock[0] += 1.0 if len(lead_keys) == 1 and lead_keys[0] == lead_row_key("default", "slow") else 0.0
        return read(connection, lead_keys)

    monkeypatch.setattr(analytics, "_read_facts", slow)

    def project(records: list[Record]) -> None:
        project_records(db, records)
        db.commit()
        compute_stale_leads(db, no_settings, turns=turns)
        db.commit()

    def events_of(lead_id: str) -> int:
        row = db.execute(
            "select engagements from live.lead_journeys where lead_id = %s", (lead_id,)
        ).fetchone()
        return 0 if row is None else int(row[0])

    ends: dict[tuple[str, int], int] = {}
    project(
        recorded(
            [
                attached("s#0", "slow", 1, page_view("s1", 1)),
                delta("s#0", "slow", 1, page_view("s2", 2)),
                lead_scored("slow", 1),
            ],
            ends,
        )
    )
    assert events_of("slow") == 2
    project(
        recorded(
            [
                delta("s#0", "slow", 1, page_view("s3", 3)),
                attached("q#0", "quick", 1, page_view("q1", 1)),
                lead_scored("quick", 1),
            ],
            ends,
        )
    )
    assert (events_of("slow"), events_of("quick")) == (2, 1), "it rests for ten seconds"
    clock[0] += analytics.RESTS
    project([])
    assert events_of("slow") == 3, "its mark was kept"


def test_one_worker_computes_and_another_takes_over_when_it_ends(read_models_url, db, monkeypatch):
    monkeypatch.setattr(analytics, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(analytics, "IDLE_SECONDS", 0.05)
    stops = [threading.Event(), threading.Event()]
    workers = [
        threading.Thread(
            target=run_analytics, args=(lambda: read_models_url, no_settings), kwargs={"stop": stop}
        )
        for stop in stops
    ]
    for each in workers:
        each.start()
    try:
        ends: dict[tuple[str, int], int] = {}
        for number, stop in enumerate(stops):
            said = [attached(f"{number}#0", f"L{number}", 1, page_view("e", 1)), lead_scored(f"L{number}", 1)]
            project_records(db, recorded(said, ends))
            db.commit()
            deadline = time.monotonic() + 20
            while len(analytics_rows(db)["lead_journeys"]) <= number:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            stop.set()
            workers[number].join(20)
    finally:
        for stop in stops:
            stop.set()
        for each in workers:
            each.join(20)


def test_a_swap_waits_for_the_worker(read_models_url, db):
    """Rows that were computed of the old tables never come into the new ones."""
    project_records(db, recorded([attached("i#0", "A", 1, page_view("e", 1)), lead_scored("A", 1)]))
    db.commit()
    with psycopg.connect(read_models_url) as other:
        with db.transaction():
            compute_stale_leads(db, no_settings)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("lock table public.positions in exclusive mode nowait")
            other.rollback()
        db.commit()
        other.execute("lock table public.positions in exclusive mode nowait")


def test_only_rows_that_differ_are_written(db):
    said = [attached("i#0", "A", 1, page_view("e1", 1)), lead_scored("A", 1)]
    ends: dict[tuple[str, int], int] = {}
    project_records(db, recorded(said, ends))
    db.commit()
    compute_every_stale_lead(db, no_settings, LIVE_SCHEMA)
    db.commit()
    written = "select xmin::text, day::text from live.lead_days order by day"
    (first,) = db.execute(written).fetchall()
    project_records(db, recorded([delta("i#0", "A", 1, page_view("e2", 86_400 * 3))], ends))
    db.commit()
    compute_every_stale_lead(db, no_settings, LIVE_SCHEMA)
    db.commit()
    assert db.execute(written).fetchall()[0] == first
    assert at(0).isoformat().startswith(first[1])

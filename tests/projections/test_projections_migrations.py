"""Migrations end in exactly the tables that `projections.table_sets` lists."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from projection_records import (
    append,
    attached,
    contents,
    definitions,
    lead_scored,
    open_log,
    page_view,
    recorded,
    score_changed,
)

from projections import rows, table_sets
from projections.migrate import OutdatedError, _alembic_config, check_current, connected_to_live, migrate
from projections.rebuild import rebuild
from projections.table_definition import LIVE_SCHEMA
from projections.upserts import postgres_types_of
from projections.views import create_views
from projections.worker import project_records
from schemas.decode import encode_source
from schemas.record import Outgoing

pytestmark = pytest.mark.postgres
PARTITION = re.compile("event_archive_(before|after)$")


def test_the_newest_migration_is_what_the_tables_say(database_url):
    migrate(database_url)
    with connected_to_live(database_url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_schemas": True,
                "include_name": lambda name, *_: (
                    name != "alembic_version" and not PARTITION.match(name or "")
                ),
            },
        )
        assert compare_metadata(context, table_sets.ALL_TABLES) == []


def test_migrated_tables_are_those_that_a_rebuild_makes(database_url):
    """Down to collations, storage options, comments and the names of constraints."""
    open_log(database_url)
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        migrated = definitions(connection)
        rebuild(database_url)
        assert definitions(connection) == migrated
        assert {name for name, *_ in migrated} >= {table.name for table in table_sets.READ_MODEL_TABLES}


def test_every_text_compares_by_bytes(database_url):
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select table_name, column_name from information_schema.columns "
            "where (table_schema = 'live' or table_name in ('positions', 'retried_letters')) "
            "and data_type = 'text' and collation_name is distinct from 'C'"
        )
        assert found.fetchall() == []


def test_a_database_is_current_only_after_migrating(database_url):
    with pytest.raises(OutdatedError, match="leadstream serve"):
        check_current(database_url)
    migrate(database_url)
    check_current(database_url)
    migrate(database_url)
    check_current(database_url)


def test_a_store_of_the_first_shape_is_brought_to_the_newest(database_url):
    """Its ledger stays; answers, for which nobody waits any more, go."""
    with connected_to_live(database_url) as connection:
        connection.exec_driver_sql("create schema live")
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "insert into score_history values (1, 'rules', now(), 7, 's', 1, 5, 0, 5, '{}', '[]', 'event:e')"
        )
        connection.exec_driver_sql(
            "insert into applied_events values (1, 1, 'default', 'e', 'L', now(), 'applied', '{}', 9)"
        )
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        ledger = connection.execute("select lead_key, model, position, total from live.score_history")
        assert ledger.fetchall() == [(1, "rules", 7, 5)]
        assert connection.execute("select * from live.applied_events").fetchall() == []
    check_current(database_url)


def test_an_embedded_store_loses_nothing_when_it_learns_of_kafka(database_url):
    """Filled before the tables for Kafka were there; its log, state and read models stay, and so do
    what its views show.
    """
    open_log(database_url)
    with connected_to_live(database_url) as connection:
        connection.exec_driver_sql("create schema live")
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    there = recorded(
        [
            attached("default/v/a#0", "l", 1, page_view("e1")),
            lead_scored("l", 1, {"rules": 5}, bands={"stage": "mql", "grade": "Ä+", "b": None}),
            score_changed("l", 1, [("g", "r", 5)], 5),
            Outgoing("events", "default/v/v", encode_source(page_view("e1"))),
        ]
    )
    with psycopg.connect(database_url) as connection:
        # Today's projection fills the store, so it gets today's columns meanwhile.
        connection.execute("alter table live.engagement_history add column channel_group text")
        connection.execute(
            "alter table live.leads add revenue jsonb, add qualification_override jsonb, add speed_to_lead jsonb, "
            "add snoozed_until timestamptz, add other_addresses jsonb, drop search"
        )  # today's writer needs it; null, as then
        connection.execute("alter table live.score_history add column removed boolean")
        connection.execute(
            "alter table live.lead_scores add tenant text, add identified bool, add listed bool, "
            "add created_at timestamptz, add stage text, add band_keys text"
        )
        connection.execute(
            "create table live.identity_history (identity_key int8, epoch int4, tenant text, lead_key int8, "
            "lead_id text, attached_at timestamptz, partition int4, position int8, primary key (identity_key, epoch))"
        )
        connection.execute(
            "create table live.stale_leads (lead_key int8, identity_key int8, marked_at timestamptz)"
        )
        connection.execute(
            "create table live.lead_records (lead_key int8, position int8, at timestamptz, identity_key int8, "
            "leads_to int8, record bytea, "
            "primary key (lead_key, position))"
        )
        connection.execute(
            "create table live.lead_search (lead_key int8 primary key, tenant text, text text, position int8)"
        )
        project_records(connection, there)
        append(connection, there)
        connection.execute("insert into state values ('score_leads', 0, 'default/l/l', 'id:i', 'f')")
        connection.execute("insert into state values ('score_leads', 0, '~', 'models', 'm')")
        connection.execute("insert into dues values ('score_leads', 0, 'default/l/l', 5)")
        connection.commit()
        before = stored(connection)
        connection.execute("alter table live.engagement_history drop column channel_group")
        connection.execute(
            "alter table live.leads drop revenue, drop qualification_override, drop speed_to_lead, "
            "drop snoozed_until, drop other_addresses, add search text collate \"C\" not null default ''"
        )
        connection.execute(
            "alter table live.lead_scores drop tenant, drop identified, drop listed, drop created_at, drop stage, "
            "drop band_keys"
        )
        connection.execute("alter table live.score_history drop removed")
        connection.execute(
            "drop table live.identity_history, live.stale_leads, live.lead_records, live.lead_search"
        )
        connection.commit()
    migrate(database_url)
    check_current(database_url)
    with psycopg.connect(database_url) as connection:
        from_log = (
            "live.identity_history",
            "live.lead_records",
            "live.lead_search",
        )  # only the log knows these records
        assert stored(connection) | {table: before[table] for table in from_log} == before
        assert shown(connection) == {
            "event_archive": [(there[3].partition, 0, "default/v/v", there[3].value)],
            "lead_features": [("default/l/l", "default", "l", "i", b"f")],
            "lead_parts": [(0, "default/l/l", "id:i", b"f")],
            "shard_state": [("score_leads", 0, "models", b"m")],
            "lead_dues": [("default/l/l", 5)],
        }
        rebuild(database_url)
        assert stored(connection) == before


VIEWS = ("event_archive", "lead_features", "lead_parts", "shard_state", "lead_dues")


def shown(connection):
    found = {view: connection.execute(f"select * from live.{view}").fetchall() for view in VIEWS}
    connection.rollback()
    return found


def stored(connection):
    """The read models, their positions, the log and the state, as they were before Kafka."""
    names = ["public.positions", "public.records", "public.compacted", "public.heads", "public.state"]
    names += ["public.dues", *(f"live.{table.name}" for table in table_sets.READ_MODEL_TABLES)]
    found = {
        name: connection.execute(f"select t::text from {name} t order by 1").fetchall()
        for name in names
        if not name.startswith(
            ("live.work", "live.publications", "live.settings_history", "live.qualification_overrides")
        )
    }
    connection.rollback()
    return found


def test_views_have_the_same_columns_in_both_modes(database_url):
    """So they can be replaced in place, when a first start opens a log in tables that are there."""
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        kafka = columns_of_views(connection)
        assert not any(shown(connection).values())
        open_log(database_url)
        create_views(connection, LIVE_SCHEMA)
        assert columns_of_views(connection) == kafka
        assert {view for view, *_ in kafka} == set(VIEWS)
        connection.execute(
            "insert into dues values ('score_leads', 0, 'k', 5), ('track_sessions', 0, 'k', 6)"
        )
        assert shown(connection)["lead_dues"] == [("k", 5)]


def columns_of_views(connection):
    return connection.execute(
        """select relname, attname, format_type(atttypid, atttypmod), collname
           from pg_class c join pg_attribute a on attrelid = c.oid left join pg_collation l on l.oid = attcollation
           where relkind = 'v' and relnamespace = 'live'::regnamespace order by relname, attnum"""
    ).fetchall()


@pytest.mark.parametrize("meet", [migrate, check_current])
def test_a_store_of_a_newer_version_is_refused_with_the_remedy(database_url, meet):
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("update public.alembic_version set version_num = '9999'")
    with pytest.raises(OutdatedError, match=r"9999.*upgrade Leadstream"):
        meet(database_url)


def test_several_may_migrate_at_once(database_url):
    with ThreadPoolExecutor() as threads:
        for each in [threads.submit(migrate, database_url) for _ in range(4)]:
            each.result(30)
    check_current(database_url)


def test_migrating_with_a_log_makes_its_views(database_url):
    open_log(database_url)
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select * from live.event_archive").fetchall() == []
        assert connection.execute("select * from live.lead_features").fetchall() == []
        assert not any(contents(connection).values())


def test_every_table_has_a_row_type_that_mypy_knows():
    assert set(get_args(rows.Row)) == set(table_sets.TABLE_OF_ROW)


def test_every_column_has_a_type_that_rows_are_sent_in():
    for table in table_sets.READ_MODEL_TABLES:
        assert len(postgres_types_of(table)) == len(table.columns)

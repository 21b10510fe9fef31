"""Migrations end in exactly the tables that `projections.tables` defines."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from projection_records import contents, definitions, open_log

from projections import rows, tables
from projections.derived import types_of
from projections.migrate import OutdatedError, check_current, connected, migrate
from projections.rebuild import rebuild

pytestmark = pytest.mark.postgres


def test_the_newest_migration_is_what_the_tables_say(database_url):
    migrate(database_url)
    with connected(database_url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_schemas": True,
                "include_object": lambda _object, name, *_: name != "alembic_version",
            },
        )
        assert compare_metadata(context, tables.metadata) == []


def test_migrated_tables_are_those_that_a_rebuild_makes(database_url):
    """Down to collations, storage options, comments and the names of constraints."""
    open_log(database_url)
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        migrated = definitions(connection)
        rebuild(database_url)
        assert definitions(connection) == migrated
        assert {name for name, *_ in migrated} >= {table.name for table in tables.READ_MODELS}


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


@pytest.mark.parametrize(("kind", "table"), rows.TABLE_OF.items(), ids=str)
def test_a_row_has_the_columns_of_its_table(kind, table):
    assert list(kind._fields) == list(table.columns.keys())


def test_every_table_has_a_row_type():
    assert set(rows.TABLE_OF.values()) == set(tables.READ_MODELS)


def test_every_column_has_a_type_that_rows_are_sent_in():
    for table in tables.READ_MODELS:
        assert len(types_of(table)) == len(table.columns)

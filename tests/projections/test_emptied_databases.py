"""A database is handed on to the next test only if nothing but rows has changed in it."""

import psycopg
import pytest

from tests.emptied_databases import description_of, emptied


def test_rows_and_numbers_are_as_in_a_fresh_one(read_models_url):
    description = description_of(read_models_url)
    with psycopg.connect(read_models_url) as connection:
        numbered = connection.execute(
            "insert into audit_log (tenant, at, actor, action, outcome) values ('t', now(), 'a', 'b', 'done') returning entry_id"
        )
        assert numbered.fetchone() == (1,)
    assert emptied(read_models_url, description)
    with psycopg.connect(read_models_url) as connection:
        assert connection.execute("select count(*) from audit_log").fetchone() == (0,)
        assert connection.execute("select nextval('audit_log_entry_id_seq')").fetchone() == (1,)


@pytest.mark.parametrize(
    "changing",
    [
        "create table more (number int)",
        "drop table outbox",
        "alter table outbox add column more int",
        "alter table audit_log alter column tenant drop not null",
        "alter table outbox set (fillfactor = 50)",
        "create index more on outbox (tenant)",
        "create function more() returns int language sql as 'select 1'",
        "grant select on outbox to public",
        "update alembic_version set version_num = '0001'",
        "do $$ begin execute format('alter database %I set work_mem = ''1MB''', current_database()); end $$",
        "alter schema live rename to old; create schema live",
    ],
)
def test_another_change_shows(read_models_url, changing):
    description = description_of(read_models_url)
    assert emptied(read_models_url, description)
    with psycopg.connect(read_models_url) as connection:
        connection.execute(changing)
    assert not emptied(read_models_url, description)

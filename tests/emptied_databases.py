"""Databases that tests hand on: a copy of one takes longer than many a test, and most tests change nothing but rows."""

import psycopg
from psycopg.sql import SQL, Identifier

KEPT = "alembic_version"
_CHANGED_BY_DDL = (
    "pg_attribute",
    "pg_attrdef",
    "pg_constraint",
    "pg_event_trigger",
    "pg_extension",
    "pg_index",
    "pg_inherits",
    "pg_namespace",
    "pg_policy",
    "pg_proc",
    "pg_rewrite",
    "pg_sequence",
    "pg_trigger",
    "pg_type",
)
_DESCRIPTION = f"""
select (select md5(string_agg((oid, relname, relnamespace, relkind, relowner, relacl, reloptions)::text, ',' order by oid))
        from pg_class),
       (select string_agg(version_num, ',') from {KEPT}),
       (select (datacl, datconnlimit)::text from pg_database where datname = current_database()),
       (select count(*) from pg_db_role_setting join pg_database d on d.oid = setdatabase and datname = current_database()),
       {", ".join(f"(select (count(*), max(xmin::text::bigint))::text from {name})" for name in _CHANGED_BY_DDL)}"""
_FILLED = f"""
select relnamespace::regnamespace::text, relname from pg_class
where relkind = 'r' and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  and relname <> '{KEPT}' and pg_relation_size(oid) > 0"""

_WITHOUT_TRIGGERS = "-c session_replication_role=replica -c lock_timeout=5s"


def description_of(url: str) -> tuple[object, ...]:
    """All but the rows: two databases that were one differ in it as soon as something but rows has changed."""
    with psycopg.connect(url) as connection:
        return _described(connection)


def emptied(url: str, description: tuple[object, ...]) -> bool:
    """Removes every row, unless the database no longer has the description. Whether it has. Nobody else may be in it."""
    with psycopg.connect(url, options=_WITHOUT_TRIGGERS) as connection:
        if _described(connection) != description:
            return False
        if filled := connection.execute(_FILLED).fetchall():
            tables = SQL(", ").join(Identifier(*table) for table in filled)
            connection.execute(SQL("truncate {}").format(tables))
        connection.execute("select setval(seqrelid, seqstart, false) from pg_sequence")
    return True


def _described(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[object, ...]:
    described = connection.execute(_DESCRIPTION).fetchone()
    assert described is not None
    return described

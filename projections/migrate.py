"""Migrates the read models' tables in the schema `live`, and checks that they are up to date.

Several processes may call it at once, and again. It never changes the log or the state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from projections.connection import connect_watched
from projections.reports import create_reports
from projections.table_definition import LIVE_SCHEMA, PUBLIC_SCHEMA
from projections.views import create_views

VERSION_TABLE = "alembic_version"

_OPTIONS = f"-c search_path={LIVE_SCHEMA} -c timezone=UTC -c lock_timeout=5s"
"""A statement that waits for a table blocks every later reader of it, so it does not wait long for a long reader."""
_MIGRATION_LOCK_ID = 0x6C656164_6D696772  # "leadmigr": advisory locks are numbered per database


class OutdatedError(RuntimeError):
    """The tables of the database are older or newer than this version."""


def migrate(url: str) -> None:
    """Runs the missing migrations and replaces the views. Raises OutdatedError."""
    with connected_to_live(url) as connection:
        connection.execute(text("set local lock_timeout = 0"))  # for another process that migrates
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK_ID})
        connection.execute(text("set local lock_timeout to default"))
        connection.execute(text(f"create schema if not exists {LIVE_SCHEMA}"))
        _newest_revision(connection)
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        create_views(_psycopg_connection(connection), LIVE_SCHEMA)
        create_reports(_psycopg_connection(connection))


def check_current(url: str) -> None:
    """Raises OutdatedError unless the database is at the newest migration."""
    with connected_to_live(url) as connection:
        revision = _newest_revision(connection)
    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    if revision != head:
        raise OutdatedError(
            f"The read models are at {revision or 'nothing'}, this version needs {head}: run `leadstream serve` "
            "once, which migrates them."
        )


@contextmanager
def connected_to_live(url: str) -> Iterator[Connection]:
    """One transaction whose only default schema is `live`. Raises psycopg's errors unchanged."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect_watched(url, options=_OPTIONS),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from error
        raise


def alembic_options(connection: Connection) -> dict[str, Any]:
    """The options of every Alembic context here."""
    return {"connection": connection, "version_table": VERSION_TABLE, "version_table_schema": PUBLIC_SCHEMA}


def _newest_revision(connection: Connection) -> str | None:
    """The newest migration that ran; None: none did. Raises OutdatedError for a migration that this version lacks."""
    options = alembic_options(connection)
    revision = MigrationContext.configure(options.pop("connection"), opts=options).get_current_revision()
    revisions = {
        script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()
    }
    if revision is not None and revision not in revisions:
        raise OutdatedError(
            f"A newer Leadstream made these read models (at {revision}, unknown here): upgrade Leadstream."
        )
    return revision


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _psycopg_connection(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"migrations run on psycopg, not on {type(driver).__name__}")
    return driver

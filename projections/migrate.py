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

from projections.connection import connect
from projections.reports import create_reports
from projections.tables import LIVE, PUBLIC
from projections.views import create_views

VERSION_TABLE = "alembic_version"

_OPTIONS = f"-c search_path={LIVE} -c timezone=UTC -c lock_timeout=5s"
"""A statement that waits for a table blocks every later reader of it, so it does not wait long for a long reader."""
_LOCK = 0x6C656164_6D696772  # "leadmigr": advisory locks are numbered per database


class OutdatedError(RuntimeError):
    """The tables of the database are older or newer than this version."""


def migrate(url: str) -> None:
    """Runs the missing migrations and replaces the views. Raises OutdatedError."""
    with connected(url) as connection:
        connection.execute(text("set local lock_timeout = 0"))  # for another process that migrates
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text("set local lock_timeout to default"))
        connection.execute(text(f"create schema if not exists {LIVE}"))
        _revision(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        create_views(_driver(connection), LIVE)
        create_reports(_driver(connection))


def check_current(url: str) -> None:
    """Raises OutdatedError unless the database is at the newest migration."""
    with connected(url) as connection:
        revision = _revision(connection)
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if revision != head:
        raise OutdatedError(
            f"The read models are at {revision or 'nothing'}, this version needs {head}: run `leadstream serve` "
            "once, which migrates them."
        )


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """One transaction whose only default schema is `live`. Raises psycopg's errors unchanged."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, options=_OPTIONS),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from error
        raise


def configured(connection: Connection) -> dict[str, Any]:
    """The options of every Alembic context here."""
    return {"connection": connection, "version_table": VERSION_TABLE, "version_table_schema": PUBLIC}


def _revision(connection: Connection) -> str | None:
    """The newest migration that ran; None: none did. Raises OutdatedError for a migration that this version lacks."""
    options = configured(connection)
    revision = MigrationContext.configure(options.pop("connection"), opts=options).get_current_revision()
    revisions = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in revisions:
        raise OutdatedError(
            f"A newer Leadstream made these read models (at {revision}, unknown here): upgrade Leadstream."
        )
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"migrations run on psycopg, not on {type(driver).__name__}")
    return driver

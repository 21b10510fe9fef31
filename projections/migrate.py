"""Brings the read models' tables to the newest shape, in schema `live`, and checks that they are.

Safe to call from several processes at once, and again. It never touches the log or the state.
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
from projections.tables import LIVE, PUBLIC
from projections.views import create_views

VERSION_TABLE = "alembic_version"

_OPTIONS = f"-c search_path={LIVE} -c timezone=UTC -c lock_timeout=5s"
"""Whoever waits for a table keeps all others from it: a long reader is not waited for long."""
_LOCK = 0x6C656164_6D696772  # "leadmigr": advisory locks are numbered per database


class OutdatedError(RuntimeError):
    """The database's tables are not those of this version."""


def migrate(url: str) -> None:
    """Runs every migration that is missing, then makes the views anew. Raises OutdatedError."""
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


def check_current(url: str) -> None:
    """Raises OutdatedError unless the database is at the newest migration."""
    with connected(url) as connection:
        found = _revision(connection)
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    if found != wanted:
        raise OutdatedError(
            f"The read models are at {found or 'nothing'}, this version needs {wanted}: run `leadstream serve` "
            "once, which migrates them."
        )


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """One transaction that sees `live` alone as its default schema. Raises psycopg's errors as they are."""
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
    """How every Alembic context here is set up."""
    return {"connection": connection, "version_table": VERSION_TABLE, "version_table_schema": PUBLIC}


def _revision(connection: Connection) -> str | None:
    """The newest migration that was run; None: none was. Raises OutdatedError for one unknown here."""
    options = configured(connection)
    found = MigrationContext.configure(options.pop("connection"), opts=options).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise OutdatedError(
            f"A newer Leadstream made these read models (at {found}, unknown here): upgrade Leadstream."
        )
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"migrations run on psycopg, not on {type(driver).__name__}")
    return driver

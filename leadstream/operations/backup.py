"""Backups of a store: its database as of one moment in one file, or a copy of an embedded server's files.

A backup is written completely or not at all. Only its owner may read it: it contains everything that producers
sent. A restore fills only an empty database, completely or not at all.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from leadstream.console import Failure
from leadstream.embedded_postgres import POSTGRES_VERSION, PostgresUnavailable, copy_server, run_program
from projections.connection import connect_watched

_DUMP_BEGINNING = b"PGDMP"
"""The first bytes of a dump in PostgreSQL's custom format."""


def dump_database(database_url: str, to: Path) -> None:
    """Dumps the whole database as of one moment, also beside a running server. Raises Failure."""
    with _atomic_output(to) as part:
        part.touch(mode=0o600)
        _run_postgres_program(
            "pg_dump", database_url, "--format=custom", "--no-owner", "--no-privileges", f"--file={part}"
        )


def require_dump(dumped: Path) -> None:
    """Raises Failure for a file that `load_dump` cannot read."""
    try:
        with dumped.open("rb") as file:
            is_dump = file.read(len(_DUMP_BEGINNING)) == _DUMP_BEGINNING
    except OSError:
        is_dump = False
    if not is_dump:
        raise Failure(
            f"{dumped} is no dump: name the file that `leadstream backup` wrote. A directory that `leadstream backup "
            "--base` wrote is a complete store: pass it to `leadstream serve` as --data-dir."
        )


def load_dump(database_url: str, dumped: Path) -> None:
    """Fills an empty database. Raises Failure."""
    _refuse_filled_database(database_url)
    one = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
    _run_postgres_program("pg_restore", database_url, *one, str(dumped.resolve()))
    with connect_watched(database_url, autocommit=True) as connection:
        connection.execute("analyze")  # a dump has no statistics, and the first queries would be slow


def copy_server_files(data_dir: Path, to: Path) -> None:
    """Copies the files of the server that runs in `data_dir` to a new data directory. A server that starts there
    recovers them to one moment. Raises Failure.
    """
    with _atomic_output(to) as part:
        part.mkdir(mode=0o700)
        try:
            copy_server(data_dir, part)
        except PostgresUnavailable as cause:
            raise Failure(str(cause)) from cause


@contextmanager
def _atomic_output(to: Path) -> Iterator[Path]:
    """A path beside `to` under another name, which is renamed to `to` at the end."""
    part = to.resolve().with_name(f".{to.name}.{os.getpid()}")  # PostgreSQL's programs run elsewhere
    if to.exists():
        raise Failure(f"{to} exists: name another, so that no backup is overwritten.")
    if not part.parent.is_dir():
        raise Failure(f"{to} cannot be written: there is no directory {part.parent}.")
    try:
        yield part
        part.rename(to)
    except OSError as cause:
        raise Failure(f"{to} cannot be written ({cause.strerror}).") from cause
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def _refuse_filled_database(database_url: str) -> None:
    with connect_watched(database_url) as connection:
        row = connection.execute(
            """select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'"""
        ).fetchone()
    if row is not None and row[0]:
        raise Failure(
            "The database is not empty, and a restore would mix two stores: pass a new --data-dir, or the URL of an "
            "empty database."
        )


def _run_postgres_program(program: str, database_url: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's programs on the database. The password is no argument, since others could see it."""
    conninfo = conninfo_to_dict(database_url)
    password = conninfo.pop("password", None)
    done = run_program(
        None,
        program,
        *arguments,
        f"--dbname={make_conninfo('', **conninfo)}",
        environment={} if password is None else {"PGPASSWORD": str(password)},
    )
    if done.returncode != 0:
        raise Failure(
            f"{program} (PostgreSQL {POSTGRES_VERSION}) failed: {' '.join(done.stdout.split())[-1_000:]}"
        )

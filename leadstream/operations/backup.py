"""Backups of a store: its database as of one moment in one file, or a copy of an embedded server's files.

A backup appears whole or not at all, and only its owner may read it: it holds everything that producers sent.
A restore fills an empty database only, whole or not at all.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from leadstream.console import Failure
from leadstream.embedded_postgres import VERSION, PostgresUnavailable, copy_server, run_program
from projections.connection import connect

_DUMP = b"PGDMP"
"""What a dump of PostgreSQL's custom format begins with."""


def dump(database_url: str, to: Path) -> None:
    """Everything in the database, as of one moment; beside a running server, too. Raises Failure."""
    with _made_whole(to) as part:
        part.touch(mode=0o600)
        _run("pg_dump", database_url, "--format=custom", "--no-owner", "--no-privileges", f"--file={part}")


def require_dump(dumped: Path) -> None:
    """Raises Failure for what `load` cannot read."""
    try:
        with dumped.open("rb") as file:
            found = file.read(len(_DUMP)) == _DUMP
    except OSError:
        found = False
    if not found:
        raise Failure(
            f"{dumped} is no dump: name the file that `leadstream backup` wrote. A directory that `leadstream backup "
            "--base` wrote is a store as it is: give it to `leadstream serve` as --data-dir."
        )


def load(database_url: str, dumped: Path) -> None:
    """Fills an empty database. Raises Failure."""
    _refuse_full(database_url)
    one = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
    _run("pg_restore", database_url, *one, str(dumped.resolve()))
    with connect(database_url, autocommit=True) as connection:
        connection.execute("analyze")  # a dump has no statistics, and the first queries would be slow


def copy_files(data_dir: Path, to: Path) -> None:
    """A data directory with the files of the server that runs in `data_dir`, recovered to one moment when a
    server starts in it. Raises Failure.
    """
    with _made_whole(to) as part:
        part.mkdir(mode=0o700)
        try:
            copy_server(data_dir, part)
        except PostgresUnavailable as cause:
            raise Failure(str(cause)) from cause


@contextmanager
def _made_whole(to: Path) -> Iterator[Path]:
    """Made beside it under another name, which it gets at the end."""
    part = to.resolve().with_name(f".{to.name}.{os.getpid()}")  # PostgreSQL's programs run elsewhere
    if to.exists():
        raise Failure(f"{to} is there already: name another, so that no backup is overwritten.")
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


def _refuse_full(database_url: str) -> None:
    with connect(database_url) as connection:
        row = connection.execute(
            """select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'"""
        ).fetchone()
    if row is not None and row[0]:
        raise Failure(
            "The database is not empty, and a restore would mix two stores: give a new --data-dir, or the URL of an "
            "empty database."
        )


def _run(program: str, database_url: str, *arguments: str) -> None:
    """One of PostgreSQL's programs on the database; its password is no argument, which others could see."""
    given = conninfo_to_dict(database_url)
    password = given.pop("password", None)
    done = run_program(
        None,
        program,
        *arguments,
        f"--dbname={make_conninfo('', **given)}",
        environment={} if password is None else {"PGPASSWORD": str(password)},
    )
    if done.returncode != 0:
        raise Failure(f"{program} (PostgreSQL {VERSION}) failed: {' '.join(done.stdout.split())[-1_000:]}")

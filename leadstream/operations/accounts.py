"""Keys, people and the audit log from the command line, beside a running server or without one.

Every command that changes a store leaves a row in its audit log: who ran it, by the account of the machine, and its arguments
without secrets and personal data. A store that cannot take the row does not undo the command.
"""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from authoring.published_texts import title_of
from gateway.accounts.audit import DONE, EVERYBODY, FAILED, AuditEntry, hashed_id, write_entries
from gateway.accounts.database import AccountsConnection, accounts_parameters
from gateway.accounts.keys import Author
from gateway.answers import RequestProblem
from leadstream.clock import utc_now
from leadstream.console import Failure, print_warning
from leadstream.operations.open_store import open_database_url
from leadstream.settings import Settings
from schemas.control import EVERY_TENANT

T = TypeVar("T")
AccountsWork = Callable[[AccountsConnection, Author], Awaitable[T]]
SECRET_OPTIONS = frozenset({"--database-url"})
OUTDATED = "The tables of keys and people are not made yet: run `leadstream serve` of this version once."


def run_on_accounts(settings: Settings, work: AccountsWork[T]) -> T:
    """Runs it in one transaction on the store's database. Raises Failure."""
    with open_database_url(settings) as url:
        return asyncio.run(_run(url, work))


async def _run(url: str, work: AccountsWork[T]) -> T:
    author = Author(cli_actor(), utc_now())
    try:
        connection: AccountsConnection
        async with await psycopg.AsyncConnection.connect(url, **accounts_parameters(url)) as connection:
            return await work(connection, author)
    except psycopg.errors.UndefinedTable as cause:
        raise Failure(OUTDATED) from cause
    except RequestProblem as problem:
        field = f"{problem.field}: " if problem.field else ""
        raise Failure(f"{field}{problem.reason}.") from problem


def cli_actor() -> str:
    """Who runs the command, for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name
        return "cli"


@dataclass
class CommandNote:
    """What the row of a command says beside its arguments. `tenant`: the only one that it concerns."""

    tenant: str = EVERYBODY
    target: str | None = None
    before: str | None = None
    after: str | None = None


@contextmanager
def recorded_command(database_url: str, tenant: str = EVERYBODY) -> Iterator[CommandNote]:
    """Leaves a row in the audit log for the command of this process, when it has ended, with what the command has noted."""
    note, outcome = CommandNote(EVERYBODY if tenant == EVERY_TENANT else tenant), FAILED
    try:
        yield note
        outcome = DONE
    finally:
        record_command(database_url, note, outcome)


def record_command(database_url: str, note: CommandNote, outcome: str = DONE) -> None:
    entry = AuditEntry(
        note.tenant,
        utc_now(),
        cli_actor(),
        command_text(sys.argv[1:]),
        note.target,
        note.before,
        note.after,
        outcome=outcome,
    )
    try:
        asyncio.run(_write(database_url, entry))
    except (psycopg.Error, RuntimeError) as cause:
        print_warning(f"The audit log has no row of this command: {' '.join(str(cause).split())}")


def note_version(note: CommandNote, database_url: str, tenant: str, name: str, version: int) -> None:
    """Notes which version of a model or of the workflows came after which."""
    from leadstream.operations.publishing import published_versions  # noqa: PLC0415 - commands about keys need none of it

    earlier = [
        each.version for each in published_versions(database_url, tenant, name) if each.version < version
    ]
    note.target = title_of(name)
    note.before = f"version {max(earlier)}" if earlier else None
    note.after = f"version {version}"


def record_entry(
    database_url: str, tenant: str, action: str, target: str | None, *, lead_id: str | None = None
) -> None:
    """Leaves a row in the audit log for a command about one person, whom the row does not name: of the lead's id it has a
    hash.
    """
    if lead_id is not None:
        target = f"lead_id={hashed_id(tenant, lead_id)}"
    entry = AuditEntry(tenant, utc_now(), cli_actor(), action, target)
    try:
        asyncio.run(_write(database_url, entry))
    except (psycopg.Error, RuntimeError) as cause:
        print_warning(f"The audit log has no row of this command: {' '.join(str(cause).split())}")


async def _write(url: str, entry: AuditEntry) -> None:
    connection: psycopg.AsyncConnection[dict[str, Any]]
    async with await psycopg.AsyncConnection.connect(url, **accounts_parameters(url)) as connection:
        await write_entries(connection, [entry])


def command_text(arguments: Sequence[str]) -> str:
    """The command without the values of options that have secrets."""
    shown, hidden = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hidden or (equals and name in SECRET_OPTIONS):
            shown.append("***" if hidden else f"{name}=***")
        else:
            shown.append(argument)
        hidden = argument in SECRET_OPTIONS
    return " ".join(["leadstream", *shown])

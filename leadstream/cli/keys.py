"""`leadstream keys`: makes, lists, revokes and rotates the keys of the API and of producers."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    AsJson,
    DatabaseUrl,
    DataDir,
    OnlyTenant,
    Tenant,
    settings_of_store,
)
from leadstream.console import print_json, print_line, print_records, print_status
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from gateway.accounts.database import AccountsConnection
    from gateway.accounts.keys import Author, MadeKey

app = typer.Typer()
keys = typer.Typer(help="Keys of programs: what they may do, when they were last used, and their end.")
app.add_typer(keys, name="keys", rich_help_panel=OPERATE)

KeyId = Annotated[str, typer.Argument(help="The key's id, as `leadstream keys list` shows it.")]
COUNTS_SOON = "A running server takes and refuses it within five seconds."


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who uses the key: 'web site', 'nightly export'.")],
    scopes: Annotated[
        str,
        typer.Option(
            help="What it may do: collect, read, write, author, admin, joined by +. collect alone makes a public write key."
        ),
    ] = "collect",
    days: Annotated[
        int | None,
        typer.Option(min=1, max=36_500, help="It expires after so many days.", show_default="never"),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a key. Its secret is printed once and stored nowhere.

    From the first key or person on, every caller needs a key or has to
    sign in, also on this machine.
    """
    from gateway.accounts import keys as stored
    from leadstream.operations.accounts import run_on_accounts

    async def work(connection: "AccountsConnection", author: "Author") -> "MadeKey":
        expires_at = None if days is None else author.at + timedelta(days=days)
        checked = stored.checked_scopes(scopes.split("+"), operator=True)
        return await stored.create_key(
            connection, author, tenant, stored.checked_name(name), checked, expires_at
        )

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    _print_secret(run_on_accounts(settings, work))


@keys.command("list")
def list_keys(
    tenant: OnlyTenant = None,
    ended: Annotated[bool, typer.Option("--ended", help="List revoked and expired keys, too.")] = False,  # noqa: FBT002 - a switch
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List keys: id, tenant, name, scopes, last use and end. Keys of settings are not among them."""
    import msgspec

    from gateway.accounts import keys as stored
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    rows = run_on_accounts(
        settings,
        lambda connection, author: stored.list_keys(connection, tenant, now=author.at, ended=ended),
    )
    if as_json:
        print_json(msgspec.json.encode([{"tenant": row["tenant"], **stored.key_json(row)} for row in rows]))
        return
    print_records(
        ("Key", "Tenant", "Name", "Scopes", "Made", "By", "Last use", "Ends"),
        [
            (
                row["key_id"],
                row["tenant"],
                row["name"],
                row["scopes"],
                _moment(row["created_at"]),
                row["created_by"],
                _moment(row["last_used_at"]) or "never",
                f"revoked {_moment(row['revoked_at'])}"
                if row["revoked_at"]
                else _moment(row["expires_at"]) or "never",
            )
            for row in rows
        ],
    )
    if not rows:
        print_status("No keys were made. `leadstream keys create NAME` makes one.")


@keys.command("revoke")
def revoke(key_id: KeyId, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Revoke a key: it is refused from now on, for ever."""
    from gateway.accounts import keys as stored
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    row = run_on_accounts(
        settings, lambda connection, author: stored.revoke_key(connection, author, None, key_id)
    )
    print_line(f"Key {row['key_id']} ({row['name']}) is revoked. {COUNTS_SOON}")


@keys.command("rotate")
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        float, typer.Option("--overlap", min=0, max=720, help="Hours that the old key goes on.")
    ] = 24.0,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make the successor of a key, with the same name and scopes. The old key ends after the overlap."""
    from gateway.accounts import keys as stored
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    made = run_on_accounts(
        settings,
        lambda connection, author: stored.rotate_key(
            connection, author, None, key_id, timedelta(hours=overlap)
        ),
    )
    _print_secret(made)
    print_status(f"The old key {key_id} ends {'now' if overlap == 0 else f'in {overlap:g} hours'}.")


def _print_secret(made: "MadeKey") -> None:
    """The secret alone on standard output, for pipes."""
    row = made.row
    print_status(
        f"Key {row['key_id']} of the tenant {row['tenant']} may {row['scopes'].replace('+', ', ')}. "
        f"This is the only time that it is shown. {COUNTS_SOON}"
    )
    print_line(made.secret)


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z"

"""`leadstream users`: the people who may sign in, their roles and passwords."""

import sys
from datetime import UTC
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leadstream.cli.options import (
    OPERATE,
    DatabaseUrl,
    DataDir,
    OnlyTenant,
    Tenant,
    settings_of_store,
)
from leadstream.console import Failure, print_line, print_records, print_status
from schemas.envelope import DEFAULT_TENANT

if TYPE_CHECKING:
    from gateway.accounts.database import AccountsConnection
    from gateway.accounts.keys import Author

app = typer.Typer()
users = typer.Typer(help="People who sign in on the pages: roles are viewer, sales, marketer and admin.")
app.add_typer(users, name="users", rich_help_panel=OPERATE)

Email = Annotated[str, typer.Argument(help="The e-mail address by which the person signs in.")]
Role = Annotated[
    str,
    typer.Option(
        help="viewer reads; sales also changes leads; marketer also publishes models; admin also manages keys."
    ),
]
PasswordFromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, not from a prompt.")
]
GeneratePassword = Annotated[
    bool, typer.Option("--generate-password", help="Make a random password and print it once.")
]


@users.command("create")
def create(
    email: Email,
    role: Role = "viewer",
    name: Annotated[
        str | None, typer.Option(help="The person's name.", show_default="the e-mail address")
    ] = None,
    password_stdin: PasswordFromInput = False,  # noqa: FBT002 - a switch
    generate_password: GeneratePassword = False,  # noqa: FBT002 - a switch
    no_password: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--no-password", help="The person signs in by OpenID Connect only.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Enter a person, who signs in at /sign-in.

    From the first person or key on, every caller has to sign in or needs
    a key, also on this machine.
    """
    from gateway.accounts import users as stored
    from gateway.accounts.passwords import hash_password
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    checked_email, checked_role, checked_name = _checked(email, role, name or email)
    password = None
    if not no_password:
        password = _password(checked_email, from_input=password_stdin, generate=generate_password)
    password_hash = None if password is None else hash_password(password)

    async def work(connection: "AccountsConnection", author: "Author") -> dict[str, Any]:
        return await stored.create_user(
            connection,
            author,
            tenant=tenant,
            email=checked_email,
            name=checked_name,
            role=checked_role,
            password_hash=password_hash,
        )

    row = run_on_accounts(settings, work)
    if generate_password:
        print_line(f"Password (shown once): {password}")
    print_line(f"{row['email']} may sign in as {row['role']} of the tenant {row['tenant']}.")


@users.command("list")
def list_users(tenant: OnlyTenant = None, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """List people: e-mail, tenant, role, how and when they last signed in, and whether they are disabled."""
    from gateway.accounts import users as stored
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    rows = run_on_accounts(settings, lambda connection, _: stored.list_users(connection, tenant))
    print_records(
        ("E-mail", "Id", "Tenant", "Role", "Name", "Signs in by", "Last sign-in", "Status"),
        [
            (
                row["email"],
                row["user_id"],
                row["tenant"],
                row["role"],
                row["name"],
                ", ".join(
                    way.replace("openid_connect", "OpenID Connect") for way in stored.ways_to_sign_in(row)
                ),
                f"{row['last_signed_in_at'].astimezone(UTC):%Y-%m-%d %H:%M}Z"
                if row["last_signed_in_at"]
                else "never",
                "disabled" if row["disabled_at"] else "active",
            )
            for row in rows
        ],
    )
    if not rows:
        print_status(
            "Nobody is entered. `leadstream users create EMAIL --role admin` enters the first person."
        )


@users.command("disable")
def disable(
    email: Email,
    undo: Annotated[bool, typer.Option("--undo", help="Let the person sign in again.")] = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Disable a person: all sessions end at once, and no sign-in succeeds."""
    from gateway.accounts import users as stored
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    row = run_on_accounts(
        settings,
        lambda connection, author: stored.disable_user(
            connection, author, stored.normal_email(email), disabled=not undo
        ),
    )
    print_line(f"{row['email']} {'may sign in again' if undo else 'is disabled, and signed out everywhere'}.")


@users.command("set-role")
def set_role(
    email: Email,
    role: Annotated[str, typer.Argument(help="viewer, sales, marketer or admin.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Change what a person may do, from the next request on."""
    from gateway.accounts import users as stored
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    _, checked_role, _ = _checked(None, role)
    row = run_on_accounts(
        settings,
        lambda connection, author: stored.set_role(
            connection, author, stored.normal_email(email), checked_role
        ),
    )
    print_line(f"{row['email']} is {row['role']} now.")


@users.command("set-password")
def set_password(
    email: Email,
    password_stdin: PasswordFromInput = False,  # noqa: FBT002 - a switch
    generate_password: GeneratePassword = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Set a person's password. All of the person's sessions end."""
    from gateway.accounts import users as stored
    from gateway.accounts.passwords import hash_password
    from leadstream.operations.accounts import run_on_accounts

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    known_as = stored.normal_email(email)
    password = _password(known_as, from_input=password_stdin, generate=generate_password)
    password_hash = hash_password(password)
    row = run_on_accounts(
        settings,
        lambda connection, author: stored.set_password(connection, author, known_as, password_hash),
    )
    if generate_password:
        print_line(f"Password (shown once): {password}")
    print_line(f"{row['email']} has a new password, and is signed out everywhere.")


def _checked(email: str | None, role: str, name: str | None = None) -> tuple[str, str, str]:
    """Raises Failure."""
    from gateway.accounts import users as stored
    from gateway.answers import RequestProblem

    try:
        return (
            "" if email is None else stored.checked_email(email),
            stored.checked_role(role),
            "" if name is None else stored.checked_name(name),
        )
    except RequestProblem as problem:
        raise Failure(f"{problem.field}: {problem.reason}.") from problem


def _password(email: str, *, from_input: bool, generate: bool) -> str:
    """Raises Failure."""
    from gateway.accounts.passwords import checked_password, generated_password
    from gateway.answers import RequestProblem

    if generate:
        return generated_password()
    if from_input:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        raise Failure("There is no terminal to ask for the password: pass --password-stdin.")
    try:
        return checked_password(password, email)
    except RequestProblem as problem:
        raise Failure(f"{problem.reason}.") from problem

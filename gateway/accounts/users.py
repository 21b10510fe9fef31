"""People who may sign in, with their roles. Nothing here commits: the caller's transaction has the audit log's row, too."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from email_validator import EmailNotValidError, validate_email

from gateway.accounts.audit import AuditEntry, short_text, write_entries
from gateway.accounts.database import AccountsConnection
from gateway.accounts.keys import Author
from gateway.answers import RequestProblem
from gateway.scopes import ROLE_SCOPES

LONGEST_NAME = 100
_COLUMNS = (
    "user_id, tenant, email, name, role, password_hash, oidc_issuer, oidc_subject, created_at, created_by, "
    "disabled_at, last_signed_in_at"
)


def checked_role(role: str) -> str:
    """Raises RequestProblem."""
    if role not in ROLE_SCOPES:
        raise RequestProblem(422, f"roles are {', '.join(ROLE_SCOPES)}", field="role")
    return role


def checked_email(email: str) -> str:
    """In the form in which it is stored. Raises RequestProblem."""
    try:
        return normal_email(validate_email(email.strip(), check_deliverability=False).normalized)
    except EmailNotValidError as wrong:
        raise RequestProblem(422, f"is no e-mail address: {wrong}", field="email") from None


def checked_name(name: str) -> str:
    """Raises RequestProblem."""
    plain = " ".join(name.split())[:LONGEST_NAME]
    if not plain or not plain.isprintable():
        raise RequestProblem(422, f"say in 1 to {LONGEST_NAME} characters who the person is", field="name")
    return plain


def user_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["user_id"],
        **{name: row[name] for name in ("email", "name", "role", "created_at", "created_by", "disabled_at")},
        "last_signed_in_at": row["last_signed_in_at"],
        "signs_in_by": ways_to_sign_in(row),
    }


def ways_to_sign_in(row: Mapping[str, Any]) -> list[str]:
    ways = ["password"] * (row["password_hash"] is not None)
    return ways + ["openid_connect"] * (row["oidc_subject"] is not None or row["password_hash"] is None)


def normal_email(email: str) -> str:
    """Letter case makes no difference at a sign-in."""
    return email.strip().lower()


async def create_user(
    connection: AccountsConnection,
    author: Author,
    *,
    tenant: str,
    email: str,
    name: str,
    role: str,
    password_hash: str | None,
) -> dict[str, Any]:
    """Raises RequestProblem, if somebody has this address."""
    cursor = await connection.execute(
        f"""insert into users (user_id, tenant, email, name, role, password_hash, created_at, created_by)
            values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing returning {_COLUMNS}""",  # noqa: S608 - made of constants
        (secrets.token_hex(6), tenant, email, name, role, password_hash, author.at, author.actor),
    )
    rows = await cursor.fetchall()
    if not rows:
        raise RequestProblem(409, "somebody has this e-mail address already", field="email")
    await _audit(connection, author, rows[0], "user.create", after=_shown(rows[0]))
    return rows[0]


async def list_users(connection: AccountsConnection, tenant: str | None) -> Sequence[dict[str, Any]]:
    cursor = await connection.execute(
        f"""select {_COLUMNS} from users where (%(tenant)s::text is null or tenant = %(tenant)s)
            order by tenant, email limit 10000""",  # noqa: S608 - made of constants
        {"tenant": tenant},
    )
    return await cursor.fetchall()


async def user_by_email(connection: AccountsConnection, email: str) -> dict[str, Any] | None:
    cursor = await connection.execute(f"select {_COLUMNS} from users where email = %s", (email,))  # noqa: S608 - made of constants
    return await cursor.fetchone()


async def user_by_id(connection: AccountsConnection, tenant: str, user_id: str) -> dict[str, Any] | None:
    """Within the transaction nobody else changes the person."""
    cursor = await connection.execute(
        f"select {_COLUMNS} from users where user_id = %s and tenant = %s for update",  # noqa: S608 - made of constants
        (user_id, tenant),
    )
    return await cursor.fetchone()


async def user_by_subject(connection: AccountsConnection, issuer: str, subject: str) -> dict[str, Any] | None:
    cursor = await connection.execute(
        f"select {_COLUMNS} from users where oidc_issuer = %s and oidc_subject = %s",  # noqa: S608 - made of constants
        (issuer, subject),
    )
    return await cursor.fetchone()


async def link_subject(connection: AccountsConnection, user_id: str, issuer: str, subject: str) -> bool:
    """Whether the person at the provider is this one from now on; not, if it is linked to somebody already."""
    cursor = await connection.execute(
        "update users set oidc_issuer = %s, oidc_subject = %s where user_id = %s and oidc_subject is null",
        (issuer, subject, user_id),
    )
    return cursor.rowcount == 1


async def set_role(connection: AccountsConnection, author: Author, email: str, role: str) -> dict[str, Any]:
    """Counts from the person's next request. Raises RequestProblem."""
    return await _change(connection, author, email, "user.set-role", "role = %(role)s", {"role": role})


async def set_password(
    connection: AccountsConnection, author: Author, email: str, password_hash: str
) -> dict[str, Any]:
    """Ends the person's sessions. Raises RequestProblem."""
    row = await _change(
        connection,
        author,
        email,
        "user.set-password",
        "password_hash = %(password_hash)s",
        {"password_hash": password_hash},
    )
    await end_sessions(connection, row["user_id"])
    return row


async def disable_user(
    connection: AccountsConnection, author: Author, email: str, *, disabled: bool
) -> dict[str, Any]:
    """Ends the person's sessions. Raises RequestProblem."""
    action = "user.disable" if disabled else "user.enable"
    at = author.at if disabled else None
    row = await _change(connection, author, email, action, "disabled_at = %(at)s", {"at": at})
    await end_sessions(connection, row["user_id"])
    return row


async def end_sessions(connection: AccountsConnection, user_id: str) -> int:
    """How many there were."""
    cursor = await connection.execute("delete from user_sessions where user_id = %s", (user_id,))
    return cursor.rowcount


async def _change(
    connection: AccountsConnection,
    author: Author,
    email: str,
    action: str,
    change: str,
    values: dict[str, Any],
) -> dict[str, Any]:
    """`change` is one of the constants above."""
    cursor = await connection.execute(f"select {_COLUMNS} from users where email = %s for update", (email,))  # noqa: S608 - as above
    before = await cursor.fetchone()
    if before is None:
        raise RequestProblem(404, "nobody has this e-mail address", field="email")
    cursor = await connection.execute(
        f"update users set {change} where user_id = %(user_id)s returning {_COLUMNS}",  # noqa: S608 - as above
        values | {"user_id": before["user_id"]},
    )
    [after] = await cursor.fetchall()
    await _audit(connection, author, after, action, before=_shown(before), after=_shown(after))
    return after


def _shown(row: dict[str, Any]) -> str:
    return short_text({"email": row["email"], "role": row["role"], "disabled_at": row["disabled_at"]})


async def _audit(
    connection: AccountsConnection,
    author: Author,
    row: dict[str, Any],
    action: str,
    *,
    before: str | None = None,
    after: str | None = None,
) -> None:
    target = f"user:{row['user_id']}"
    entry = AuditEntry(row["tenant"], author.at, author.actor, action, target, before, after, author.address)
    await write_entries(connection, [entry])

"""Keys that somebody makes: kept as SHA-256 of 256 random bits, and shown once.

A key belongs to a tenant and has scopes. It ends by expiry or revocation; rotating makes a successor, and lets the old one
live for a while. Nothing here commits: the caller's transaction also has the row of the audit log.
"""

import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gateway.access import KeySnapshot, TokenGrant, digest_of_secret
from gateway.accounts.audit import AuditEntry, short_text, write_entries
from gateway.accounts.database import AccountsConnection
from gateway.answers import RequestProblem
from gateway.scopes import COLLECT_SCOPE, METRICS_SCOPE, SCOPES, TENANT_SCOPES, with_included

SECRET_BYTES = 32
LONGEST_NAME = 100
MOST_KEYS = 1_000
"""That a tenant may have which are neither revoked nor expired."""
LONGEST_OVERLAP = timedelta(days=30)

_COLUMNS = (
    "key_id, tenant, name, scopes, created_at, created_by, expires_at, revoked_at, last_used_at, replaces"
)
_VALID = "revoked_at is null and (expires_at is null or expires_at > %(now)s)"


class MadeKey(NamedTuple):
    row: dict[str, Any]
    secret: str
    """It is nowhere else."""


class Author(NamedTuple):
    """Who changes something, when and from where, for the audit log."""

    actor: str
    at: datetime
    address: str | None = None


def checked_scopes(scopes: Collection[str], *, operator: bool) -> frozenset[str]:
    """Raises RequestProblem. Only an operator, at the command line, may let a key see all tenants' counts."""
    allowed = SCOPES if operator else frozenset(TENANT_SCOPES)
    if not scopes or not allowed.issuperset(scopes):
        wrong = sorted(set(scopes) - allowed)
        shown = f"; {wrong[0][:40]!r} is none" if wrong else ""
        why = (
            " (only the command line gives metrics, which show all tenants)" if METRICS_SCOPE in wrong else ""
        )
        raise RequestProblem(422, f"scopes are {', '.join(TENANT_SCOPES)}{shown}{why}", field="scopes")
    return frozenset(scopes)


def checked_name(name: str) -> str:
    """Raises RequestProblem."""
    plain = " ".join(name.split())
    if not plain or len(plain) > LONGEST_NAME or not plain.isprintable():
        raise RequestProblem(422, f"say in 1 to {LONGEST_NAME} characters who uses the key", field="name")
    return plain


def checked_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """Raises RequestProblem."""
    if expires_at is not None and expires_at <= now:
        raise RequestProblem(422, "must be in the future", field="expires_at")
    return expires_at


async def create_key(
    connection: AccountsConnection,
    author: Author,
    tenant: str,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None = None,
    replaces: str | None = None,
) -> MadeKey:
    cursor = await connection.execute(
        f"select count(*) as keys from api_keys where tenant = %(tenant)s and {_VALID}",  # noqa: S608 - made of constants
        {"tenant": tenant, "now": author.at},
    )
    [counted] = await cursor.fetchall()
    if counted["keys"] >= MOST_KEYS:
        raise RequestProblem(409, f"this tenant has {MOST_KEYS} keys: revoke those that nobody uses")
    key_id = secrets.token_hex(6)
    kind = "pub" if set(scopes) == {COLLECT_SCOPE} else "sec"
    secret = f"ls_{kind}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    cursor = await connection.execute(
        f"""insert into api_keys (key_id, tenant, name, scopes, digest, created_at, created_by, expires_at, replaces)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s) returning {_COLUMNS}""",  # noqa: S608 - made of constants
        (
            key_id,
            tenant,
            name,
            "+".join(sorted(scopes)),
            digest_of_secret(secret),
            author.at,
            author.actor,
            expires_at,
            replaces,
        ),
    )
    [row] = await cursor.fetchall()
    await _audit(connection, author, row, "key.create", after=_shown(row))
    return MadeKey(row, secret)


async def list_keys(
    connection: AccountsConnection, tenant: str | None, *, now: datetime, ended: bool = False
) -> Sequence[dict[str, Any]]:
    """Newest first; of all tenants, if none is named; also revoked and expired ones, if `ended`."""
    cursor = await connection.execute(
        f"""select {_COLUMNS} from api_keys
            where (%(tenant)s::text is null or tenant = %(tenant)s) and (%(ended)s or ({_VALID}))
            order by created_at desc, key_id limit 10000""",  # noqa: S608 - made of constants
        {"tenant": tenant, "ended": ended, "now": now},
    )
    return await cursor.fetchall()


async def revoke_key(
    connection: AccountsConnection, author: Author, tenant: str | None, key_id: str
) -> dict[str, Any]:
    """The key as it is then. Revoking it again changes nothing. Raises RequestProblem."""
    row = await _locked(connection, tenant, key_id)
    if row["revoked_at"] is not None:
        return row
    cursor = await connection.execute(
        f"update api_keys set revoked_at = %s where key_id = %s returning {_COLUMNS}",  # noqa: S608 - made of constants
        (author.at, key_id),
    )
    [revoked] = await cursor.fetchall()
    await _audit(connection, author, revoked, "key.revoke", before=_shown(row), after=_shown(revoked))
    return revoked


async def rotate_key(
    connection: AccountsConnection, author: Author, tenant: str | None, key_id: str, overlap: timedelta
) -> MadeKey:
    """A successor with the same name, scopes and remaining time; the old key ends after `overlap`. Raises RequestProblem."""
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise RequestProblem(422, f"hours from 0 to {LONGEST_OVERLAP.days * 24}", field="overlap_hours")
    row = await _locked(connection, tenant, key_id)
    if row["revoked_at"] is not None or (row["expires_at"] is not None and row["expires_at"] <= author.at):
        raise RequestProblem(409, "this key has ended: make a new one", field="key_id")
    made = await create_key(
        connection,
        author,
        row["tenant"],
        row["name"],
        row["scopes"].split("+"),
        row["expires_at"],
        replaces=key_id,
    )
    ends = min(author.at + overlap, row["expires_at"] or datetime.max.replace(tzinfo=author.at.tzinfo))
    cursor = await connection.execute(
        f"update api_keys set expires_at = %s where key_id = %s returning {_COLUMNS}",  # noqa: S608 - made of constants
        (ends, key_id),
    )
    [old] = await cursor.fetchall()
    await _audit(connection, author, old, "key.rotate", before=_shown(row), after=_shown(old))
    return made


def key_json(row: dict[str, Any]) -> dict[str, Any]:
    """A key as the API and the command line show it."""
    return {
        "id": row["key_id"],
        "name": row["name"],
        "scopes": row["scopes"].split("+"),
        **{
            field: row[field]
            for field in ("created_at", "created_by", "expires_at", "revoked_at", "last_used_at", "replaces")
        },
    }


async def read_snapshot(connection: AccountsConnection, now: datetime, clock: float) -> KeySnapshot:
    """Every key that is valid, and every tenant that has or had a key or a person."""
    cursor = await connection.execute(
        f"select digest, tenant, scopes, key_id, expires_at from api_keys where {_VALID}",  # noqa: S608 - made of constants
        {"now": now},
    )
    grants = {
        row["digest"]: TokenGrant(
            row["tenant"], with_included(row["scopes"].split("+")), row["key_id"], row["expires_at"]
        )
        for row in await cursor.fetchall()
    }
    cursor = await connection.execute("select tenant from api_keys union select tenant from users")
    return KeySnapshot(grants, frozenset(row["tenant"] for row in await cursor.fetchall()), clock)


async def write_uses(connection: AccountsConnection, uses: Sequence[tuple[str, datetime]]) -> None:
    """When keys were last used, in the order of their ids: so two gateways never wait for each other."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "update api_keys set last_used_at = greatest(last_used_at, %s) where key_id = %s",
            [(at, key_id) for key_id, at in sorted(uses)],
        )


async def _locked(connection: AccountsConnection, tenant: str | None, key_id: str) -> dict[str, Any]:
    cursor = await connection.execute(
        f"""select {_COLUMNS} from api_keys where key_id = %s and (%s::text is null or tenant = %s) for update""",  # noqa: S608 - made of constants
        (key_id, tenant, tenant),
    )
    rows = await cursor.fetchall()
    if not rows:
        raise RequestProblem(404, "no key has this id", field="key_id")
    return rows[0]


def _shown(row: dict[str, Any]) -> str:
    """`label`, since the log masks every `name`."""
    return short_text(
        {
            "label": row["name"],
            "scopes": row["scopes"],
            "expires_at": row["expires_at"],
            "revoked_at": row["revoked_at"],
        }
    )


async def _audit(
    connection: AccountsConnection,
    author: Author,
    row: dict[str, Any],
    action: str,
    *,
    before: str | None = None,
    after: str | None = None,
) -> None:
    entry = AuditEntry(
        row["tenant"],
        author.at,
        author.actor,
        action,
        f"key:{row['key_id']}",
        before,
        after,
        author.address,
    )
    await write_entries(connection, [entry])

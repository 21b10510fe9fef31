"""Lock-out: attempts to sign in are counted by account and by address, before the password is checked.

After some attempts that failed, each next one has to wait twice as long, up to a quarter of an hour. Accounts that do not exist
are counted alike, by a hash of what was typed, so nobody learns which do. Attempts at the same time cannot pass together: the
statement that counts one locks the next.
"""

import ipaddress
from datetime import datetime, timedelta
from hashlib import sha256

from gateway.accounts.database import AccountsConnection
from gateway.local_access import ip_address_of

FREE_ATTEMPTS_OF_ACCOUNT = 5
FREE_ATTEMPTS_OF_ADDRESS = 20
"""An office may share one."""
FIRST_LOCK_SECONDS = 30
LONGEST_LOCK_SECONDS = 900
FORGOTTEN_AFTER = timedelta(days=1)

_COUNT = """
    insert into sign_in_attempts as a (subject, attempts, last_at) values (%(subject)s, 1, %(at)s)
    on conflict (subject) do update set
      attempts = case when a.last_at < %(forgotten)s then 1 else a.attempts + 1 end,
      last_at = %(at)s,
      locked_until = case when a.last_at >= %(forgotten)s and a.attempts + 1 >= %(free)s
        then %(at)s + make_interval(secs => least(%(longest)s, %(first)s * power(2, least(a.attempts + 1 - %(free)s, 20)))) end
    where a.locked_until is null or a.locked_until <= %(at)s
    returning attempts"""


def account_subject(email: str) -> str:
    return f"account:{sha256(email.encode(errors='replace')).hexdigest()[:32]}"


def address_subject(address: str) -> str:
    """The network of an IPv6 address: a household has 2**64 of them."""
    parsed = ip_address_of(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return f"address:{ipaddress.ip_network((parsed, 64), strict=False)}"
    return f"address:{parsed or 'unknown'}"


async def count_attempt(
    connection: AccountsConnection, subject: str, at: datetime, *, free: int
) -> float | None:
    """Counts an attempt. None: it may go on; else the seconds until the next may."""
    values = {
        "subject": subject,
        "at": at,
        "forgotten": at - FORGOTTEN_AFTER,
        "free": free,
        "first": FIRST_LOCK_SECONDS,
        "longest": LONGEST_LOCK_SECONDS,
    }
    cursor = await connection.execute(_COUNT, values)
    if await cursor.fetchone() is not None:
        return None
    cursor = await connection.execute(
        "select locked_until from sign_in_attempts where subject = %s", (subject,)
    )
    row = await cursor.fetchone()
    if row is None or row["locked_until"] is None:
        return 1.0
    return float(max(1.0, (row["locked_until"] - at).total_seconds()))


async def forgive(connection: AccountsConnection, account: str, address: str, at: datetime) -> None:
    """After a sign-in: the account starts again, and the address has one attempt less. Old rows go."""
    await connection.execute("delete from sign_in_attempts where subject = %s", (account,))
    await connection.execute(
        """update sign_in_attempts set attempts = greatest(0, attempts - 1), locked_until = null
           where subject = %s""",
        (address,),
    )
    await forget_old_attempts(connection, at)


async def forget_old_attempts(connection: AccountsConnection, at: datetime) -> None:
    await connection.execute("delete from sign_in_attempts where last_at < %s", (at - FORGOTTEN_AFTER,))

"""Passwords: argon2id, by the parameters of RFC 9106 for less memory (64 MiB, three passes), on threads and few at a time.

Who is not known costs the same time as a wrong password: a hash of nothing is checked in place of theirs.
"""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from gateway.answers import RequestProblem

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 256
"""Characters. Longer ones are refused before they are hashed."""
AT_ONCE = 2
"""Passwords that are checked at the same time; each takes 64 MiB."""
MOST_WAITING = 20

T = TypeVar("T")

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")


class PasswordChecks:
    """Checks passwords; so many may wait, and the others are told to come back."""

    def __init__(self) -> None:
        self._running = 0

    async def is_right(self, password_hash: str | None, password: str) -> bool:
        """`password_hash` None: nobody has this password, and it takes as long to say so. Raises RequestProblem."""
        return await self._in_turn(verify_password, password_hash, password)

    async def hashed(self, password: str) -> str:
        """Raises RequestProblem."""
        return await self._in_turn(hash_password, password)

    async def _in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._running >= AT_ONCE + MOST_WAITING:
            raise RequestProblem(503, "too many people sign in at the moment", retry_after_s=2)
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)
        finally:
            self._running -= 1


def checked_password(password: str, email: str) -> str:
    """Raises RequestProblem for one that is too short, too long or too easy to guess."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise RequestProblem(
            422, f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters", field="password"
        )
    if len(set(password)) < 5 or email.partition("@")[0].lower() in password.lower():
        raise RequestProblem(
            422, "this password is easy to guess: take some words that only you connect", field="password"
        )
    return password


def generated_password() -> str:
    """120 random bits, to be passed on once."""
    return secrets.token_urlsafe(15)


def hash_password(password: str) -> str:
    return _hasher.hash(_normal_form(password))


def verify_password(password_hash: str | None, password: str) -> bool:
    if len(password) > LONGEST_PASSWORD:  # the same for every account
        return False
    of_nobody = _hash_of_nothing()  # made in every case, so that the first one takes no longer either
    try:
        _hasher.verify(password_hash or of_nobody, _normal_form(password))
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated_hash(password_hash: str) -> bool:
    """Whether it was made by other parameters than those of today."""
    return _hasher.check_needs_rehash(password_hash)


@lru_cache(maxsize=1)
def _hash_of_nothing() -> str:
    return _hasher.hash(secrets.token_hex(16))


def _normal_form(password: str) -> bytes:
    """The same letters typed on another keyboard are the same password (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode(errors="replace")

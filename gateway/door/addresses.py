"""E-mail addresses and phone numbers in the one form by which they are compared.

Nothing is looked up outside, and nothing is refused here: a text that is no address stays as it was
typed and identifies nobody; nor do the addresses that people type to stay anonymous (`nobody.toml`).
"""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple, TypeVar

import phonenumbers
from email_validator import EmailNotValidError, validate_email

V = TypeVar("V")
EMAIL = "email"
PHONE = "phone"
ZEROS = 7 * "0"
LONGEST = 320
"""No address is longer, and nothing longer is kept in memory."""


def email_of(text: str) -> str:
    """Lower case, with the domain in its normal form."""
    return _known_email(text) or text


def phone_of(text: str, region: str | None) -> str:
    """E.164 (+971501234567); `region` is assumed of a number without a country code."""
    return _known_phone(text, region) or text


def persons_email(text: str) -> str | None:
    """The address, if one person can be known by it."""
    address = _known_email(text)
    if address is None:
        return None
    name, _, domain = address.rpartition("@")
    nobody = _nobody()
    return None if name.partition("+")[0] in nobody.names or domain in nobody.domains else address


def persons_phone(text: str, region: str | None) -> str | None:
    """The number, if somebody can have it: none that ends in zeros alone."""
    number = _known_phone(text, region)
    return None if number is None or number.endswith(ZEROS) else number


def _known_email(text: str) -> str | None:
    return _email(text) if len(text) <= LONGEST else None


def _known_phone(text: str, region: str | None) -> str | None:
    return _phone(text, region) if len(text) <= LONGEST else None


@lru_cache(maxsize=10_000)
def _email(text: str) -> str | None:
    try:
        return validate_email(text.strip(), check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return None


@lru_cache(maxsize=10_000)
def _phone(text: str, region: str | None) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class _Nobody(NamedTuple):
    names: frozenset[str]
    domains: frozenset[str]


@lru_cache(maxsize=1)
def _nobody() -> _Nobody:
    listed = tomllib.loads((files("gateway") / "nobody.toml").read_text(encoding="utf-8"))
    return _Nobody(frozenset(listed["names"]), frozenset(listed["domains"]))


def fields_of(fields: Mapping[str, V], region: str | None) -> dict[str, V | str]:
    """Profile fields with `email` and `phone` in their one form."""
    normalized: dict[str, V | str] = dict(fields)
    if isinstance(email := fields.get(EMAIL), str):
        normalized[EMAIL] = email_of(email)
    if isinstance(phone := fields.get(PHONE), str):
        normalized[PHONE] = phone_of(phone, region)
    return normalized

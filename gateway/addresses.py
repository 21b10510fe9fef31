"""E-mail addresses and phone numbers in the one form by which they are compared.

Nothing is looked up outside, and nothing is refused here: what is no address stays as it was typed.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

import phonenumbers
from email_validator import EmailNotValidError, validate_email

V = TypeVar("V")
EMAIL = "email"
PHONE = "phone"


@lru_cache(maxsize=10_000)
def email_of(text: str) -> str:
    """Lower case, with the domain in its normal form."""
    try:
        return validate_email(text.strip(), check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return text


@lru_cache(maxsize=10_000)
def phone_of(text: str, region: str | None) -> str:
    """E.164 (+971501234567); `region` is assumed of a number without a country code."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return text
    if not phonenumbers.is_valid_number(number):
        return text
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def fields_of(fields: Mapping[str, V], region: str | None) -> dict[str, V | str]:
    """Profile fields with `email` and `phone` in their one form."""
    told: dict[str, V | str] = dict(fields)
    if isinstance(email := fields.get(EMAIL), str):
        told[EMAIL] = email_of(email)
    if isinstance(phone := fields.get(PHONE), str):
        told[PHONE] = phone_of(phone, region)
    return told

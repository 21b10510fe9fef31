"""E-mail addresses and phone numbers in the one form by which they are compared, wherever they come from.

Nothing is looked up outside, and nothing is refused here: a text that holds no certain address stays as it was
typed and identifies nobody; nor do the addresses that people type to stay anonymous (`nobody.toml`).
"""

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from gateway.door.emails import certain_email
from gateway.door.phones import certain_phone

EMAIL = "email"
PHONE = "phone"
STATED_FIELD_OF_ADDRESS: Final = {EMAIL: "stated_email", PHONE: "stated_phone"}
"""The fields of an event that have an address as it was typed, where its form has changed."""
SEVEN_ZEROS = 7 * "0"
SOURCE_OF_PERSONS, SOURCE_OF_MESSENGERS = "web", "telegram"
"""Sources: who writes numbers as people do, and who writes them with a country code."""

_PHONE_PUNCTUATION = re.compile(r"[^+0-9]+")


def normalize_email(text: str) -> str:
    """Lower case, with the domain in its normal form."""
    return certain_email(text) or text


def normalize_phone(text: str, region: str | None, source: str = SOURCE_OF_PERSONS) -> str:
    """E.164 (+971501234567); `region` is assumed of a number without a country code."""
    return certain_phone(text, region, source) or text


def email_of_one_person(text: str) -> str | None:
    """The address, if one person can be known by it."""
    address = certain_email(text)
    if address is None:
        return None
    name, _, domain = address.rpartition("@")
    nobody = _addresses_of_nobody()
    return None if name.partition("+")[0] in nobody.names or domain in nobody.domains else address


def phone_of_one_person(text: str, region: str | None, source: str = SOURCE_OF_PERSONS) -> str | None:
    """The number, if somebody can have it: none that ends in zeros alone."""
    number = certain_phone(text, region, source)
    return None if number is None or number.endswith(SEVEN_ZEROS) else number


def searched_addresses(text: str, region: str | None) -> list[str]:
    """The addresses that a text may be, in their one form, by every reading of its digits."""
    phones = (certain_phone(text, region, source) for source in (SOURCE_OF_PERSONS, SOURCE_OF_MESSENGERS))
    return sorted({each for each in (certain_email(text), *phones) if each is not None})


class _AddressesOfNobody(NamedTuple):
    names: frozenset[str]
    domains: frozenset[str]


@lru_cache(maxsize=1)
def _addresses_of_nobody() -> _AddressesOfNobody:
    listed = tomllib.loads((files("gateway") / "nobody.toml").read_text(encoding="utf-8"))
    return _AddressesOfNobody(frozenset(listed["names"]), frozenset(listed["domains"]))


class NormalizedAddresses(NamedTuple):
    """Profile fields with `email` and `phone` in their one form, and what was typed instead, by `STATED_FIELD_OF_ADDRESS`."""

    fields: dict[str, Any]
    typed: dict[str, Any]


def normalize_addresses(fields: Mapping[str, Any], region: str | None, source: str) -> NormalizedAddresses:
    """What was typed is kept if more than its look changes: not for capital letters, and not for spaces and brackets
    in a number. A phone may be a JSON number.
    """
    normalized = dict(fields)
    if isinstance(email := fields.get(EMAIL), str):
        normalized[EMAIL] = normalize_email(email)
    if isinstance(phone := fields.get(PHONE), str | int | float):
        normalized[PHONE] = certain_phone(_phone_text(phone), region, source) or phone
    return NormalizedAddresses(
        normalized,
        {
            field: fields[kind]
            for kind, field in STATED_FIELD_OF_ADDRESS.items()
            if normalized.get(kind) not in (fields.get(kind), _without_formatting(kind, fields.get(kind)))
        },
    )


def _phone_text(phone: str | float) -> str:
    return str(int(phone)) if isinstance(phone, float) and phone.is_integer() else str(phone)


def _without_formatting(kind: str, typed: object) -> str:
    return str(typed).strip().lower() if kind == EMAIL else _PHONE_PUNCTUATION.sub("", str(typed))

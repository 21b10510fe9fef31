"""What the text of a setting must be like: types of the settings that need more than a range or a pattern.

A check raises PydanticCustomError, whose message never repeats a secret.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from gateway.access import read_access
from gateway.accounts.account_settings import checked_issuer, read_identity_secrets, read_origins
from gateway.door.page_address import public_suffix_of, read_page_address
from gateway.door.signed_links import read_link_keys
from gateway.door.telegram_bots import read_bots
from gateway.door.whatsapp_numbers import read_numbers
from leadstream.experiments_folder import initial_texts
from scoring.experiments.experiment_text import ExperimentError

LONGEST_RETENTION_DAYS = 36_500
_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")

Secrets = tuple[SecretStr, ...]


def clear_texts(secrets: Secrets) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def _split(value: object) -> object:
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def _readable_by(read: Callable[[Iterable[str]], object]) -> AfterValidator:
    """The check that `read` takes the secrets."""

    def check(secrets: Secrets) -> Secrets:
        try:
            read(clear_texts(secrets))
        except ValueError as cause:
            raise PydanticCustomError("unreadable", "{cause}", {"cause": str(cause)}) from None
        return secrets

    return AfterValidator(check)


def _are_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as cause:
            raise PydanticCustomError("network", "{cause}", {"cause": str(cause)}) from cause
    return networks


def _hosts_of_sites(sites: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_host_of_site(text) for text in sites)


def _host_of_site(text: str) -> str:
    """The host of a site, written as a host or as an address."""
    address = read_page_address(text)
    if address is None or public_suffix_of(address.host) == address.host:
        raise PydanticCustomError("site", "{text} is no host of a site", {"text": repr(text[:80])})
    return address.host.removeprefix("www.")


def _is_postgres(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise PydanticCustomError("scheme", "it must begin with postgresql://")
    if not _is_conninfo(value.get_secret_value()):
        raise PydanticCustomError(
            "conninfo",
            "it is not the address of a PostgreSQL server (write % as %25 and @ as %40 in a password)",
        )
    return value


def _is_conninfo(address: str) -> bool:
    try:
        parts = conninfo_to_dict(address)
    except ProgrammingError:
        return False
    return "@" not in str(parts.get("host", ""))


def _are_brokers(value: str) -> str:
    brokers = [part.strip() for part in value.split(",")]
    for broker in brokers:
        match = _BROKER.fullmatch(broker)
        if match is None or not 1 <= int(match[1]) <= 65_535:
            raise PydanticCustomError(
                "brokers", "{broker} is not HOST:PORT", {"broker": repr(broker) if broker else "nothing"}
            )
    return ",".join(brokers)


def _has_experiments(folder: Path) -> Path:
    try:
        initial_texts(folder)
    except ExperimentError as wrong:
        raise PydanticCustomError("experiments", "{wrong}", {"wrong": str(wrong)}) from wrong
    return folder


def _is_file(file: Path) -> Path:
    if not file.is_file():
        raise PydanticCustomError("file", "there is no such file")
    return file


def _are_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return read_origins(origins)
    except ValueError as cause:
        raise PydanticCustomError("origins", "{cause}", {"cause": str(cause)}) from None


def _is_issuer(issuer: str) -> str:
    try:
        return checked_issuer(issuer)
    except ValueError as cause:
        raise PydanticCustomError("issuer", "{cause}", {"cause": str(cause)}) from None


def _access_of_write_keys(keys: Iterable[str]) -> object:
    return read_access(write_keys=keys)


def _access_of_tokens(tokens: Iterable[str]) -> object:
    return read_access(tokens=tokens)


def _are_row_kinds(entries: tuple[str, ...]) -> tuple[str, ...]:
    read_row_days(entries)
    return entries


def read_row_days(entries: Iterable[str]) -> dict[str, int]:
    """Kind of rows -> days. Raises PydanticCustomError."""
    from projections.retention import ROW_KINDS  # noqa: PLC0415 - a worker loads no read models

    days = dict[str, int]()
    for entry in entries:
        kind, _, text = entry.partition(":")
        if kind not in ROW_KINDS or not text.isascii() or not text.isdigit() or len(text) > 5:
            template = "{entry} is not KIND:DAYS with one of the kinds {kinds}"
            raise PydanticCustomError(
                "row_kind", template, {"entry": repr(entry[:80]), "kinds": ", ".join(ROW_KINDS)}
            )
        if kind in days:
            raise PydanticCustomError("row_kind", "{kind} is there twice", {"kind": kind})
        days[kind], least = int(text), ROW_KINDS[kind].least_days
        if not least <= days[kind] <= LONGEST_RETENTION_DAYS:
            template = "{kind} wants {least} to {most} days"
            raise PydanticCustomError(
                "row_days", template, {"kind": kind, "least": least, "most": LONGEST_RETENTION_DAYS}
            )
    return days


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Separated by commas or spaces."""
SecretTexts = Annotated[Secrets, NoDecode, BeforeValidator(_split)]
WriteKeys = Annotated[SecretTexts, _readable_by(_access_of_write_keys)]
ApiTokens = Annotated[SecretTexts, _readable_by(_access_of_tokens)]
TelegramBots = Annotated[SecretTexts, _readable_by(read_bots)]
WhatsappNumbers = Annotated[SecretTexts, _readable_by(read_numbers)]
LinkSecrets = Annotated[SecretTexts, _readable_by(read_link_keys)]
IdentitySecrets = Annotated[SecretTexts, _readable_by(read_identity_secrets)]
RowDays = Annotated[Texts, AfterValidator(_are_row_kinds)]
Networks = Annotated[Texts, AfterValidator(_are_networks)]
Sites = Annotated[Texts, AfterValidator(_hosts_of_sites)]
Origins = Annotated[Texts, AfterValidator(_are_origins)]
OidcIssuer = Annotated[str, AfterValidator(_is_issuer)]
PostgresAddress = Annotated[SecretStr, AfterValidator(_is_postgres)]
Brokers = Annotated[str, AfterValidator(_are_brokers)]
ExperimentsFolder = Annotated[Path, AfterValidator(_has_experiments)]
ExistingFile = Annotated[Path, AfterValidator(_is_file)]

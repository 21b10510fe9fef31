"""Every setting there is, with its meaning: the only list of them.

Read once, at the start, from `LEADSTREAM_*` and the command line; a wrong one names itself and the
remedy, and a misspelt one is pointed out. Nothing that a fold reads is a setting: what changes a
score is in the log. Secrets never appear in messages.
"""

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.access import Access, read_access
from leadstream.show import Failure
from schemas.topics import DEFAULT_PARTITIONS

PREFIX = "LEADSTREAM_"


class SettingError(Failure):
    """A setting that cannot be used; the message names it and the remedy."""

    code = 2


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Anything but this machine itself needs write keys or API tokens.",
    )
    port: int = Field(8000, ge=1, le=65_535, description="TCP port to listen on, 1 to 65535.")
    data_dir: Path = Field(
        Path(".leadstream"),
        description="Directory of the embedded PostgreSQL and of what belongs to it. One process at a time owns it.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="A PostgreSQL of your own (postgresql://USER:PASSWORD@HOST/DATABASE) instead of the embedded one.",
    )
    partitions: int = Field(
        DEFAULT_PARTITIONS,
        ge=1,
        le=1024,
        description="Partitions of every topic, 1 to 1024. Fixed from the first start: later it must stay what it was.",
    )
    write_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys by which producers send events, separated by commas, each TENANT:KEY "
        "(the key in clear, at least 8 characters, or as sha256:HEX).",
    )
    api_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Bearer tokens of the API, separated by commas, each TENANT:SCOPES:TOKEN "
        "(scopes read, write or read+write; the token in clear or as sha256:HEX).",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Networks of reverse proxies whose X-Forwarded-For is believed, separated by commas (10.0.0.0/8).",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/[^\s]*)?$",
        description="The address by which others reach this server, if it is not http://HOST:PORT.",
    )
    default_phone_region: str | None = Field(
        None,
        pattern=r"^[A-Z]{2}$",
        description="Country (two capital letters, AE) of phone numbers that come without a country code.",
    )
    max_body_bytes: int = Field(
        1_000_000,
        ge=1_000,
        le=100_000_000,
        description="The largest request body that is taken, unpacked, in bytes: 1000 to 100000000.",
    )
    max_batch: int = Field(
        10_000, ge=1, le=100_000, description="The most events in one request, 1 to 100000."
    )
    events_per_second: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Events a second that one write key may send before it is answered 429, 1 to 10000000.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe messages that are logged: debug, info, warning or error."
    )

    @field_validator("write_keys", "api_tokens", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as cause:
                raise PydanticCustomError("network", "{cause}", {"cause": str(cause)}) from cause
        return value

    @field_validator("write_keys", "api_tokens")
    @classmethod
    def _are_keys(cls, value: tuple[SecretStr, ...], info: Any) -> tuple[SecretStr, ...]:
        clear = [secret.get_secret_value() for secret in value]
        try:
            read_access(**{"write_keys" if info.field_name == "write_keys" else "tokens": clear})
        except ValueError as cause:
            raise PydanticCustomError("key", "{cause}", {"cause": str(cause)}) from cause
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise PydanticCustomError("scheme", "it must begin with postgresql://")
        return value

    @model_validator(mode="after")
    def _has_keys_if_open_to_others(self) -> "Settings":
        if not (is_loopback(self.host) or self.write_keys or self.api_tokens):
            raise PydanticCustomError(
                "open_house",
                "{host} can be reached by others, and no keys are configured: set "
                "LEADSTREAM_WRITE_KEYS=TENANT:KEY and LEADSTREAM_API_TOKENS=TENANT:read+write:TOKEN, "
                "or leave LEADSTREAM_HOST at 127.0.0.1",
                {"host": self.host},
            )
        return self

    @property
    def access(self) -> Access:
        return read_access(
            [key.get_secret_value() for key in self.write_keys],
            [token.get_secret_value() for token in self.api_tokens],
            self.trusted_proxies,
        )

    @property
    def address(self) -> str:
        """Where this very machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(**given: object) -> Settings:
    """The settings of this process; what is `given` (and not None) wins over the environment."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as cause:
        raise SettingError(_explained(cause)) from None


def variable(name: str) -> str:
    return PREFIX + name.upper()


def _explained(cause: ValidationError) -> str:
    """The first complaint, as a sentence with the variable's name; secrets are not repeated."""
    first = cause.errors(include_url=False)[0]
    if not first["loc"]:
        return f"{variable('host')}: {first['msg']}."
    name = str(first["loc"][0])
    setting = Settings.model_fields.get(name)
    if setting is None:
        return f"{variable(name)} is no setting."
    secret = "Secret" in str(setting.annotation)
    shown = "" if secret or len(first["loc"]) > 1 else f" (given: {str(first['input'])[:80]!r})"
    return f"{variable(name)}: {_lower(first['msg'])}{shown}. {setting.description}"


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each LEADSTREAM_* variable that is no setting, with the one that was likely meant."""
    given = (name for name in sorted(environment) if name.upper().startswith(PREFIX))
    return [_misspelt(name) for name in given if name[len(PREFIX) :].lower() not in Settings.model_fields]


def _misspelt(name: str) -> str:
    close = difflib.get_close_matches(name[len(PREFIX) :].lower(), Settings.model_fields, n=1)
    meant = f"did you mean {variable(close[0])}?" if close else "`leadstream settings` shows all there are."
    return f"{name} is no setting and has no effect; {meant}"


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Read from the environment when a command starts. `serve` takes some of them as options, too, which win.",
        "Models, time zone and idle time are no settings: they change scores, so they are published into the log.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, setting in Settings.model_fields.items():
        default = setting.default
        shown = f"`{default}`" if default not in {None, ()} else "none"
        lines.append(
            f"| `{variable(name)}` | {shown} | {(setting.description or '').replace('|', '&#124;')} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(settings_page(), end="")

"""The only list of the settings, with their meanings.

They are read once, at the start, from `LEADSTREAM_*` and the command line. The error for a wrong setting names
the setting and the remedy; a misspelt setting causes a warning. Folds read no settings: what changes a score is
in the log. Secrets never appear in messages.
"""

import difflib
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from gateway.access import Access, StoredKeys, read_access
from gateway.accounts.account_settings import (
    EVERY_ORIGIN,
    OidcSettings,
    SessionTimes,
    read_identity_secrets,
)
from gateway.door.chat_accounts import ChatAccount, read_chats
from gateway.door.ip_truncation import IpTruncation
from gateway.door.signed_links import LinkKeys, read_link_keys
from gateway.door.telegram_bots import TELEGRAM_API, TelegramBot, read_bots, with_replies
from gateway.door.whatsapp_numbers import WhatsappNumber, read_numbers
from gateway.server.connections import ConnectionLimits
from leadstream.console import Failure
from leadstream.kafka_settings import KafkaSettings
from leadstream.setting_types import (
    ApiTokens,
    ExperimentsFolder,
    IdentitySecrets,
    LinkSecrets,
    Networks,
    OidcIssuer,
    Origins,
    PostgresAddress,
    RowDays,
    SecretTexts,
    Sites,
    TelegramBots,
    Texts,
    WhatsappNumbers,
    WriteKeys,
    clear_texts,
    read_row_days,
)
from leadstream.variable_names import VARIABLE_PREFIX, variable_name
from schemas.topics import DEFAULT_PARTITIONS


class SettingError(Failure):
    """A setting that cannot be used; the message names it and the remedy."""

    code = 2


class Settings(KafkaSettings):
    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Anything but this machine itself needs write keys or API tokens.",
    )
    port: int = Field(8000, ge=1, le=65_535, description="TCP port to listen on, 1 to 65535.")
    data_dir: Path = Field(
        Path(".leadstream"),
        description="Directory of the embedded PostgreSQL and its files. Only one process at a time can use it. If it is "
        "not set, processes on Kafka use the directory on-kafka inside it.",
    )
    erasures_file: Path | None = Field(
        None,
        description="File that remembers the people who were erased, by keyed hashes, so that a restored backup brings nobody "
        "back. Keep it outside of the backups. If it is not set: the name of the data directory with -erasures.jsonl, beside it.",
    )
    database_url: PostgresAddress | None = Field(
        None,
        description="A PostgreSQL of your own (postgresql://USER:PASSWORD@HOST/DATABASE) instead of the embedded one.",
    )
    partitions: int = Field(
        DEFAULT_PARTITIONS,
        ge=1,
        le=1024,
        description="Partitions of every topic, 1 to 1024. Fixed from the first start: later it must stay what it was.",
    )
    write_keys: WriteKeys = Field(
        (),
        description="Keys by which producers send events, separated by commas, each TENANT:KEY "
        "(the key in clear, at least 8 characters, or as sha256:HEX).",
    )
    api_tokens: ApiTokens = Field(
        (),
        description="Bearer tokens of the API, separated by commas, each TENANT:SCOPES:TOKEN "
        "(scopes read, write, author, admin, collect and metrics, joined by +; the token in clear or as sha256:HEX). "
        "`leadstream keys create` makes keys without a setting.",
    )
    keys_required: Literal["on", "off"] = Field(
        "off",
        description="Whether callers on this machine need a key even while there is none: on or off. With on, the server may "
        "listen on other addresses with no keys but those of `leadstream keys create`.",
    )
    identity_secrets: IdentitySecrets = Field(
        (),
        description="Secrets by which a tenant's own server signs lead ids, separated by commas, each TENANT:SECRET (at least "
        "24 characters). With one, public keys name leads only with a signature. Several of a tenant are all taken.",
    )
    requests_per_second: int = Field(
        500,
        ge=1,
        le=1_000_000,
        description="Requests a second that one caller of the API may make before it gets status 429, 1 to 1000000; five times "
        "as many at once.",
    )
    cors_origins: Origins = Field(
        (),
        description="Origins whose pages may call the API, separated by commas (https://app.example), or * for all. Events are "
        "taken from pages of all sites anyway.",
    )
    cors_credentials: Literal["on", "off"] = Field(
        "off",
        description="Whether pages of LEADSTREAM_CORS_ORIGINS may use the session of who has signed in: on or off. Not with *.",
    )
    session_idle_minutes: int = Field(
        480,
        ge=1,
        le=43_200,
        description="Minutes without a request after which a signed-in person must sign in again, 1 to 43200.",
    )
    session_hours: int = Field(
        168,
        ge=1,
        le=8_760,
        description="Hours after which a signed-in person must sign in again in any case, 1 to 8760.",
    )
    oidc_issuer: OidcIssuer | None = Field(
        None,
        description="The issuer of the OpenID Connect provider by which people sign in (https://login.example).",
    )
    oidc_client_id: str | None = Field(None, description="The client id of Leadstream at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="The client secret of Leadstream at the provider; none for a public client."
    )
    oidc_label: str = Field(
        "OpenID Connect",
        min_length=1,
        max_length=60,
        description="What the sign-in page calls the provider.",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Networks of reverse proxies whose X-Forwarded-For is believed, separated by commas (10.0.0.0/8).",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/[^\s]*)?$",
        description="The address at which other machines reach this server, if it is not http://HOST:PORT.",
    )
    default_phone_region: str | None = Field(
        None,
        pattern=r"^[A-Z]{2}$",
        description="Country (two capital letters, AE) of phone numbers that come without a country code.",
    )
    own_sites: Sites = Field(
        (),
        description="Hosts of your own sites, separated by commas (acme.example,acme-shop.example): coming from one of "
        "them, or from its subdomains, is no referral. The host of the page itself always counts as own.",
    )
    ip_truncation: IpTruncation = Field(
        "none",
        description="What is kept of visitors' IP addresses: none (all is kept), last_octet (IPv4 /24, IPv6 /48), two_octets "
        "(/16, /32), or all (no address is kept). It is cut off before anything is stored, in imports, too.",
    )
    mask_for_viewers: Literal["on", "off"] = Field(
        "off",
        description="Whether people with the role viewer see names, e-mail addresses, phone numbers and IP addresses masked: on or "
        "off.",
    )
    log_retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after which recorded events and other records are removed from the embedded log, or from the archive of "
        "Kafka's events; 0 keeps them all. Scores and read models stay; a replay of all events is no longer possible. "
        "`leadstream retention` shows what would go.",
    )
    row_retention: RowDays = Field(
        (),
        description="Days after which old rows are removed from the tables, separated by commas, each KIND:DAYS, with the kinds "
        "deliveries, notifications, executions, contents (of events; their kinds and sums stay), states (of which `?as_of=` is made) and audit. What is not named "
        "stays. `leadstream retention` shows what would go.",
    )
    visitor_id_key: SecretStr | None = Field(
        None,
        min_length=24,
        description="A secret from which, with address and browser, `leadstream import access-log` makes the ids of visitors (openssl "
        "rand -hex 32). Where addresses are cut off, an import needs it: without it, an id betrays the address.",
    )
    identify_by: str = Field(
        "email,phone",
        pattern=r"^(none|email|phone|email,phone|phone,email)$",
        description="The contact data that identifies a visitor who has no lead_id yet: email,phone, or email, or "
        "phone, or none.",
    )
    max_body_bytes: int = Field(
        1_000_000,
        ge=1_000,
        le=100_000_000,
        description="The largest request body, after decompression, in bytes: 1000 to 100000000.",
    )
    max_batch: int = Field(
        10_000, ge=1, le=100_000, description="The most events in one request, 1 to 100000."
    )
    events_per_second: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Events a second that one write key may send before it gets status 429, 1 to 10000000.",
    )
    max_connections: int = Field(
        1_000,
        ge=10,
        le=100_000,
        description="Connections at a time, 10 to 100000. When one more comes, the one that has been idle longest is "
        "closed. Each needs a file descriptor (ulimit -n).",
    )
    max_connections_per_address: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Connections at a time of one address, 1 to 100000. An IPv6 network (/64) is one address; "
        "LEADSTREAM_TRUSTED_PROXIES are not limited.",
    )
    max_head_bytes: int = Field(
        32_768,
        ge=1_024,
        le=1_000_000,
        description="The largest request line and headers together, in bytes: 1024 to 1000000.",
    )
    head_seconds: int = Field(
        10,
        ge=1,
        le=600,
        description="Seconds in which a client must have sent its request line and headers, 1 to 600.",
    )
    idle_seconds: int = Field(
        15,
        ge=1,
        le=3_600,
        description="Seconds after which a connection without a request is closed, 1 to 3600. A reverse proxy that "
        "keeps connections open needs a shorter time of its own.",
    )
    stalled_seconds: int = Field(
        30,
        ge=1,
        le=3_600,
        description="Seconds after which a client that does not read its answer is disconnected, 1 to 3600.",
    )
    telegram_bots: TelegramBots = Field(
        (),
        description="Telegram bots whose updates become events, separated by commas, each TENANT:NAME:SECRET:TOKEN "
        "(a secret of your own, 16 to 256 letters, digits, _ and -; the token that @BotFather has given).",
    )
    telegram_replies: Texts = Field(
        (),
        description="Names of bots, separated by commas, that ask the questions of the chat's flow (the table [flow] of the "
        "model chatbot). The others only listen.",
    )
    telegram_api: str = Field(
        TELEGRAM_API,
        pattern=r"^https?://[^\s/@]+(/[^\s?#]*[^\s?#/])?$",
        description="The address of Telegram's Bot API, or of a Bot API server of your own.",
    )
    whatsapp: WhatsappNumbers = Field(
        (),
        description="WhatsApp numbers whose messages become events, separated by commas, each "
        "TENANT:NAME:VERIFY_TOKEN:APP_SECRET (a verify token of your own; the app secret of Meta's dashboard).",
    )
    link_keys: LinkSecrets = Field(
        (),
        description="Secrets that sign the links of codes and mails, separated by commas, each at least 24 characters "
        "(openssl rand -hex 32). The first signs, all of them open: to change the key, put the new one first.",
    )
    link_cookie: Literal["on", "off"] = Field(
        "on",
        description="Whether links set the visitor's cookie (leadstream-visitor) where there is none: on or off. With off, "
        "they only use one that track.js has set.",
    )
    chats: SecretTexts = Field(
        (),
        description="Chats of other providers whose messages become events, separated by commas, each "
        "TENANT:NAME:MAPPING:SECRET or TENANT:NAME:MAPPING:SECRET:VERIFY_TOKEN (the mapping messenger, twilio, viber, or one "
        "of LEADSTREAM_CHAT_MAPPINGS; the secret by which the provider proves itself).",
    )
    chat_mappings: Path | None = Field(
        None,
        description="A folder with your own mappings of chats, one .toml file each. A file replaces the built-in mapping of "
        "the same name.",
    )
    delivery: Path | None = Field(
        None,
        description="A TOML file with the channels, templates and owners of workflows (deploy/delivery.toml is a sample). Without "
        "it, workflows change leads and write notifications, and send nothing.",
    )
    delivery_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address on which the /metrics and /ready of `leadstream delivery` listen. They show no personal data, and "
        "ask for no key.",
    )
    delivery_port: int = Field(
        6068,
        ge=0,
        le=65_535,
        description="TCP port of the /metrics and /ready of `leadstream delivery`, 1 to 65535, or 0 for none. Each of these "
        "processes of a machine needs its own.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe messages that are logged: debug, info, warning or error."
    )
    experiments: ExperimentsFolder | None = Field(
        None,
        description="A folder with your own experiments, one .toml file each (copy one from scoring/experiments). "
        "They are added to the built-in ones; an experiment replaces the built-in one of the same name. They are initial "
        "texts: what a tenant publishes on the page or over the API under the same name comes instead.",
    )
    buckets: int = Field(
        2,
        ge=1,
        le=64,
        description="Groups of partitions that are divided among the workers, 1 to 64: at least as many as workers, "
        "few for the best speed. All workers of an app need the same number.",
    )
    worker_id: str | None = Field(
        None,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="A unique name for this worker or projection (letters, digits, . _ -). With it, a restart "
        "continues within two seconds instead of ten.",
    )
    worker_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address on which a worker's pages and /metrics listen. They show no personal data, and ask for no key.",
    )
    worker_port: int = Field(
        6066, ge=1, le=65_535, description="TCP port of a worker's pages and /metrics, 1 to 65535."
    )
    projection_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address on which a projection's /metrics and /ready listen. They show no personal data, and ask for no "
        "key.",
    )
    projection_port: int = Field(
        6067,
        ge=0,
        le=65_535,
        description="TCP port of a projection's /metrics and /ready, 1 to 65535, or 0 for none. Each projection of a machine "
        "needs its own.",
    )

    @model_validator(mode="after")
    def _gives_no_session_to_every_origin(self) -> "Settings":
        if self.cors_credentials == "on" and (not self.cors_origins or EVERY_ORIGIN in self.cors_origins):
            raise PydanticCustomError(
                "conflict",
                "LEADSTREAM_CORS_CREDENTIALS: on needs the origins by name, so that no other page acts as who has signed in: "
                "list them in LEADSTREAM_CORS_ORIGINS",
            )
        return self

    @model_validator(mode="after")
    def _has_a_whole_provider(self) -> "Settings":
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise PydanticCustomError(
                "conflict",
                "LEADSTREAM_OIDC_ISSUER: it goes together with LEADSTREAM_OIDC_CLIENT_ID: set both, or none",
            )
        return self

    @model_validator(mode="after")
    def _has_bots_that_reply(self) -> "Settings":
        try:
            _ = self.bots
        except ValueError as cause:
            raise PydanticCustomError(
                "bots", "LEADSTREAM_TELEGRAM_REPLIES: {cause}", {"cause": str(cause)}
            ) from None
        return self

    @model_validator(mode="after")
    def _are_chats(self) -> "Settings":
        try:
            _ = self.chat_accounts
        except ValueError as cause:
            raise PydanticCustomError("chats", "LEADSTREAM_CHATS: {cause}", {"cause": str(cause)}) from None
        return self

    @model_validator(mode="after")
    def _has_no_secret_for_two_uses(self) -> "Settings":
        try:
            _ = self.access
        except ValueError as cause:
            raise PydanticCustomError(
                "key", "LEADSTREAM_API_TOKENS: {cause}", {"cause": str(cause)}
            ) from cause
        return self

    @model_validator(mode="after")
    def _has_keys_if_open_to_others(self) -> "Settings":
        if not (is_loopback(self.host) or self.write_keys or self.api_tokens or self.keys_required == "on"):
            raise PydanticCustomError(
                "conflict",
                "LEADSTREAM_HOST: {host} can be reached by others, and no keys are configured: set "
                "LEADSTREAM_WRITE_KEYS=TENANT:KEY and LEADSTREAM_API_TOKENS=TENANT:read+write:TOKEN, or set "
                "LEADSTREAM_KEYS_REQUIRED=on and make keys by `leadstream keys create`, "
                "or leave LEADSTREAM_HOST at 127.0.0.1",
                {"host": self.host},
            )
        return self

    @property
    def access(self) -> Access:
        return read_access(clear_texts(self.write_keys), clear_texts(self.api_tokens), self.trusted_proxies)

    @property
    def served_access(self) -> Access:
        """The access of a server: with the keys that were made, of which it will read a copy."""
        return replace(self.access, stored=StoredKeys(), required=self.keys_required == "on")

    @property
    def oidc(self) -> OidcSettings | None:
        if self.oidc_issuer is None or self.oidc_client_id is None:
            return None
        secret = self.oidc_client_secret
        return OidcSettings(
            self.oidc_issuer,
            self.oidc_client_id,
            secret.get_secret_value() if secret else None,
            self.oidc_label,
        )

    @property
    def session_times(self) -> SessionTimes:
        return SessionTimes(timedelta(minutes=self.session_idle_minutes), timedelta(hours=self.session_hours))

    @property
    def row_days(self) -> Mapping[str, int]:
        """Kind of rows (`projections.retention`) -> after how many days they are removed."""
        return read_row_days(self.row_retention)

    @property
    def signed_identities(self) -> Mapping[str, Sequence[str]]:
        return read_identity_secrets(clear_texts(self.identity_secrets))

    @property
    def bots(self) -> Mapping[str, TelegramBot]:
        return with_replies(read_bots(clear_texts(self.telegram_bots)), self.telegram_replies)

    @property
    def whatsapp_numbers(self) -> Mapping[str, WhatsappNumber]:
        return read_numbers(clear_texts(self.whatsapp))

    @property
    def signing_keys(self) -> LinkKeys:
        return read_link_keys(clear_texts(self.link_keys))

    @property
    def chat_accounts(self) -> Mapping[str, ChatAccount]:
        return read_chats(clear_texts(self.chats), self.chat_mappings)

    @property
    def connection_limits(self) -> ConnectionLimits:
        return ConnectionLimits(
            connections=self.max_connections,
            per_address=self.max_connections_per_address,
            head_bytes=self.max_head_bytes,
            head_seconds=self.head_seconds,
            idle_seconds=self.idle_seconds,
            stalled_seconds=self.stalled_seconds,
        )

    @property
    def erasure_ledger(self) -> Path:
        """The file that remembers erasures."""
        return self.erasures_file or self.data_dir.with_name(f"{self.data_dir.name}-erasures.jsonl")

    @property
    def address(self) -> str:
        """The address at which this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


FIELDS: Final = dict(
    sorted(Settings.model_fields.items(), key=lambda field: field[0] in KafkaSettings.model_fields)
)
"""Every setting with its description; those of Kafka come last, since many readers need none of them."""


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(**overrides: object) -> Settings:
    """The settings of this process; `overrides` that are not None win over the environment."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as cause:
        raise SettingError(_first_error_sentence(cause)) from None


def _first_error_sentence(cause: ValidationError) -> str:
    """The first error as a sentence with the variable's name; it repeats no secrets."""
    first = cause.errors(include_url=False)[0]
    if not first["loc"]:
        return f"{first['msg']}."
    name = str(first["loc"][0])
    setting = Settings.model_fields.get(name)
    if setting is None:
        return f"{variable_name(name)} is not a setting."
    secret = "Secret" in str(setting.annotation)
    shown = "" if secret or len(first["loc"]) > 1 else f" (value: {str(first['input'])[:80]!r})"
    return f"{variable_name(name)}: {_lower_first_letter(first['msg'])}{shown}. {setting.description}"


def _lower_first_letter(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each LEADSTREAM_* variable that is not a setting, with the setting that it resembles."""
    names = (name for name in sorted(environment) if name.upper().startswith(VARIABLE_PREFIX))
    return [
        _unknown_variable_sentence(name)
        for name in names
        if name[len(VARIABLE_PREFIX) :].lower() not in Settings.model_fields
    ]


def _unknown_variable_sentence(name: str) -> str:
    close = difflib.get_close_matches(name[len(VARIABLE_PREFIX) :].lower(), Settings.model_fields, n=1)
    meant = (
        f"did you mean {variable_name(close[0])}?" if close else "`leadstream settings` shows all settings."
    )
    return f"{name} is not a setting and has no effect; {meant}"


def settings_page() -> str:
    """The text of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Commands read the settings from the environment when they start. `serve` has options for some of them, which win.",
        "Models, time zone and idle time are not settings: they change scores, so they are published into the log.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, setting in FIELDS.items():
        default = setting.default
        shown = f"`{default}`" if default not in {None, (), ""} else "none"
        lines.append(
            f"| `{variable_name(name)}` | {shown} | {(setting.description or '').replace('|', '&#124;')} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(settings_page(), end="")

"""The configuration of delivery: a TOML file with channels, templates, owners and limits, read once at the start.

What it cannot use it refuses by name, with the remedy. Secrets are written as env:NAME or file:PATH.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from delivery.channels.apprise_services import AppriseChannel
from delivery.channels.crm import HubspotChannel, OdooChannel, PipedriveChannel
from delivery.channels.smtp_email import EmailChannel, EmailTemplate, address_of
from delivery.channels.webhook import WebhookChannel
from delivery.crm.inbound import CrmWebhookChannel
from delivery.enrichment.sources import EnrichmentSource
from delivery.owners import Owner
from delivery.secret_text import environment_variables, secret_hook
from delivery.templates import TemplateRefusedError
from projections.outbox import LEAD_CHANNEL, NOTIFICATIONS_CHANNEL
from scoring.workflows.working_hours import Hours, read_hours

Channel = (
    EmailChannel
    | WebhookChannel
    | AppriseChannel
    | HubspotChannel
    | PipedriveChannel
    | OdooChannel
    | CrmWebhookChannel
)
RESERVED_NAMES: Final = frozenset({LEAD_CHANNEL, NOTIFICATIONS_CHANNEL})
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)

Seconds = Annotated[float, Meta(gt=0, le=604_800)]


class ConfigurationError(ValueError):
    """The file cannot be used. The message names the place and the reason."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """How often and when. Seconds are of wall time."""

    attempts: Annotated[int, Meta(ge=1, le=100)] = 16
    """Attempts before a message becomes a dead letter."""
    first_retry_seconds: Seconds = 10
    longest_retry_seconds: Seconds = 21_600
    timeout_seconds: Annotated[float, Meta(gt=0, le=120)] = 20
    """Of one request to a receiver; an attempt takes at most three times as long."""
    lease_seconds: Seconds = 120
    """A message whose worker died is sent again after this time."""
    at_once: Annotated[int, Meta(ge=1, le=64)] = 4
    """Messages of one channel that are under way at a time, in each worker."""
    circuit_failures: Annotated[int, Meta(ge=1, le=1_000)] = 5
    circuit_seconds: Seconds = 60
    quiet_hours: tuple[str, ...] = ()
    """`21:00-08:00` in the tenant's time zone: e-mails and chat messages wait."""
    messages_per_lead_and_day: Annotated[int, Meta(ge=1)] | None = None
    """E-mails and chat messages about one lead on one local day; more are skipped."""

    def quiet(self) -> list[Hours]:
        """Raises ValueError."""
        return [read_hours(text) for text in self.quiet_hours]


class DeliveryConfiguration(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    channels: dict[str, Channel] = {}
    templates: dict[str, EmailTemplate] = {}
    owners: dict[str, Owner] = {}
    enrichment: dict[str, EnrichmentSource] = {}
    limits: Limits = Limits()

    def channel(self, name: str, tenant: str) -> Channel | None:
        """The channel, if there is one of this name and the tenant may use it."""
        channel = self.channels.get(name)
        return channel if channel is not None and (not channel.tenants or tenant in channel.tenants) else None

    def owners_of(self, tenant: str) -> dict[str, Owner]:
        return {
            owner_id: owner
            for owner_id, owner in self.owners.items()
            if not owner.tenants or tenant in owner.tenants
        }


BUILT_IN_CONFIGURATION: Final = DeliveryConfiguration()
"""Without a file: actions that change leads, and notifications inside the application."""


def read_configuration(path: Path, environment: Mapping[str, str] | None = None) -> DeliveryConfiguration:
    """Raises ConfigurationError."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path} cannot be read ({reason})") from None
    try:
        return compile_configuration(text, environment or environment_variables(), path.parent)
    except ConfigurationError as cause:
        raise ConfigurationError(f"{path}: {cause}") from None


def compile_configuration(
    text: str, environment: Mapping[str, str], folder: Path = Path()
) -> DeliveryConfiguration:
    """Raises ConfigurationError, which never repeats a secret."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise ConfigurationError(f"it is not TOML: {cause}") from None
    table = _with_paths_from_folder(_with_texts_of_files(table, folder), folder)
    hook = secret_hook(environment, folder)
    for name in table:
        if name not in {"limits", *_ENTRIES}:
            raise ConfigurationError(f"{name}: unknown; there are limits, {', '.join(_ENTRIES)}")
    entries = {
        name: _converted_entries(table.get(name, {}), kind, name, hook) for name, kind in _ENTRIES.items()
    }
    limits = _converted(table.get("limits", {}), Limits, "limits", hook)
    configuration = DeliveryConfiguration(**entries, limits=limits)
    for location, problem in _problems(configuration):
        raise ConfigurationError(f"{location}: {problem}")
    return configuration


def _problems(configuration: DeliveryConfiguration) -> Iterator[tuple[str, str]]:
    """What the types of the fields cannot say."""
    for kind, names in (
        ("channels", configuration.channels),
        ("templates", configuration.templates),
        ("enrichment", configuration.enrichment),
    ):
        for name in names:
            if not _NAME.fullmatch(name):
                yield (
                    f"{kind}.{name[:64]}",
                    "a name begins with a small letter and has 1 to 64 small letters, digits, _ and -",
                )
    for name, channel in configuration.channels.items():
        if name in RESERVED_NAMES:
            yield f"channels.{name}", "this name is for a channel that is always there: choose another"
        try:
            channel.check()
        except ValueError as cause:
            yield f"channels.{name}", str(cause)
    for name, source in configuration.enrichment.items():
        try:
            source.check()
        except ValueError as cause:
            yield f"enrichment.{name}", str(cause)
    for name, template in configuration.templates.items():
        try:
            template.check()
        except TemplateRefusedError as cause:
            yield f"templates.{name}", str(cause)
    for name, owner in configuration.owners.items():
        try:
            owner.hours()
            if owner.email is not None:
                address_of(owner.email)
            if owner.time_zone is not None:
                ZoneInfo(owner.time_zone)
        except (ValueError, ZoneInfoNotFoundError, OSError) as cause:
            yield f"owners.{name}", str(cause)
    limits = configuration.limits
    try:
        limits.quiet()
    except ValueError as cause:
        yield "limits.quiet_hours", str(cause)
    if limits.longest_retry_seconds < limits.first_retry_seconds:
        yield "limits.longest_retry_seconds", "it is shorter than first_retry_seconds"
    if limits.lease_seconds < 3 * limits.timeout_seconds:
        yield "limits.lease_seconds", "it must be at least three times timeout_seconds"


def _with_texts_of_files(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`text_file` and `html_file` of a template name files with the texts, from the folder of the configuration on."""
    templates = table.get("templates")
    if not isinstance(templates, dict):
        return table
    read = {}
    for name, template in templates.items():
        if not isinstance(template, dict):
            read[name] = template
            continue
        read[name] = dict(template)
        for kind in ("text", "html"):
            file = read[name].pop(f"{kind}_file", None)
            if file is None:
                continue
            if kind in template:
                raise ConfigurationError(f"templates.{name}: it has both {kind} and {kind}_file")
            try:
                read[name][kind] = (folder / str(file)).read_bytes().decode()
            except (OSError, UnicodeDecodeError) as cause:
                reason = cause.strerror if isinstance(cause, OSError) else "it is not UTF-8"
                raise ConfigurationError(
                    f"templates.{name}: {kind}_file {str(file)!r} cannot be read ({reason})"
                ) from None
    return {**table, "templates": read}


def _with_paths_from_folder(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`path` of a source of enrichment begins at the folder of the configuration."""
    sources = table.get("enrichment")
    if not isinstance(sources, dict):
        return table
    placed = {
        name: {**source, "path": str(folder / source["path"])}
        if isinstance(source, dict) and isinstance(source.get("path"), str)
        else source
        for name, source in sources.items()
    }
    return {**table, "enrichment": placed}


_ENTRIES: Final[Mapping[str, Any]] = {
    "channels": Channel,
    "templates": EmailTemplate,
    "owners": Owner,
    "enrichment": EnrichmentSource,
}
"""The tables of named entries, with the type of each entry."""
_PATH: Final = re.compile(r"(?P<reason>.*) - at `(?:key in )?\$(?P<path>[^`]*)`", re.DOTALL)


def _converted_entries(table: Any, kind: Any, location: str, hook: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigurationError(f"{location}: it must have a table for each name: [{location}.NAME]")
    return {name: _converted(entry, kind, f"{location}.{name[:64]}", hook) for name, entry in table.items()}


def _converted(value: Any, kind: Any, location: str, hook: Any) -> Any:
    """The value as the type has it. Raises ConfigurationError with the place first: `channels.crm.port: expected int`."""
    try:
        return msgspec.convert(value, kind, dec_hook=hook)
    except msgspec.ValidationError as cause:
        match = _PATH.fullmatch(str(cause))
        reason, path = (match["reason"], match["path"]) if match else (str(cause), "")
        raise ConfigurationError(f"{location}{path}: {reason[:1].lower()}{reason[1:]}") from None

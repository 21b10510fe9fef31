"""Sources of enrichment: what is asked about a lead, by which key, and which profile fields the answer fills.

Only the key leaves the house. A source is a file or an HTTP API; `delivery.configuration` reads them.
"""

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from delivery.channels.http_requests import check_address
from delivery.crm.inbound import compiled
from delivery.secret_text import SecretText
from scoring.features.profile_fields import (
    MANUAL_STAGE_FIELD,
    PROFILING_CONSENT_FIELD,
    QUALIFICATION_FIELD,
    QUALIFICATION_FIELD_BY,
    QUALIFICATION_FIELD_UNTIL,
)

KeyKind = Literal["company_domain", "email", "phone"]
KEY_TEMPLATE: Final = "{key}"
NOT_ENRICHED: Final = frozenset(
    {
        "email",
        "phone",
        "email_consent",
        "sms_consent",
        PROFILING_CONSENT_FIELD,
        MANUAL_STAGE_FIELD,
        QUALIFICATION_FIELD,
        QUALIFICATION_FIELD_BY,
        QUALIFICATION_FIELD_UNTIL,
        "assigned_to",
    }
)
"""What only people say of themselves, or decide: no source fills it."""
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


class HttpSource(Struct, frozen=True, forbid_unknown_fields=True, tag="http", tag_field="type"):
    """An API. {key} in `url` and `body` is the key; `fields` maps profile fields to expressions of JMESPath."""

    key: KeyKind
    url: str
    fields: dict[str, str]
    method: Literal["GET", "POST"] = "GET"
    headers: dict[str, SecretText] = {}
    body: str | None = None
    days: Annotated[float, Meta(gt=0, le=3_650)] = 30
    """How long an answer is kept, and not asked for again."""
    per_day: Annotated[int, Meta(ge=1)] | None = None
    """Requests of a tenant on one day (UTC)."""
    per_month: Annotated[int, Meta(ge=1)] | None = None
    tenants: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError."""
        check_address(self.url.replace(KEY_TEMPLATE, "key"))
        if KEY_TEMPLATE in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("url: {key} belongs into the path or the query, not into the host")
        if KEY_TEMPLATE not in self.url + (self.body or ""):
            raise ValueError("url: {key} is missing: say where the key goes")
        if self.body is not None and self.method == "GET":
            raise ValueError('body: only method = "POST" has one')
        for name in self.headers:
            if not _HEADER.fullmatch(name):
                raise ValueError(f"headers: {name[:64]!r} is no name of a header")
        _check_fields(self.fields)
        for name, expression in self.fields.items():
            compiled(expression, f"fields.{name}")


class FileSource(Struct, frozen=True, forbid_unknown_fields=True, tag="file", tag_field="type"):
    """A CSV file with a header, or a file of JSON lines. `fields` maps profile fields to its columns."""

    key: KeyKind
    path: str
    column: str
    """The column with the key."""
    fields: dict[str, str]
    tenants: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError."""
        if not self.path.endswith((".csv", ".jsonl", ".ndjson")):
            raise ValueError("path: the name must end with .csv, .jsonl or .ndjson")
        _check_fields(self.fields)


EnrichmentSource = HttpSource | FileSource


def _check_fields(fields: dict[str, str]) -> None:
    if not fields:
        raise ValueError("fields: missing: say which profile fields the answer fills")
    for name in fields:
        if not _FIELD.fullmatch(name) or name in NOT_ENRICHED:
            raise ValueError(f"fields: {name[:64]!r} is no profile field that a source may fill")

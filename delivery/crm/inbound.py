"""What a CRM's changes mean for leads: the table `inbound` of a channel in the configuration of delivery."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal, cast, get_args

import jmespath
from jmespath.exceptions import JMESPathError
from msgspec import Meta, Struct

from delivery.channels.webhook import check_signing_secret
from delivery.secret_text import SecretText
from schemas.envelope import DEFAULT_TENANT, Tenant
from schemas.events import Stage
from scoring.features.profile_fields import MANUAL_STAGE_FIELD

DealStatus = Literal["open", "won", "lost"]
RecordKind = Literal["contact", "deal"]
DEAL_STATUSES: Final = frozenset(get_args(DealStatus))
HUBSPOT_STAGES: Final[Mapping[str, Stage]] = {
    "salesqualifiedlead": "qualified",
    "opportunity": "opportunity",
    "customer": "customer",
}
"""HubSpot's own lifecycle stages that say what ours say."""
OWN_LEAD_ID: Final = "lead_id"
"""In `fields` of a channel: our id of a lead, which a push writes into the CRM and a pull reads."""
PROOF_SECONDS: Final = 300
"""So far may the moment that a webhook has signed be from ours, as Standard Webhooks recommend."""
RECORD_KEYS: Final = frozenset(
    {
        "id", "kind", "changed_at", "closed_at", "lead_id", "email", "phone", "owner", "stage", "status", "value",
        "currency", "reason", "contact_id",
    }
)  # fmt: skip
"""What an expression of a mapping may find."""


class CrmInbound(Struct, frozen=True, forbid_unknown_fields=True):
    """How what happens in a CRM comes back. Without this table nothing does."""

    tenant: Tenant = DEFAULT_TENANT
    pull_minutes: Annotated[float, Meta(ge=0, le=1_440)] = 5
    """How often changes are read; 0: only when a webhook has reported one."""
    since: date | None = None
    """The first pull reads changes from this day (UTC) on; None: from its first start on."""
    secret: SecretText | None = None
    """What proves a webhook of the vendor."""
    unknown_leads: Literal["skip", "create"] = "skip"
    """A contact whom no lead is: it is left alone, or becomes a lead."""
    owners: dict[str, str] = {}
    """The CRM's id of an owner -> our id of the owner."""
    stages: dict[str, Stage] | None = None
    """The CRM's stage of a contact -> stage of the lifecycle. None: the vendor's own stages that say the same."""
    deal_stages: dict[str, Stage] = {}
    """The CRM's stage of an open deal -> stage of the lifecycle."""
    open_stage: Stage | Literal[""] = "opportunity"
    """Where an open deal moves its lead, if its own stage is not in `deal_stages`; empty: nowhere."""
    lost_stage: Stage | Literal[""] = "lost"
    statuses: dict[str, DealStatus] = {}
    """Of a CRM that only has a webhook: its words for open, won and lost."""
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$")] | None = None
    """Of deals that name none."""
    fields: dict[str, str] = {}
    """The CRM's field -> profile field that it fills."""

    def check(self) -> None:
        """Raises ValueError."""
        for ours in self.fields.values():
            if not ours.isidentifier() or ours.lower() != ours or ours == MANUAL_STAGE_FIELD:
                raise ValueError(f"inbound.fields: {ours[:64]!r} is no name of a profile field")

    def first_moment(self, now: datetime) -> datetime:
        """From when on the first pull reads."""
        return now if self.since is None else datetime(*self.since.timetuple()[:3], tzinfo=UTC)

    def stage_of(self, raw: str | None) -> Stage | None:
        return (HUBSPOT_STAGES if self.stages is None else self.stages).get(raw or "")

    def owner_of(self, raw: str, crm: str) -> str:
        """Our owner; one that is not in the table keeps the CRM's id, with the channel's name before it."""
        return self.owners.get(raw, f"{crm}:{raw}")

    def status_of(self, raw: str | None) -> DealStatus | None:
        """What a webhook calls the state of a deal."""
        word = (raw or "").strip()
        status = self.statuses.get(word) or word.lower()
        return cast("DealStatus", status) if status in DEAL_STATUSES else None


class WebhookProof(Struct, frozen=True, forbid_unknown_fields=True):
    """How a request proves that it comes from the CRM: as Standard Webhooks say, by another HMAC of it, by a secret in a header,
    or by a bearer token. One with a signed timestamp is taken for PROOF_SECONDS, and once.
    """

    method: Literal["hmac", "header", "bearer", "standard_webhooks"] = "hmac"
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,64}$")] = ""
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    signed: str = "{body}"
    """Of what the HMAC is: {body}, {url}, {Name-Of-A-Header}."""
    timestamp: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,64}$")] = ""
    """The header with the moment of sending, in seconds or milliseconds since 1970, or as RFC 3339."""
    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,64}$")] = ""
    """The header with the id of the request; without one, equal signatures are the same request."""

    def check(self) -> None:
        """Raises ValueError."""
        if self.method == "standard_webhooks":
            return
        if self.method != "bearer" and not self.header:
            raise ValueError("proof.header: missing: the header with the signature or the secret")
        if self.method == "hmac" and "{body}" not in self.signed:
            raise ValueError("proof.signed: it must contain {body}, or anybody could change the body")
        for key, name in (("timestamp", self.timestamp), ("id", self.id)):
            if name and (self.method != "hmac" or f"{{{name.lower()}}}" not in self.signed.lower()):
                raise ValueError(
                    f"proof.{key}: proof.signed must contain {{{name}}}, or anybody could change it"
                )


class CrmWebhookChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="crm_webhook", tag_field="type"):
    """A CRM that has a webhook and no module here. `record` maps its body by expressions of JMESPath."""

    secret: SecretText
    record: dict[str, str]
    proof: WebhookProof
    each: str | None = None
    """Where the records are in a body; None: the body is one, or a list of them."""
    inbound: CrmInbound = CrmInbound()
    tenants: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError."""
        self.proof.check()
        if self.proof.method == "standard_webhooks":
            check_signing_secret(self.secret, "secret:")
        self.inbound.check()
        for key in self.record:
            if key not in RECORD_KEYS:
                raise ValueError(f"record.{key[:64]}: unknown; possible are {', '.join(sorted(RECORD_KEYS))}")
        if "id" not in self.record:
            raise ValueError("record.id: missing: say where the id of the record is, such as id = 'data.id'")
        for key, expression in (
            ("each", self.each),
            *((f"record.{key}", text) for key, text in self.record.items()),
        ):
            if expression is not None:
                compiled(expression, key)


def compiled(expression: str, key: str) -> Any:
    """The expression of JMESPath, compiled. Raises ValueError."""
    try:
        return jmespath.compile(expression)
    except (JMESPathError, RecursionError) as cause:
        reason = " ".join(str(cause).split())[:200]
        raise ValueError(f"{key}: it is no expression of JMESPath ({reason})") from None

"""What the gateway needs from the rest, as plain values and callables; `leadstream` wires them.

The collector knows the log only as `append`, which returns once the log has the records, and
waiting callers only as `AwaitOutcomes`. So it takes events while Postgres is unavailable, and tests need no driver.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlencode

from authoring.active_models import ActiveRulesOf, ReadShards, built_in_rules, built_in_shards
from authoring.experiment_texts import ExperimentsOf, initial_experiments
from delivery.channels.crm import InboundChannel
from delivery.enrichment.sources import EnrichmentSource
from delivery.message import ChannelResult, Message
from gateway.access import Access, RateLimit
from gateway.accounts.account_settings import OidcSettings, SessionTimes
from gateway.answers import RequestProblem
from gateway.door.chat_accounts import ChatAccount
from gateway.door.ip_truncation import IpTruncation
from gateway.door.recent_events import RecentEvents
from gateway.door.resolving import IDENTIFY_BY, LookUpAddresses, LookUpIdentifiers
from gateway.door.signed_links import LinkKeys
from gateway.door.telegram_bots import TELEGRAM_API, TelegramBot
from gateway.door.whatsapp_numbers import WhatsappNumber
from schemas.decode import key_of
from schemas.envelope import Event
from schemas.record import Outgoing
from schemas.topics import lead_key, visitor_key
from scoring.experiments.assignment import built_in_experiments
from scoring.features.erased_people import ErasedPeople
from scoring.features.features import Features, Session
from scoring.features.unique_identifiers import Identifiers


class LogUnavailable(RequestProblem):
    """The log cannot take records now. What of the call is kept all the same, counts once when it is sent
    again under its event ids.
    """

    def __init__(self, reason: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(503, reason, retry_after_s=retry_after_s)


class EventKey(NamedTuple):
    """An event among all others: its id is unique within the key of its record, the visitor's or the lead's."""

    tenant: str
    key: str
    event_id: str


def event_key(event: Event) -> EventKey:
    return EventKey(event.tenant, key_of(event), event.event_id)


def location_of_outcome(event: EventKey) -> str:
    """The address of an event's outcome."""
    path = f"/api/events/{quote(event.event_id, safe='')}"
    for kind, name in ((visitor_key, "visitor_id"), (lead_key, "lead_id")):
        prefix = kind(event.tenant, "")
        if event.key.startswith(prefix):
            return f"{path}?{urlencode({name: event.key.removeprefix(prefix)})}"
    return path


class EventOutcome(NamedTuple):
    """What the folds made of an event: applied, duplicate or bot, and the lead's totals after it."""

    outcome: str
    lead_id: str
    scores: Mapping[str, float]


AppendRecords = Callable[[Sequence[Outgoing]], Awaitable[None]]
AwaitOutcomes = Callable[[Sequence[EventKey], float], Awaitable[Mapping[EventKey, EventOutcome]]]
"""(events, seconds) -> those that became visible in that time."""


ReadinessStatus = Mapping[str, object]
"""`ready`: events are taken and scores follow; `reason`: why not; `backlog`: records not yet scored, None
if that is not known; and what else an operator may want to see at /ready. By stage: `behind` (records), `ages` (seconds
that the oldest of them has waited) and `unowned` (those that nobody takes); `restarts`: by process, and how many were
`fenced`, of late.
"""


ConsentRequiredSince = Callable[[str], Awaitable[int | None]]
"""(tenant) -> since when (ms) its web events need consent; None: they need none, or nobody knows now. It never raises, and
never takes long.
"""


async def never_required(_tenant: str) -> int | None:
    return None


UniqueFieldsOf = Callable[[str], Awaitable[Sequence[str]]]
"""(tenant) -> the profile fields of which a person has one value, as far as anybody knows now. It never raises, and never takes long."""


async def no_unique_fields(_tenant: str) -> Sequence[str]:
    return ()


async def no_identifiers(
    _tenant: str, _lead_ids: Sequence[str], _fields: Sequence[str]
) -> Mapping[str, Identifiers] | None:
    return None


class StepsDone(NamedTuple):
    """Of something long: so much is done of so much, which may be a guess."""

    done: int
    of: int


RunWhatIf = Callable[[str, str, str], Iterator[StepsDone | Mapping[str, object]]]
"""(tenant, model, text of a draft) -> how far it is, again and again, and at the end what publishing the
draft would change. Works in small steps, each of which blocks: not for the event loop's own thread.
Raises ModelError.
"""


PreviewWorkflows = Callable[[str, str, int], Iterator[StepsDone | Mapping[str, object]]]
"""(tenant, text of workflows, days) -> how far it is, again and again, and at the end which of them would have fired for
whom in the last days. Steps as those of `RunWhatIf`. Raises WorkflowsError and RequestProblem.
"""


def no_preview(_tenant: str, _text: str, _days: int) -> Iterator[StepsDone | Mapping[str, object]]:
    raise RequestProblem(503, "this gateway cannot preview workflows")


class BacktestRequest(NamedTuple):
    """What is None is chosen to fit the archive."""

    tenant: str
    model: str
    text: str | None
    """Of a draft; None: the active model."""
    against: Sequence[str]
    """Active models for the same leads."""
    conversion: str | None
    every_days: int | None
    horizon_days: int | None
    capacity: int | None
    anonymous: bool


RunBacktest = Callable[[BacktestRequest], Iterator[StepsDone | Mapping[str, object]]]
"""How far it is, again and again, and at the end how well the models would have ranked leads. Steps as those of `RunWhatIf`.
Raises ModelError and Problem.
"""


def no_backtest(_request: BacktestRequest) -> Iterator[StepsDone | Mapping[str, object]]:
    raise RequestProblem(503, "this gateway cannot replay events")


SendTrial = Callable[[Message], Awaitable[Sequence[ChannelResult]]]
"""Sends a message at once, and returns by channel what became of it."""


async def no_trial(_message: Message) -> Sequence[ChannelResult]:
    raise RequestProblem(503, "this gateway cannot send messages")


class LeadThen(NamedTuple):
    """A lead as of a moment that is over. `row` is as that of `live.leads`."""

    row: Mapping[str, Any]
    features: Features
    identities: Sequence[tuple[str, str, datetime]]
    """(identity, home, attached_at)."""
    sessions: Sequence[tuple[str, str, Session]]
    """(identity, id, session)."""


FoldLead = Callable[[str, str, Sequence[bytes], str], LeadThen | None]
"""(tenant, lead_id, its records up to the moment, stage then) -> the lead as it was recorded by then; None: it
was not. It blocks.
"""
FoldKnownLead = Callable[
    [str, str, Mapping[str, tuple[str, datetime]], Sequence[bytes], str, datetime], LeadThen | None
]
"""As `FoldLead`, of today's identities (name -> (home, attached_at)) by what is known today. It blocks."""


class PastLeads(NamedTuple):
    """Leads as of moments that are over."""

    recorded: FoldLead
    as_known: FoldKnownLead


PreviewErasure = Callable[[str, str], Mapping[str, object] | None]
"""(tenant, lead_id) -> what an erasure would remove; None: there is no such lead. It blocks."""
BeginErasure = Callable[[str, str, str], Mapping[str, object] | None]
"""(tenant, lead_id, who asks) -> the erasure, which goes on by itself; None: there is no such lead. It blocks."""
ExportPerson = Callable[[str, str, BinaryIO], bool]
"""(tenant, lead_id, file) -> whether there is such a lead, whose archive it has written. It blocks."""


def no_preview_of_erasure(_tenant: str, _lead_id: str) -> Mapping[str, object] | None:
    raise RequestProblem(503, "this gateway cannot erase people")


def no_erasure(_tenant: str, _lead_id: str, _by: str) -> Mapping[str, object] | None:
    raise RequestProblem(503, "this gateway cannot erase people")


def no_export_of_person(_tenant: str, _lead_id: str, _file: BinaryIO) -> bool:
    raise RequestProblem(503, "this gateway cannot export people")


class PersonRights(NamedTuple):
    """What people may ask for: to see everything about them, and to have it erased."""

    preview: PreviewErasure = no_preview_of_erasure
    erase: BeginErasure = no_erasure
    export: ExportPerson = no_export_of_person


def no_what_if(_tenant: str, _model: str, _text: str) -> Iterator[StepsDone | Mapping[str, object]]:
    raise RequestProblem(503, "this gateway cannot try drafts")


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _ready_status() -> ReadinessStatus:
    return {"ready": True, "reason": None, "backlog": 0}


@dataclass(frozen=True)
class Ports:
    append: AppendRecords
    database_url: str
    access: Access = field(default_factory=Access)
    status: Callable[[], Awaitable[ReadinessStatus]] = _ready_status
    """Measured after the call, never cached from before."""
    now: Callable[[], datetime] = utc_now
    published: ActiveRulesOf = built_in_rules
    """What a tenant's leads are scored by now."""
    consent_required_since: ConsentRequiredSince = never_required
    unique_fields: UniqueFieldsOf = no_unique_fields
    look_up_identifiers: LookUpIdentifiers = no_identifiers
    shards: ReadShards = built_in_shards
    """How far scoring has come with what was published."""
    what_if: RunWhatIf = no_what_if
    backtest: RunBacktest = no_backtest
    fire_preview: RunWhatIf = no_what_if
    """Which workflows a publication with `fire` would set off."""
    fire_on_publication: RunWhatIf = no_what_if
    """The same, where a publication can wait for it."""
    """Tries a draft on all of a tenant's leads."""
    preview_workflows: PreviewWorkflows = no_preview
    send_trial: SendTrial = no_trial
    """Sends the message of a workflow as a test."""
    erased: ErasedPeople = field(default_factory=ErasedPeople)
    """People whose events the door refuses. The application keeps this copy fresh."""
    recent: RecentEvents = field(default_factory=RecentEvents)
    """The last events at the door of this process."""
    past_leads: PastLeads | None = None
    """None: this gateway has only the histories of scores and stages."""
    people: PersonRights = PersonRights()  # noqa: RUF009 - an immutable tuple
    public_url: str = "http://127.0.0.1:8000"
    rate: RateLimit = RateLimit()  # noqa: RUF009 - an immutable tuple
    request_rate: RateLimit = RateLimit(500, 2_500)  # noqa: RUF009 - an immutable tuple
    """Of one caller of the API."""
    refusal_rate: RateLimit = RateLimit(50, 1_000)  # noqa: RUF009 - as above
    """Of one address without a right key."""
    cors_origins: Collection[str] = ()
    """Origins whose pages may call the API; `*`: all."""
    cors_credentials: bool = False
    """Whether these pages may use the session of who has signed in."""
    session_times: SessionTimes = SessionTimes(timedelta(hours=8), timedelta(days=7))  # noqa: RUF009 - as above
    oidc: OidcSettings | None = None
    """None: people sign in by password only."""
    identity_secrets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By tenant: the secrets by which lead ids are signed that come with a public key."""
    max_body_bytes: int = 1_000_000
    """Of a request, unpacked."""
    max_batch: int = 10_000
    experiments: ExperimentsOf = initial_experiments
    """A tenant's active experiments, as old as a second at most; for requests that must not wait for the database."""
    initial_experiments: Mapping[str, str] = field(default_factory=built_in_experiments)
    """The texts of experiments that no tenant has published, by name; the same for every tenant."""
    resolve: LookUpAddresses | None = None
    """Resolves addresses to leads; None: none are resolved, and visitors keep the ids that they send."""
    identify_by: Sequence[str] = IDENTIFY_BY
    has_shop: bool = False
    """Whether /demo is there, an invented shop whose clicks are events: only in `leadstream demo`."""
    mask_for_viewers: bool = False
    """Whether people with the role viewer see names, e-mail addresses and phone numbers masked."""
    ip_truncation: IpTruncation = "none"
    """What is kept of visitors' addresses."""
    phone_region: str | None = None
    """Two letters (AE): where a phone number without a country code is taken to be."""
    own_sites: Collection[str] = ()
    """Hosts of the own site beside those that the events show."""
    telegram_bots: Mapping[str, TelegramBot] = field(default_factory=dict)
    """By name."""
    telegram_api: str = TELEGRAM_API
    """The address of the Bot API."""
    whatsapp_numbers: Mapping[str, WhatsappNumber] = field(default_factory=dict)
    """By name."""
    link_keys: LinkKeys = LinkKeys()  # noqa: RUF009 - immutable
    """What signs links and opens them; without keys no link is made, and none is valid."""
    link_cookie: bool = True
    """Whether links set the visitor's cookie where there is none."""
    chats: Mapping[str, ChatAccount] = field(default_factory=dict)
    """By name."""
    crms: Mapping[str, InboundChannel] = field(default_factory=dict)
    """CRMs whose webhooks report changes, by the names of their channels."""
    enrichment: Mapping[str, EnrichmentSource] = field(default_factory=dict)
    """Sources of enrichment, by name."""

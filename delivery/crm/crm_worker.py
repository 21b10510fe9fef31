"""Reads back from CRMs what became of leads, until it is stopped. One process at a time reads a CRM.

1. It reads a page of changes, or the records that webhooks have reported.
2. It finds the lead of each record, and plans the events. What must not be decided twice (the number of a deal's order) is on
   record before the log.
3. It appends the events.
4. It stores what is known now, and how far it has read.

If it is killed between two steps, the same changes are read again and make the same events, which the folds drop by their ids.
"""

import asyncio
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

import httpx
import psycopg
import structlog

from delivery import metrics
from delivery.channels.crm import (
    CrmChannel,
    HubspotChannel,
    InboundChannel,
    OdooChannel,
    PipedriveChannel,
    rules_of,
)
from delivery.channels.http_requests import http_client
from delivery.channels.lead_events import AppendEvents
from delivery.configuration import DeliveryConfiguration, Limits
from delivery.crm import crm_state
from delivery.crm.crm_state import CrmCursor, InboxItem, RecordKey
from delivery.crm.inbound import CrmInbound, CrmWebhookChannel, RecordKind
from delivery.crm.outcome_events import CRM_SOURCE, CrmPlan, KnownRecord, LeadSituation, plan_changes
from delivery.crm.reading import Ask, asking, changed_records, kinds_of, records_by_id
from delivery.crm.records import CrmRecord, RecordPage
from delivery.database_thread import DatabaseThread
from delivery.outcomes import DeliveryError, DeliveryFailedError
from delivery.retries import backoff_seconds
from projections.connection import Connection
from projections.erasures import read_erased_people
from projections.row_keys import hashed_key
from schemas.decode import Refusal, decode_source, encode_source, key_of
from schemas.envelope import Event
from schemas.events import ProfileUpdated
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.erased_people import ErasedPeople, PersonName

LOOK_SECONDS: Final = 1.0
"""How often a worker looks for what webhooks have reported."""
RETRY_SECONDS: Final = 2.0
OVERLAP: Final = timedelta(minutes=2)
"""A pull begins so long before the end of the last one: indexes of CRMs lag behind, and clocks differ."""
ITEMS_AT_ONCE: Final = 100
_NEVER_MINUTES: Final = 1_440.0
_OPTIONS: Final = "-c search_path=live -c timezone=UTC -c lock_timeout=10s -c statement_timeout=60s"

_log = structlog.get_logger(__name__)


class CrmContact(NamedTuple):
    """The addresses of a contact, by which a lead is found."""

    visitor_id: str
    email: str | None
    phone: str | None


class FoundLead(NamedTuple):
    """`is_known`: somebody has these addresses already; else the id is made of them. `addresses`: in their one form."""

    lead_id: str
    is_known: bool
    addresses: Mapping[str, str] = {}


FindLeads = Callable[[str, Sequence[CrmContact]], Awaitable[Sequence[FoundLead | None]]]
"""(tenant, contacts) -> the lead of each, by the rules of identification; None: nobody, or several. Raises
DeliveryFailedError while the read models do not answer."""


@dataclass
class CrmPorts:
    """What a worker needs from outside."""

    database: Callable[[], str]
    append: AppendEvents
    now: Callable[[], datetime]
    find_leads: FindLeads
    chance: Callable[[], float] = random.random


class PullReport(NamedTuple):
    """What one reading of a CRM has found."""

    records: int = 0
    events: int = 0
    unknown: int = 0


def added(report: PullReport, other: PullReport) -> PullReport:
    return PullReport(*(a + b for a, b in zip(report, other, strict=True)))


def inbound_channels(configuration: DeliveryConfiguration) -> dict[str, InboundChannel]:
    """The channels whose changes come back."""
    return {
        name: channel
        for name, channel in configuration.channels.items()
        if isinstance(channel, CrmWebhookChannel)
        or (
            isinstance(channel, HubspotChannel | PipedriveChannel | OdooChannel)
            and channel.inbound is not None
        )
    }


@dataclass
class CrmWorker:
    configuration: DeliveryConfiguration
    ports: CrmPorts
    _owned: set[str] = field(default_factory=set)
    """CRMs that this process reads, by a lock of its connection."""
    _complete_at: dict[str, float] = field(default_factory=dict)
    """When everything of a CRM had been read, or reading began (monotonic)."""
    _failed_reports: Counter[str] = field(default_factory=Counter)
    """How often in a row the records that a CRM has reported could not be read."""

    def __post_init__(self) -> None:
        self.channels = inbound_channels(self.configuration)
        self._limits: Limits = self.configuration.limits
        self._database = DatabaseThread("crm", self.ports.database, _OPTIONS, self._owned.clear)
        self._http: httpx.AsyncClient = http_client(self._limits.timeout_seconds)

    async def run(self, stop: threading.Event) -> None:
        """Follows every CRM until `stop` is set. A CRM that does not answer keeps no other waiting."""
        tasks = [asyncio.create_task(self._follow(name, stop), name=f"crm {name}") for name in self.channels]
        try:
            while tasks and not stop.is_set():  # noqa: ASYNC110 - the event is of another thread
                await asyncio.sleep(0.1)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        await self._http.aclose()
        self._database.close()

    async def pull_once(self, name: str) -> PullReport:
        """Reads one CRM until nothing is left. Raises DeliveryError, psycopg.Error."""
        report = PullReport()
        while True:
            one = await self.step(name, at_once=True)
            if one is None:
                return report
            report = added(report, one)

    async def _follow(self, name: str, stop: threading.Event) -> None:
        reported = False
        while not stop.is_set():
            seconds = LOOK_SECONDS
            try:
                if await self._owns(name):
                    self._complete_at.setdefault(name, time.monotonic())
                    while not stop.is_set() and await self.step(name) is not None:
                        reported = False
            except psycopg.Error as cause:
                self._owned.discard(name)
                seconds = RETRY_SECONDS
                if not reported and not isinstance(cause, psycopg.errors.UndefinedTable):
                    reported = True
                    _log.warning("reading a CRM pauses", channel=name, cause=" ".join(str(cause).split()))
            except DeliveryError as cause:
                _log.warning("a CRM could not be read", channel=name, reason=cause.reason)
            except Exception:  # noqa: BLE001 - a fault of one CRM keeps no other waiting
                _log.exception("reading a CRM has failed", channel=name)
                seconds = 30.0
            if name in self._owned:
                age = time.monotonic() - self._complete_at.get(name, time.monotonic())
                metrics.CRM_PULL_SECONDS.labels(name).set(age)
            await _pause(seconds, stop)

    async def step(self, name: str, *, at_once: bool = False) -> PullReport | None:
        """Steps 1 to 4 for what is due of a CRM; None: nothing is. Raises DeliveryError, which is on record."""
        channel, now = self.channels[name], self.ports.now()
        rules = rules_of(channel)
        items = await self._database.run(crm_state.waiting_items, rules.tenant, name, now, ITEMS_AT_ONCE)
        if items:
            return await self._take_reported(name, channel, items)
        if isinstance(channel, CrmWebhookChannel) or (rules.pull_minutes == 0 and not at_once):
            return None
        for kind in kinds_of(channel):
            cursor = await self._database.run(self._cursor, name, rules, kind, now)
            if cursor.next_at <= now:
                return await self._pull(name, channel, kind, cursor)
        return None

    def _cursor(
        self, connection: Connection, name: str, rules: CrmInbound, kind: RecordKind, now: datetime
    ) -> CrmCursor:
        """Where reading goes on; at the very first start, where it begins."""
        cursor = crm_state.cursor_of(connection, rules.tenant, name, kind)
        if cursor is None:
            cursor = CrmCursor(rules.first_moment(now), None, now, 0)
            crm_state.move_cursor(connection, rules.tenant, name, kind, cursor, None)
        return cursor

    async def _pull(self, name: str, channel: CrmChannel, kind: RecordKind, cursor: CrmCursor) -> PullReport:
        rules, now = rules_of(channel), self.ports.now()
        since = cursor.since if cursor.page else cursor.since - OVERLAP
        ask = asking(channel, self._http, now)
        try:
            page = await changed_records(channel, kind, since, cursor.page, ask)
            following = following_cursor(cursor, since, page, now, rules)
            done = following.next_at > now
            metrics.CRM_FAILING.succeeded(name, kind)
            report = await self._record(
                name,
                channel,
                page.records,
                ask,
                lambda connection: crm_state.move_cursor(
                    connection, rules.tenant, name, kind, following, now if done else None
                ),
            )
            if done and kind == kinds_of(channel)[-1]:
                self._complete_at[name] = time.monotonic()
        except DeliveryError as cause:
            metrics.CRM_FAILURES.labels(name).inc()
            metrics.CRM_FAILING.failed(name, kind)
            until = now + timedelta(seconds=self._wait_seconds(cursor.failures + 1, cause))
            await self._database.run(
                crm_state.mark_failed_pull, rules.tenant, name, kind, cause.reason, until
            )
            raise
        return report

    async def _take_reported(
        self, name: str, channel: InboundChannel, items: Sequence[InboxItem]
    ) -> PullReport:
        rules, now = rules_of(channel), self.ports.now()
        records = [each.record for each in items if each.record is not None]
        hints: dict[RecordKind, list[str]] = defaultdict(list)
        for each in items:
            if each.record is None:
                hints[each.kind].append(each.record_id)
        ask = None
        try:
            if hints and not isinstance(channel, CrmWebhookChannel):
                ask = asking(channel, self._http, now)
                for kind in kinds_of(channel):
                    if hints[kind]:
                        records += await records_by_id(channel, kind, hints[kind], ask)
            report = await self._record(
                name, channel, records, ask, lambda connection: crm_state.remove_items(connection, items)
            )
        except DeliveryError as cause:
            metrics.CRM_FAILURES.labels(name).inc()
            self._failed_reports[name] += 1
            until = now + timedelta(seconds=self._wait_seconds(self._failed_reports[name], cause))
            await self._database.run(crm_state.put_off_items, rules.tenant, name, now, until)
            raise
        self._failed_reports[name] = 0
        return report

    async def _record(
        self,
        name: str,
        channel: InboundChannel,
        records: Sequence[CrmRecord],
        ask: Ask | None,
        finish: Callable[[Connection], None],
    ) -> PullReport:
        """Steps 2 to 4; `finish` is part of the last transaction."""
        rules, records = rules_of(channel), newest_states(records)
        if not records:
            await self._database.run(_in_transaction, finish)
            return PullReport()
        current = await self._current(name, rules.tenant, records)
        if ask is not None and not isinstance(channel, CrmWebhookChannel):
            records = newest_states([*await self._missing_contacts(channel, records, current, ask), *records])
            current = await self._current(name, rules.tenant, records)
        leads = await self._leads_of(name, rules, records, current)
        plans, skipped = await self._database.run(
            _plans, name, rules, records, current, leads, self.ports.now()
        )
        events = _with_made_leads(rules, name, plans, records, leads, self.ports.now())
        await self._database.run(_announce, rules.tenant, name, plans)
        outgoing, refused = _encoded(events)
        if outgoing:
            try:
                await self.ports.append(outgoing)
            except Exception as cause:
                raise DeliveryFailedError(f"the log takes no events now ({type(cause).__name__})") from cause
        await self._database.run(_store, rules.tenant, name, plans, finish)
        results = {
            "events": sum(bool(plan.events) for _, plan in plans),
            "unchanged": sum(not plan.events for _, plan in plans),
            "unknown": skipped,
            "refused": refused,
        }
        for result, count in results.items():
            metrics.CRM_RECORDS.labels(name, result).inc(count)
        metrics.CRM_EVENTS.labels(name).inc(len(outgoing))
        return PullReport(len(records), len(outgoing), skipped)

    async def _current(
        self, name: str, tenant: str, records: Sequence[CrmRecord]
    ) -> dict[RecordKey, KnownRecord]:
        """What is known of the records and of the contacts of deals."""
        keys: set[RecordKey] = {(each.kind, each.record_id) for each in records}
        keys |= {("contact", contact) for each in records for contact in each.contact_ids}
        current: dict[RecordKey, KnownRecord] = await self._database.run(
            crm_state.current_records, tenant, name, sorted(keys)
        )
        return current

    async def _missing_contacts(
        self,
        channel: CrmChannel,
        records: Sequence[CrmRecord],
        current: Mapping[RecordKey, KnownRecord],
        ask: Ask,
    ) -> list[CrmRecord]:
        """The contacts of deals of which nothing is known yet."""
        here = {each.record_id for each in records if each.kind == "contact"}
        missing = dict.fromkeys(
            contact
            for each in records
            for contact in each.contact_ids
            if contact not in here and ("contact", contact) not in current
        )
        return await records_by_id(channel, "contact", list(missing), ask) if missing else []

    async def _leads_of(
        self,
        name: str,
        rules: CrmInbound,
        records: Sequence[CrmRecord],
        current: Mapping[RecordKey, KnownRecord],
    ) -> dict[RecordKey, FoundLead]:
        """The lead of each record: the one that it was counted for, the one that a push has left there, the one of its
        addresses; of a deal, the one of its contact.
        """
        leads: dict[RecordKey, FoundLead] = {
            key: FoundLead(each.lead_id, is_known=True) for key, each in current.items() if each.lead_id
        }
        stated = {each.lead_id for each in records if each.lead_id}
        present = await self._database.run(crm_state.stages_of, rules.tenant, stated) if stated else {}
        for each in records:
            if each.lead_id in present:
                leads.setdefault((each.kind, each.record_id), FoundLead(each.lead_id, is_known=True))
        searched = [
            each
            for each in records
            if (each.kind, each.record_id) not in leads and (each.email or each.phone)
        ]
        if searched:
            contacts = [
                CrmContact(f"crm-{_digest(name, each.record_id)}", each.email, each.phone)
                for each in searched
            ]
            matched = await self.ports.find_leads(rules.tenant, contacts)
            people = await self._database.run(read_erased_people)
            for each, lead in zip(searched, matched, strict=True):
                if lead is not None and (
                    lead.is_known
                    or (rules.unknown_leads == "create" and not _is_erased(people, rules.tenant, lead))
                ):
                    leads[each.kind, each.record_id] = lead
        for each in records:
            contacts_of: list[RecordKey] = [("contact", contact) for contact in each.contact_ids]
            owner = next((leads[contact] for contact in contacts_of if contact in leads), None)
            if owner is not None:
                leads.setdefault((each.kind, each.record_id), owner._replace(is_known=True))
        return leads

    async def _owns(self, name: str) -> bool:
        """Whether this process reads the CRM; another one that does keeps it until it ends."""
        if name not in self._owned and await self._database.run(_try_lock, name):
            self._owned.add(name)
        return name in self._owned

    def _wait_seconds(self, attempt: int, cause: DeliveryError) -> float:
        limits = self._limits
        backoff = backoff_seconds(
            attempt, limits.first_retry_seconds, limits.longest_retry_seconds, self.ports.chance()
        )
        return max(backoff, getattr(cause, "retry_after", None) or 0.0)


def _is_erased(people: ErasedPeople, tenant: str, lead: FoundLead) -> bool:
    """Whether the addresses are those of a person who was erased."""
    email, phone = lead.addresses.get("email"), lead.addresses.get("phone")
    return (email is not None and people.contains(tenant, PersonName("email", email))) or (
        phone is not None and people.contains(tenant, PersonName("phone", phone))
    )


def newest_states(records: Sequence[CrmRecord]) -> list[CrmRecord]:
    """Each record once, as it was last."""
    newest: dict[RecordKey, CrmRecord] = {}
    for record in records:
        before = newest.get((record.kind, record.record_id))
        if before is None or before.changed_at <= record.changed_at:
            newest[record.kind, record.record_id] = record
    return list(newest.values())


def following_cursor(
    cursor: CrmCursor, since: datetime, page: RecordPage, now: datetime, rules: CrmInbound
) -> CrmCursor:
    """Where reading goes on after a page. It goes on by the moment of the last change, since pages shift when records
    change; by the vendor's page only among records of one moment.
    """
    last = page.records[-1].changed_at if page.records else None
    if page.next_page is None:
        end = max(cursor.since, last or cursor.since)
        return CrmCursor(end, None, now + timedelta(minutes=rules.pull_minutes or _NEVER_MINUTES), 0)
    if last is not None and last - OVERLAP > since:
        return CrmCursor(last, None, now, 0)
    return CrmCursor(since, page.next_page, now, 0)


def _plans(
    connection: Connection,
    name: str,
    rules: CrmInbound,
    records: Sequence[CrmRecord],
    current: Mapping[RecordKey, KnownRecord],
    leads: Mapping[RecordKey, FoundLead],
    now: datetime,
) -> tuple[list[tuple[RecordKey, CrmPlan]], int]:
    """A plan for each record that is a lead's, and how many are not."""
    current = dict(current)
    ids = {lead.lead_id for lead in leads.values()}
    deals, stages = (
        crm_state.deals_of(connection, rules.tenant, ids),
        crm_state.stages_of(connection, rules.tenant, ids),
    )
    plans, skipped = [], 0
    for record in records:
        key: RecordKey = (record.kind, record.record_id)
        lead = leads.get(key)
        if lead is None:
            skipped += 1
            continue
        others = deals[lead.lead_id]
        states = frozenset(
            state
            for deal, state in others.items()
            if deal != (name, record.record_id) or record.kind != "deal"
        )
        plan = plan_changes(
            record,
            current.get(key, KnownRecord()),
            rules,
            crm=name,
            lead_id=lead.lead_id,
            now=now,
            situation=LeadSituation(stages.get(lead.lead_id), states),
        )
        current[key] = plan.after
        if record.kind == "deal" and (status := record.values.get("status")) is not None:
            others[name, record.record_id] = status
        plans.append((key, plan))
    return plans, skipped


def _with_made_leads(
    rules: CrmInbound,
    name: str,
    plans: Sequence[tuple[RecordKey, CrmPlan]],
    records: Sequence[CrmRecord],
    leads: Mapping[RecordKey, FoundLead],
    now: datetime,
) -> list[Event]:
    """The events of the plans, after what makes leads of contacts that nobody knew."""
    made: list[Event] = []
    for record in records:
        lead = leads.get((record.kind, record.record_id))
        if lead is not None and not lead.is_known:
            made.append(
                ProfileUpdated(
                    event_id=f"crm-{_digest(rules.tenant, name, record.kind, record.record_id, 'made')}",
                    occurred_at=min(record.changed_at, now),
                    recorded_at=now,
                    tenant=rules.tenant,
                    lead_id=lead.lead_id,
                    source=CRM_SOURCE,
                    fields=dict(lead.addresses),
                )
            )
    return [*made, *(event for _, plan in plans for event in plan.events)]


def _encoded(events: Sequence[Event]) -> tuple[list[Outgoing], int]:
    """The records of the events, and how many the log would refuse."""
    outgoing, refused = [], 0
    for event in events:
        try:
            encoded = encode_source(event)
            decode_source(encoded)
        except (Refusal, TypeError, ValueError, OverflowError) as cause:
            refused += 1
            _log.warning("an event of a CRM is refused", event=event.event_id, reason=str(cause)[:200])
        else:
            outgoing.append(Outgoing(EVENTS, key_of(event), encoded))
    return outgoing, refused


def _announce(
    connection: Connection, tenant: str, name: str, plans: Collection[tuple[RecordKey, CrmPlan]]
) -> None:
    """What is decided is on record before the log has it, so that a kill leaves nothing that nobody knows of."""
    announced = {key: plan.announced for key, plan in plans if plan.events}
    if announced:
        with connection.transaction():
            crm_state.save_records(connection, tenant, name, announced)


def _store(
    connection: Connection,
    tenant: str,
    name: str,
    plans: Collection[tuple[RecordKey, CrmPlan]],
    finish: Callable[[Connection], None],
) -> None:
    with connection.transaction():
        crm_state.save_records(
            connection,
            tenant,
            name,
            {key: plan.after for key, plan in plans},
            {key: plan.consumed for key, plan in plans},
        )
        finish(connection)


def _in_transaction(connection: Connection, work: Callable[[Connection], None]) -> None:
    with connection.transaction():
        work(connection)


def _try_lock(connection: Connection, name: str) -> bool:
    with connection.cursor() as cursor:
        ((locked,),) = cursor.execute(
            "select pg_try_advisory_lock(%s)", (hashed_key(f"crm {name}"),)
        ).fetchall()
    return bool(locked)


def _digest(*parts: str) -> str:
    return blake2b("\n".join(parts).encode(errors="replace"), digest_size=16).hexdigest()


async def _pause(seconds: float, stop: threading.Event) -> None:
    for _ in range(round(seconds / 0.1)):
        if stop.is_set():
            return
        await asyncio.sleep(0.1)

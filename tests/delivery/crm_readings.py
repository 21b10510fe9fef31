"""A worker that reads a CRM into a log which remembers, and what the log says then."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fake_crms import TOKEN
from outboxes import EventLog, Outbox, configured

from delivery.crm.crm_worker import CrmContact, CrmPorts, CrmWorker, FoundLead, PullReport
from schemas.decode import decode_source
from schemas.envelope import tag_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "a-secret-of-webhooks"


def channel(kind: str, address: str, inbound: str = "", extra: str = "") -> str:
    return (
        f'[channels.crm]\ntype = "{kind}"\naddress = "{address}"\ntoken = "env:TOKEN"\n{extra}\n'
        f'[channels.crm.inbound]\nsecret = "env:SECRET"\nsince = 2026-03-01\n{inbound}\n'
    )


class Reading:
    """Pulls of one CRM, at a clock that stands still."""

    def __init__(self, url: str, text: str, leads: dict[str, str], append: Any = None) -> None:
        self.configuration = configured(text, TOKEN=TOKEN, SECRET=SECRET)
        self.log = append or EventLog()
        self.leads = leads
        self.now = NOON
        self.ports = CrmPorts(lambda: url, self.log, lambda: self.now, self._find, lambda: 0.0)

    async def _find(self, _tenant: str, contacts: Sequence[CrmContact]) -> list[FoundLead | None]:
        return [
            FoundLead(self.leads[each.email], is_known=True)
            if each.email in self.leads
            else FoundLead(f"c-{each.email}", is_known=False, addresses={"email": each.email})
            if each.email
            else None
            for each in contacts
        ]

    def pull(self) -> PullReport:
        async def run() -> PullReport:
            worker = CrmWorker(self.configuration, self.ports)
            try:
                return await worker.pull_once("crm")
            finally:
                await worker.close()

        return asyncio.run(run())

    def outcomes(self) -> list[tuple[Any, ...]]:
        """(lead, type, what it says) of each event in the log, each id once."""
        events = {}
        for record in self.log.records:
            event = decode_source(record.value)
            events.setdefault(event.event_id, event)
        fields = ("stage", "value", "assigned_to", "fields", "text")
        return [
            (
                event.lead_id,
                tag_of(type(event)),
                *(str(getattr(event, name)) for name in fields if hasattr(event, name)),
            )
            for event in events.values()
        ]


def empty(outbox: Outbox) -> None:
    outbox.execute("truncate public.crm_records, public.crm_cursors, public.crm_inbox")

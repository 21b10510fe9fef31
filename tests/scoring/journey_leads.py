"""Random leads as plain dicts, and what their journeys and days must be: read off with loops and wall clocks, without the
code under test.
"""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from scoring.analytics.facts import EventFact, LeadFacts, ScoreFact, StageFact

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
FUNNEL = ["new", "contacted", "qualified", "engaged", "opportunity", "customer"]
STAGES = [*FUNNEL, "churned", "recycled", "lost"]
DONE_BY_THE_PERSON = ["page_viewed", "form_submitted", "email_opened", "email_clicked", "email_replied"]
OTHERS = ["email_sent", "sms_sent", "note_added", "session_ended", "profile_updated"]
CLOCK_CHANGES = [datetime(2030, 3, 31, 0, 30, tzinfo=UTC), datetime(2030, 10, 27, 0, 30, tzinfo=UTC)]
"""Around these, clocks change in Berlin; the other zones change within the same weeks."""


class RandomLead:
    def __init__(self, seed):
        chance = random.Random(seed)
        self.zone = ZoneInfo(chance.choice(ZONES))
        self.start = chance.choice(CLOCK_CHANGES) - timedelta(days=chance.randrange(0, 40))
        self.now = self.start + timedelta(days=chance.randrange(1, 160), hours=chance.randrange(24))
        self.events = [self._event(chance, number) for number in range(chance.randrange(1, 40))]
        self.created = min(event["at"] for event in self.events)
        self.stages = self._stages(chance)
        self.scores = self._scores(chance)

    def _some_time(self, chance):
        span = (self.now - self.start).total_seconds()
        at = self.start + timedelta(seconds=int(chance.random() * span))
        return at.replace(minute=chance.choice([0, 30, 59])) if chance.random() < 0.5 else at

    def _event(self, chance, number):
        at = self._some_time(chance)
        event = {
            "id": f"e{number}",
            "at": at,
            "recorded": at + timedelta(hours=chance.choice([0, 0, 1, 400])),
            "type": chance.choice(
                [*DONE_BY_THE_PERSON, *OTHERS, "call_made", "purchase_made", "purchase_refunded"]
            ),
            "channel": chance.choice(["web", "email", "phone"]),
            "answered": chance.random() < 0.5,
            "order": None,
            "key": None,
            "amount": chance.randrange(1, 50) * 100,
            "currency": chance.choice(["EUR", "EUR", "JPY"]),
        }
        if event["type"] in {"purchase_made", "purchase_refunded"}:
            event["order"] = (
                chance.choice([None, "A", "B"]) if event["type"] == "purchase_made" else chance.choice("AB")
            )
            if event["type"] == "purchase_made" and event["order"]:
                event["key"] = (event["order"],)
        if event["type"] == "form_submitted" and chance.random() < 0.4:
            event["key"] = (chance.choice("xy"),)
        if event["type"] == "email_sent" and chance.random() < 0.4:
            event["key"] = (chance.choice("mn"),)
        return event

    def _stages(self, chance):
        stage, entries = "new", []
        for at in sorted(self._some_time(chance) for _ in range(chance.randrange(0, 7))):
            following = chance.choice(STAGES)
            if following != stage:
                entries.append({"at": at, "stage": following, "previous": stage})
                stage = following
        return entries

    def _scores(self, chance):
        total, entries = 0, []
        for at in sorted(self._some_time(chance) for _ in range(chance.randrange(0, 15))):
            after = chance.randrange(0, 400) * 250_000
            entries.append(
                {
                    "at": at,
                    "total": after,
                    "previous": total,
                    "engagement": chance.randrange(-20, 20) * 50_000,
                    "cause": chance.choice(["event:e1", "model:composite:2", "due:5"]),
                }
            )
            total = after
        return entries

    @property
    def facts(self):
        events = [
            EventFact(
                event_id=event["id"],
                identity_key=1,
                type=event["type"],
                occurred_at=_ms(event["at"]),
                recorded_at=_ms(event["recorded"]),
                partition=0,
                position=number,
                channel=event["channel"],
                source="web",
                amount_minor=event["amount"] if event["type"].startswith("purchase") else None,
                currency=event["currency"] if event["type"].startswith("purchase") else None,
                key=event["key"],
                order_id=event["order"],
                interaction=person_did(event),
            )
            for number, event in enumerate(self.events)
        ]
        return LeadFacts(
            tenant="default",
            lead_id="L",
            identified=True,
            created_at=_ms(self.created),
            stage=self.stages[-1]["stage"] if self.stages else "new",
            events=sorted(events, key=lambda event: (event.occurred_at, *event.recorded_order)),
            stages=[
                StageFact(_ms(each["at"]), number, each["stage"], each["previous"], "why", "event:e")
                for number, each in enumerate(self.stages)
            ],
            scores=[
                ScoreFact(
                    _ms(each["at"]),
                    number,
                    "composite",
                    each["total"],
                    each["previous"],
                    each["engagement"],
                    each["cause"],
                )
                for number, each in enumerate(self.scores)
            ],
        )

    def local_day(self, at):
        return at.astimezone(self.zone).date()

    @property
    def once(self):
        """The events in order of time, without repetitions."""
        kept, seen = [], set()
        for event in sorted(
            self.events, key=lambda each: (each["at"], each["recorded"], int(each["id"][1:]))
        ):
            if event["key"] is None or (event["type"], event["key"]) not in seen:
                seen.add((event["type"], event["key"]))
                kept.append(event)
        return kept

    def orders(self, *, refunds):
        """(first day, currency, amount) of each order: the last report, less its refunds in that currency."""
        found = []
        names = {event["order"] or event["id"] for event in self.events if event["type"] == "purchase_made"}
        for name in sorted(names):
            reports = [
                event
                for event in self.events
                if event["type"] == "purchase_made" and (event["order"] or event["id"]) == name
            ]
            last = max(reports, key=lambda event: (event["at"], event["currency"], event["amount"]))
            back = sum(
                event["amount"]
                for event in self.events
                if event["type"] == "purchase_refunded"
                and event["order"] == name
                and event["currency"] == last["currency"]
            )
            first = self.local_day(min(event["at"] for event in reports))
            found.append((first, last["currency"], max(last["amount"] - (back if refunds else 0), 0)))
        return found


def person_did(event):
    return event["type"] in {*DONE_BY_THE_PERSON, "purchase_made"} or (
        event["type"] == "call_made" and event["answered"]
    )


def is_touch(event):
    return person_did(event) or event["type"] in {"email_sent", "sms_sent", "call_made"}


def _ms(at):
    return round(at.timestamp() * 1000)

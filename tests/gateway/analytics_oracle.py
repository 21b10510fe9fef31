"""Reports over many leads, read off plain rows with nothing but loops: what SQL must agree with.

A company is invented from a seed: leads that come back to stages, were merged, bought, got refunds; events late and early;
some anonymous, some of another tenant. Local days are those of the zone's wall clock.
"""

import itertools
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

FUNNEL = ["new", "contacted", "qualified", "engaged", "opportunity", "customer"]
SIDE = ["recycled", "disqualified", "churned", "lost"]
CONTACTS = {"email_sent", "sms_sent", "call_made"}
TYPES = [*sorted(CONTACTS), "page_viewed", "form_submitted", "email_opened", "note_added", "session_ended"]
ENGAGEMENTS = {*CONTACTS, "page_viewed", "form_submitted", "email_opened", "purchase_made"}
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
CHANNELS = ["web", "email", "phone", "sales"]
GRADES = [("A+", 90), ("A", 80), ("B+", 70), ("B", 60), ("C+", 50), ("C", 40), ("D", 0)]
CENTS = {"EUR": 2, "JPY": 0, "KWD": 3}


class Company:
    """Rows as dicts, by table. `now` is the moment of the reports."""

    def __init__(self, seed):
        chance = random.Random(seed)
        self.zone = ZoneInfo(chance.choice(ZONES))
        self.now = datetime(2030, chance.choice([3, 4, 11]), 28, 12, 34, 56, tzinfo=UTC)
        self.leads, self.identities, self.stages, self.ledger = [], [], [], []
        self.events, self.scores = [], []
        for number in range(chance.randrange(1, 30)):
            self._invent(chance, number)

    def _invent(self, chance, number):
        key = number + 1
        created = self._some_time_ago(chance)
        merged = chance.random() < 0.1
        self.leads.append(
            {
                "lead_key": key,
                "tenant": "other" if chance.random() < 0.1 else "default",
                "identified": chance.random() < 0.8,
                "created_at": created,
                "identities": 0 if merged else chance.randrange(1, 4),
                "stage": "new",
            }
        )
        lead = self.leads[-1]
        at, stage = created + timedelta(seconds=chance.choice([-90_000, 0, 1, 300, 3_600, 86_400])), "new"
        for position in range(chance.choice([0, 0, 1, 2, 3, 5, 8])):
            onward = chance.choice([each for each in FUNNEL + SIDE if each != stage])
            self.stages.append(
                {"lead_key": key, "at": at, "position": position, "stage": onward, "previous": stage}
            )
            at, stage = at + timedelta(seconds=chance.choice([0, 7, 3_600, 200_000, 2_000_000])), onward
        lead["stage"] = stage
        self._score(chance, key, created)
        owner = lead
        if merged and len(self.leads) > 1:  # its identities are another's now
            owner = self.leads[chance.randrange(len(self.leads) - 1)]
        for segment in range(1 if merged else lead["identities"]):
            identity = key * 10 + segment
            self.identities.append(
                {"identity_key": identity, "lead_key": owner["lead_key"], "tenant": owner["tenant"]}
            )
            self._act(chance, identity, owner["tenant"], created)

    def restate(self, chance):
        """The past changes: identities go to other leads, late events and refunds come, leads become known, and the zone
        is another.
        """
        leads = {lead["lead_key"]: lead for lead in self.leads}
        for identity in self.identities:
            lead = leads[identity["lead_key"]]
            others = [
                each
                for each in self.leads
                if each["tenant"] == identity["tenant"] and each["identities"] and each is not lead
            ]
            if chance.random() < 0.3 and others and lead["identities"]:
                into = chance.choice(others)
                identity["lead_key"] = into["lead_key"]
                lead["identities"] -= 1
                into["identities"] += 1
            if chance.random() < 0.4:
                created = leads[identity["lead_key"]]["created_at"]
                self._act(chance, identity["identity_key"], identity["tenant"], created, first=1_000)
        for lead in self.leads:
            lead["identified"] ^= chance.random() < 0.2
        self.zone = ZoneInfo(chance.choice(ZONES))

    def _some_time_ago(self, chance):
        midnight = (
            chance.random() < 0.3
        )  # a few seconds around a local midnight, on the first of a month at times
        ago = timedelta(days=chance.choice([0, 1, 20, 60, 89, 90, 91, 300]), seconds=chance.randrange(90_000))
        at = (self.now - ago).astimezone(self.zone)
        if midnight:
            at = at.replace(day=chance.choice([1, at.day]), hour=0, minute=0, second=0)
            at = at.astimezone(UTC) + timedelta(seconds=chance.choice([-1, 0, 1]))
        return min(at.astimezone(UTC), self.now)

    def _score(self, chance, key, created):
        at, total = created, Decimal(0)
        for position in range(chance.randrange(0, 6)):
            new = Decimal(chance.choice([0, "0.5", "12.49", "19.5", "49.75", 60, "79.4999", "79.5", 88, 100]))
            if new == total:
                continue
            self.ledger.append(
                {"lead_key": key, "at": at, "position": position, "previous": total, "total": new}
            )
            at, total = at + timedelta(seconds=chance.choice([0, 60, 90_000, 3_000_000])), new
            entries = [each["at"] for each in self.stages if each["lead_key"] == key and each["at"] >= at]
            if entries and chance.random() < 0.5:  # the event that moved the lead on changes its score, too
                at = min(entries)
        points = rounded(total)
        bands = {
            "grade": next(name for name, least in GRADES if points >= least),
            "temperature": "hot" if points >= 75 else "warm" if points >= 50 else "cold",
        }
        self.scores.append({"lead_key": key, "total": total, "rounded": points, "bands": bands})

    def _act(self, chance, identity, tenant, created, first=0):
        for number in range(first, first + chance.randrange(0, 25)):
            ahead = timedelta(
                seconds=chance.choice([0, 1, 299, 300, 301, 3_600, 86_400, 2_000_000, 9_000_000])
            )
            event = {
                "identity_key": identity,
                "tenant": tenant,
                "event_id": f"e{number}",
                "position": number,
                "occurred_at": min(created + ahead, self.now),
                "channel": chance.choice(CHANNELS),
                "type": chance.choice([*TYPES, "purchase_made", "purchase_refunded"]),
                "details": {},
                "revenue_minor": None,
                "currency": None,
            }
            if chance.random() < 0.2:  # what the context of an event says that it earned
                event |= {
                    "revenue_minor": chance.choice([0, 1, 12_050]),
                    "currency": chance.choice(["EUR", "JPY", "KWD"]),
                }
            if event["type"].startswith("purchase"):
                event["details"] = {
                    "value": chance.choice([0, 1, 12.5, 99.99, 1000]),
                    "currency": chance.choice(["EUR", "EUR", "JPY", "KWD"]),
                    "order_id": chance.choice([f"o{chance.randrange(4)}", f" o{chance.randrange(4)} "]),
                }
                if event["type"] == "purchase_made" and chance.random() < 0.3:
                    event["details"]["order_id"] = chance.choice([None, "N/A", ""])
                if event["type"] == "purchase_refunded" and chance.random() < 0.5:
                    event["details"]["refund_id"] = f"r{chance.randrange(2)}"
            self.events.append(event)


def rounded(total):
    return int((total * 2 + 1) // 2)


class Oracle:
    def __init__(self, company, *, anonymous=False):
        self.company, self.zone, self.now = company, company.zone, company.now
        self.leads = {
            lead["lead_key"]: lead
            for lead in company.leads
            if lead["tenant"] == "default" and lead["identities"] and (anonymous or lead["identified"])
        }
        self.entries = {key: [] for key in self.leads}
        for entry in sorted(company.stages, key=lambda each: (each["at"], each["position"])):
            if entry["lead_key"] in self.leads:
                self.entries[entry["lead_key"]].append(entry)
        self.score = {each["lead_key"]: each for each in company.scores}
        owner = {each["identity_key"]: each["lead_key"] for each in company.identities}
        self.events = [
            each | {"lead_key": owner[each["identity_key"]]}
            for each in company.events
            if owner[each["identity_key"]] in self.leads
        ]

    def day(self, at):
        return at.astimezone(self.zone).date()

    def within(self, at, first, last):
        return first <= self.day(at) < last

    def created(self, first, last):
        return [key for key, lead in self.leads.items() if self.within(lead["created_at"], first, last)]

    def stages_of(self, key):
        entries = self.entries[key]
        stages = [self.leads[key]["stage"]]
        for entry in entries:
            stages += [entry["previous"], entry["stage"]]
        return stages

    def step(self, key):
        return max({"churned": 5}.get(s, FUNNEL.index(s) if s in FUNNEL else 0) for s in self.stages_of(key))

    def funnel(self, first, last):
        keys = self.created(first, last)
        reached = [sum(self.step(key) >= step for key in keys) for step in range(6)]
        current = {stage: sum(self.leads[key]["stage"] == stage for key in keys) for stage in FUNNEL + SIDE}
        stays = {stage: [] for stage in FUNNEL + SIDE}
        for key in keys:
            entries = self.entries[key]
            if entries:
                began = min(self.leads[key]["created_at"], entries[0]["at"])
                stays[entries[0]["previous"]].append((entries[0]["at"] - began).total_seconds())
            for entry, following in itertools.pairwise(entries):
                stays[entry["stage"]].append((following["at"] - entry["at"]).total_seconds())
        return reached, current, stays

    def converted_at(self, key):
        return min(
            (e["at"] for e in self.entries[key] if e["stage"] in {"customer", "churned"}), default=None
        )

    def orders(self):
        """(lead, at, channel, currency, net) of each order."""
        reports = {}
        for event in self.events:
            if not event["type"].startswith("purchase"):
                continue
            raw = (event["details"]["order_id"] or "").strip()
            order = None if raw in {"", "N/A"} else raw
            if order is None and event["type"] == "purchase_refunded":
                continue
            own = (event["identity_key"], event["event_id"])
            reports.setdefault((event["lead_key"], order or own), []).append(event)
        for (lead, _), events in reports.items():
            made = [each for each in events if each["type"] == "purchase_made"]
            if not made:
                continue
            first = min(made, key=lambda each: (each["occurred_at"], each["channel"]))
            last = max(
                made,
                key=lambda each: (each["occurred_at"], each["details"]["currency"], each["details"]["value"]),
            )
            currency = last["details"]["currency"]
            refunds = {}
            for each in events:
                if each["type"] == "purchase_refunded":
                    details = each["details"]
                    name = details.get("refund_id") or (each["identity_key"], each["event_id"])
                    said = each["occurred_at"], details["currency"], minor(details)
                    refunds[name] = max(said, refunds.get(name, said))
            back = sum(amount for _, of, amount in refunds.values() if of == currency)
            yield (
                lead,
                first["occurred_at"],
                first["channel"],
                currency,
                max(minor(last["details"]) - back, 0),
            )

    def interactions(self):
        """(lead, at) of what people did, each order once."""
        seen = set()
        for event in sorted(self.events, key=lambda each: (each["occurred_at"], each["position"])):
            if event["type"] not in ENGAGEMENTS - CONTACTS:
                continue
            order = (event["details"].get("order_id") or "").strip()
            if order not in {"", "N/A"}:
                if (event["lead_key"], order) in seen:
                    continue
                seen.add((event["lead_key"], order))
            yield event["lead_key"], event["occurred_at"]

    def average_at(self, moment):
        """Of the leads created before that moment: their rounded totals then."""
        totals = dict.fromkeys(self.leads, 0)
        for change in sorted(self.company.ledger, key=lambda each: (each["at"], each["position"])):
            if change["lead_key"] in totals and change["at"] < moment:
                totals[change["lead_key"]] = rounded(change["total"])
        known = [key for key, lead in self.leads.items() if lead["created_at"] < moment]
        return sum(totals.values()), len(known)


def minor(details):
    """Half to even, as the money of purchases is kept."""
    return round(Decimal(str(details["value"])).scaleb(CENTS[details["currency"]]))


def percentile(values, share):
    """Between the two nearest in proportion."""
    values = sorted(values)
    at = (len(values) - 1) * share
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def month_start(day):
    return day.replace(day=1)


def previous_month(day):
    return month_start(month_start(day) - timedelta(days=1))


def next_month(day):
    return month_start(month_start(day) + timedelta(days=31))


def local_midnight(day, zone):
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def dates(first, last):
    return [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal())]

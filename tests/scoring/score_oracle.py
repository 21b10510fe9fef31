"""Scores computed a second time, by somebody who never saw the first way.

Straight from the parsed TOML and the list of what happened, in Fractions: no features, no compiled
rules, no windows of bytes, dates from the standard library. Slow and plain on purpose.
"""

import re
import tomllib
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from leads_given import at_of
from msgspec import structs

DAY = 86_400_000
UNIT = {"seconds": 1000, "minutes": 60_000, "hours": 3_600_000, "days": DAY}
NO_ACTS = {
    "session_ended", "session_heartbeat", "email_sent", "sms_sent", "consent_changed", "profile_updated",
    "lead_identified", "leads_merged", "merge_undone", "stage_changed", "conversion_recorded",
    "lead_assigned", "lead_snoozed", "purchase_refunded", "task_created", "campaign_joined", "note_added", "experiment_exposed", "lead_erased",
    "workflow_requested",
}  # fmt: skip
INTENT = {"demo_requested", "meeting_scheduled", "form_submitted", "purchase_made", "cta_clicked"}


KEYS = {
    "purchase_made": ("order_id",),
    "purchase_refunded": ("order_id", "refund_id"),
    "form_submitted": ("submission_id",),
    "email_sent": ("message_id",),
}


def once_each(events):
    """Events with the same key are one: at the time of the first, with what the last says."""
    out, reports = [], {}
    for event in events:
        kind = type(event).__struct_config__.tag
        key = [getattr(event, name) for name in KEYS.get(kind, ())]
        if not key or None in key:
            out.append(event)
        else:
            reports.setdefault((kind, *key), []).append(event)
    for several in reports.values():
        first, last = min(several, key=at_of), max(several, key=at_of)
        out.append(structs.replace(last, occurred_at=first.occurred_at))
    return out


def fraction(number):
    return Fraction(str(number))


def url_of(event):
    own = getattr(event, "url", None) if type(event).__struct_config__.tag == "page_viewed" else None
    return own or (event.context.url if event.context else None) or ""


def on_site(event, table):
    """Is the event on the site that a rule or a signal names, if it names one?"""
    return "site" not in table or url_of(event).startswith(f"https://{table['site']}/")


def half_up(number):
    return (2 * number + 1) // 2


def between(points, limits):
    """The points with the max and min of a rule or a group."""
    if "max" in limits:
        points = min(points, fraction(limits["max"]))
    return max(points, fraction(limits["min"])) if "min" in limits else points


@lru_cache(maxsize=4096)
def halved(age, days):
    """2 to the power of -age/days, cut after twelve decimals: in whole numbers, by bisecting for the root."""
    root, power = days.numerator, age * days.denominator
    inside = 10 ** (12 * root) // 2**power
    low, high = 0, 10**12 + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= inside else (low, middle)
    return Fraction(low, 10**12)


class Oracle:
    """One model over one lead at one moment. `sessions`: {id: Session}."""

    def __init__(self, text, events, sessions, stage, as_of, zone, idle):
        self.model = tomllib.loads(text, parse_float=Decimal)
        self.events, self.sessions, self.stage = events, sessions, stage
        self.counted = once_each(events)
        self.as_of, self.zone, self.idle = as_of, ZoneInfo(zone), idle

    @classmethod
    def on(cls, other, events):
        """The same with fewer events."""
        made = cls.__new__(cls)
        made.__dict__ |= other.__dict__ | {"events": events, "counted": once_each(events)}
        return made

    # what happened
    def named(self, name):
        """The moments at which something happened."""
        if name in self.model.get("signals", {}) and "sequence" in self.model["signals"][name]:
            return self.completed(self.model["signals"][name])
        return [at_of(event) for event in self.matching(name, self.counted)]

    def completed(self, table):
        """When the order of steps was completed: as many times as fit one behind the other, each as early as can be. All
        pairs of a first and a last event are tried, and all ways between them.
        """
        events = sorted(self.counted, key=lambda event: (at_of(event), event.event_id))
        steps = [[self.is_step(event, step, table) for step in table["sequence"]] for event in events]
        amount, unit = re.fullmatch(r"(\d+) (\w+?)s?", table["within"]).groups()
        limit = timedelta(
            **{f"{'minute' if unit == 'min' else 'hour' if unit == 'h' else unit}s": int(amount)}
        )

        def fits(begin, end):
            if events[end].occurred_at - events[begin].occurred_at > limit or begin == end:
                return False
            if not steps[begin][0] or not steps[end][-1]:
                return False
            reached = {1}
            for between in range(begin + 1, end):
                reached |= {
                    step + 1 for step in reached if step < len(table["sequence"]) and steps[between][step]
                }
            return len(table["sequence"]) - 1 in reached

        ends, free = [], 0
        for end in range(len(events)):
            if any(fits(begin, end) for begin in range(free, end)):
                ends.append(at_of(events[end]))
                free = end + 1
        return ends

    def is_step(self, event, step, table):
        name, _, path = step.partition(":/")
        if event not in self.matching(name, [event]):
            return False
        return on_site(event, table) and (
            not path or re.sub("https?://[^/]*", "", url_of(event)).rstrip("/") == f"/{path}"
        )

    def matching(self, name, events=None):
        events = self.events if events is None else events
        own = self.model.get("signals", {}).get(name)
        if own is not None:
            return [event for event in self.matching(own["event"], events) if self.qualifies(event, own)]
        return [event for event in events if self.is_a(event, name)]

    @staticmethod
    def is_a(event, name):
        kind = type(event).__struct_config__.tag
        if name == "interaction":
            return event.answered if kind == "call_made" else kind not in NO_ACTS
        if name == "high_intent":
            return kind in INTENT
        return (f"custom:{event.name}" if kind == "custom" else kind) == name

    def qualifies(self, event, own):
        if own.get("source") not in {None, event.source}:
            return False
        if not on_site(event, own):
            return False
        for test in [own, *own.get("where", [])]:
            if "field" in test:
                ((operator, operand),) = (
                    (k, v)
                    for k, v in test.items()
                    if k not in {"event", "source", "field", "where", "distinct", "site"}
                )
                value = (
                    (event.properties or {}).get(test["field"])
                    if own["event"].startswith("custom:")
                    else getattr(event, test["field"])
                )
                if not asked(operator, value, operand):
                    return False
        return True

    def left_of(self, order):
        """The order's value less its refunds in its currency."""
        refunds = [
            refund.value
            for refund in self.matching("purchase_refunded", self.counted)
            if (refund.order_id, refund.currency) == (order.order_id, order.currency)
        ]
        return max(order.value - sum(refunds), 0)

    def day(self, at):
        return datetime.fromtimestamp(at / 1000, self.zone).date()

    def within(self, name, days, skip=0):
        """The local days of what happened in the `days` days that end `skip` days ago."""
        last = self.day(self.as_of) - timedelta(days=skip)
        found = map(self.day, self.named(name))
        return [day for day in found if last - timedelta(days=days) < day <= last]

    def field(self, name):
        written = []
        for event in self.events:
            kind, given = type(event).__struct_config__.tag, {}
            if kind in {"profile_updated", "form_submitted"}:
                given = event.fields or {}
            elif kind == "contact_shared":
                keys = ("name", "first_name", "last_name", "email", "phone")
                given = {key: getattr(event, key) for key in keys if getattr(event, key) is not None}
            elif kind == "consent_changed":
                given = {f"{key}_consent": getattr(event, key) for key in ("email", "sms")}
                given = {key: value for key, value in given.items() if value is not None}
            elif kind == "question_answered" and event.profile_field:
                given = {event.profile_field: event.text}
            if name in given and not is_blank(name, given[name]):
                value = given[name]
                if isinstance(value, list):
                    value = [item for item in value if item.strip()]
                written.append((at_of(event), event.event_id, value))
        return max(written, key=lambda w: w[:2])[2] if written else None

    # what a rule reads
    def value(self, phrase, session=None):
        if found := re.fullmatch(r"distinct (\w+)", phrase):
            return self.distinct(found[1])
        if found := re.fullmatch(r"active days in (\d+) days?", phrase):
            return len(set(self.within("interaction", int(found[1]))))
        if found := re.fullmatch(r"(\w+) since (\S+)", phrase):
            if found[2] == "created":
                since = min(map(at_of, self.events), default=None)
            else:
                since = max(self.named(found[2]), default=None)
            return None if since is None else (self.as_of - since) // UNIT[found[1]]
        if phrase == "created_at":
            created = min(map(at_of, self.events), default=None)
            return None if created is None else int(f"{datetime.fromtimestamp(created / 1000, UTC):%Y%m%d}")
        if found := re.fullmatch(r"trend of (\S+) over (\d+) days?", phrase):
            days = int(found[2])
            recent, before = len(self.within(found[1], days)), len(self.within(found[1], days, days))
            if abs(recent - before) <= Fraction(before, 5):
                return "stable"
            return "increasing" if recent > before else "declining"
        if found := re.fullmatch(r"sum of purchase:(\w+)", phrase):
            orders = self.matching("purchase_made", self.counted)
            return int(sum(self.left_of(order) for order in orders if order.currency == found[1]))
        if found := re.fullmatch(r"profile\.(\w+)", phrase):
            return self.stage if found[1] == "stage" else self.field(found[1])
        if found := re.fullmatch(r"session\.(\w+)", phrase):
            if found[1] == "seconds":
                return (session.last_at - session.opened_at) // 1000
            return getattr(session, found[1])
        if found := re.fullmatch(r"(\S+) in (\d+) days?", phrase):
            return len(self.within(found[1], int(found[2])))
        if self.model.get("signals", {}).get(phrase, {}).get("distinct"):
            return self.distinct(phrase)
        return len(self.named(phrase))

    def distinct(self, name):
        if name == "questions":
            return len({event.question_id for event in self.matching("question_answered")})
        field = self.model["signals"][name]["distinct"]
        return len({getattr(event, field) for event in self.matching(name)})

    # what a rule gives
    def points(self, rule, session):
        def read(phrase):
            return self.value(phrase, session)

        if "base" in rule:
            return fraction(rule["base"])
        if "choose" in rule:
            value, table = read(rule["choose"]), rule["points"]
            if value is None:
                return Fraction(0)
            for each in value if isinstance(value, list) else [value]:
                for key, points in table.items():
                    if key.strip().lower() == str(each).strip().lower():
                        return fraction(points)
            return fraction(rule.get("otherwise", 0))
        if "steps" in rule:
            value = read(rule["steps"])
            if value is None:
                return fraction(rule.get("never", 0))
            under = [fraction(points) for limit, points in rule["below"] if value < limit]
            return under[0] if under else fraction(rule.get("otherwise", 0))
        points = fraction(rule["points"])
        if "sequence" in rule:
            return points * len(self.completed(rule))
        if "site" in rule:
            there = [event for event in self.events if on_site(event, rule)]
            return Oracle.on(self, there).points({k: v for k, v in rule.items() if k != "site"}, session)
        if "each" in rule:
            sources = rule["each"] if isinstance(rule["each"], list) else [rule["each"]]
            if rule.keys() & {"times_a_day", "half_life_days", "fades"}:
                return self.by_age(rule, sources)
            count = sum(read(source) for source in sources)
            return points * min(count, rule.get("times", count))
        if "once" in rule:
            sources = rule["once"] if isinstance(rule["once"], list) else [rule["once"]]
            return points if any(read(source) for source in sources) else Fraction(0)
        if "has" in rule:
            names = rule["has"] if isinstance(rule["has"], list) else [rule["has"]]
            return points if any(given(read(f"profile.{name}")) for name in names) else Fraction(0)
        ((operator, operand),) = (
            (k, v)
            for k, v in rule.items()
            if k not in {"name", "value", "points", "max", "min", "active", "id", "priority"}
        )
        return points if asked(operator, read(rule["value"]), operand) else Fraction(0)

    def by_age(self, rule, sources):
        """The latest acts first, so many of each day, so many in all; each counts less with its age."""
        ages, today = [], self.day(self.as_of)
        for source in sources:
            name, window = re.fullmatch(r"(.+) in (\d+) days?", source).groups()
            days = self.within("interaction" if name == "active days" else name, int(window))
            ages += [(today - day).days for day in (set(days) if name == "active days" else days)]
        counted, of_day = [], Counter()
        for age in sorted(ages):
            of_day[age] += 1
            if of_day[age] <= rule.get("times_a_day", len(ages)) and len(counted) < rule.get("times", 10**9):
                counted.append(age)
        if "half_life_days" in rule:
            counts = [halved(age, fraction(rule["half_life_days"])) for age in counted]
        elif "fades" in rule:
            counts = [1 - Fraction(age, int(window)) for age in counted]
        else:
            counts = [1] * len(counted)
        return Fraction(int(1000 * fraction(rule["points"]) * sum(counts)), 1000)

    def rule_lines(self, session=None):
        out = Counter()
        for name, group in self.model["groups"].items():
            weight, reached = fraction(group.get("weight", 1)), Fraction(0)
            for rule in group["rules"]:
                if rule.get("active") is False:
                    continue
                points = self.points(rule, session)
                kept = between(points, rule)
                out[name, rule["name"], "points"] += weight * points
                out[name, rule["name"], "rule cap"] += weight * (kept - points)
                reached += kept
            out[name, "", "group cap"] += weight * (between(reached, group) - reached)
        total = sum(out.values())
        low, high = self.model.get("min"), self.model.get("max")
        if high is not None and total > fraction(high):
            out["", "", "limit"] = fraction(high) - total
        if low is not None and total < fraction(low):
            out["", "", "limit"] = fraction(low) - total
        return out

    def score(self):
        """(total, lines): exact, except that a half-life is a float."""
        if self.model.get("reads") == "session":
            return self.mean()
        out = self.rule_lines()
        decay, acted = self.model.get("decay"), self.named("interaction")
        if decay and acted:
            idle = max((self.as_of - max(acted)) // DAY, 0)
            above = sum(out.values()) - fraction(self.model.get("min", 0))
            if above > 0 and idle:
                if "points" in decay:
                    out["", "", "decay"] = -min(above, fraction(decay["points"]) * idle)
                else:
                    left = 2.0 ** (-min(idle, 3650) / float(decay["half_life_days"]))
                    out["", "", "decay"] = above * Fraction(left) - above
        return self.finished(out)

    def finished(self, out):
        total = sum(out.values(), Fraction(0))
        if self.model.get("round"):
            out["", "", "rounding"] = half_up(total) - total
            total = Fraction(half_up(total))
        return total, {key: points for key, points in out.items() if points}

    def mean(self):
        ended = [
            (session.opened_at, session_id, session)
            for session_id, session in self.sessions.items()
            if session.closed or self.as_of >= session.last_at + self.idle
        ]
        lead = self.model.get("lead", {})
        latest = sorted(ended)[-lead.get("latest", 200) :]
        if not latest:
            return Fraction(0), {}
        shares = [Fraction(1)] * len(latest)
        if "half_life_days" in lead:
            newest = max(opened for opened, *_ in latest)
            half = float(lead["half_life_days"])
            shares = [Fraction(2.0 ** (-((newest - opened) // DAY) / half)) for opened, *_ in latest]
        out = Counter()
        for share, (_, _, session) in zip(shares, latest, strict=True):
            for key, points in self.rule_lines(session).items():
                out[key] += points * share / sum(shares)
        return self.finished(out)

    def bands(self):
        total, _ = self.score()
        if self.model.get("band_on") == "rounded":
            total = half_up(total)
        out = {}
        for scale, bands in self.model.get("bands", {}).items():
            reached = [
                (fraction(threshold), band)
                for band, threshold in bands.items()
                if total >= fraction(threshold) and self.meets(band, total)
            ]
            out[scale] = max(reached)[1] if reached else None
        for name, matrix in self.model.get("matrix", {}).items():
            sides = [self.side(matrix[side]) for side in ("rows", "columns")]
            out[name] = None if None in sides else "".join(sides)
        for flag in self.model.get("flag", []):
            if all(map(self.flag_condition, flag["when"])):
                out[f"flag:{flag['name']}"] = flag["colour"]
        return out

    def flag_condition(self, condition):
        if "none_of" in condition:
            since = self.named(condition["since"]) if "since" in condition else []
            after = max(since) if since else -(1 << 60)
            return not any(moment >= after for name in condition["none_of"] for moment in self.named(name))
        if condition.get("value") == "score":
            total = half_up(self.score()[0])
            least, above = condition.get("greater_or_equal"), condition.get("greater_than")
            return total >= least if least is not None else total > above
        return self.points({**condition, "name": "condition", "points": 1}, None) > 0

    def side(self, axis):
        """Which band of one group's own points, before its weight."""
        group = self.model["groups"][axis["group"]]
        rules = [rule for rule in group["rules"] if rule.get("active", True)]
        reached = between(sum(between(self.points(rule, None), rule) for rule in rules), group)
        if self.model.get("band_on") == "rounded":
            reached = half_up(reached)
        under = [(fraction(t), band) for band, t in axis["bands"].items() if fraction(t) <= reached]
        return max(under)[1] if under else None

    def meets(self, band, total):
        needs = self.model.get("needs", {}).get(band)
        if needs is None:
            return True
        for need in needs if isinstance(needs, list) else [needs]:
            if not need.get("active", True):
                continue
            after = self.as_of - need["within_days"] * DAY if "within_days" in need else -(1 << 60)
            if (
                total >= fraction(need.get("minimum", -(10**9)))
                and all(given(self.value(f"profile.{name}")) for name in need.get("fields", []))
                and all(any(at > after for at in self.named(action)) for action in need.get("actions", []))
            ):
                return True
        return False


def is_blank(name, value):
    """Does the field of an event say nothing? Of the random fields only the consents are no texts."""
    if isinstance(value, list):
        return not any(item.strip() for item in value)
    if isinstance(value, str):
        return not value.strip()
    return value is not None and not value and not name.endswith("_consent")


def given(value):
    return value is not None and value != [] and not (isinstance(value, str) and not value.strip())


def plain(value):
    """As values compare: words without case and outer space, digits as numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = value.strip().lower()
        return Fraction(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else text
    return fraction(value) if isinstance(value, int | float | Decimal) else value


def asked(operator, value, operand):
    if operator == "is_set":
        return given(value)
    if operator == "is_not_set":
        return not given(value)
    if value is None:
        return False
    if operator.startswith("not_"):
        return not asked(operator[4:], value, operand)
    if isinstance(value, list):
        return any(asked(operator, item, operand) for item in value)
    mine = plain(value)
    if operator in {"equals", "in_list"}:
        return mine in [plain(each) for each in (operand if operator == "in_list" else [operand])]
    if operator in {"greater_than", "less_than", "greater_or_equal", "less_or_equal", "between"}:
        if not isinstance(mine, Fraction):
            return False
        if operator == "between":
            return plain(operand[0]) <= mine <= plain(operand[1])
        limit = plain(operand)
        return {
            "greater_than": mine > limit,
            "less_than": mine < limit,
            "greater_or_equal": mine >= limit,
            "less_or_equal": mine <= limit,
        }[operator]
    if not isinstance(value, str):
        return False
    text = value.strip().lower()
    return {
        "contains": lambda: operand.strip().lower() in text,
        "starts_with": lambda: text.startswith(operand.strip().lower()),
        "ends_with": lambda: text.endswith(operand.strip().lower()),
        "longer_than": lambda: len(value) > operand,
        "matches": lambda: re.search(operand, value, re.IGNORECASE) is not None,
    }[operator]()

"""A lead explained in plain words, as lines for a terminal: who, each score line by line, what changed it.

Pure: from rows of the read models to text. It repeats what was said and adds up nothing of its own, so
that a reader can check every sum. Texts of users are data here: who prints them escapes them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

from scoring.features.identity import key_of_identity

Row = Mapping[str, Any]

ABOUT_LENGTH = 100
WORDING = ("text", "subject")
"""Where an event keeps its words."""
IDENTITIES_SHOWN = 6
_POINTS = re.compile(r"-?[\d.]+ points?")
MINUTE, HOUR, DAY = 60, 3_600, 86_400


class BreakdownLine(NamedTuple):
    group: str
    rule: str
    kind: str
    points: Decimal
    evidence: str = ""


class Score(NamedTuple):
    model: str
    total: Decimal
    bands: Mapping[str, str | None]

    lines: Sequence[BreakdownLine]
    nothing_for: Sequence[str] = ()
    """Rules that give nothing."""
    as_of: datetime | None = None
    """When its evidence is of, if that is not now."""


class Cause(NamedTuple):
    """Everything that one cause changed at one moment."""

    at: datetime
    why: str
    changes: Sequence[Row]
    """Of the ledger."""
    stages: Sequence[Row] = ()
    bands: Sequence[Row] = ()
    by_time: bool = False
    """Nothing happened but that time passed."""


class Clock(NamedTuple):
    now: datetime
    zone: tzinfo

    def date(self, at: datetime) -> str:
        local = at.astimezone(self.zone)
        return f"{local.day} {local:%b %Y, %H:%M}"

    def ago(self, at: datetime) -> str:
        seconds = int((self.now - at).total_seconds())
        if seconds < MINUTE:
            return "just now" if seconds >= 0 else f"ahead, {self.date(at)}"
        for unit, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
            if seconds >= unit:
                count = seconds // unit
                return f"{count} {name}{'s' * (count > 1)} ago"
        raise AssertionError(seconds)


# Who


def who(
    lead: Row, stages: Sequence[Row], identities: Sequence[Row], clock: Clock, *, past: bool
) -> Iterator[str]:
    """`stages` are those entered by the moment asked for, in order; `past`: it is not now."""
    name = lead["name"] or ("somebody" if lead["identified"] else "an anonymous visitor")
    yield f"{name} ({lead['lead_id']})"
    reached = [lead[field] for field in ("phone", "email", "company") if lead[field]]
    if reached:
        yield "  " + ", ".join(reached)
    if stages:
        now = stages[-1]
        yield f"  Stage: {now['stage']} since {clock.date(now['at'])} ({now['reason']})"
    else:
        yield "  Stage: new"
    if lead["assigned_to"]:
        yield f"  In the care of {lead['assigned_to']}"
    yield f"  First heard of {clock.date(lead['created_at'])} ({clock.ago(lead['created_at'])})"
    last = lead["last_interaction_at"]
    if not past:
        yield f"  Last active {clock.date(last)} ({clock.ago(last)})" if last else "  Never active"
    if identities:
        known = [named(each["identity"]) for each in identities[:IDENTITIES_SHOWN]]
        more = len(identities) - len(known)
        yield "  Known as " + ", ".join(known) + (f" and {more} more" if more else "")


def named(identity: str) -> str:
    """The key behind which somebody is: visitor w-1, lead L."""
    key, _ = key_of_identity(identity)
    _, kind, name = key.split("/", 2)
    return f"{'visitor' if kind == 'v' else 'lead'} {name}"


# Scores


def breakdown(score: Score, clock: Clock) -> Iterator[str]:
    """The score and its lines, by group; they add up to it."""
    as_of = f" (as of {clock.date(score.as_of)})" if score.as_of else ""
    yield f"{score.model}: {number(score.total)}{_in_bands(score.bands)}{as_of}"
    if not score.lines:
        yield "  nothing counts yet"
        return
    labels = [label(line) for line in score.lines]
    width = max(map(len, labels), default=0)
    points = [signed(line.points) for line in score.lines]
    room = max(map(len, points), default=0)
    group = None
    for line, name, given in zip(score.lines, labels, points, strict=True):
        if line.group and line.group != group:
            yield f"  {line.group}"
        group = line.group
        indented = f"    {name}" if line.group else f"  {name}"
        yield f"{indented:{4 + width}}  {given:>{room}}  {line.evidence}".rstrip()
    if score.nothing_for:
        yield "  no points for: " + ", ".join(score.nothing_for)


def _in_bands(bands: Mapping[str, str | None]) -> str:
    """, hot; several sets of bands name themselves: , grade B+, temperature hot"""
    reached = {scale: band for scale, band in bands.items() if band is not None}
    if len(bands) <= 1:
        return "".join(f", {band}" for band in reached.values())
    return "".join(f", {scale} {band}" for scale, band in reached.items())


def label(line: BreakdownLine) -> str:
    if line.rule:
        return line.rule if line.kind == "points" else f"{line.rule}, {_kind(line.kind)}"
    return f"{line.group}, {_kind(line.kind)}" if line.group else _kind(line.kind)


def _kind(kind: str) -> str:
    words = {"decay": "days without activity", "mean": "rest of the mean"}
    return words.get(kind, "limit" if kind.endswith((" cap", " floor")) else kind)


def evidence(text: str, rule: str) -> str:
    """Without what stands beside it: the rule's name, and points that are given but once."""
    plain = text.removeprefix(f"{rule}: ")
    return "" if _POINTS.fullmatch(plain) else plain


# What changed it


def history(causes: Iterable[Cause], clock: Clock) -> Iterator[str]:
    """The latest first."""
    for cause in causes:
        yield f"{clock.date(cause.at)}  {cause.why}"
        for entry in cause.changes:
            bands = [each for each in cause.bands if each["model"] == entry["model"]]
            if not entry["lines"] and all(each["previous"] is None for each in bands):
                continue  # the model saw the lead for the first time, and knows nothing of it
            now_in = [
                f"now {each['band']}" if each["band"] else f"no longer {each['previous']}" for each in bands
            ]
            lines = [
                f"{label(BreakdownLine(group, rule, kind, Decimal(0)))} {signed(Decimal(str(points)))}"
                for group, rule, kind, points in entry["lines"]
            ]
            told = ", ".join([*lines, *now_in])
            yield f"  {entry['model']} {number(entry['previous'])} -> {number(entry['total'])}: {told}"
        for stage in cause.stages:
            yield f"  stage {stage['previous']} -> {stage['stage']}: {stage['reason']}"


def gathered(causes: Iterable[Cause], clock: Clock) -> Iterator[Cause]:
    """With what time alone did between two acts told as one change; the latest first, as they came."""
    for by_time, several in groupby(causes, key=lambda cause: cause.by_time):
        if by_time:
            yield _gathered(list(several), clock)
        else:
            yield from several


def _gathered(causes: Sequence[Cause], clock: Clock) -> Cause:
    latest, first = causes[0], causes[-1]
    if len(causes) == 1:
        return latest
    changes: dict[str, dict[str, Any]] = {}
    for cause in causes:
        for entry in cause.changes:
            told = changes.setdefault(entry["model"], {**entry, "lines": []})
            told["previous"] = entry["previous"]
            told["lines"] = _summed([*entry["lines"], *told["lines"]])
    bands: dict[tuple[str, str], dict[str, Any]] = {}
    for each in (each for cause in causes for each in cause.bands):
        bands.setdefault((each["model"], each["scale"]), dict(each))["previous"] = each["previous"]
    return latest._replace(
        why=f"Time passed, {len(causes)} times since {clock.date(first.at)}",
        changes=[changes[model] for model in sorted(changes)],
        stages=[stage for cause in reversed(causes) for stage in cause.stages],
        bands=[each for each in bands.values() if each["band"] != each["previous"]],
    )


def _summed(lines: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Ledger lines, one of each name, without those that cancel out."""
    sums: dict[tuple[Any, ...], Decimal] = {}
    for *name, points in lines:
        sums[tuple(name)] = sums.get(tuple(name), Decimal(0)) + Decimal(str(points))
    return [[*name, points] for name, points in sums.items() if points]


def why(caused_by: str, event: Row | None, entry: Row, clock: Clock) -> str:
    """A cause in words."""
    kind, _, what = caused_by.partition(":")
    match kind:
        case "event" | "redirect" if event is not None:
            return _event(event, entry["at"], clock)
        case "event":
            return f"An event ({what})"
        case "due":
            return "Time passed"
        case "model":
            tenant, name, version = what.rsplit(":", 2)
            gone = entry["model"] == name and not entry["bands"] and not entry["total"]
            return f"Model {name}, version {version}, was {'retired' if gone else 'published'}{_for(tenant)}"
        case "settings":
            tenant, version = what.rsplit(":", 1)
            return f"Settings, version {version}, were published{_for(tenant)}"
        case "attached" | "detached":
            mine = named(what.rsplit(":", 1)[0])
            return f"What {mine} did {'came to' if kind == 'attached' else 'went away from'} this lead"
        case "redirect":
            return f"A merge was made or undone ({what})"
        case _:
            return caused_by


def _for(tenant: str) -> str:
    return "" if tenant == "*" else f" for {tenant}"


def _event(event: Row, at: datetime, clock: Clock) -> str:
    words = event["type"].replace("_", " ")
    source = f" ({event['source']})" if event["source"] else ""
    late = abs((at - event["occurred_at"]).total_seconds()) >= MINUTE
    when = f", happened {clock.date(event['occurred_at'])}" if late else ""
    about = shortened(_about(event))
    return f"{words[:1].upper()}{words[1:]}{source}{when}{f': {about}' if about else ''}"


def _about(event: Row) -> str:
    """What it was about: its words, else its page, else what it told of the lead or of itself."""
    details: Mapping[str, Any] = event["details"] or {}
    found = next((details[name] for name in WORDING if details.get(name)), None)
    return str(event["title"] or found or event["url"] or _properties(details))


def _properties(details: Mapping[str, Any]) -> str:
    """Phone +971..., budget 2000000; ids say nothing to people."""
    told = []
    for name, value in details.items():
        if isinstance(value, dict):
            told.append(_properties(value))
        elif value not in (None, "", []) and not name.endswith("_id"):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            told.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(filter(None, told))


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= ABOUT_LENGTH else line[: ABOUT_LENGTH - 3].rstrip() + "..."


# Numbers


def number(points: Decimal) -> str:
    """Without needless decimals: 67, 77.45."""
    exact = Decimal(points)
    return f"{exact.normalize():f}" if exact else "0"


def signed(points: Decimal) -> str:
    return ("+" if points > 0 else "") + number(points)

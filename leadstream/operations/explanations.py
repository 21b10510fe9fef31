"""A lead explained as lines for a terminal: a summary, each score line by line, and the latest changes.

Pure: from rows of the read models to text. It shows recorded points and computes no total of its own, so
that a reader can check every sum. It does not escape texts of users: the caller that prints them does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal
from itertools import groupby
from typing import Any, Final, NamedTuple

from schemas.blank import is_blank_text
from schemas.statements import MASKED_CAUSE
from scoring.features.identity import key_of_identity
from scoring.features.profile_fields import PROFILING_CONSENT_FIELD
from scoring.models.flags import RaisedFlag, raised_flags, split_flags

Row = Mapping[str, Any]

LONGEST_ABOUT = 100
TEXT_FIELDS = ("text", "subject")
"""The fields of an event that contain its text."""
IDENTITIES_SHOWN = 6
_POINTS = re.compile(r"-?[\d.]+ points?")
MINUTE_SECONDS, HOUR_SECONDS, DAY_SECONDS = 60, 3_600, 86_400


class BreakdownLine(NamedTuple):
    group: str
    rule: str
    kind: str
    points: Decimal
    evidence: str = ""


class ExplainedScore(NamedTuple):
    model: str
    total: Decimal
    bands: Mapping[str, str | None]
    """Flags included."""
    lines: Sequence[BreakdownLine]
    nothing_for: Sequence[str] = ()
    """Rules that give no points."""
    as_of: datetime | None = None
    """The moment of its evidence, if that is not now."""
    of_ended_visits: bool = False
    """Its model counts a visit only when it has ended."""
    flags: Sequence[RaisedFlag] = ()
    """With their evidence; empty: as `bands` have them."""


class ExplainedCause(NamedTuple):
    """Everything that one cause changed at one moment."""

    at: datetime
    why: str
    changes: Sequence[Row]
    """Entries of the ledger."""
    stages: Sequence[Row] = ()
    bands: Sequence[Row] = ()
    by_time: bool = False
    """No event caused it: only time passed."""


class ExplanationClock(NamedTuple):
    now: datetime
    zone: tzinfo

    def date(self, at: datetime) -> str:
        local = at.astimezone(self.zone)
        return f"{local.day} {local:%b %Y, %H:%M}"

    def ago(self, at: datetime) -> str:
        seconds = int((self.now - at).total_seconds())
        if seconds < MINUTE_SECONDS:
            return "just now" if seconds >= 0 else f"ahead, {self.date(at)}"
        for unit, name in ((DAY_SECONDS, "day"), (HOUR_SECONDS, "hour"), (MINUTE_SECONDS, "minute")):
            if seconds >= unit:
                count = seconds // unit
                return f"{count} {name}{'s' * (count > 1)} ago"
        raise AssertionError(seconds)


# The lead


def lead_summary(
    lead: Row, stages: Sequence[Row], identities: Sequence[Row], clock: ExplanationClock, *, past: bool
) -> Iterator[str]:
    """`stages` are those that the lead entered up to the requested moment, in order. `past`: that moment is not now."""
    name = lead["name"] or ("a lead without a name" if lead["identified"] else "an anonymous visitor")
    yield f"{name} ({lead['lead_id']})"
    contact = [lead[field] for field in ("phone", "email", "company") if lead[field]]
    if contact:
        yield "  " + ", ".join(contact)
    if stages:
        current = stages[-1]
        yield f"  Stage: {current['stage']} since {clock.date(current['at'])} ({current['reason']})"
    else:
        yield "  Stage: new"
    if lead["assigned_to"]:
        yield f"  Assigned to {lead['assigned_to']}"
    yield f"  First seen {clock.date(lead['created_at'])} ({clock.ago(lead['created_at'])})"
    last = lead["last_interaction_at"]
    if not past and lead["fields"].get(PROFILING_CONSENT_FIELD) is False:
        yield f"  Does not wish to be scored ({PROFILING_CONSENT_FIELD} is false): no model and no workflow looks at this lead"
    if not past:
        yield f"  Last active {clock.date(last)} ({clock.ago(last)})" if last else "  Never active"
    if identities:
        names = [identity_in_words(each["identity"]) for each in identities[:IDENTITIES_SHOWN]]
        more = len(identities) - len(names)
        yield "  Known as " + ", ".join(names) + (f" and {more} more" if more else "")


def override_in_words(override: Mapping[str, Any], clock: ExplanationClock) -> str:
    """A qualification that somebody set by hand; moments may be texts, as in JSON."""
    since, until = (
        datetime.fromisoformat(each) if isinstance(each, str) else each
        for each in (override["since"], override["until"])
    )
    by = f" by {override['by']}" if override["by"] else ""
    end = f" until {clock.date(until)}" if until else ""
    return f"Qualification set by hand: {override['band']}{by}, since {clock.date(since)}{end}"


def identity_in_words(identity: str) -> str:
    """The key of an identity in words: visitor w-1, lead L."""
    key, _ = key_of_identity(identity)
    _, kind, name = key.split("/", 2)
    return f"{'visitor' if kind == 'v' else 'lead'} {name}"


# Scores


def breakdown_lines(score: ExplainedScore, clock: ExplanationClock) -> Iterator[str]:
    """The score and its lines, by group. The lines add up to the score."""
    as_of = f" (as of {clock.date(score.as_of)})" if score.as_of else ""
    yield f"{score.model}: {points_text(score.total)}{_in_bands(score.bands)}{as_of}"
    for flag in score.flags or raised_flags(score.bands):
        yield f"  {flag.colour} flag: {flag.text or flag.name}{f' ({flag.evidence})' if flag.evidence else ''}"
    if not score.lines:
        yield f"  nothing counts yet{'; a visit counts when it has ended' if score.of_ended_visits else ''}"
        return
    labels = [label_of_line(line) for line in score.lines]
    width = max(map(len, labels), default=0)
    points = [signed_points_text(line.points) for line in score.lines]
    points_width = max(map(len, points), default=0)
    group = None
    for line, name, line_points in zip(score.lines, labels, points, strict=True):
        if line.group and line.group != group:
            yield f"  {line.group}"
        group = line.group
        indented = f"    {name}" if line.group else f"  {name}"
        yield f"{indented:{4 + width}}  {line_points:>{points_width}}  {line.evidence}".rstrip()
    if score.nothing_for:
        yield "  no points for: " + ", ".join(score.nothing_for)


def _in_bands(bands: Mapping[str, str | None]) -> str:
    """The bands as a suffix: `, hot`; with names if there are several sets: `, grade B+, temperature hot`."""
    bands, _ = split_flags(bands)
    current = {scale: band for scale, band in bands.items() if band is not None}
    if len(bands) <= 1:
        return "".join(f", {band}" for band in current.values())
    return "".join(f", {scale} {band}" for scale, band in current.items())


def label_of_line(line: BreakdownLine) -> str:
    if line.rule:
        return line.rule if line.kind == "points" else f"{line.rule}, {_kind_in_words(line.kind)}"
    return f"{line.group}, {_kind_in_words(line.kind)}" if line.group else _kind_in_words(line.kind)


def _kind_in_words(kind: str) -> str:
    words = {"decay": "days without activity", "mean": "rest of the mean"}
    return words.get(kind, "limit" if kind.endswith((" cap", " floor")) else kind)


def evidence_to_show(text: str, rule: str) -> str:
    """The evidence without what the line shows already: the rule's name, and points that a rule gives once."""
    plain = text.removeprefix(f"{rule}: ")
    return "" if _POINTS.fullmatch(plain) else plain


# What changed it


def history_lines(causes: Iterable[ExplainedCause], clock: ExplanationClock) -> Iterator[str]:
    """The latest first."""
    for cause in causes:
        yield f"{clock.date(cause.at)}  {cause.why}"
        for entry in cause.changes:
            bands = [each for each in cause.bands if each["model"] == entry["model"]]
            if not entry["lines"] and all(each["previous"] is None for each in bands):
                continue  # the model saw the lead for the first time, and no rule applied
            now_in = [
                f"now {each['band']}" if each["band"] else f"no longer {each['previous']}" for each in bands
            ]
            lines = [
                f"{label_of_line(BreakdownLine(group, rule, kind, Decimal(0)))} {signed_points_text(Decimal(str(points)))}"
                for group, rule, kind, points in entry["lines"]
            ]
            details = ", ".join([*lines, *now_in])
            total = "not scored" if entry["removed"] else points_text(entry["total"])
            yield f"  {entry['model']} {points_text(entry['previous'])} -> {total}: {details}"
        for stage in cause.stages:
            yield f"  stage {stage['previous']} -> {stage['stage']}: {stage['reason']}"


# What workflows did


def execution_lines(executions: Iterable[Row], clock: ExplanationClock) -> Iterator[str]:
    """Each workflow that was triggered, with its reason and, below, its action and what became of that (`outcome`)."""
    for each in executions:
        yield f"{clock.date(each['at'])}  {each['workflow']}: {each['reason']}"
        yield f"  {each['action']}: {each['outcome']}"


def with_time_merged(causes: Iterable[ExplainedCause], clock: ExplanationClock) -> Iterator[ExplainedCause]:
    """The causes in the same order, with consecutive changes by time alone merged into one."""
    for by_time, several in groupby(causes, key=lambda cause: cause.by_time):
        if by_time:
            yield _merged_causes(list(several), clock)
        else:
            yield from several


def _merged_causes(causes: Sequence[ExplainedCause], clock: ExplanationClock) -> ExplainedCause:
    latest, first = causes[0], causes[-1]
    if len(causes) == 1:
        return latest
    changes: dict[str, dict[str, Any]] = {}
    for cause in causes:
        for entry in cause.changes:
            merged = changes.setdefault(entry["model"], {**entry, "lines": []})
            merged["previous"] = entry["previous"]
            merged["lines"] = _summed_lines([*entry["lines"], *merged["lines"]])
    bands: dict[tuple[str, str], dict[str, Any]] = {}
    for each in (each for cause in causes for each in cause.bands):
        bands.setdefault((each["model"], each["scale"]), dict(each))["previous"] = each["previous"]
    return latest._replace(
        why=f"Time passed, {len(causes)} times since {clock.date(first.at)}",
        changes=[changes[model] for model in sorted(changes)],
        stages=[stage for cause in reversed(causes) for stage in cause.stages],
        bands=[each for each in bands.values() if each["band"] != each["previous"]],
    )


def _summed_lines(lines: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Ledger lines, summed by name, without those that cancel out."""
    sums: dict[tuple[Any, ...], Decimal] = {}
    for *name, points in lines:
        sums[tuple(name)] = sums.get(tuple(name), Decimal(0)) + Decimal(str(points))
    return [[*name, points] for name, points in sums.items() if points]


_ERASED_CAUSES: Final = {
    "event": "An event of a person who was erased later",
    "redirect": "A merge with a person who was erased later",
    "attached": "Events of a person who was erased later were added to this lead",
    "detached": "Events of a person who was erased later were removed from this lead",
}


def cause_in_words(caused_by: str, event: Row | None, entry: Row, clock: ExplanationClock) -> str:
    """A cause in words."""
    kind, _, what = caused_by.partition(":")
    match kind:
        case _ if what == MASKED_CAUSE:
            return _ERASED_CAUSES.get(kind, caused_by)
        case "event" | "redirect" if event is not None:
            return _event_in_words(event, entry["at"], clock)
        case "event":
            return f"An event ({what})"
        case "due":
            return "Time passed"
        case "model":
            tenant, name, version = what.rsplit(":", 2)
            retired = entry["model"] == name and not entry["bands"] and not entry["total"]
            return f"Model {name}, version {version}, was {'retired' if retired else 'published'}{_for_tenant(tenant)}"
        case "settings":
            tenant, version = what.rsplit(":", 1)
            return f"Settings, version {version}, were published{_for_tenant(tenant)}"
        case "attached" | "detached":
            identity = identity_in_words(what.rsplit(":", 1)[0])
            return f"The events of {identity} were {'added to' if kind == 'attached' else 'removed from'} this lead"
        case "redirect":
            return f"A merge was made or undone ({what})"
        case _:
            return caused_by


def _for_tenant(tenant: str) -> str:
    return "" if tenant == "*" else f" for {tenant}"


def _event_in_words(event: Row, at: datetime, clock: ExplanationClock) -> str:
    words = event["type"].replace("_", " ")
    source = f" ({event['source']})" if event["source"] else ""
    late = abs((at - event["occurred_at"]).total_seconds()) >= MINUTE_SECONDS
    when = f", happened {clock.date(event['occurred_at'])}" if late else ""
    about = shortened_about(_subject_of_event(event))
    return f"{words[:1].upper()}{words[1:]}{source}{when}{f': {about}' if about else ''}"


def _subject_of_event(event: Row) -> str:
    """What the event is about: its text, else its page, else its other details."""
    details: Mapping[str, Any] = event["details"] or {}
    text = next((details[name] for name in TEXT_FIELDS if details.get(name)), None)
    return str(event["title"] or text or event["url"] or _properties_in_words(details))


def _properties_in_words(details: Mapping[str, Any]) -> str:
    """Phone +971..., budget 2000000; without blanks and ids, which mean nothing to a reader."""
    texts = []
    for name, value in details.items():
        if isinstance(value, dict):
            texts.append(_properties_in_words(value))
        elif value is not None and not name.endswith("_id"):
            shown = [str(each) for each in (value if isinstance(value, list) else [value])]
            stated = ", ".join(text for text in shown if not is_blank_text(text))
            texts.append(stated and f"{name.replace('_', ' ')} {stated}")
    return ", ".join(filter(None, texts))


def shortened_about(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ABOUT else line[: LONGEST_ABOUT - 3].rstrip() + "..."


# Numbers


def points_text(points: Decimal) -> str:
    """Without needless decimals: 67, 77.45."""
    exact = Decimal(points)
    return f"{exact.normalize():f}" if exact else "0"


def signed_points_text(points: Decimal) -> str:
    return ("+" if points > 0 else "") + points_text(points)

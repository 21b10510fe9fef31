"""A lead explained as lines for a terminal: a summary, each score line by line, and the latest changes.

Pure: from one state of the lead (`gateway.api.explained_lead`) to text. It computes no total of its own. Points are shown
to the hundredth: what that leaves is in the line "rounding", so a reader can check every sum. A line that would show 0 is left
out. It does not escape texts of users: the caller that prints them does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from typing import Any, Final, NamedTuple

from gateway.api.explained_lead import ExplainedLead
from projections.queries import refuses_profiling
from schemas.blank import is_blank_text
from schemas.statements import MASKED_CAUSE
from scoring.features.identity import key_of_identity
from scoring.features.words import words_of
from scoring.models.flags import FLAG_PREFIX, RaisedFlag
from scoring.models.model import LineLabel, Model
from scoring.models.points import ONE_WEIGHT

Row = Mapping[str, Any]

LONGEST_ABOUT = 100
TEXT_FIELDS = ("text", "subject")
"""The fields of an event that contain its text."""
IDENTITIES_SHOWN = 6
MINUTE_SECONDS, HOUR_SECONDS, DAY_SECONDS = 60, 3_600, 86_400
HUNDREDTH: Final = Decimal("0.01")
_POINTS: Final = re.compile(r"-?[\d.]+ points?")
_WEIGHTED: Final = re.compile(r", weighted [\d.]+$")
_NOT_A_WORD: Final = re.compile(r"\W+")
ROUNDING_KINDS: Final = frozenset({"mean", "rounding"})
"""Lines that only make the others add up."""


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
    lines: Sequence[BreakdownLine]
    flags: Sequence[RaisedFlag] = ()
    of_ended_visits: bool = False
    """Its model counts a visit only when it has ended."""
    weights: Mapping[str, Decimal] = {}
    """Of the groups whose points count in part."""


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
    """Every time that has passed is counted up to `at`, so that all days of one text agree."""

    at: datetime
    zone: tzinfo
    is_now: bool = True

    def date(self, at: datetime) -> str:
        local = at.astimezone(self.zone)
        return f"{local.day} {local:%b %Y, %H:%M}"

    def ago(self, at: datetime) -> str:
        seconds = (self.at - at).total_seconds()
        if seconds < 0:
            return f"ahead, {self.date(at)}"
        if seconds < MINUTE_SECONDS:
            return "just now" if self.is_now else "just then"
        return f"{span_in_words(seconds)} {'ago' if self.is_now else 'before'}"


def span_in_words(seconds: float) -> str:
    """3 days, 1 hour, less than a minute: the largest unit, cut."""
    for unit, name in ((DAY_SECONDS, "day"), (HOUR_SECONDS, "hour"), (MINUTE_SECONDS, "minute")):
        if (count := int(seconds // unit)) >= 1:
            return f"{count} {name}{'s' * (count > 1)}"
    return "less than a minute"


# The lead


def lead_summary(
    explained: ExplainedLead, clock: ExplanationClock, *, in_future: bool = False
) -> Iterator[str]:
    shown = explained.shown
    lead = shown.row
    name = lead["name"] or ("a lead without a name" if lead["identified"] else "an anonymous visitor")
    yield f"{name} ({lead['lead_id']})"
    if not clock.is_now:
        yield f"  {'As it will be, if nothing happens,' if in_future else 'As it was'} {clock.date(clock.at)}"
    contact = [lead[field] for field in ("phone", "email", "company") if lead[field]]
    if contact:
        yield "  " + ", ".join(contact)
    yield f"  Stage: {_stage_in_words(lead['stage'], shown.stages, clock)}"
    if explained.next_stage is not None:
        missing = "; ".join(each["text"] for each in explained.next_stage["missing"])
        yield f"  Next stage: {explained.next_stage['stage']}, which needs {missing}"
    if lead["assigned_to"]:
        yield f"  Assigned to {lead['assigned_to']}"
    yield f"  First seen {clock.date(lead['created_at'])} ({clock.ago(lead['created_at'])})"
    last = lead["last_interaction_at"]
    yield f"  Last active {clock.date(last)} ({clock.ago(last)})" if last else "  Never active"
    if explained.speed_to_lead is not None:
        yield f"  {speed_to_lead_in_words(explained.speed_to_lead, clock)}"
    if shown.identities:
        names = [identity_in_words(each["identity"]) for each in shown.identities[:IDENTITIES_SHOWN]]
        more = len(shown.identities) - len(names)
        yield "  Known as " + ", ".join(names) + (f" and {more} more" if more else "")
    if shown.override is not None:
        yield f"  {override_in_words(shown.override, clock)}"
    if lead["redirect"] and not lead["identities"]:
        yield f"  Merged into {lead['redirect']}, which scores for it: leadstream explain {lead['redirect']}"
    if refuses_profiling(lead):
        yield "  Does not wish to be scored: no model and no workflow looks at this lead"
    elif shown.objects_today:
        yield (
            "  Does not wish to be scored any more, so nothing is computed again: the scores are what was recorded then,"
            " and their lines have no evidence"
        )
    elif shown.history == "not_kept":
        yield (
            "  The state of that moment is not kept: stage and scores are as they were recorded then, all else is as it is now"
        )


def _stage_in_words(stage: str, entered: Sequence[Row], clock: ExplanationClock) -> str:
    """`entered`: the stages that the lead entered, in order."""
    if not entered or entered[-1]["stage"] != stage:
        return stage
    current = entered[-1]
    reason = f" ({current['reason']})" if current["reason"] else ""
    return f"{stage} since {clock.date(current['at'])}{reason}"


def speed_to_lead_in_words(times: Mapping[str, Any], clock: ExplanationClock) -> str:
    """Since when the lead has been qualified, and how soon somebody contacted it."""
    qualified_at, contacted_at, limit_at = (
        times[name] for name in ("qualified_at", "first_contacted_at", "limit_at")
    )
    late = ", later than the limit" if times["breached"] else ""
    qualified = f"Qualified {clock.date(qualified_at)}"
    if contacted_at is not None:
        after = span_in_words((contacted_at - qualified_at).total_seconds())
        return f"{qualified}, first contacted after {after}{late}"
    limit = (
        ""
        if limit_at is None
        else f"; the limit {'was' if times['breached'] else 'is'} {clock.date(limit_at)}"
    )
    return f"{qualified}, not contacted yet{limit}"


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


def explained_score(name: str, score: Mapping[str, Any], model: Model | None) -> ExplainedScore:
    """Of a score as the API shows it; `model` was active then."""
    weights = {group.name: Decimal(group.weight) / ONE_WEIGHT for group in (model.groups if model else ())}
    return ExplainedScore(
        name,
        Decimal(str(score["total"])),
        score["bands"],
        [
            BreakdownLine(
                line["group"],
                line["rule"],
                line["kind"],
                Decimal(str(line["points"])),
                evidence_to_show(line.get("text") or "", line["rule"]),
            )
            for line in _in_order_of(model, score["lines"])
        ],
        [RaisedFlag(**flag) for flag in score["flags"]],
        of_ended_visits=model is not None and model.scores_sessions,
        weights={group: weight for group, weight in weights.items() if weight != 1},
    )


def _in_order_of(model: Model | None, lines: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Lines of the ledger come in no order."""
    order = {label: number for number, label in enumerate(model.line_labels if model else ())}
    last = len(order)

    def rank(line: Mapping[str, Any]) -> tuple[int, bool]:
        return order.get(LineLabel(line["group"], line["rule"], line["kind"]), last), not line["group"]

    return sorted(lines, key=rank)


def shown_lines(lines: Sequence[BreakdownLine], total: Decimal) -> list[BreakdownLine]:
    """The lines as they are shown: each rule with what its own limit leaves, to the hundredth, without those that would show 0.
    They add up to the total, which is shown to the hundredth, too.
    """
    net: dict[tuple[str, str, str], BreakdownLine] = {}
    for line in lines:
        own_limit = line.kind == "rule cap" and (line.group, line.rule, "points") in net
        key = (line.group, line.rule, "points" if own_limit else line.kind)
        before = net.get(key)
        net[key] = line if before is None else before._replace(points=before.points + line.points)
    shown = [
        line._replace(points=hundredths(line.points))
        for line in net.values()
        if line.kind not in ROUNDING_KINDS
    ]
    left = hundredths(total) - sum(line.points for line in shown)
    evidence = next((line.evidence for line in lines if line.kind == "rounding"), "")
    shown.append(BreakdownLine("", "", "rounding", left, evidence))
    return [line for line in shown if line.points]


def breakdown_lines(score: ExplainedScore) -> Iterator[str]:
    """The score and its lines, by group. The lines add up to the score."""
    yield f"{words_of(score.model)}: {points_text(hundredths(score.total))}{_in_bands(score.bands)}"
    for flag in score.flags:
        evidence = f" ({flag.evidence})" if flag.evidence else ""
        yield f"  {flag.colour} flag: {flag.text or words_of(flag.name)}{evidence}"
    lines = shown_lines(score.lines, score.total)
    if not lines:
        yield f"  nothing counts yet{'; a visit counts when it has ended' if score.of_ended_visits else ''}"
        return
    labels = [label_of_line(line) for line in lines]
    width = max(map(len, labels), default=0)
    points = [signed_points_text(line.points) for line in lines]
    points_width = max(map(len, points), default=0)
    group = None
    for line, name, line_points in zip(lines, labels, points, strict=True):
        if line.group and line.group != group:
            yield f"  {words_of(line.group)}{_weight_in_words(score.weights.get(line.group))}"
        group = line.group
        indented = f"    {name}" if line.group else f"  {name}"
        yield f"{indented:{4 + width}}  {line_points:>{points_width}}  {line.evidence}".rstrip()


def _weight_in_words(weight: Decimal | None) -> str:
    return "" if weight is None else f" ({points_text(weight * 100)}% of its points count)"


def _in_bands(bands: Mapping[str, str | None]) -> str:
    """The bands as a suffix: `, hot`; with names if there are several sets: `, grade B+, temperature hot`."""
    current = {scale: band for scale, band in bands.items() if band is not None}
    if len(bands) <= 1:
        return "".join(f", {band}" for band in current.values())
    return "".join(f", {words_of(scale)} {band}" for scale, band in current.items())


def label_of_line(line: BreakdownLine) -> str:
    if line.kind == "points":
        return line.rule
    if line.kind.endswith(" cap"):
        return f"limit of {line.rule or words_of(line.group)}"
    words = {"decay": "days without activity", "mean": "rounding", "limit": "limit of the score"}
    return words.get(line.kind, line.kind)


def evidence_to_show(text: str, rule: str) -> str:
    """The evidence without what the line shows already: the rule's name, its own points, and the weight of its group."""
    plain = _WEIGHTED.sub("", text.removeprefix(f"{rule}: "))
    is_name = bool(rule) and _plain_word(plain.removeprefix("has ")) == _plain_word(rule)
    return "" if is_name or (_POINTS.fullmatch(plain) and plain == text.removeprefix(f"{rule}: ")) else plain


def _plain_word(text: str) -> str:
    return _NOT_A_WORD.sub("", text).casefold()


def hundredths(points: Decimal) -> Decimal:
    return points.quantize(HUNDREDTH, ROUND_HALF_UP)


# What changed it


def history_lines(causes: Iterable[ExplainedCause], clock: ExplanationClock) -> Iterator[str]:
    """The latest first."""
    for cause in causes:
        yield f"{clock.date(cause.at)}  {cause.why}"
        for entry in cause.changes:
            bands = [each for each in cause.bands if each["model"] == entry["model"]]
            if not entry["lines"] and all(each["previous"] is None for each in bands):
                continue  # the model saw the lead for the first time, and no rule applied
            yield f"  {words_of(entry['model'])} {_change_in_words(entry, bands)}"
        for stage in cause.stages:
            yield f"  stage {stage['previous'] or 'new'} -> {stage['stage']}{': ' if stage['reason'] else ''}{stage['reason'] or ''}"


def _change_in_words(entry: Row, bands: Sequence[Row]) -> str:
    previous, total = (hundredths(Decimal(str(entry[name]))) for name in ("previous", "total"))
    lines = [
        BreakdownLine(group, rule, kind, Decimal(str(points))) for group, rule, kind, points in entry["lines"]
    ]
    details = list(_changes_of_lines(shown_lines(lines, total - previous)))
    details += [
        f"now {each['band']}" if each["band"] else f"no longer {each['previous']}"
        for each in bands
        if not each["scale"].startswith(FLAG_PREFIX)
    ]
    details += _flags_in_words(bands)
    after = "not scored" if entry["removed"] else points_text(total)
    change = after if previous == total and not entry["removed"] else f"{points_text(previous)} -> {after}"
    return f"{change}{': ' if details else ''}{', '.join(details)}"


def _changes_of_lines(lines: Sequence[BreakdownLine]) -> Iterator[str]:
    """What a group at its limit gains, the limit takes: its lines change nothing, and are not listed."""
    sums: dict[str, Decimal] = {}
    for line in lines:
        sums[line.group] = sums.get(line.group, Decimal(0)) + line.points
    limited = {line.group for line in lines if line.kind == "group cap" and not sums[line.group]}
    for line in lines:
        if line.group not in limited:
            yield f"{label_of_line(line)} {signed_points_text(line.points)}"
        elif line.kind == "group cap":
            yield f"{words_of(line.group)} stays at its limit"


def _flags_in_words(bands: Sequence[Row]) -> list[str]:
    """A flag is stored among the bands, with its colour as the band."""
    return [
        f"{each['band'] or 'no longer ' + str(each['previous'])} flag {words_of(each['scale'].removeprefix(FLAG_PREFIX))}"
        for each in bands
        if each["scale"].startswith(FLAG_PREFIX)
    ]


# What workflows did


def execution_lines(executions: Iterable[Row], clock: ExplanationClock) -> Iterator[str]:
    """Each workflow that was triggered, with its reason and, below, its action and what became of that (`outcome`)."""
    for each in executions:
        yield f"{clock.date(each['at'])}  {each['workflow']}: {each['reason']}"
        yield f"  {words_of(each['action'])}: {each['outcome']}"


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
        why=f"Time passed, {len(causes)} changes since {clock.date(first.at)}",
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
            return f"Model {words_of(name)}, version {version}, was {'retired' if retired else 'published'}{_for_tenant(tenant)}"
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
    words = words_of(event["type"])
    source = words_of(event["source"] or "")
    source = "" if not source or source in words else f" ({source})"
    late = abs((at - event["occurred_at"]).total_seconds()) >= MINUTE_SECONDS
    when = f", happened {clock.date(event['occurred_at'])}" if late else ""
    about = shortened_about(_subject_of_event(event))
    return f"{words[:1].upper()}{words[1:]}{source}{when}{f': {about}' if about else ''}"


def _subject_of_event(event: Row) -> str:
    """What the event is about: its text, else its page, else its other details."""
    details: Mapping[str, Any] = event["details"] or {}
    text = next((details[name] for name in TEXT_FIELDS if details.get(name)), None)
    page = (event["url"] or "").partition("?")[0]
    return str(event["title"] or text or page or _properties_in_words(details))


def _properties_in_words(details: Mapping[str, Any]) -> str:
    """Phone +971..., budget 2000000; without blanks and ids, which mean nothing to a reader."""
    texts = []
    for name, value in details.items():
        if isinstance(value, dict):
            texts.append(_properties_in_words(value))
        elif value is not None and not name.endswith("_id"):
            shown = [str(each) for each in (value if isinstance(value, list) else [value])]
            stated = ", ".join(text for text in shown if not is_blank_text(text))
            texts.append(stated and f"{words_of(name)} {stated}")
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

"""What one event means for a lead's features. It is decided once, where the event first arrives.

`EFFECT_BY_EVENT_TYPE` decides for every event type: is it an interaction (an event the person did), does it show high intent,
which profile fields does it fill (`profile_fields_of` leaves out blanks). Models may define signals of their own. These are stored as `NAME@HASH` with a
hash of the definition, so that a changed definition counts from zero and never mixes with the old one. Total:
`lift` raises for no event that decoded.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from msgspec.structs import fields as struct_fields
from msgspec.structs import replace

from schemas import events
from schemas.blank import UNSEEN, is_blank_text, is_placeholder
from schemas.envelope import Event, tag_of
from schemas.moment import millis, moment
from scoring.features.comparison import NEWEST_COMPARISON, ValueComparison
from scoring.features.features import CUSTOM_PREFIX, FeatureDelta, Signal
from scoring.features.keyed_events import RefundReport, SumAmount, key_digest
from scoring.features.operators import OPERATORS, OperandError, ValueTest
from scoring.features.profile_fields import (
    MANUAL_STAGE_FIELD,
    NO_DECLARED_FIELDS,
    PROFILING_CONSENT_FIELD,
    SNOOZED_UNTIL_FIELD,
    FieldTypes,
    FieldValue,
    stated_fields,
)
from scoring.features.sequences import KEYED_MARK, SequenceDelta
from scoring.features.sites import SITE, SiteError, site_name, site_of_event
from scoring.features.sources import source_of

CONTACT_FIELDS = ("name", "first_name", "last_name", "email", "phone")
"""The profile fields of `contact_shared`."""
INTERACTION_SIGNAL = "interaction"
HIGH_INTENT_SIGNAL = "high_intent"
QUESTIONS_SET = "questions"
IMPORTANT_CLICK_SIGNAL = "important_click"
PURCHASE_PREFIX = "purchase:"
"""A sum of purchases begins with this; the rest is the currency."""

LONGEST_SET_ITEM = 16
LONGEST_FIELD_TEXT = 256
"""Bytes of a profile field in features; longer values are cut (the event keeps all of it)."""

LARGEST_AMOUNT = 2**53

NO_CURRENCY = "XXX"
"""The code of ISO 4217 for an amount without a currency."""

CURRENCIES_WITHOUT_DECIMALS = frozenset(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()  # noqa: SIM905 - ISO 4217, as a line
)
CURRENCIES_WITH_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})


class EventEffect(NamedTuple):
    """What every event of one type means."""

    is_interaction: Callable[[Any], bool]
    """Did the person do something, rather than we, a clock or a system?"""
    fields: Callable[[Any], Mapping[str, FieldValue]]
    """As the event has them; use `profile_fields_of`."""
    high_intent: bool = False
    key: Callable[[Any], tuple[str, ...] | None] = lambda _: None
    """What names the event for the lead, so that it counts once however often it is sent; None: only its event id."""


def _always(_: Event) -> bool:
    return True


def _never(_: Event) -> bool:
    return False


def _no_fields(_: Event) -> Mapping[str, FieldValue]:
    return {}


def _profile_fields(event: events.ProfileUpdated | events.FormSubmitted) -> Mapping[str, FieldValue]:
    return {name: value for name, value in (event.fields or {}).items() if name != MANUAL_STAGE_FIELD}


def _contact_fields(event: events.ContactShared) -> Mapping[str, FieldValue]:
    shared = {name: getattr(event, name) for name in CONTACT_FIELDS}
    return {name: value for name, value in shared.items() if value is not None}


def _answer_field(event: events.QuestionAnswered) -> Mapping[str, FieldValue]:
    named = event.profile_field
    if named is None or named == MANUAL_STAGE_FIELD:
        return {}
    return {named: event.text}


def _consent_fields(event: events.ConsentChanged) -> Mapping[str, FieldValue]:
    consent = {
        "email_consent": event.email,
        "sms_consent": event.sms,
        PROFILING_CONSENT_FIELD: event.profiling,
    }
    return {name: value for name, value in consent.items() if value is not None}


def real_id(value: str | None) -> str | None:
    """An id as producers mean it: without unseen characters and space around it, and None for a blank or a placeholder."""
    bare = UNSEEN.sub("", value or "").strip()
    return None if is_placeholder(bare) or is_blank_text(bare) else bare


def _key_of_fields(*names: str) -> Callable[[Any], tuple[str, ...] | None]:
    """The key of an event that these fields name together; none, if one of them is missing."""

    def key(event: Any) -> tuple[str, ...] | None:
        ids = [real_id(getattr(event, name)) for name in names]
        return tuple(each for each in ids if each is not None) if None not in ids else None

    return key


def _snooze_field(event: events.LeadSnoozed) -> dict[str, FieldValue]:
    until = event.until
    return {SNOOZED_UNTIL_FIELD: None if until is None else moment(millis(until)).isoformat()}


_INTERACTION_EFFECT = EventEffect(_always, _no_fields)
_HIGH_INTENT_EFFECT = EventEffect(_always, _no_fields, high_intent=True)
_NO_INTERACTION_EFFECT = EventEffect(_never, _no_fields)

EFFECT_BY_EVENT_TYPE: dict[type[Event], EventEffect] = {
    events.SessionStarted: _INTERACTION_EFFECT,
    events.SessionEnded: _NO_INTERACTION_EFFECT,
    events.SessionHeartbeat: _NO_INTERACTION_EFFECT,
    events.PageViewed: _INTERACTION_EFFECT,
    events.ElementClicked: _INTERACTION_EFFECT,
    events.LinkClicked: _INTERACTION_EFFECT,
    events.FormSubmitted: EventEffect(
        _always, _profile_fields, high_intent=True, key=_key_of_fields("submission_id")
    ),
    events.ContentDownloaded: _INTERACTION_EFFECT,
    events.AdClicked: _INTERACTION_EFFECT,
    events.SocialInteraction: _INTERACTION_EFFECT,
    events.QrScanned: _INTERACTION_EFFECT,
    events.CatalogViewed: _INTERACTION_EFFECT,
    events.MessageReceived: _INTERACTION_EFFECT,
    events.GreetingReplied: _INTERACTION_EFFECT,
    events.QuestionAnswered: EventEffect(_always, _answer_field),
    events.QuestionsCompleted: _INTERACTION_EFFECT,
    events.ContactShared: EventEffect(_always, _contact_fields),
    events.ProductClicked: _INTERACTION_EFFECT,
    events.DemoRequested: _HIGH_INTENT_EFFECT,
    events.CtaClicked: _HIGH_INTENT_EFFECT,
    events.EmailSent: EventEffect(_never, _no_fields, key=_key_of_fields("message_id")),
    events.EmailOpened: _INTERACTION_EFFECT,
    events.EmailClicked: _INTERACTION_EFFECT,
    events.EmailReplied: _INTERACTION_EFFECT,
    events.SmsSent: _NO_INTERACTION_EFFECT,
    events.SmsReplied: _INTERACTION_EFFECT,
    events.CallMade: EventEffect(lambda call: bool(call.answered), _no_fields),
    events.MeetingScheduled: _HIGH_INTENT_EFFECT,
    events.PurchaseMade: EventEffect(_always, _no_fields, high_intent=True, key=_key_of_fields("order_id")),
    events.PurchaseRefunded: EventEffect(_never, _no_fields, key=_key_of_fields("order_id", "refund_id")),
    events.ConsentChanged: EventEffect(_never, _consent_fields),
    events.ProfileUpdated: EventEffect(_never, _profile_fields),
    events.LeadIdentified: _NO_INTERACTION_EFFECT,
    events.LeadsMerged: _NO_INTERACTION_EFFECT,
    events.MergeUndone: _NO_INTERACTION_EFFECT,
    events.StageChanged: EventEffect(_never, lambda event: {MANUAL_STAGE_FIELD: event.stage}),
    events.ConversionRecorded: EventEffect(
        _never, _no_fields, key=lambda event: (event.conversion_type, event.conversion_id)
    ),
    events.LeadAssigned: EventEffect(_never, lambda event: {"assigned_to": event.assigned_to}),
    events.LeadSnoozed: EventEffect(_never, _snooze_field),
    events.TaskCreated: _NO_INTERACTION_EFFECT,
    events.CampaignJoined: _NO_INTERACTION_EFFECT,
    events.NoteAdded: _NO_INTERACTION_EFFECT,
    events.ExperimentExposed: _NO_INTERACTION_EFFECT,
    events.WorkflowRequested: _NO_INTERACTION_EFFECT,
    events.LeadErased: _NO_INTERACTION_EFFECT,
    events.Custom: _INTERACTION_EFFECT,
}
"""A decision for every event type, and no default."""


BOOKKEEPING_EVENT_TYPES: frozenset[type[Event]] = frozenset(
    {
        events.SessionEnded,
        events.SessionHeartbeat,
        events.LeadIdentified,
        events.LeadsMerged,
        events.MergeUndone,
        events.LeadAssigned,
        events.LeadSnoozed,
        events.TaskCreated,
        events.CampaignJoined,
        events.NoteAdded,
        events.ExperimentExposed,
        events.WorkflowRequested,
    }
)
"""What is no reason to call a lead: the work of staff and of programs."""

EVENT_TYPE_BY_TAG: dict[str, type[Event]] = {
    tag_of(event_type): event_type for event_type in EFFECT_BY_EVENT_TYPE
}

_TAG_BY_EVENT_TYPE = {event_type: tag for tag, event_type in EVENT_TYPE_BY_TAG.items()}


BOOKKEEPING_TAGS = frozenset(map(tag_of, BOOKKEEPING_EVENT_TYPES))


def latest_event_type(signals: Mapping[str, Signal]) -> str | None:
    """The type of the latest event that is no bookkeeping, `custom:NAME` of one of a tenant's own; None: there is none."""
    moments = [
        (signal.last, name)
        for name, signal in signals.items()
        if name.startswith(CUSTOM_PREFIX) or (name in EVENT_TYPE_BY_TAG and name not in BOOKKEEPING_TAGS)
    ]
    return max(moments)[1] if moments else None


def profile_fields_of(event: Event, declared: FieldTypes = NO_DECLARED_FIELDS) -> dict[str, FieldValue]:
    """The profile fields that the event fills or, by null, clears. A blank is left out: it says nothing."""
    return stated_fields(EFFECT_BY_EVENT_TYPE[type(event)].fields(event), declared)


def may_be_interaction(kind: type[Event]) -> bool:
    """Can an event of this type be an interaction?"""
    return EFFECT_BY_EVENT_TYPE[kind].is_interaction is not _never


def is_counted_always(signal: str) -> bool:
    """Is the signal counted for every lead, without a definition in a model?"""
    return (
        signal in EVENT_TYPE_BY_TAG
        or signal in {INTERACTION_SIGNAL, HIGH_INTENT_SIGNAL}
        or signal.startswith(CUSTOM_PREFIX)
    )


class SignalError(ValueError):
    """The definition of a signal is wrong."""


class SignalDefinition(NamedTuple):
    """A signal that a model defines: the events that it counts."""

    name: str
    stored: str
    """NAME@HASH"""
    event: str
    distinct: bool
    """True: a set of values; False: a count."""
    holds: ValueTest
    item: Callable[[Event], Any]
    steps: tuple["SignalDefinition", ...] = ()
    """Not empty: it counts how often these happened in this order. `event`, `holds` and `item` then mean nothing."""
    within: int = 0
    """Of a sequence: the longest time from its first event to its last, in milliseconds."""


class HasSignals(Protocol):
    """Anything with signals, such as a model."""

    @property
    def signals(self) -> tuple[SignalDefinition, ...]: ...


def define_signal(
    name: str, table: Mapping[str, Any], by: ValueComparison = NEWEST_COMPARISON
) -> SignalDefinition:
    """Read one entry of [signals], which compares values `by`; SignalError gives the reason if it is wrong.

    `by` is no part of the hash: a text that is published again goes on counting.
    """
    if is_counted_always(name) or name in {QUESTIONS_SET, "created"}:
        raise SignalError(f"{name!r} is counted anyway; choose another name")
    conditions = dict(table)
    event = conditions.pop("event", None)
    sites = sites_of(conditions.pop("site")) if "site" in conditions else None
    if not isinstance(event, str) or not (event in EVENT_TYPE_BY_TAG or event.startswith(CUSTOM_PREFIX)):
        raise SignalError(f"event = {event!r} is no event type")
    source = conditions.pop("source", None)
    if source is not None and not isinstance(source, str):
        raise SignalError(f"source = {source!r} is not a text")
    distinct = conditions.pop("distinct", None)
    item = _no_item if distinct is None else _field_reader(event, distinct)
    wheres = conditions.pop("where", [])
    if not isinstance(wheres, list) or not all(isinstance(where, dict) for where in wheres):
        raise SignalError("where wants a list of { field = ..., OPERATOR = ... }")
    wheres = [conditions, *wheres] if conditions else wheres
    wheres = wheres if sites is None else [*wheres, {"field": SITE, "in_list": sites}]
    tests = [_where_test(event, where, by) for where in wheres]

    def holds(happened: Any) -> bool:
        if source is not None and happened.source != source:
            return False
        return all(test(read(happened)) for read, test in tests)

    meaning = [event, source, distinct, wheres]
    canonical = json.dumps(meaning, sort_keys=True, default=str, separators=(",", ":"))
    digest = blake2b(canonical.encode(), digest_size=4).hexdigest()
    return SignalDefinition(name, f"{name}@{digest}", event, distinct is not None, holds, item)


class SignalCatalogue:
    """The signals of several models together."""

    __slots__ = ("_by_event",)

    def __init__(self, by_event: dict[str, tuple[SignalDefinition, ...]]) -> None:
        self._by_event = by_event

    @classmethod
    def of(cls, models: Iterable[HasSignals]) -> "SignalCatalogue":
        """The signals of these models. A signal that several define alike counts once, as the last of them compares."""
        by_event: dict[str, dict[str, SignalDefinition]] = {}
        for model in models:
            for signal in model.signals:
                for event in {step.event for step in signal.steps} or {signal.event}:
                    by_event.setdefault(event, {})[signal.stored] = signal
        return cls({event: tuple(signals.values()) for event, signals in by_event.items()})

    def feature_delta_of(
        self, event: Event, at: int, day: int, declared: FieldTypes = NO_DECLARED_FIELDS
    ) -> FeatureDelta:
        """The event's feature delta. `at`: when it occurred, already clamped; `day`: its local day; `declared`:
        the types of the tenant's own profile fields.
        """
        effect = EFFECT_BY_EVENT_TYPE[type(event)]
        name = signal_of(event)
        signals = [name]
        is_interaction = effect.is_interaction(event)
        if is_interaction:
            signals.append(INTERACTION_SIGNAL)
        if effect.high_intent:
            signals.append(HIGH_INTENT_SIGNAL)
        fields = profile_fields_of(event, declared)
        items: list[tuple[str, str]] = []
        definitions = self._by_event.get(name, ())
        read = _without_blanks(event, fields) if definitions else event
        key = effect.key(event)
        sequences: dict[str, SequenceDelta] = {}
        for defined in definitions:
            if defined.steps:
                steps = steps_of(defined, name, read)
                if steps:
                    own = event.event_id if key is None else KEYED_MARK + key_digest(name, *key)
                    sequences[defined.stored] = SequenceDelta(defined.within, len(defined.steps), steps, own)
                continue
            if not defined.holds(read):
                continue
            if defined.distinct:
                items.extend((defined.stored, item) for item in _set_items(defined.item(read)))
            else:
                signals.append(defined.stored)
        if isinstance(event, events.QuestionAnswered):
            items.extend((QUESTIONS_SET, item) for item in _set_items(event.question_id))
        return FeatureDelta(
            at,
            day,
            event.event_id,
            signals,
            _kept_fields(fields, declared),
            items,
            _sum_changes(event),
            source_of(event) if is_interaction else None,
            None if key is None else (name, key_digest(*key)),
            _refund(event, at),
            sequences,
        )

    def is_important_click(self, event: Event) -> bool:
        """Does the event match a model's signal important_click?"""
        return any(
            defined.name == IMPORTANT_CLICK_SIGNAL and not defined.steps and defined.holds(event)
            for defined in self._by_event.get(signal_of(event), ())
        )


def steps_of(defined: SignalDefinition, event_signal: str, event: Event) -> int:
    """The steps of a sequence that an event may be, one bit for each; `event_signal` is what it always counts as."""
    return sum(
        1 << number
        for number, step in enumerate(defined.steps)
        if step.event == event_signal and step.holds(event)
    )


def event_as_tested(event: Event, declared: FieldTypes = NO_DECLARED_FIELDS) -> Event:
    """The event as a definition's test reads it: a blank profile field is not set."""
    return _without_blanks(event, profile_fields_of(event, declared))


def _without_blanks(event: Event, fields: Mapping[str, FieldValue]) -> Event:
    match event:
        case events.FormSubmitted() | events.ProfileUpdated():
            return replace(event, fields=fields)
        case events.ContactShared():
            return replace(event, **{name: fields.get(name) for name in CONTACT_FIELDS})
    return event


def signal_of(event: Event) -> str:
    """The signal that every event counts as: its type, or custom:NAME."""
    return CUSTOM_PREFIX + event.name if isinstance(event, events.Custom) else _TAG_BY_EVENT_TYPE[type(event)]


def decimals_of(currency: str) -> int:
    """How many decimals the currency's amounts have (ISO 4217)."""
    return (
        0
        if currency in CURRENCIES_WITHOUT_DECIMALS
        else 3
        if currency in CURRENCIES_WITH_THREE_DECIMALS
        else 2
    )


def minor_units(value: Decimal, currency: str) -> int:
    """An amount in the currency's smallest unit, rounded half to even; never negative."""
    if not value.is_finite() or value <= 0:
        return 0
    if value >= LARGEST_AMOUNT:
        return LARGEST_AMOUNT
    minor = int(value.scaleb(decimals_of(currency)).to_integral_value(ROUND_HALF_EVEN))
    return min(minor, LARGEST_AMOUNT)


def major_units(minor: int | Decimal, currency: str) -> Decimal:
    """An amount of minor units as people write it, with the decimals of its currency: 5000.00. A fraction of a unit, as in
    a mean, is rounded half to even.
    """
    return Decimal(round(minor)).scaleb(-decimals_of(currency))


def revenue(sums: Mapping[str, int]) -> dict[str, Decimal]:
    """Purchases less refunds by currency, in major units, of the sums of a lead's features."""
    return {
        currency: major_units(minor, currency)
        for name, minor in sorted(sums.items())
        if name.startswith(PURCHASE_PREFIX)
        for currency in [name.removeprefix(PURCHASE_PREFIX)]
    }


def _sum_changes(event: Event) -> list[tuple[str, int]]:
    if not isinstance(event, events.PurchaseMade):
        return []
    return [_currency_amount(event)]


def _currency_amount(event: events.PurchaseMade | events.PurchaseRefunded) -> SumAmount:
    return PURCHASE_PREFIX + event.currency, minor_units(event.value, event.currency)


def _refund(event: Event, at: int) -> tuple[str, str, RefundReport] | None:
    """(order, refund, amount); None for other events, and for a refund that names no order."""
    if not isinstance(event, events.PurchaseRefunded) or (order := real_id(event.order_id)) is None:
        return None
    refund = real_id(event.refund_id)
    own = (
        (refund,)
        if refund is not None
        else ("event", event.visitor_id or "", event.lead_id or "", event.event_id)
    )
    return key_digest(order), key_digest(*own), (at, *_currency_amount(event))


def sites_of(value: Any) -> list[str]:
    """The sites of `site = ...`: one or a list, each a host. Raises SignalError."""
    several = value if isinstance(value, list) else [value]
    if not several:
        raise SignalError("site wants a host such as shop.example.com, or a list of them")
    try:
        return sorted({site_name(each) for each in several})
    except SiteError as wrong:
        raise SignalError(f"site {wrong}") from None


def _no_item(_: Event) -> None:
    return None


def _where_test(
    event: str, where: dict[str, Any], by: ValueComparison
) -> tuple[Callable[[Event], Any], ValueTest]:
    rest = dict(where)
    field = rest.pop("field", None)
    if field is None:
        raise SignalError("field is missing: " + ", ".join(sorted(rest)) + " of what?")
    read = _field_reader(event, field)
    if len(rest) != 1 or not rest.keys() <= OPERATORS.keys():
        raise SignalError(
            f"field = {field!r} wants one operator, not {', '.join(sorted(rest)) or 'none'}; "
            f"operators are {', '.join(OPERATORS)}"
        )
    ((operator, operand),) = rest.items()
    try:
        return read, OPERATORS[operator].parse(operand, by)
    except OperandError as wrong:
        raise SignalError(f"{operator} {wrong}") from None


def _field_reader(event: str, field: Any) -> Callable[[Event], Any]:
    """How to read a field of the event: its own, or of a custom one a property."""
    if not isinstance(field, str):
        raise SignalError(f"field = {field!r} is not a text")
    if event.startswith(CUSTOM_PREFIX):
        if field == SITE:
            return lambda happened: (
                (getattr(happened, "properties", None) or {}).get(SITE) or site_of_event(happened)
            )
        return lambda happened: (getattr(happened, "properties", None) or {}).get(field)
    event_type = EVENT_TYPE_BY_TAG[event]
    if event_type is events.Custom:
        raise SignalError("event = 'custom' wants a name: custom:NAME")
    own = {declared.name for declared in struct_fields(event_type)}
    own -= {declared.name for declared in struct_fields(Event)}
    if field == SITE and field not in own:
        return site_of_event
    group, _, name = field.partition(".")
    if group == "fields" and group in own and name:
        return lambda happened: (getattr(happened, "fields", None) or {}).get(name)
    if field not in own:
        raise SignalError(f"{event} has no field {field!r}; it has {', '.join(sorted(own)) or 'none'}")
    return lambda happened: getattr(happened, field)


def _set_items(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [_set_item(each) for each in values if isinstance(each, str | int | float)]


def _set_item(value: str | float) -> str:
    text = str(value)
    if len(text.encode(errors="replace")) <= LONGEST_SET_ITEM:
        return text
    return "#" + blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def _kept_fields(fields: Mapping[str, FieldValue], declared: FieldTypes) -> dict[str, FieldValue]:
    kept = {name: _kept_value(value) for name, value in fields.items()}
    return kept if kept == fields else stated_fields(kept, declared)  # a cut may leave nothing but space


def _kept_value(value: FieldValue) -> FieldValue:
    if isinstance(value, str):
        return _cut_text(value, LONGEST_FIELD_TEXT)
    if isinstance(value, list):
        kept, room = [], LONGEST_FIELD_TEXT
        for item in value:
            room -= len(item.encode(errors="replace")) + 2
            if room < 0:
                break
            kept.append(item)
        return kept
    return value


def _cut_text(text: str, limit: int) -> str:
    if len(text) * 4 <= limit:
        return text
    return text.encode(errors="replace")[:limit].decode(errors="ignore")

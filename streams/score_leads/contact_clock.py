"""The clock from qualified to the first contact: starts, stops, ends, and when workflows wait for it. Emits nothing.

It is concluded on the lead's own clock, after each record and each moment. A merge carries it along: a person who waits is
waited for once.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs

from schemas.control import CarriedClock
from schemas.decode import Refusal, decode_source
from schemas.envelope import Event
from scoring.features.identity import is_anonymous
from scoring.features.qualification_override import (
    QUALIFICATION_MODEL,
    QUALIFICATION_SET,
    bands_that_count,
)
from scoring.features.signals import signal_of
from scoring.models.points import NEVER
from scoring.workflows.speed_to_lead import waits_for_contact
from scoring.workflows.workflow import NoContactTrigger, Workflow
from scoring.workflows.working_hours import after_working_minutes
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import ContactClock, LeadState

_NO_BANDS: Mapping[str, str | None] = {}


def is_qualified(rules: LeadRules, state: LeadState) -> bool:
    """By what was emitted last."""
    head, model = state.head, rules.models.get(QUALIFICATION_MODEL)
    emitted = head.emitted.get(QUALIFICATION_MODEL)
    bands = (
        _NO_BANDS if emitted is None else bands_that_count(QUALIFICATION_MODEL, emitted.bands, head.override)
    )
    in_order = () if model is None else model.band_sets.get(QUALIFICATION_SET, ())
    return waits_for_contact(rules.speed_to_lead, head.position.stage, bands, in_order)


def advance_contact_clock(
    rules: LeadRules,
    state: LeadState,
    *,
    was_qualified: bool,
    reassigned: bool,
    silent: bool,
    carried: CarriedClock | None,
    event: bytes | None,
) -> None:
    """After the lead was evaluated. `silent`: an import, a late event or a publication starts a clock without a limit.

    A lead without identities keeps its clock as it is: it goes on where its identities go.
    """
    head, old = state.head, state.head.contact
    if not state.identities:
        return
    clock = old if carried is None else _joined(old, carried)
    if not is_qualified(rules, state):
        if clock is not None and clock.ended_at is None:
            clock = structs.replace(clock, ended_at=head.clock)
    elif clock is not None and clock.passed_on and reassigned:
        clock = _resumed(rules, clock, head.clock)
    elif not was_qualified and (clock is None or clock.ended_at is not None):
        clock = _started(rules, head.clock, silent=silent)
        if event is not None and _is_contact(rules, event):
            clock = structs.replace(clock, contacted_at=head.clock)
    if clock is not None and clock.waits:
        clock = structs.replace(clock, contacted_at=_first_contact(rules, state, clock.started_at))
    if clock != old:
        head.contact = clock
        state.mark_changed()


def _started(rules: LeadRules, at: int, *, silent: bool) -> ContactClock:
    definition = rules.speed_to_lead
    due = after_working_minutes(at, definition.minutes, definition.working_hours, rules.zone)
    return ContactClock(at, None if silent or due >= NEVER else due)


def _is_contact(rules: LeadRules, raw: bytes) -> bool:
    try:
        source = decode_source(raw)
    except Refusal:
        return False
    return isinstance(source, Event) and signal_of(source) in rules.speed_to_lead.contacts


def _first_contact(rules: LeadRules, state: LeadState, since: int) -> int | None:
    """The earliest of the last contacts of each kind: a clock stops at the first record that shows one."""
    signals = state.features.signals
    return min(
        (
            signals[name].last
            for name in rules.speed_to_lead.contacts
            if name in signals and signals[name].last >= since
        ),
        default=None,
    )


# Workflows that wait for it


def contact_moments(rules: LeadRules, state: LeadState) -> Iterator[tuple[int, Workflow, NoContactTrigger]]:
    """(the moment, the workflow, its minutes) of each that the clock has not set off yet; moments that have passed, too."""
    clock = state.head.contact
    if (
        clock is None
        or not clock.waits
        or clock.limit_at is None
        or not state.identities
        or rules.workflows is None
    ):
        return
    anonymous, hours = is_anonymous(state.lead_id), rules.speed_to_lead.working_hours
    for workflow, trigger in rules.workflows.contacts:
        if workflow.id not in clock.fired and (workflow.anonymous or not anonymous):
            yield (
                after_working_minutes(clock.started_at, trigger.minutes, hours, rules.zone),
                workflow,
                trigger,
            )


def next_contact_moment(rules: LeadRules, state: LeadState) -> int:
    """The next moment after the lead's clock; exact."""
    clock = state.head.clock
    return min((at for at, *_ in contact_moments(rules, state) if at > clock), default=NEVER)


def remember_fired(state: LeadState, numbers: Iterable[int]) -> None:
    """The minutes of these workflows are over, whatever came of it."""
    clock = state.head.contact
    if clock is not None and (new := set(numbers) - set(clock.fired)):
        state.head.contact = structs.replace(clock, fired=tuple(sorted(new | set(clock.fired))))
        state.mark_head_changed()


def adopt_contact_clock(rules: LeadRules, before: LeadRules, state: LeadState) -> None:
    """New workflows are active from the lead's clock on: minutes that are over by then have passed."""
    clock = state.head.contact
    if clock is None:
        return
    old = (
        {} if before.workflows is None else {each.id: trigger for each, trigger in before.workflows.contacts}
    )
    same = (
        []
        if rules.workflows is None
        else [
            each.id
            for each, trigger in rules.workflows.contacts
            if old.get(each.id) == trigger and each.id in clock.fired
        ]
    )
    state.head.contact = structs.replace(clock, fired=tuple(sorted(same)))
    remember_fired(
        state, [each.id for at, each, _ in contact_moments(rules, state) if at <= state.head.clock]
    )


# Merges


def carried_clock(clock: ContactClock | None) -> CarriedClock | None:
    """What a redirected lead passes on: a clock that has not ended."""
    if clock is None or clock.ended_at is not None:
        return None
    return CarriedClock(clock.started_at, clock.limit_at, clock.contacted_at, list(clock.fired))


def pass_clock_on(state: LeadState) -> None:
    """The clock is on its way to the lead that this one was merged into."""
    clock = state.head.contact
    if clock is not None and clock.ended_at is None:
        state.head.contact = structs.replace(clock, ended_at=state.head.clock, passed_on=True)
        state.mark_changed()


def _joined(own: ContactClock | None, carried: CarriedClock) -> ContactClock:
    """Of two clocks of one person, the one that began first goes on; a contact of either stops it."""
    came = ContactClock(
        carried.qualified_at, carried.limit_at, carried.contacted_at, fired=tuple(sorted(carried.fired))
    )
    if own is None or own.ended_at is not None:
        return came
    first = min(own, came, key=lambda each: each.started_at)
    contacts = [each.contacted_at for each in (own, came) if each.contacted_at is not None]
    return structs.replace(
        first, contacted_at=min(contacts, default=None), fired=tuple(sorted({*own.fired, *came.fired}))
    )


def _resumed(rules: LeadRules, clock: ContactClock, at: int) -> ContactClock:
    """The merge was undone. What would have come meanwhile has come to the other lead."""
    over = (
        []
        if rules.workflows is None
        else [
            workflow.id
            for workflow, trigger in rules.workflows.contacts
            if after_working_minutes(
                clock.started_at, trigger.minutes, rules.speed_to_lead.working_hours, rules.zone
            )
            <= at
        ]
    )
    return structs.replace(clock, ended_at=None, passed_on=False, fired=tuple(sorted({*clock.fired, *over})))
